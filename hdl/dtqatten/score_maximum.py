"""The largest score of each query so far, over the tiles of keys that one unload port brings."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import SCORE_BITS
from bitfabric.quant.errors import check_range
from bitfabric.quant.softmax import MASKED


class ScoreMaximum(Block):
    """Carry each band's maxima from tile to tile.

    The first row of a tile starts from what earlier tiles of the band left, or from ``MASKED``; the last one leaves
    the maxima for the next.

    Parameters
    ----------
    columns : int
        Queries of a band, C.
    bands : int
        Bands.

    Members
    -------
    first_ahead, band_ahead : In
        A tile's first row comes in the next cycle, and its band. Not in the cycle of the same band's ``last``.
    valid, first, last, band : In
        A row is there, whether its scores count or not; it is the tile's first or last one; its band.
    row_valid : In(1)
        Its scores count.
    scores : In(24 * columns)
        Scores.
    max_en, max_band : In
        Read a band's maxima, and forget that there are any; not while a tile of that band passes.
    max_data, max_valid : Out(24 * columns), Out(1)
        They, from the cycle after until the next read; whether there were any. Without, ``max_data`` is undefined.

    Raises
    ------
    ParameterError
        If a parameter is below 1.
    """

    def __init__(self, columns: int, bands: int):
        self._columns = check_range("columns", columns, 1)
        self._bands = check_range("bands", bands, 1)
        band = address_bits(bands)
        super().__init__(
            {
                "first_ahead": In(1),
                "band_ahead": In(band),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "band": In(band),
                "row_valid": In(1),
                "scores": In(SCORE_BITS * columns),
                "max_en": In(1),
                "max_band": In(band),
                "max_data": Out(SCORE_BITS * columns),
                "max_valid": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep two copies of the maxima, for the tiles and for who asks."""
        m = Module()
        width = SCORE_BITS * self._columns
        known = Signal(self._bands)
        leave = Signal()
        m.d.comb += leave.eq(self.valid & self.last)
        for index, flag in enumerate(known):
            with m.If(leave & (self.band == index)):
                m.d.sync += flag.eq(1)
            with m.Elif(self.max_en & (self.max_band == index)):
                m.d.sync += flag.eq(0)

        earlier = Signal(reset_less=True)
        m.d.sync += earlier.eq(choose(list(known), self.band_ahead))
        with m.If(self.max_en):
            m.d.sync += self.max_valid.eq(choose(list(known), self.max_band))

        largest = Signal(width)
        carried, asked = (place(m, name, Ram(width, self._bands)) for name in ("carried", "asked"))
        for ram, read_en, read_band in (
            (carried, self.first_ahead, self.band_ahead),
            (asked, self.max_en, self.max_band),
        ):
            m.d.comb += [
                ram.write_en.eq(leave),
                ram.write_addr.eq(self.band),
                ram.write_data.eq(largest),
                ram.read_en.eq(read_en),
                ram.read_addr.eq(read_band),
            ]
        m.d.comb += self.max_data.eq(asked.read_data)
        running = Signal(width, reset_less=True)
        with m.If(self.valid):
            m.d.sync += running.eq(largest)
        lanes = [self._lane(m, lane, carried.read_data, running, earlier) for lane in range(self._columns)]
        m.d.comb += largest.eq(Cat(lanes))
        return m

    def _lane(self, m: Module, lane: int, carried: Value, running: Value, earlier: Value) -> Value:
        """Return the lane's maximum, the row included."""
        score, before, now = (
            value.word_select(lane, SCORE_BITS).as_signed() for value in (self.scores, carried, running)
        )
        base = Signal(signed(SCORE_BITS), name=f"base_{lane}")
        masked = Const(MASKED, signed(SCORE_BITS))
        m.d.comb += base.eq(Mux(self.first, Mux(earlier, before, masked), now))
        return Mux(self.row_valid & (score > base), score, base)
