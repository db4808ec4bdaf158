"""The intake against the golden model: both stores, index buffer and selection table, bit for bit."""

import random

import numpy as np
import pytest
from amaranth.hdl import Fragment
from amaranth.sim import Simulator

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.index_buffer import IndexBuffer
from bitfabric.hdl.drift.intake import Intake
from bitfabric.hdl.emit import emit
from bitfabric.quant.drift import NEVER, Selection, block_statistics, convert, saturate, select_integer
from bitfabric.sim.streams import simulate


def random_acts(rng, m, k, high_bits):
    """Return activations of rows of different magnitude, some of them outside of hp bits."""
    q = rng.integers(-(1 << (high_bits - 1)), 1 << (high_bits - 1), (m, k))
    q >>= rng.integers(0, high_bits + 1, (m, 1))
    q[rng.random((m, k)) < 0.02] = -128
    q[rng.random(m) < 0.1] = 0
    return q.astype(np.int8)


def random_job(rng, m, k, group, high_bits, low_bits, truncate=0, thresholds=None):
    """Return a job with thresholds that some sub-tensors reach, its activations, and what is to become of them."""
    acts = random_acts(rng, m, k, high_bits)
    values, outside = saturate(acts, high_bits)
    found = block_statistics(values, (group, None))
    clip = select_integer(found.maximum, found.total, np.uint64(0), high_bits, low_bits)[1]
    reach = found.total**2 << clip
    chosen = thresholds or [int(rng.choice(reach)) + int(rng.integers(-1, 2)) for _ in range(2)]
    threshold, tail = (max(0, min(t, NEVER)) for t in chosen)
    limit = np.full(len(reach), threshold, np.uint64)
    if m % group:
        limit[-1] = tail
    selection = Selection(
        *select_integer(found.maximum, found.total, limit, high_bits, low_bits),
        high_bits,
        low_bits,
        (group, None),
    )
    job = {
        "m": m,
        "k": k,
        "subtensor_rows": group,
        "high_bits": high_bits,
        "low_bits": low_bits,
        "truncate": truncate,
        "threshold": threshold,
        "threshold_tail": tail,
    }
    return job, acts, selection, outside


def row_words(values, bits, word_bits):
    """Return a row's string of ``bits``-bit elements, cut into words."""
    string = np.unpackbits(values.astype(np.uint8)[:, None], axis=1, bitorder="little")[:, :bits].reshape(-1)
    string = np.pad(string, (0, -len(string) % word_bits))
    return [
        int.from_bytes(np.packbits(word, bitorder="little").tobytes(), "little")
        for word in string.reshape(-1, word_bits)
    ]


