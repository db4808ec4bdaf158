"""The joiner at an array's edge: two nibble columns become one column of 8-bit weights."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import ACT_BITS, MAX_ROWS, psum_bits
from bitfabric.hdl.arith.tree import signed_bits
from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range


def joined_bits(rows: int) -> int:
    """Return the width of a joined column of ``rows`` groups.

    It multiplies by weights of -128 to 127; the 4R activation bits hold at most ceil(R/2) sign bits
    of 8-bit elements: ``128 * 128 * ceil(R/2)`` is the most positive, and the negative side is smaller
    [derived]. 19 bits at R = 24.
    """
    return signed_bits(0, (1 << (ACT_BITS - 1)) * 128 * ((rows + 1) // 2))


class NibbleJoin(Block):
    """Join the psums of an even and an odd nibble column, or pass both.

    Combinational, exact. The shift happens once per column pair, after the sum over all rows, instead of in
    every brick. Source: design section 6 (BitBlade's lesson) [derived].

    Parameters
    ----------
    rows : int
        R, groups in a column, 1 to 1024: sizes the ports.

    Members
    -------
    wide : In(1)
        1: weights are 8-bit, ``low`` came from their unsigned low nibbles, ``high`` from the high ones.
    low, high : In(signed(psum_bits(rows)))
        Psums of the even and the odd column, of the same activations.
    low_out : Out(signed(joined_bits(rows)))
        ``low + 16*high`` if wide, else ``low``.
    high_out : Out(signed(psum_bits(rows)))
        ``high``; without meaning if wide.

    Raises
    ------
    ParameterError
        If ``rows`` is out of range.
    """

    def __init__(self, rows: int = 24) -> None:
        check_range("rows", rows, 1, MAX_ROWS)
        psum = signed(psum_bits(rows))
        super().__init__(
            {
                "wide": In(1),
                "low": In(psum),
                "high": In(psum),
                "low_out": Out(signed(joined_bits(rows))),
                "high_out": Out(psum),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        addend = Signal.like(self.high)
        m.d.comb += [
            addend.eq(self.high & self.wide.replicate(len(self.high))),
            # The low nibble of the sum is low's own.
            self.low_out.eq(self.low + (addend << 4)),
            self.high_out.eq(self.high),
        ]
        return m
