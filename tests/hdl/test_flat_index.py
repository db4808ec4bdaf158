"""The flat address of an element, for sizes that are powers of two and for others."""

import itertools

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from bitfabric.hdl.common.flat_index import flat_index
from bitfabric.hdl.common.memory import address_bits


@pytest.mark.parametrize(
    "sizes", [(5,), (2, 5, 4), (2, 7, 3), (2, 4, 8), (3, 1, 6), (1, 1), (2, 8, 5), (6, 2, 3, 4)], ids=str
)
def test_every_element_has_its_place(sizes):
    # An index may be wider than its size asks for.
    indices = [
        Signal(address_bits(size) + (size % 3 == 0), name=f"i{axis}") for axis, size in enumerate(sizes)
    ]
    m, place = Module(), Signal(16)
    m.d.comb += place.eq(flat_index(*zip(indices, sizes, strict=True)))
    seen = []

    async def testbench(ctx):
        for element in itertools.product(*map(range, sizes)):
            for signal, index in zip(indices, element, strict=True):
                ctx.set(signal, index)
            seen.append(ctx.get(place))

    simulator = Simulator(m)
    simulator.add_testbench(testbench)
    simulator.run()
    assert seen == list(range(len(seen)))
