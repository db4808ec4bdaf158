"""Spread the flags of a band of regions over the elements of a row of the map."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drq.config import DIMENSION_BITS, DrqConfig
from bitfabric.hdl.drq.packer import Packer
from bitfabric.hdl.drq.row_walk import RowWalk


class FlagRows(Block):
    """Keep a flag per region and channel of a band of regions, and write them as often as the regions are wide.

    All rows of a band have the same flags, so that one row of them, packed as a row of the map is, does. It takes a
    cycle a word of S channels of a pixel, and one more if the packing needs it: as long as a row of the map. Its first
    word is read two cycles after ``start``; a flag of the next band may be written in the cycle in which it is read last.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    width, channels, region_width : In(16)
        Of the map.
    write_en, write_address, write_data : In
        Flags of S channels of a region.
    start : In(1)
        Strobe: the band's last flags are written in the next cycle at the latest. A cycle before the last read of
        the band before at the earliest.
    flag_en, flag_data : Out(1), Out(S)
        A word of flags.
    row_done : Out(1)
        It is the row's last one.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "width": In(DIMENSION_BITS),
                "channels": In(DIMENSION_BITS),
                "region_width": In(DIMENSION_BITS),
                "write_en": In(1),
                "write_address": In(address_bits(config.sum_words)),
                "write_data": In(config.axis_bytes),
                "start": In(1),
                "flag_en": Out(1),
                "flag_data": Out(config.axis_bytes),
                "row_done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk along a row, read and pack."""
        m = Module()
        lanes = self._config.axis_bytes
        flags = place(m, "flags", Ram(lanes, self._config.sum_words))
        walk = place(m, "walk", RowWalk(self._config))
        packer = place(m, "packer", Packer(lanes, 1))
        running, begins = Signal(), Signal()
        count, last = Signal.like(walk.count, reset_less=True), Signal(reset_less=True)
        m.d.comb += [
            flags.write_en.eq(self.write_en),
            flags.write_addr.eq(self.write_address),
            flags.write_data.eq(self.write_data),
            flags.read_en.eq(running),
            flags.read_addr.eq(walk.address),
            walk.width.eq(self.width),
            walk.channels.eq(self.channels),
            walk.region_width.eq(self.region_width),
            walk.step.eq(running),
            packer.data.eq(flags.read_data),
            packer.count.eq(count),
            packer.last.eq(last),
            self.flag_en.eq(packer.o_en),
            self.flag_data.eq(packer.o_data),
            self.row_done.eq(packer.o_last),
        ]
        m.d.sync += [
            begins.eq(self.start),
            packer.en.eq(running),
            count.eq(walk.count),
            last.eq(walk.row_last),
        ]
        with m.If(begins):
            m.d.sync += running.eq(1)
        with m.Elif(running & walk.row_last):
            m.d.sync += running.eq(0)
        return m
