"""Proofs: the quick ones hold, and broken blocks are refuted."""

import re

import pytest

from bitfabric.hdl.arith.bitgroup import BitGroup, BitGroupCore
from bitfabric.hdl.arith.fusion_unit import FusionUnit, FusionUnitConfig, FusionUnitPe
from bitfabric.quant.errors import ParameterError
from bitfabric.synth import formal
from bitfabric.synth.miters import BitGroupPeMiter, ColumnMiter, FusionMiter, FusionPeMiter

# Of the bit-aligned group's sixteen element sizes three stand for all; `make formal` proves the others too.
LEFT_OUT = re.compile(r"bitgroup_bit\.([12467]x.|3x4|5x8|8x4)|.*_any\.2x.")
QUICK = [proof.name for proof in formal.proofs() if not proof.slow and not LEFT_OUT.fullmatch(proof.name)]


@pytest.mark.parametrize("name", QUICK)
def test_quick_proofs_hold(name):
    result = formal.run(name)
    result.check()
    assert result.proved
    assert result.counterexample == {}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bitgroup_bit.column0", "fusion_unit_8_2_any.8x8"])
def test_slower_proofs_hold(name):
    formal.run(name).check()


class BrokenNibbleCore(BitGroupCore):
    """A group in which one brick's product has the wrong sign."""

    def __init__(self, config):
        super().__init__(config)

    def _add_nibble(self, m, column, products):
        super()._add_nibble(m, column, [products[0], -products[1], *products[2:]])


class BrokenUnit(FusionUnit):
    """A unit in which one slice is taken for the top one of its activation, or the reverse."""

    def __init__(self, config):
        super().__init__(config)

    def _side(self, m, side):
        fused, tops = super()._side(m, side)
        return fused, tops ^ (0b0100 if side == "act" else 0)


def test_a_flipped_brick_is_refuted():
    miter = formal.Proof(name="broken", build=lambda: ColumnMiter("nibble", 0, BrokenNibbleCore))
    result = formal.prove(miter)
    assert not result.proved
    # the counterexample must touch the broken brick: row 1 and a weight other than zero in column 0
    act, held = int(result.counterexample["act"], 2), int(result.counterexample["stationary"], 2)
    assert act & 2
    assert held & 15
    with pytest.raises(formal.ProofError) as error:
        result.check()
    assert str(error.value).startswith("broken does not hold: act=")


@pytest.mark.parametrize(("act_bits", "weight_bits"), [(2, 2), (4, 4), (8, 8)])
def test_a_wrong_sign_is_refuted(act_bits, weight_bits):
    build = lambda: FusionMiter(FusionUnitConfig(), act_bits, weight_bits, BrokenUnit)  # noqa: E731
    result = formal.prove(formal.Proof(name="broken", build=build))
    assert not result.proved
    assert result.counterexample.keys() == {
        f"{side}_{p}" for side in ("act", "weight") for p in range(64 // (act_bits * weight_bits))
    }


class LosingPe(BitGroup):
    """A PE that drops one bit of the psum that passes."""

    def __init__(self, config):
        super().__init__(config)

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.psum_out[3][15].eq(0)
        return m


class EarlyPe(FusionUnitPe):
    """A PE that passes activations on in the same cycle."""

    def __init__(self, config):
        super().__init__(config)

    def elaborate(self, platform):
        m = super().elaborate(platform)
        m.d.comb += self.act_out.eq(self.act_in)
        return m


@pytest.mark.parametrize(
    "build",
    [lambda: BitGroupPeMiter("nibble", LosingPe), lambda: FusionPeMiter(FusionUnitConfig(), EarlyPe)],
)
def test_wrong_registers_are_refuted(build):
    result = formal.prove(formal.Proof(name="broken", build=build, cycles=1))
    assert not result.proved
    assert any(name.endswith("@2") for name in result.counterexample)


def test_unknown_proofs_are_refused():
    with pytest.raises(ParameterError) as error:
        formal.run("adder")
    assert str(error.value).startswith("proof='adder' is not allowed; it must be one of bitbrick, bitgroup")
