"""The precision selector against exact integers: ties, never, zeros, every pair of widths; and its table."""

import random

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.selector import PrecisionSelector, SelectionTable
from bitfabric.hdl.drift.statistics import total_bits
from bitfabric.quant.drift import NEVER
from bitfabric.quant.drift.decision import select_integer
from bitfabric.sim.streams import simulate

WIDTHS = [(high, low) for high in range(2, 9) for low in range(1, high + 1)]
GROUP = 25  # sub-tensors that share their thresholds


def exact(maximum, total, limit, high_bits, low_bits):
    """Return low and lc by the definition, in Python's integers."""
    top = 2 ** (high_bits - 1) - 1
    clip = max(c for c in range(high_bits - low_bits + 1) if maximum << c <= top)
    low = total == 0 or (limit != NEVER and total**2 << clip >= limit)
    return low, high_bits - low_bits - clip


def random_group(rng, elements, high_bits, low_bits):
    """Return statistics and two thresholds, near what one of them reaches."""
    top = 2 ** (high_bits - 1) - 1
    stats = []
    for _ in range(GROUP):
        maximum = rng.choice([0, 1, top, rng.randint(0, top), rng.randint(0, top) >> rng.randrange(7)])
        most = maximum * elements
        total = rng.choice([maximum, most, rng.randint(0, most) >> rng.randrange(most.bit_length() + 1)])
        stats.append((maximum, max(maximum, total), rng.randrange(2)))
    limits = []
    for _ in range(2):
        maximum, total, _ = rng.choice(stats)
        clip = high_bits - low_bits - exact(maximum, total, 0, high_bits, low_bits)[1]
        reach = (total**2 << clip) + rng.choice([-1, 0, 1])
        chosen = rng.choice([reach, reach, reach, 0, NEVER, NEVER - 1, rng.randrange(1 << 64)])
        limits.append(max(0, min(chosen, NEVER)))
    return stats, limits


@pytest.mark.parametrize(
    "overrides",
    [{}, {"axis_data_bits": 256, "staging_beats": 512}, {"axis_data_bits": 512, "staging_beats": 1 << 16}],
)
def test_decisions(overrides):
    config = DriftConfig.preset("tiny", **overrides)
    block = PrecisionSelector(config)
    elements = config.staging_beats * config.beat_bytes
    rng = random.Random(elements)
    checked = ties = 0

    async def testbench(ctx):
        nonlocal checked, ties
        for high_bits, low_bits in WIDTHS * 4:
            stats, limits = random_group(rng, elements, high_bits, low_bits)
            expected = [exact(m, t, limits[short], high_bits, low_bits) for m, t, short in stats]
            golden = select_integer(
                [m for m, _, _ in stats],
                [t for _, t, _ in stats],
                np.array([limits[short] for _, _, short in stats], np.uint64),
                high_bits,
                low_bits,
            )
            assert expected == [
                (bool(low), int(clip)) for low, clip in zip(golden[0], golden[2], strict=True)
            ]
            ties += sum(
                (t**2 << (high_bits - low_bits - clip)) == limits[short]
                for (_, t, short), (_, clip) in zip(stats, expected, strict=True)
            )
            ctx.set(block.high_bits, high_bits)
            ctx.set(block.low_bits, low_bits)
            ctx.set(block.threshold, limits[0])
            ctx.set(block.threshold_tail, limits[1])
            found = []
            for index in range(GROUP + PrecisionSelector.LATENCY):
                ctx.set(block.valid, index < GROUP)
                if index < GROUP:
                    maximum, total, short = stats[index]
                    ctx.set(block.maximum, maximum)
                    ctx.set(block.total, total)
                    ctx.set(block.is_tail, short)
                _, _, valid, decision = await ctx.tick().sample(block.o_valid, block.decision)
                assert valid == (index >= PrecisionSelector.LATENCY)
                if valid:
                    found.append((bool(decision.low), decision.clip))
            assert found == expected, (high_bits, low_bits, stats, limits)
            checked += len(found)

    simulate(block, testbench)
    assert checked == 4 * GROUP * len(WIDTHS)  # 3500, 10 500 in all
    assert ties > 100


def test_the_widest_sum():
    config = DriftConfig.preset("tiny", axis_data_bits=512, staging_beats=1 << 16)
    largest = 127 * 64 << 16
    assert largest < 1 << total_bits(config)
    # T of all ones is never reached: that needs no logic of its own.
    assert max((top * (largest // 127)) ** 2 << 7 - top.bit_length() for top in range(128)) < NEVER


def test_table():
    config = DriftConfig.preset("tiny", m_max=7)
    block = SelectionTable(config)
    rng = random.Random(1)

    async def testbench(ctx):
        for count in (7, 3):
            entries = [{"low": rng.randrange(2), "clip": rng.randrange(8)} for _ in range(count)]
            ctx.set(block.start, 1)
            await ctx.tick()
            ctx.set(block.start, 0)
            for entry in entries:
                ctx.set(block.write_en, 1)
                ctx.set(block.decision, entry)
                await ctx.tick()
                ctx.set(block.write_en, 0)
                if rng.randrange(2):
                    await ctx.tick()
            for address, entry in enumerate(entries):
                ctx.set(block.address, address)
                await ctx.tick()
                got = ctx.get(block.read_data)
                assert {"low": got.low, "clip": got.clip} == entry

    simulate(block, testbench)
