"""The pooling unit against exact fractions."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.pooling import KERNEL_MAX, RECIPROCAL_BITS, PoolingLane, PoolingUnit, reciprocal
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate

KERNELS = sorted({a * b for a, b in itertools.product(range(1, KERNEL_MAX + 1), repeat=2)})


@pytest.mark.parametrize("elements", KERNELS)
def test_reciprocal_is_exact_for_every_sum(elements):
    factor = reciprocal(elements) + 1
    assert 0 <= factor - 1 < 1 << RECIPROCAL_BITS
    sums = np.arange(-128 * elements, 127 * elements + 1)
    want = (2 * sums + elements) // (2 * elements)
    assert np.array_equal(((2 * sums + (elements | 1)) * factor) >> (RECIPROCAL_BITS + 1), want)
    for value in (int(sums[0]), -1, 0, elements // 2, int(sums[-1])):
        assert math.floor(Fraction(value, elements) + Fraction(1, 2)) == want[value - sums[0]]


@pytest.mark.parametrize("elements", [0, 65])
def test_no_such_kernel(elements):
    with pytest.raises(ParameterError, match=f"elements={elements} is not allowed"):
        reciprocal(elements)


def draw(rng, elements):
    """Return a kernel's bytes, often all of one corner, and which of them are not padding."""
    corner = rng.choice([-128, 127, -1, 0])
    values = np.full(elements, corner) if rng.random() < 0.4 else rng.integers(-128, 128, elements)
    inside = rng.random(elements) < 0.7
    inside[rng.integers(elements)] = True
    return values, inside


def result(values, inside, average):
    if average:
        return math.floor(Fraction(int(values.sum()), len(values)) + Fraction(1, 2))
    return int(values[inside].max())


@pytest.mark.parametrize("average", [False, True])
def test_lane(average):
    lane = PoolingLane()
    rng = np.random.default_rng(average)

    async def testbench(ctx):
        ctx.set(lane.average, average)
        for elements in KERNELS * 2:
            ctx.set(lane.odd_elements, elements | 1)
            ctx.set(lane.factor, reciprocal(elements) + 1)
            values, inside = draw(rng, elements)
            inside |= average
            for index in range(elements):
                while rng.random() < 0.2:
                    ctx.set(lane.valid, 0)
                    ctx.set(lane.value, 127)
                    await ctx.tick()
                ctx.set(lane.valid, 1)
                ctx.set(lane.first, index == 0)
                ctx.set(lane.within_image, bool(inside[index]))
                ctx.set(lane.value, int(values[index]))
                await ctx.tick()
            ctx.set(lane.valid, 0)
            await ctx.tick()
            assert ctx.get(lane.out) == result(values, inside, average), (elements, values, inside)

    simulate(lane, testbench)


@pytest.mark.parametrize("elements", [1, 2, 9])
@pytest.mark.parametrize("average", [False, True])
def test_words_back_to_back(average, elements):
    config = DriftConfig.preset("tiny")
    unit = PoolingUnit(config)
    rng = np.random.default_rng(elements)
    kernels = [[draw(rng, elements) for _ in range(config.beat_bytes)] for _ in range(12)]
    for kernel in kernels:  # padding is the same for every byte
        kernel[:] = [(values, kernel[0][1] | average) for values, _ in kernel]
    results = []

    async def testbench(ctx):
        ctx.set(unit.average, average)
        ctx.set(unit.elements, elements)
        ctx.set(unit.reciprocal, reciprocal(elements))
        await ctx.tick()
        steps = list(itertools.product(range(len(kernels)), range(elements)))
        for cycle in range(len(steps) + PoolingUnit.LATENCY):
            ctx.set(unit.valid, cycle < len(steps))
            if cycle < len(steps):
                kernel, index = steps[cycle]
                ctx.set(unit.first, index == 0)
                ctx.set(unit.last, index == elements - 1)
                ctx.set(unit.within_image, bool(kernels[kernel][0][1][index]))
                word = bytes(int(values[index]) & 255 for values, _ in kernels[kernel])
                ctx.set(unit.word, int.from_bytes(word, "little"))
            if ctx.get(unit.out_valid):
                results.append((cycle, ctx.get(unit.out)))
            await ctx.tick()
        if ctx.get(unit.out_valid):
            results.append((cycle + 1, ctx.get(unit.out)))

    simulate(unit, testbench)
    want = [
        int.from_bytes(bytes(result(v, inside, average) & 255 for v, inside in kernel), "little")
        for kernel in kernels
    ]
    assert [word for _, word in results] == want
    last = [elements * (i + 1) - 1 + PoolingUnit.LATENCY for i in range(len(kernels))]
    assert [cycle for cycle, _ in results] == last
