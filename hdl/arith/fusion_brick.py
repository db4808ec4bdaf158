"""The fusion unit's brick: a small multiplier with a sign flag per operand."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_choice


class FusionBrick(Block):
    """Multiply one slice of an activation by one slice of a weight.

    Combinational, exact. Source: BitFusion's 2-bit BitBrick, Drift section 2.3 [paper]; 4 bits [ours].

    Parameters
    ----------
    bits : int
        2 or 4.

    Members
    -------
    act, weight : In(bits)
    act_signed, weight_signed : In(1)
        1 where the slice is the top one of a signed operand.
    product : Out(signed(2*bits + 1))
        -6 to 9 at 2 bits, -120 to 225 at 4.

    Raises
    ------
    ParameterError
        For another width.
    """

    def __init__(self, bits: int = 2) -> None:
        self.bits = check_choice("bits", bits, (2, 4))
        super().__init__(
            {
                "act": In(bits),
                "weight": In(bits),
                "act_signed": In(1),
                "weight_signed": In(1),
                "product": Out(signed(2 * bits + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Plain bits: of a signed and an unsigned operand `&` and `^` make a bit more, which would be wrong here.
        weight = Signal(self.bits + 1)
        m.d.comb += weight.eq(Cat(self.weight, self.weight[-1] & self.weight_signed))
        if self.bits == 2:
            # A 3x3-bit signed multiplier: here, and only here, synthesis does better with the operator
            # (2.5 % of a whole unit) than with rows of ANDs.
            act = Cat(self.act, self.act[-1] & self.act_signed).as_signed()
            m.d.comb += self.product.eq(act * weight.as_signed())
            return m
        # An array multiplier: each row is added to the bits above the ones already final.
        final: list[Value] = []
        above: Value = (weight & self.act[0].replicate(self.bits + 1)).as_signed()
        for i in range(1, self.bits):
            final.append(above[0])
            row = weight & self.act[i].replicate(self.bits + 1)
            total = Signal(signed(self.bits + 2), name=f"total_{i}")
            if i == self.bits - 1:  # the sign's row is subtracted: -x == ~x + 1
                row = row ^ self.act_signed.replicate(self.bits + 1)
                m.d.comb += total.eq((above >> 1) + row.as_signed() + self.act_signed)
            else:
                m.d.comb += total.eq((above >> 1) + row.as_signed())
            above = total
        m.d.comb += self.product.eq(Cat(*final, above))
        return m
