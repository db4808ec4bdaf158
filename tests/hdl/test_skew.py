"""The skew: lane i comes i + 1 cycles late."""

import random

import pytest

from bitfabric.hdl.gemm.skew import Skew
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


@pytest.mark.parametrize(("lanes", "width"), [(1, 1), (1, 8), (3, 8), (8, 5)])
def test_delays(lanes, width, set_lanes):
    block = Skew(lanes, width)
    rng = random.Random(lanes)
    words = [[rng.getrandbits(width) for _ in range(lanes)] for _ in range(60)]
    seen = []

    async def testbench(ctx):
        for word in words:
            set_lanes(ctx, block.i, word)
            seen.append([ctx.get(block.o[lane]) for lane in range(lanes)])
            await ctx.tick()

    simulate(block, testbench)
    for cycle in range(lanes, len(words)):
        assert seen[cycle] == [words[cycle - lane - 1][lane] for lane in range(lanes)]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 8), "lanes=0 is not allowed; it must be an integer of at least 1"),
        ((4, 0), "width=0 is not allowed; it must be an integer of at least 1"),
    ],
)
def test_construction_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        Skew(*arguments)
    assert str(error.value) == text
