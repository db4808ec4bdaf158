"""Statistics of sub-tensors against numpy: masks, saturation, corner bytes, gaps between beats."""

import random

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.statistics import Statistics, total_bits
from bitfabric.quant.drift import saturate
from bitfabric.sim.streams import simulate


def random_rows(rng, rows, k):
    corners = np.array([-128, -127, -1, 0, 1, 127])
    q = rng.integers(-128, 128, (rows, k))
    picked = rng.random((rows, k)) < 0.2
    q[picked] = rng.choice(corners, picked.sum())
    scale = rng.integers(0, 8, (rows, 1))
    return (q >> scale).astype(np.int8)


def run(config, jobs, *, stall=0.0, seed=0):
    """Send the rows of ``(acts, subtensor_rows, high_bits)`` and compare all that comes out."""
    block = Statistics(config)
    size = config.beat_bytes
    rng = random.Random(seed)
    garbage = np.random.default_rng(seed)

    async def testbench(ctx):
        for acts, subtensor_rows, high_bits in jobs:
            rows, k = acts.shape
            beats = -(-k // size)
            padded = garbage.integers(-128, 128, (rows, beats * size)).astype(np.int8)
            padded[:, :k] = acts
            values, outside = saturate(acts, high_bits)
            clean = np.zeros_like(padded)
            clean[:, :k] = values
            starts = np.arange(0, rows, subtensor_rows)
            magnitude = np.abs(values.astype(int))
            expected = list(
                zip(
                    np.maximum.reduceat(magnitude.max(1), starts).tolist(),
                    np.add.reduceat(magnitude.sum(1), starts).tolist(),
                    (np.diff(starts, append=rows) < subtensor_rows).tolist(),
                    strict=True,
                )
            )
            ctx.set(block.high_bits, high_bits)
            ctx.set(block.tail_bytes, k % size)
            ctx.set(block.start, 1)
            await ctx.tick()
            ctx.set(block.start, 0)
            staged, found, ends, when = [], [], [], []
            queue = [(row, beat) for row in range(rows) for beat in range(beats)]
            cycle = 0
            while queue or cycle < ends[-1] + 2 * Statistics.LATENCY:
                give = bool(queue) and rng.random() >= stall
                ctx.set(block.valid, give)
                if give:
                    row, beat = queue.pop(0)
                    data = padded[row, beat * size : (beat + 1) * size].tobytes()
                    ctx.set(block.beat, int.from_bytes(data, "little"))
                    ctx.set(block.row_end, beat == beats - 1)
                    whole = row % subtensor_rows == subtensor_rows - 1
                    end = beat == beats - 1 and (whole or row == rows - 1)
                    ctx.set(block.subtensor_end, end)
                    ctx.set(block.tail, not whole)
                    if end:
                        ends.append(cycle)
                watched = (block.staged_valid, block.staged, block.done, block.maximum, block.total)
                _, _, valid, word, done, maximum, total, short = await ctx.tick().sample(
                    *watched, block.is_tail
                )
                if valid:
                    staged.append(word.to_bytes(size, "little"))
                if done:
                    found.append((maximum, total, bool(short)))
                    when.append(cycle)
                cycle += 1
            assert b"".join(staged) == clean.tobytes()
            assert found == expected
            assert when == [end + Statistics.LATENCY for end in ends]
            assert ctx.get(block.saturated) == outside

    simulate(block, testbench)


@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("axis_data_bits", [64, 256])
def test_statistics(axis_data_bits, stall):
    config = DriftConfig.preset("tiny", axis_data_bits=axis_data_bits)
    rng = np.random.default_rng(axis_data_bits)
    size = config.beat_bytes
    shapes = [(1, 1, 1), (3, size, 2), (4, size - 1, 4), (5, size + 1, 2), (2, 3 * size, 7), (7, 11, 3)]
    jobs = [
        (random_rows(rng, rows, k), group, high_bits)
        for high_bits in range(2, 9)
        for rows, k, group in shapes
    ]
    run(config, jobs, stall=stall, seed=axis_data_bits)


def test_extremes():
    config = DriftConfig.preset("tiny", staging_beats=8)
    rows = [np.full((8, 8), value, np.int8) for value in (-128, 127, 0, -1)]
    run(config, [(acts, 8, high_bits) for acts in rows for high_bits in (2, 7, 8)])
    assert total_bits(config) == (127 * 64).bit_length()
