"""The intake's cycle model against the RTL: staging memory nearly full, both alignments, gaps between beats."""

import random

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.intake import Intake
from bitfabric.quant.drift import NEVER
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.drift_intake import intake_cycles, row_cycles
from bitfabric.sim.streams import simulate


def measure(config, cases):
    """Run ``(beats, rows, group, low, hp, lp, offered)`` in turn; return when beats were taken and it was done."""
    block = Intake(config)
    size = config.beat_bytes
    results = []

    async def testbench(ctx):
        for beats, rows, group, low, high_bits, low_bits, offered in cases:
            # A sub-tensor is all ones, which never reaches T, or zeros, which are low whatever T is.
            data = [int(not low[row // group]) for row in range(rows) for _ in range(beats)]
            job = {"m": rows, "k": beats * size, "beats": beats, "subtensor_rows": group}
            limits = {"threshold": NEVER, "threshold_tail": NEVER}
            ctx.set(block.job, {**job, "high_bits": high_bits, "low_bits": low_bits, **limits})
            ctx.set(block.i.valid, 0)
            cycle, index, taken = 0, 0, []
            while True:
                ctx.set(block.start, cycle == 0)
                if cycle:
                    valid = index < len(data) and cycle >= int(offered[index])
                    ctx.set(block.i.valid, valid)
                    if valid:
                        ctx.set(block.i.payload, int.from_bytes(bytes([data[index]] * size), "little"))
                watched = (block.i.valid & block.i.ready, block.done)
                _, _, take, done = await ctx.tick().sample(*watched)
                if take:
                    taken.append(cycle)
                    index += 1
                if done:
                    break
                cycle += 1
                assert cycle < 10_000
            assert index == len(data)
            assert ctx.get(block.rows_low) == sum(low[row // group] for row in range(rows))
            results.append((taken[-1], cycle))

    simulate(block, testbench)
    return results


def random_case(rng, config, *, gaps):
    beats = min(rng.choice([1, 2, 3, rng.randint(1, config.staging_beats)]), config.staging_beats)
    most = config.staging_beats // beats  # rows that fit
    group = rng.choice([1, most, rng.randint(1, most)])
    rows = rng.randint(1, max(1, min(config.m_max, 4 * config.staging_beats // beats)))
    share = rng.choice([0, 0.5, 1])
    low = [rng.random() < share for _ in range(-(-rows // group))]
    high_bits = rng.randint(2, 8)
    low_bits = rng.randint(1, high_bits)
    offered = [1] * (rows * beats)
    if gaps:
        offered = np.cumsum([rng.choice([0, 1, 1, 2, 9]) for _ in range(rows * beats)]).tolist()
    return beats, rows, group, low, high_bits, low_bits, offered


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("alignment", ["nibble", "bit"])
@pytest.mark.parametrize("staging_beats", [2, 3, 7, 20, 32])
def test_model_equals_rtl(staging_beats, alignment, gaps):
    config = DriftConfig.preset("tiny", staging_beats=staging_beats, alignment=alignment)
    rng = random.Random(staging_beats)
    cases = [random_case(rng, config, gaps=gaps) for _ in range(14)]
    expected = [
        intake_cycles(config, beats, rows, group, low, high, lowest, offered if gaps else None)
        for beats, rows, group, low, high, lowest, offered in cases
    ]
    assert measure(config, cases) == [(times.taken, times.done) for times in expected]


def test_a_beat_a_cycle():
    # Sub-tensors of up to half the staging memory, less what the decision takes, never wait.
    config = DriftConfig.preset("paper")
    for group, beats in ((1, 24), (1, 96), (8, 24), (200, 1)):
        rows = 1000
        low = np.arange(-(-rows // group)) % 2
        times = intake_cycles(config, beats, rows, group, low)
        assert times.taken == rows * beats
        last = (rows - 1) % group + 1
        assert times.done == rows * beats + Intake.TO_DECISION + last * beats + Intake.TO_STORE


def test_by_hand():
    config = DriftConfig.preset("tiny", alignment="bit")
    # One beat in cycle 1: decided 9 cycles later, its word written 4 later, done in the next.
    assert intake_cycles(config, 1, 1, 1, [0]).done == 1 + 9 + 4 + 1
    # Three beats of 3 bits: 9 eighths of a word, which take a cycle more.
    assert [row_cycles(beats, 3) for beats in (1, 2, 3, 4, 8, 11)] == [1, 2, 4, 4, 8, 12]
    assert [row_cycles(beats, 5) for beats in (1, 2, 3, 8)] == [1, 3, 3, 8]
    assert all(row_cycles(beats, bits) == beats for beats in range(1, 20) for bits in (1, 2, 4, 8))


def test_errors():
    config = DriftConfig.preset("tiny")
    with pytest.raises(ParameterError, match="low="):
        intake_cycles(config, 1, 5, 2, [0, 1])
    with pytest.raises(ParameterError, match="subtensor_rows=9 is not allowed; it must be at most 8 rows"):
        intake_cycles(config, 4, 20, 9, [0, 0, 0])
    with pytest.raises(ParameterError, match="offered="):
        intake_cycles(config, 4, 2, 2, [0], offered=[1, 2])
    # What is never full need not fit whole.
    assert intake_cycles(config, 4, 8, 90, [0]).taken == 32
