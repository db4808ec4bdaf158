"""The BitBrick: 1 activation bit times 4 weight bits, the unit that every Drift precision is built from."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block

WEIGHT_BITS = 4
PRODUCT_BITS = 5  # -8 (signed nibble) to 15 (unsigned nibble)


class BitBrick(Block):
    """Multiply one activation bit by one weight nibble.

    Combinational, one product per cycle, exact (no rounding, no overflow). Source: Drift section 4.1
    [paper]; the sign flag, because the low nibble of an 8-bit weight is unsigned [derived]. The group, not
    the brick, negates the row of a sign bit and gives the bit its significance.

    Members
    -------
    act : In(1)
        The activation bit.
    weight : In(4)
        The weight nibble.
    weight_signed : In(1)
        1: the nibble is -8 to 7; 0: it is 0 to 15.
    product : Out(signed(5))
        ``act * weight``, -8 to 15.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "act": In(1),
                "weight": In(WEIGHT_BITS),
                "weight_signed": In(1),
                "product": Out(signed(PRODUCT_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        extended = Cat(self.weight, self.weight[-1] & self.weight_signed)
        m.d.comb += self.product.eq(extended & self.act.replicate(PRODUCT_BITS))
        return m
