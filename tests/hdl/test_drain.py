"""The drain: beats of accumulators and of requantized bytes, taken apart again by an independent reader."""

import random

import pytest
from amaranth.hdl import Module, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.gemm.accumulator import Accumulators, drain_layout, south_layout
from bitfabric.hdl.gemm.drain import Drain
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def make_config(columns, axis_data_bits, acc_bits=32):
    k_max = 65535 if acc_bits >= 31 else 1 << (acc_bits - 16)
    return SystolicWsConfig.preset(
        "tiny", columns=columns, axis_data_bits=axis_data_bits, acc_bits=acc_bits, k_max=k_max
    )


def make_works(config, rng, count, depth):
    """Return banks of accumulators with corners among them, and their channels' parameters."""
    bound = 1 << (config.acc_bits - 1)
    works = []
    for index in range(count):
        rows, n_valid = rng.randint(1, depth), rng.choice([1, config.columns, rng.randint(1, config.columns)])
        shift = rng.randint(1, 40)
        works.append(
            {
                "rows": rows,
                "n_valid": n_valid,
                "last": index in (count // 2, count - 1),
                "acc": [
                    [
                        rng.choice(
                            [rng.randrange(-bound, bound) >> rng.randrange(24), -bound, bound - 1, 0, -1]
                        )
                        for _ in range(config.columns)
                    ]
                    for _ in range(rows)
                ],
                "params": [
                    {
                        "bias": rng.randrange(-(1 << 31), 1 << 31) >> rng.randrange(1, 31),
                        "multiplier": rng.randrange(1, 1 << 31),
                        "shift": min(shift + rng.randrange(24), 62),
                    }
                    for _ in range(config.columns)
                ],
            }
        )
    return works


def expected_rows(works, requantize, low, high, zero_point):
    """Return every row as plain integers: what its channels hold, or the low byte of what they become."""
    result = []
    for work in works:
        for row in work["acc"]:
            values = row[: work["n_valid"]]
            if requantize:
                values = [
                    (
                        max(
                            low,
                            min(
                                high,
                                ((a + p["bias"]) * p["multiplier"] + (1 << p["shift"] >> 1)) >> p["shift"],
                            ),
                        )
                        + zero_point
                    )
                    & 0xFF
                    for a, p in zip(values, work["params"], strict=False)
                ]
            result.append(values)
    return result


def read_rows(beats, works, requantize, beat_bytes):
    """Take ``(data, last)`` beats apart: rows of integers, and where ``last`` stood by row."""
    size = 1 if requantize else 4
    beats = list(beats)
    rows, lasts = [], []
    for work in works:
        for row in range(work["rows"]):
            count = -(-work["n_valid"] * size // beat_bytes)
            taken, beats = beats[:count], beats[count:]
            raw = b"".join(word.to_bytes(beat_bytes, "little") for word, _ in taken)
            used = raw[: work["n_valid"] * size]
            assert not any(raw[len(used) :]), "what a row leaves of its last beat is 0"
            rows.append(
                [
                    int.from_bytes(used[i : i + size], "little", signed=not requantize)
                    for i in range(0, len(used), size)
                ]
            )
            ends = work["last"] and row == work["rows"] - 1
            assert [last for _, last in taken] == [0] * (count - 1) + [int(ends)]
            lasts.append(ends)
    assert not beats, "more beats than rows"
    return rows, lasts


def run(
    config,
    works,
    set_lanes,
    *,
    requantize=False,
    low=-128,
    high=127,
    zero_point=0,
    stall=0.0,
    depth=4,
    seed=0,
):
    """Put a Drain between models of the buffers and a receiver; return its beats and when things happened."""
    block = Drain(config, depth)
    rng = random.Random(seed)
    beats, times = [], {"read": [], "release": [], "beat": [], "freed": []}

    def noise(bits):
        return rng.randrange(-(1 << (bits - 1)), 1 << (bits - 1))

    def channels(group, params):
        lanes = [group * config.drain_lanes + lane for lane in range(config.drain_lanes)]
        garbage = {"bias": noise(32), "multiplier": (1 << 31) - 1, "shift": 0}
        return [params[lane] if lane < len(params) else garbage for lane in lanes]

    async def testbench(ctx):
        ctx.set(block.requantize, requantize)
        ctx.set(block.low, low)
        ctx.set(block.high, high)
        ctx.set(block.zero_point, zero_point)
        index, cycle, held = 0, 0, None
        total = sum(
            work["rows"] * -(-work["n_valid"] // (config.drain_lanes * (4 if requantize else 1)))
            for work in works
        )
        while len(beats) < total and cycle < 5000:
            full = index < len(works) and (ctx.get(block.full) or rng.random() >= stall)
            ctx.set(block.full, full)
            if full:
                info = {key: works[index][key] for key in ("n_valid", "last")}
                ctx.set(block.info, {"m_valid": works[index]["rows"], **info})
            ctx.set(block.o.ready, rng.random() >= stall)
            watched = (block.drain_en, block.drain_row, block.release, block.freed)
            params = (block.params_en, block.params_addr, block.params_release)
            out = (block.o.valid, block.o.ready, block.o.payload)
            _, _, *values = await ctx.tick().sample(*watched, *params, *out)
            en, row, release, freed, params_en, group, params_release, valid, ready, payload = values
            word = (payload.data, payload.last)
            assert held is None or (valid and word == held), "a beat that waits stays as it is"
            held = word if valid and not ready else None
            if valid and ready:
                beats.append(word)
                times["beat"].append(cycle)
            assert params_release == (release if requantize else 0)
            if en:
                assert full
                set_lanes(ctx, block.drain_data, works[index]["acc"][row])
                times["read"].append(cycle)
            if params_en:
                ctx.set(block.params_data, channels(group, works[index]["params"]))
            if release:
                times["release"].append(cycle)
                index += 1
                ctx.set(block.full, 0)
            if freed:  # the bank may be written and read for another tile from now on
                times["freed"].append(cycle)
                if not en:
                    set_lanes(ctx, block.drain_data, (noise(config.acc_bits) for _ in range(config.columns)))
            cycle += 1
        for _ in range(20):
            ctx.set(block.o.ready, 1)
            _, _, valid = await ctx.tick().sample(block.o.valid)
            assert not valid, "a beat too many"

    simulate(block, testbench)
    return beats, times


CONFIGS = [(1, 32, 32), (2, 32, 17), (7, 64, 32), (9, 128, 20), (33, 256, 32), (5, 512, 32)]


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("requantize", [False, True])
@pytest.mark.parametrize(("columns", "axis_data_bits", "acc_bits"), CONFIGS)
def test_rows_come_out(columns, axis_data_bits, acc_bits, requantize, stall, set_lanes):
    config = make_config(columns, axis_data_bits, acc_bits)
    rng = random.Random(columns)
    works = make_works(config, rng, 8, 4)
    scale = {"low": -128, "high": 127, "zero_point": 0}
    if columns % 2:
        scale = {"low": -200, "high": 55, "zero_point": 200}  # unsigned bytes
    beats, times = run(config, works, set_lanes, requantize=requantize, stall=stall, seed=columns, **scale)
    rows, lasts = read_rows(beats, works, requantize, axis_data_bits // 8)
    expected = expected_rows(works, requantize, **scale)
    assert rows == expected
    assert sum(lasts) == 2
    if requantize:
        bounds = {(scale[name] + scale["zero_point"]) & 0xFF for name in ("low", "high")}
        assert len({value for row in expected for value in row} - bounds) > 2  # not everything is clipped
    assert len(times["freed"]) == len(times["release"]) == len(works)
    assert all(late > early for early, late in zip(times["release"], times["freed"], strict=True))


@pytest.mark.parametrize("requantize", [False, True])
def test_throughput_and_latency(requantize, set_lanes):
    config = make_config(9, 64)
    rng = random.Random(5)
    works = make_works(config, rng, 6, 4)
    _, times = run(config, works, set_lanes, requantize=requantize)
    groups = [-(-work["n_valid"] // 2) for work in works]
    starts = [
        release - work["rows"] * g + 1
        for release, work, g in zip(times["release"], works, groups, strict=True)
    ]
    reads = [
        start + row * g
        for start, work, g in zip(starts, works, groups, strict=True)
        for row in range(work["rows"])
    ]
    assert times["read"] == reads  # a group a cycle, the row with its first one
    last_group = [start + work["rows"] * g - 1 for start, work, g in zip(starts, works, groups, strict=True)]
    latency = 3 + (Requantizer.LATENCY if requantize else 0)
    assert {end + latency for end in last_group} <= set(times["beat"])
    assert times["beat"][-1] == last_group[-1] + latency
    assert times["freed"] == [release + 1 for release in times["release"]]


class DrainedAccumulators(Block):
    """Join accumulators and drain as the machine does."""

    def __init__(self, config: SystolicWsConfig):
        self._config = config
        super().__init__(
            {
                "psum": In(signed(config.psum_bits)).array(config.columns),
                "south": In(south_layout(config.m_step)),
                "claim": In(1),
                "claim_info": In(drain_layout(config.m_step, config.columns)),
                "free": Out(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        config = self._config
        banks = place(
            m, "banks", Accumulators(config.columns, config.acc_bits, config.psum_bits, config.m_step)
        )
        drain = place(m, "drain", Drain(config, config.m_step))
        for column in range(config.columns):
            m.d.comb += [
                banks.psum[column].eq(self.psum[column]),
                drain.drain_data[column].eq(banks.drain_data[column]),
            ]
        for name in ("south", "claim", "claim_info"):
            m.d.comb += getattr(banks, name).eq(getattr(self, name))
        for name in ("drain_en", "drain_row", "release", "freed"):
            m.d.comb += getattr(banks, name).eq(getattr(drain, name))
        for name in ("full", "info"):
            m.d.comb += getattr(drain, name).eq(getattr(banks, name))
        m.d.comb += [
            self.free.eq(banks.free),
            self.o.payload.eq(drain.o.payload),
            self.o.valid.eq(drain.o.valid),
            drain.o.ready.eq(self.o.ready),
        ]
        return m


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize("phase", [0, 7, 8, 9])
def test_a_receiver_that_pauses_for_long_loses_nothing(rows, phase):
    # The bank is filled anew, over several K tiles that read it, while the last group of its last row waits.
    config = SystolicWsConfig.preset("tiny", rows=1, columns=1, acc_depth=4)
    block = DrainedAccumulators(config)
    works, tiles, got = 8, 3, []

    def psum(work, k, row):
        return work * 100 + row * 10 + k + 1

    async def feeder(ctx):
        for work in range(works):
            while not ctx.get(block.free):
                await ctx.tick()
            ctx.set(block.claim, 1)
            ctx.set(block.claim_info, {"m_valid": rows, "n_valid": 1, "last": work == works - 1})
            for k in range(tiles):
                for row in range(rows):
                    last = k == tiles - 1 and row == rows - 1
                    word = {"valid": 1, "row": row, "bank": work % 2, "first": k == 0, "last": last}
                    ctx.set(block.south, word)
                    ctx.set(block.psum[0], psum(work, k, row))
                    await ctx.tick()
                    ctx.set(block.claim, 0)
            ctx.set(block.south, {"valid": 0, "row": 0, "bank": 0, "first": 0, "last": 0})

    async def receiver(ctx):
        cycle = 0
        while not (got and got[-1][1]) and cycle < 2000:
            ctx.set(block.o.ready, cycle % 30 in (phase, phase + 1))
            _, _, taken, beat = await ctx.tick().sample(block.o.valid & block.o.ready, block.o.payload)
            if taken:
                got.append((beat.data, beat.last))
            cycle += 1

    simulate(block, feeder, receiver)
    expected = [sum(psum(work, k, row) for k in range(tiles)) for work in range(works) for row in range(rows)]
    assert [word for word, _ in got] == expected


def test_construction_errors():
    with pytest.raises(ParameterError) as error:
        Drain(SystolicWsConfig.preset("tiny"), 0)
    assert str(error.value) == "depth=0 is not allowed; it must be an integer of at least 1"