def expected_stores(config, job, acts, selection):
    """Return the words of both stores and their rows' tokens and shifts."""
    m, k = acts.shape
    beats = -(-k // config.beat_bytes)
    converted = np.zeros((m, beats * config.beat_bytes), np.int8)
    converted[:, :k] = convert(acts, selection, "truncate" if job["truncate"] else "half_up")
    words, index = ([], []), ([], [])
    for token in range(m):
        block = token // job["subtensor_rows"]
        low = int(selection.low[block])
        bits = config.stored_bits(job["low_bits"] if low else job["high_bits"])
        row = row_words(converted[token], bits, config.axis_data_bits)
        assert len(row) == -(-beats * bits // 8)
        words[low].extend(row)
        index[low].append((token, int(selection.shift[block])))
    return words, index


async def feed(ctx, block, config, acts, rng, stall):
    """Send the rows, with garbage beyond K."""
    m, k = acts.shape
    size = config.beat_bytes
    beats = -(-k // size)
    padded = np.frombuffer(rng.randbytes(m * beats * size), np.int8).reshape(m, -1).copy()
    padded[:, :k] = acts
    for data in padded.reshape(-1, size):
        while rng.random() < stall:
            ctx.set(block.i.valid, 0)
            await ctx.tick()
        ctx.set(block.i.valid, 1)
        ctx.set(block.i.payload, int.from_bytes(data.tobytes(), "little"))
        await ctx.tick().until(block.i.ready)
    ctx.set(block.i.valid, 0)


def run(config, jobs, *, stall=0.0, seed=0, timeout=20_000):
    """Run jobs one after the other through one intake and compare everything that it holds."""
    block = Intake(config)
    rng = random.Random(seed)
    stores = ({}, {})
    ports = (block.high_en, block.high_address, block.low_en, block.low_address)

    async def monitor(ctx):
        async for _, _, *enables, word in ctx.tick().sample(*ports, block.act_data):
            for store, en, address in zip(stores, enables[::2], enables[1::2], strict=True):
                if en:
                    store[address] = word

    async def check_memories(ctx, words, index, selection):
        for low in range(2):
            assert stores[low] == dict(enumerate(words[low]))
            assert ctx.get((block.rows_high, block.rows_low)[low]) == len(index[low])
            for rank, entry in enumerate(index[low]):
                ctx.set(block.index_rank, rank)
                ctx.set(block.index_low, low)
                await ctx.tick()
                assert (ctx.get(block.index_token), ctx.get(block.index_shift)) == entry
        for number, (low, clip) in enumerate(zip(selection.low, selection.low_clip, strict=True)):
            ctx.set(block.table_addr, number)
            await ctx.tick()
            decision = ctx.get(block.table_data)
            assert (decision.low, decision.clip) == (low, clip)

    async def testbench(ctx):
        for job, acts, selection, outside in jobs:
            words, index = expected_stores(config, job, acts, selection)
            for store in stores:
                store.clear()
            ctx.set(block.job, {**job, "beats": -(-job["k"] // config.beat_bytes)})
            ctx.set(block.start, 1)
            ctx.set(block.i.valid, rng.randrange(2))  # may be there before it is asked for
            await ctx.tick()
            ctx.set(block.start, 0)
            await feed(ctx, block, config, acts, rng, stall)
            for _ in range(timeout):
                if ctx.get(block.done):
                    break
                await ctx.tick()
            assert ctx.get(block.done)
            await check_memories(ctx, words, index, selection)
            assert ctx.get(block.saturated) == outside
            assert not ctx.get(block.staging_error)
            assert not ctx.get(block.store_error)

    simulate_with_monitor(block, testbench, monitor)


def simulate_with_monitor(block, testbench, monitor):
    """Run a testbench beside a process that never ends."""
    simulator = Simulator(Fragment.get(block, None))
    simulator.add_clock(1e-6)
    simulator.add_process(monitor)
    simulator.add_testbench(testbench)
    simulator.run()


SHAPES = [  # m, k, rows of a sub-tensor
    (1, 1, 1),
    (1, 61, 3),  # more rows of a sub-tensor than rows
    (13, 1, 1),
    (17, 7, 1),
    (7, 8, 2),
    (11, 23, 3),
    (6, 64, 4),
    (5, 61, 5),
]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("widths", [(8, 4), (7, 3), (5, 1), (8, 8), (2, 1)])
@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_random_layers(alignment, widths, stall):
    config = DriftConfig.preset("tiny", alignment=alignment, staging_beats=40)
    rng = np.random.default_rng(sum(widths))
    jobs = [
        random_job(rng, *shape, *widths, truncate=index % 2)
        for index, shape in enumerate(SHAPES + SHAPES[::-1])
    ]
    run(config, jobs, stall=stall, seed=sum(widths))


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_every_width(alignment):
    config = DriftConfig.preset("tiny", alignment=alignment, axis_data_bits=128)
    rng = np.random.default_rng(3)
    pairs = [(high, low) for high in range(2, 9) for low in range(1, high + 1)]
    run(config, [random_job(rng, 9, 53, 2, *pair, truncate=int(rng.integers(2))) for pair in pairs])


@pytest.mark.parametrize("thresholds", [[NEVER, NEVER], [0, 0], [NEVER, 0], [0, NEVER]])
def test_one_precision(thresholds):
    # All-zero rows are low whatever the threshold.
    config = DriftConfig.preset("tiny", m_max=11)
    rng = np.random.default_rng(4)
    run(config, [random_job(rng, 11, 30, 4, 8, 4, thresholds=thresholds) for _ in range(2)])


@pytest.mark.parametrize("staging_beats", [2, 3, 5])
def test_small_staging_memory(staging_beats):
    config = DriftConfig.preset("tiny", staging_beats=staging_beats, alignment="bit")
    rng = np.random.default_rng(5)
    shapes = [(20, 8, staging_beats), (9, 8 * staging_beats, 1), (20, 3, 1), (7, 9, 1)]
    run(config, [random_job(rng, *shape, 5, 3) for shape in shapes])


def error_of(config, job, byte=0):
    """Send a job beats of equal bytes; return how many were taken, whether it was done, and its errors."""
    block = Intake(config)
    result = {}

    async def testbench(ctx):
        beats = -(-job["k"] // config.beat_bytes)
        ctx.set(block.job, {**job, "beats": beats})
        ctx.set(block.start, 1)
        await ctx.tick()
        ctx.set(block.start, 0)
        ctx.set(block.i.valid, 1)
        ctx.set(block.i.payload, int.from_bytes(bytes([byte] * config.beat_bytes), "little"))
        taken = done = 0
        for _ in range(400):
            _, _, ready, now = await ctx.tick().sample(block.i.ready, block.done)
            taken, done = taken + ready, done | now
        result.update(taken=taken, done=done)
        for name in ("staging_error", "store_error"):
            result[name] = ctx.get(getattr(block, name))

    simulate(block, testbench)
    return result


def test_a_subtensor_must_fit_the_staging_memory():
    config = DriftConfig.preset("tiny", staging_beats=12)
    rng = np.random.default_rng(6)
    fits, *_ = random_job(rng, 8, 24, 4, 8, 4)
    assert error_of(config, fits) == {"taken": 24, "done": 1, "staging_error": 0, "store_error": 0}
    more, *_ = random_job(rng, 10, 24, 5, 8, 4)
    assert error_of(config, more) == {"taken": 12, "done": 0, "staging_error": 1, "store_error": 0}
    # A last sub-tensor that is shorter fits.
    tail, *_ = random_job(rng, 4, 24, 5, 8, 4)
    assert error_of(config, tail)["staging_error"] == 0


def test_activations_must_fit_the_stores():
    rng = np.random.default_rng(7)
    for threshold, byte, words in ((NEVER, 1, {"high_words": 12}), (0, 0, {"low_words": 8})):
        config = DriftConfig.preset("tiny", **words)
        for rows in (4, 5):  # of 3 words at high precision, of 2 at low precision
            job, *_ = random_job(rng, rows, 24, 1, 8, 4, thresholds=[threshold, threshold])
            errors = {"staging_error": 0, "store_error": int(rows == 5)}
            assert error_of(config, job, byte) == {"taken": 3 * rows, "done": 1, **errors}


def test_index_buffer_is_shared():
    config = DriftConfig.preset("tiny", m_max=7)
    block = IndexBuffer(config)

    async def testbench(ctx):
        for highs in range(8):
            ranks = [(0, rank) for rank in range(highs)] + [(1, rank) for rank in range(7 - highs)]
            for token, (low, rank) in enumerate(ranks):
                ctx.set(block.write_en, 1)
                ctx.set(block.write_low, low)
                ctx.set(block.write_rank, rank)
                ctx.set(block.write_entry, {"token": 1000 * highs + token, "shift": token})
                await ctx.tick()
            ctx.set(block.write_en, 0)
            for token, (low, rank) in enumerate(ranks):
                ctx.set(block.low, low)
                ctx.set(block.rank, rank)
                await ctx.tick()
                entry = ctx.get(block.entry)
                assert (entry.token, entry.shift) == (1000 * highs + token, token)

    simulate(block, testbench)


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_lint(alignment, lint, tmp_path):
    path = tmp_path / "intake.v"
    path.write_text(emit(Intake(DriftConfig.preset("tiny", alignment=alignment, m_max=50)), "intake").verilog)
    assert lint(path) == []
