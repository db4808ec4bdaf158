"""Delay lanes by their index, so that a word enters a systolic array as a diagonal."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range


class Skew(Block):
    """Delay lane i by i + 1 cycles.

    Parameters
    ----------
    lanes : int
        Number of lanes.
    width : int
        Bits of a lane.

    Members
    -------
    i : In(width).array(lanes)
        One word.
    o : Out(width).array(lanes)
        Lane i of the word that entered i + 1 cycles ago. Not reset: guarded by whoever counts the words.

    Raises
    ------
    ParameterError
        If ``lanes`` or ``width`` is below 1.
    """

    def __init__(self, lanes: int, width: int):
        self._lanes = check_range("lanes", lanes, 1)
        self._width = check_range("width", width, 1)
        super().__init__({"i": In(width).array(lanes), "o": Out(width).array(lanes)})

    def elaborate(self, platform: object) -> Module:
        """Chain i + 1 registers in lane i."""
        m = Module()
        for lane in range(self._lanes):
            value = self.i[lane]
            for stage in range(lane + 1):
                delayed = Signal(self._width, name=f"lane{lane}_{stage}", reset_less=True)
                m.d.sync += delayed.eq(value)
                value = delayed
            m.d.comb += self.o[lane].eq(value)
        return m
