"""The unload of the array: a tile's sums, row by row, to the result buffer."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.dealer import result_tag


class Unload(Block):
    """Take a tile when it is complete and a bank is free: R rows, the last one first, a row per cycle.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    full, full_tag : In(1), In(result_tag)
        The array's.
    take : Out(1)
        The array's.
    write_free : In(1)
        A bank is free.
    write_en, write_address, write_done, write_tag : Out
        Write port of a ``TaggedBuffer`` whose data are the array's.
    counted : Out(1)
        Strobe: the array's counters are those of the tile that was taken two cycles before.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "full": In(1),
                "full_tag": In(result_tag(config)),
                "take": Out(1),
                "write_free": In(1),
                "write_en": Out(1),
                "write_address": Out(address_bits(config.rows)),
                "write_done": Out(1),
                "write_tag": Out(result_tag(config)),
                "counted": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count the rows."""
        m = Module()
        final = self._config.rows - 1
        row = Signal(range(self._config.rows), init=final)  # the next one
        tag = Signal(self.full_tag.shape(), reset_less=True)
        taken = Signal()
        m.d.comb += [
            self.take.eq(self.full & self.write_free & (row == final)),
            self.write_en.eq(self.take | (row != final)),
            self.write_address.eq(row),
            self.write_done.eq(self.write_en & (row == 0)),
            self.write_tag.as_value().eq(Mux(self.take, self.full_tag.as_value(), tag.as_value())),
        ]
        m.d.sync += [taken.eq(self.take), self.counted.eq(taken)]
        with m.If(self.take):
            m.d.sync += tag.eq(self.full_tag)
        with m.If(self.write_en):
            m.d.sync += row.eq(Mux(row == 0, final, row - 1))
        return m
