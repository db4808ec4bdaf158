"""A check that as many rows are written back as the next layer's job says."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DIMENSION_BITS


class RowCount(Block):
    """Count beats and rows; say if the last beat is not the one that it should be.

    Members
    -------
    m, beats : In(16)
        Rows, and beats of one; constant.
    taken : In(1)
        A beat is taken.
    last : In(1)
        With it: it is said to be the last one.
    wrong : Out(1)
        It was not, or another one is; stays.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "m": In(DIMENSION_BITS),
                "beats": In(DIMENSION_BITS),
                "taken": In(1),
                "last": In(1),
                "wrong": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count."""
        m = Module()
        row, beat = Signal(DIMENSION_BITS), Signal(DIMENSION_BITS)
        row_ends, expected = Signal(), Signal()
        m.d.comb += [
            row_ends.eq(beat + 1 == self.beats),
            expected.eq(row_ends & (row + 1 == self.m)),
        ]
        with m.If(self.taken):
            m.d.sync += [beat.eq(beat + 1), self.wrong.eq(self.wrong | (expected != self.last))]
            with m.If(row_ends):
                m.d.sync += [beat.eq(0), row.eq(row + 1)]
        return m
