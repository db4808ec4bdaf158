"""The walk along a row of a feature map: which sums a word of channels belongs to."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drq.config import DIMENSION_BITS, DrqConfig


class RowWalk(Block):
    """Count the words of S channels of a row's pixels, and the regions side by side.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    width, channels, region_width : In(16)
        Of the map, at least 1.
    step : In(1)
        Go to the next word; from a row's last one to the next row's first one.
    address : Out(range(sum_words + 1))
        The region's word of sums: words of regions one after the other. ``sum_words`` is beyond them.
    count : Out(range(S + 1))
        Channels of the word.
    first, last : Out(1)
        The pixel is its region's first one, last one.
    row_last : Out(1)
        The word is the row's last one.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "width": In(DIMENSION_BITS),
                "channels": In(DIMENSION_BITS),
                "region_width": In(DIMENSION_BITS),
                "step": In(1),
                "address": Out(range(config.sum_words + 1)),
                "count": Out(range(config.axis_bytes + 1)),
                "first": Out(1),
                "last": Out(1),
                "row_last": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count words of a pixel, pixels of a row, and pixels of a region."""
        m = Module()
        lanes = self._config.axis_bytes
        done = Signal(DIMENSION_BITS)  # channels in words before
        left = Signal(DIMENSION_BITS)
        x, region_x = Signal(DIMENSION_BITS), Signal(DIMENSION_BITS)
        base = Signal.like(self.address)
        pixel_last, x_last = Signal(), Signal()
        m.d.comb += [
            left.eq(self.channels - done),
            pixel_last.eq(left <= lanes),
            self.count.eq(Mux(pixel_last, left, lanes)),
            x_last.eq(x == self.width - 1),
            self.first.eq(region_x == 0),
            self.last.eq(x_last | (region_x == self.region_width - 1)),
            self.row_last.eq(pixel_last & x_last),
        ]
        with m.If(self.step):
            m.d.sync += [done.eq(Mux(pixel_last, 0, done + lanes)), self.address.eq(self.address + 1)]
            with m.If(pixel_last):
                m.d.sync += [x.eq(Mux(x_last, 0, x + 1)), region_x.eq(Mux(self.last, 0, region_x + 1))]
                with m.If(x_last):
                    m.d.sync += [base.eq(0), self.address.eq(0)]
                with m.Elif(self.last):
                    m.d.sync += base.eq(self.address + 1)
                with m.Else():
                    m.d.sync += self.address.eq(base)
        return m
