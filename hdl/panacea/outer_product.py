"""The outer-product calculator (OPC): 16 multipliers of 4 signed by 4 unsigned bits."""

from __future__ import annotations

from amaranth.hdl import Module, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import VECTOR, VECTOR_BITS

PRODUCT_BITS = 8  # of -8..7 by 0..15


class OuterProduct(Block):
    """Multiply a weight slice-vector by an activation slice-vector [paper, III-D].

    Combinational.

    Members
    -------
    weights : In(16)
        Four signed slices, row 0 in the lowest bits.
    acts : In(16)
        Four unsigned slices, column 0 in the lowest bits.
    products : Out(signed(8)).array(16)
        Row by row.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "weights": In(VECTOR_BITS),
                "acts": In(VECTOR_BITS),
                "products": Out(signed(PRODUCT_BITS)).array(VECTOR * VECTOR),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Return the multipliers."""
        m = Module()
        for row in range(VECTOR):
            weight = self.weights[4 * row : 4 * row + 4].as_signed()
            for column in range(VECTOR):
                act = self.acts[4 * column : 4 * column + 4]
                m.d.comb += self.products[VECTOR * row + column].eq(weight * act)
        return m
