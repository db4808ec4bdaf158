"""The read-out: rows in the order of tokens, as they are or pooled, and how long it takes."""

import numpy as np
import pytest
from amaranth.hdl import Module, Value, unsigned
from amaranth.lib import memory, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.job import GEMM, POOLING
from bitfabric.hdl.drift.pooling import reciprocal
from bitfabric.hdl.drift.readout import BEATS, Readout
from bitfabric.hdl.drift.readout_walk import ReadoutWalk
from bitfabric.sim.cycles.drift_output import readout_cycles
from bitfabric.sim.streams import run_streams, simulate


class Bench(Block):
    """A read-out and a memory that is full from the start."""

    def __init__(self, config, words):
        self.config, self.words = config, words
        super().__init__(
            {
                "gemm": In(GEMM),
                "pooling": In(POOLING),
                "start": In(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "busy": Out(1),
                "done": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        readout = place(m, "readout", Readout(self.config))
        m.submodules.memory = store = memory.Memory(
            shape=unsigned(self.config.axis_data_bits), depth=self.config.out_words, init=self.words
        )
        port = store.read_port()
        connect_stream(m, readout.o, self.o)
        m.d.comb += [
            Value.cast(readout.gemm).eq(Value.cast(self.gemm)),
            Value.cast(readout.pooling).eq(Value.cast(self.pooling)),
            readout.start.eq(self.start),
            port.en.eq(readout.read_en),
            port.addr.eq(readout.read_address),
            readout.read_data.eq(port.data),
            self.busy.eq(readout.busy),
            self.done.eq(readout.done),
        ]
        return m


def pack(rows):
    return [int.from_bytes(bytes(row.tolist()), "little") for row in rows]


def make_words(rng, config):
    """Return a memory full of random bytes with corners: what is not a result is not 0 either."""
    content = rng.integers(0, 256, (config.out_words, config.beat_bytes))
    corner = rng.random(content.shape) < 0.2
    return np.where(corner, rng.choice([0x80, 0x7F, 0xFF, 0], content.shape), content)


def masked(content, config, n, count):
    """Return the first ``count`` rows of ceil(n / B) words, as (row, byte), 0 beyond n."""
    rows = content[: count * -(-n // config.beat_bytes)].reshape(count, -1).copy()
    rows[:, n:] = 0
    return rows


def brute_force(rows, images, pooling):
    """Return the pooled rows as (row, byte)."""
    values = ((rows + 128) & 255) - 128
    values = values.reshape(images, pooling["height"], pooling["width"], -1)
    kernel = (pooling["kernel_height"], pooling["kernel_width"])
    out = []
    for image in values:
        for oy in range(pooling["out_height"]):
            for ox in range(pooling["out_width"]):
                y, x = (at * pooling["stride"] - pooling["padding"] for at in (oy, ox))
                part = image[max(y, 0) : y + kernel[0], max(x, 0) : x + kernel[1]]
                part = part.reshape(-1, part.shape[-1])
                if pooling["average"]:
                    n = kernel[0] * kernel[1]
                    assert len(part) == n
                    out.append((2 * part.sum(axis=0) + n) // (2 * n))
                else:
                    out.append(part.max(axis=0))
    return np.array(out) & 255


def start(bench, fields, pooling=None):
    async def setup(ctx):
        for name, value in fields.items():
            ctx.set(bench.gemm[name], value)
        for name, value in (pooling or {}).items():
            ctx.set(bench.pooling[name], value)
        await ctx.tick().repeat(ReadoutWalk.CONSTANT)
        ctx.set(bench.start, 1)
        await ctx.tick()
        ctx.set(bench.start, 0)

    return setup


def gemm_fields(m, n_high, n_low, accumulators=False):
    return {"m": m, "n_high": n_high, "n_low": n_low, "accumulators": accumulators}


def check(result, words, cycles, stall):
    beats = result["o"]
    assert [beat["data"] for beat in beats] == words
    assert [beat["last"] for beat in beats] == [0] * (len(words) - 1) + [1]
    if not stall:  # the start pulse is in cycle -1
        assert result.arrivals["o"][-1] + 1 == cycles


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize(
    ("m", "n_high", "n_low", "accumulators"),
    [
        (1, 1, 0, False),
        (7, 5, 12, False),
        (8, 0, 8, False),
        (3, 9, 4, True),
        (2, 0, 64, True),
        (32, 7, 1, True),
    ],
)
def test_rows(m, n_high, n_low, accumulators, stall):
    config = DriftConfig.preset("tiny", out_words=128)
    rng = np.random.default_rng(m + n_low)
    content = make_words(rng, config)
    planes = 4 if accumulators else 1
    n = n_high + n_low
    words = pack(masked(content, config, n, m * planes).reshape(-1, config.beat_bytes))
    bench = Bench(config, pack(content))
    setup = start(bench, gemm_fields(m, n_high, n_low, accumulators))
    result = run_streams(bench, {}, {"o": len(words)}, 0, stall, seed=m, setup=setup)
    check(result, words, readout_cycles(config, m, n, accumulators=accumulators), stall)


def draw_pooling(rng, average):
    """Return a pooling and a number of images that fit 128 words of up to two words per row."""
    while True:
        kernel = rng.integers(1, 9 if rng.random() < 0.2 else 4, 2)
        padding = 0 if average else int(rng.integers(0, min(kernel)))
        size, stride = rng.integers(1, 10, 2), int(rng.integers(1, 4))
        images = int(rng.integers(1, 4))
        room = size + 2 * padding - kernel
        if (room < 0).any() or images * size.prod() > 64:
            continue
        pooled = room // stride + 1
        if rng.random() < 0.3 and not average:  # windows that stick out
            pooled = np.minimum(-(-room // stride) + 1, (size + padding - 1) // stride + 1)
        fields = {
            "enabled": 1,
            "average": average,
            "height": size[0],
            "width": size[1],
            "out_height": pooled[0],
            "out_width": pooled[1],
            "kernel_height": kernel[0],
            "kernel_width": kernel[1],
            "stride": stride,
            "padding": padding,
            "reciprocal": reciprocal(int(kernel.prod())),
        }
        return images, {name: int(value) for name, value in fields.items()}


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_pooling(seed, average, stall):
    config = DriftConfig.preset("tiny", out_words=128)
    rng = np.random.default_rng(seed + 100 * average)
    images, pooling = draw_pooling(rng, average)
    m, n = images * pooling["height"] * pooling["width"], int(rng.integers(1, 17))
    content = make_words(rng, config)
    out = brute_force(masked(content, config, n, m), images, pooling)
    words = pack(out.reshape(-1, config.beat_bytes))
    n_high = int(rng.integers(0, n + 1))
    bench = Bench(config, pack(content))
    setup = start(bench, gemm_fields(m, n_high, n - n_high), pooling)
    result = run_streams(bench, {}, {"o": len(words)}, 0, stall, seed=seed, setup=setup)
    kernel = (pooling["kernel_height"], pooling["kernel_width"])
    check(result, words, readout_cycles(config, len(out), n, kernel=kernel), stall)


@pytest.mark.parametrize("images", [1, 2])
def test_a_full_memory(images):
    """Addresses count modulo the memory's size: neither one image that fills it nor two end early."""
    config = DriftConfig.preset("tiny", out_words=64)
    rng = np.random.default_rng(images)
    content = make_words(rng, config)
    pooling = draw_pooling(rng, False)[1] | {
        "height": 4,
        "width": 8 // images,
        "out_height": 2,
        "out_width": 4 // images,
        "kernel_height": 2,
        "kernel_width": 2,
        "stride": 2,
        "padding": 0,
    }
    out = brute_force(masked(content, config, 16, 32), images, pooling)
    words = pack(out.reshape(-1, config.beat_bytes))
    bench = Bench(config, pack(content))
    result = run_streams(bench, {}, {"o": len(words)}, setup=start(bench, gemm_fields(32, 16, 0), pooling))
    assert [beat["data"] for beat in result["o"]] == words


@pytest.mark.parametrize("blocked", [0, 30])
def test_busy_and_done(blocked):
    """Busy lasts to the last beat, done comes with it; a sink that takes nothing is offered a first beat for ever."""
    config = DriftConfig.preset("tiny", out_words=128)
    m = 2 * BEATS
    bench = Bench(config, list(range(128)))

    async def testbench(ctx):
        await start(bench, gemm_fields(m, 8, 0))(ctx)
        cycles, beats = 0, []
        while ctx.get(bench.busy):
            ctx.set(bench.o.ready, cycles >= blocked)
            if ctx.get(bench.o.valid) and cycles >= blocked:
                beats.append(ctx.get(bench.o.payload.data))
            assert ctx.get(bench.done) == (len(beats) == m)
            cycles += 1
            await ctx.tick()
        assert beats == list(range(m))
        assert not ctx.get(bench.o.valid)
        assert not ctx.get(bench.done)
        assert cycles == readout_cycles(config, m, 8) if not blocked else cycles >= blocked + m

    simulate(bench, testbench)
