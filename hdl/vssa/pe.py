"""VSSA's processing element: one 4-bit MAC that multiplies 4 or 8 bits by 4 or 8 bits in 1, 2 or 4 cycles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import check_range

OPERAND_BITS = 8
NIBBLE_BITS = 4
PRODUCT_BITS = 9  # -120 (-8 * 15) to 225 (15 * 15)
ADDEND_BITS = PRODUCT_BITS + 2 * NIBBLE_BITS
MAX_ACC_BITS = 32


def check_acc_bits(acc_bits: object) -> int:
    """Return the width of an accumulator: 17 bits, which hold any one shifted product, to 32.

    Raises
    ------
    ParameterError
        If it is not.
    """
    return check_range("acc_bits", acc_bits, ADDEND_BITS, MAX_ACC_BITS)


@dataclass(frozen=True, kw_only=True)
class VssaPeConfig(DesignConfig):
    """Hold a VSSA PE's parameter.

    Members
    -------
    acc_bits : int
        Width of the accumulator: 16 + ceil(log2 K) hold K signed 8x8 products of any value [derived].
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"acc_bits": 20},
        "small": {},
        "paper": {},
    }

    acc_bits: int = param(
        25, "width of the accumulator", unit="bits", tag="ours", low=ADDEND_BITS, high=MAX_ACC_BITS
    )


class VssaPe(Block):
    """Accumulate the products of the operands that pass, a nibble of each per cycle; the sum stays.

    Operands hop on ``advance``, which ends a step. A step's cycles are its phases:

    ===== ======================= ==================================== =====================
    phase product                 shift                                enabled (valid and..)
    ===== ======================= ==================================== =====================
    0     HO(a) * HO(b)           8                                    always
    1     LO(a) * HO(b)           4, if a is high                      a or b is high
    1     HO(a) * LO(b)           4, if only b is                      a or b is high
    2     HO(a) * LO(b)           4                                    a and b are high
    3     LO(a) * LO(b)           0                                    a and b are high
    ===== ======================= ==================================== =====================

    "High" says that an operand has 8 bits; a 4-bit value stands in the high-order (HO) nibble. So 4x4 bits work 1
    cycle, 4x8 and 8x4 2, 8x8 4 [paper]; the order of the phases [ours]. LO nibbles are unsigned, HO nibbles signed
    unless told otherwise. The multiplier is one of 5 x 5 bits, signed. Throughput one nibble product per cycle;
    the operand registers and the accumulator have no reset: ``valid`` guards them, and shifting clears it.

    Parameters
    ----------
    acc_bits : int
        Width of the accumulator, 17 to 32; it wraps.

    Members
    -------
    a_in, a_out, b_in, b_out : In / Out(8)
        Operands: a passes west to east, b north to south, one PE per ``advance``.
    a_high_in, a_high_out, b_high_in, b_high_out : In / Out(1)
        Whether the operand has 8 bits.
    advance : In(1)
        The operands hop at the end of this cycle.
    phase : In(2)
        The step's cycle.
    valid : In(1)
        The operands held now are both elements of the tile. It is one diagonal's, so the array keeps it, not the PE.
    a_unsigned, b_unsigned : In(1)
        HO nibbles are 0 to 15 instead of -8 to 7; constant over a tile.
    shift : In(1)
        The accumulator takes ``acc_in``; not while ``valid``.
    acc_in, acc_out : In / Out(signed(acc_bits))
        The accumulators' chain, north to south.
    enabled : Out(1)
        The MAC works in this cycle.
    both_high : Out(1)
        The operands held now need four cycles.

    Raises
    ------
    ParameterError
        If ``acc_bits`` is not allowed.
    """

    def __init__(self, acc_bits: int):
        self._acc_bits = check_acc_bits(acc_bits)
        super().__init__(
            {
                "a_in": In(OPERAND_BITS),
                "a_out": Out(OPERAND_BITS),
                "a_high_in": In(1),
                "a_high_out": Out(1),
                "b_in": In(OPERAND_BITS),
                "b_out": Out(OPERAND_BITS),
                "b_high_in": In(1),
                "b_high_out": Out(1),
                "advance": In(1),
                "phase": In(2),
                "valid": In(1),
                "a_unsigned": In(1),
                "b_unsigned": In(1),
                "shift": In(1),
                "acc_in": In(signed(self._acc_bits)),
                "acc_out": Out(signed(self._acc_bits)),
                "enabled": Out(1),
                "both_high": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Choose nibbles, multiply, shift, add."""
        m = Module()
        a, b = Signal(OPERAND_BITS, reset_less=True), Signal(OPERAND_BITS, reset_less=True)
        a_high, b_high = Signal(reset_less=True), Signal(reset_less=True)
        acc = Signal(signed(self._acc_bits), reset_less=True)
        with m.If(self.advance):
            m.d.sync += [
                a.eq(self.a_in),
                b.eq(self.b_in),
                a_high.eq(self.a_high_in),
                b_high.eq(self.b_high_in),
            ]
        m.d.comb += [
            self.a_out.eq(a),
            self.b_out.eq(b),
            self.a_high_out.eq(a_high),
            self.b_high_out.eq(b_high),
            self.acc_out.eq(acc),
            self.both_high.eq(self.valid & a_high & b_high),
        ]
        odd, late = self.phase[0], self.phase[1]
        m.d.comb += self.enabled.eq(Mux(late, self.both_high, self.valid & (~odd | a_high | b_high)))
        low_a, low_b = Signal(), Signal()
        m.d.comb += [low_a.eq(odd & (late | a_high)), low_b.eq(late | (odd & ~a_high))]
        # One operand of 0 keeps the sum, which costs less than the accumulator's enable.
        product = Signal(signed(PRODUCT_BITS))
        m.d.comb += product.eq(
            _gated(_nibble(a, low_a, self.a_unsigned), self.enabled) * _nibble(b, low_b, self.b_unsigned)
        )
        # An AND-OR of the three places is smaller than two multiplexers in a row. The signs are signals so that
        # simulators see them repeated, not bit after bit of a vector.
        placed = []
        for nibbles, chosen in enumerate((low_a & low_b, low_a ^ low_b, ~(low_a | low_b))):
            here, sign = Signal(name=f"here_{nibbles}"), Signal(name=f"sign_{nibbles}")
            m.d.comb += [here.eq(chosen), sign.eq(here & product[-1])]
            magnitude = product[:-1] & here.replicate(PRODUCT_BITS - 1)
            low = Cat(Const(0, NIBBLE_BITS * nibbles), magnitude)
            placed.append(Cat(low, sign.replicate(ADDEND_BITS - len(low))))
        addend = (placed[0] | placed[1] | placed[2]).as_signed()
        m.d.sync += acc.eq(Mux(self.shift, self.acc_in, acc + addend))
        return m


def _nibble(operand: Value, low: Value, unsigned: Value) -> Value:
    """Return the nibble in use with its sign, 5 bits."""
    high_nibble = Cat(operand[NIBBLE_BITS:], operand[-1] & ~unsigned)
    return Mux(low, operand[:NIBBLE_BITS], high_nibble).as_signed()


def _gated(value: Value, on: Value) -> Value:
    """Return a signed value, or 0."""
    return (value.as_unsigned() & on.replicate(len(value))).as_signed()
