"""The BitBrick over all its inputs, and the adder tree it is summed with."""

import itertools

import pytest
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.sim import Simulator

from bitfabric.hdl.arith.bitbrick import BitBrick
from bitfabric.hdl.arith.fusion_brick import FusionBrick
from bitfabric.hdl.arith.tree import balanced_sum, signed_bits
from bitfabric.quant.errors import ParameterError


def simulate(dut, process):
    simulator = Simulator(dut)
    simulator.add_testbench(process)
    simulator.run()


def number(value, bits, is_signed):
    return value - (1 << bits) if is_signed and value >> (bits - 1) else value


def test_bitbrick_multiplies_for_every_input():
    dut = BitBrick()

    async def process(ctx):
        for act, weight, is_signed in itertools.product(range(2), range(16), range(2)):
            ctx.set(dut.act, act)
            ctx.set(dut.weight, weight)
            ctx.set(dut.weight_signed, is_signed)
            assert ctx.get(dut.product) == act * number(weight, 4, is_signed)

    simulate(dut, process)


@pytest.mark.parametrize("bits", [2, 4])
def test_fusion_brick_multiplies_for_every_input(bits):
    dut = FusionBrick(bits)

    async def process(ctx):
        values = range(1 << bits)
        for act, weight, sa, sw in itertools.product(values, values, range(2), range(2)):
            ctx.set(dut.act, act)
            ctx.set(dut.weight, weight)
            ctx.set(dut.act_signed, sa)
            ctx.set(dut.weight_signed, sw)
            assert ctx.get(dut.product) == number(act, bits, sa) * number(weight, bits, sw)

    simulate(dut, process)


def test_fusion_brick_refuses_other_widths():
    with pytest.raises(ParameterError) as error:
        FusionBrick(3)
    assert str(error.value) == "bits=3 is not allowed; it must be one of 2, 4"


def test_balanced_sum_grows_by_the_logarithm():
    values = [Signal(signed(8), name=f"v{i}") for i in range(8)]
    assert balanced_sum(values).shape() == signed(11)
    assert len(balanced_sum(values[:5])) == 11
    assert len(balanced_sum(values[:1])) == 8
    assert balanced_sum([]).shape() == unsigned(1)
    m = Module()
    total = Signal(signed(11))
    m.d.comb += total.eq(balanced_sum(values[:7]))

    async def process(ctx):
        for i, value in enumerate(values[:7]):
            ctx.set(value, -128 + i)
        assert ctx.get(total) == 7 * -128 + 21

    simulate(m, process)


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (-1, 0, 1), (-8, 7, 4), (-8, 8, 5), (-9, 0, 5), (0, 15, 5)]
)
def test_signed_bits(low, high, bits):
    assert signed_bits(low, high) == bits
