"""The sensitivity predictor: mean magnitudes of regions against a threshold, while the feature map comes."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drq.config import (
    DIMENSION_BITS,
    FRACTION_BITS,
    OPERAND_BITS,
    THRESHOLD_BITS,
    DrqConfig,
)
from bitfabric.hdl.drq.flag_rows import FlagRows
from bitfabric.hdl.drq.row_walk import RowWalk


class Predictor(Block):
    """Say which regions of which channels are sensitive: those whose mean magnitude is above a threshold.

    The mean filter needs no divider and no multiplier: each pixel adds ``256 |x| - threshold`` to its region's sum,
    which is then positive just if ``256 * sum of |x| > threshold * pixels`` [derived], in smaller regions at the map's
    ends too. A word of S channels of a pixel is taken per cycle; only the sums of one band of regions side by side are
    kept. Flags leave as rows packed like those of the map, one row per band, see ``FlagRows``. Its first word's flags
    are read three cycles after the band's last word came.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    height, width, channels, region_height, region_width, threshold : In
        The map, levels.
    en, data : In(1), In(8 * S)
        S channels of a pixel, two's complement; pixels in raster order. What is beyond the last channel is ignored.
    row_last : Out(1)
        Level: the word that comes next is its row's last one.
    band_last : Out(1)
        Level: its row is the last one of a band.
    map_last : Out(1)
        Level: the word that comes next is the map's last one.
    count : Out(range(S + 1))
        Level: the channels that it has.
    overrun : Out(1)
        Strobe: a word came for which there are no sums.
    flag_en, flag_data : Out(1), Out(S)
        A word of flags.
    flags_done : Out(1)
        It is the map's last one.
    sensitive_count : Out(32)
        Sensitive regions.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "height": In(DIMENSION_BITS),
                "width": In(DIMENSION_BITS),
                "channels": In(DIMENSION_BITS),
                "region_height": In(DIMENSION_BITS),
                "region_width": In(DIMENSION_BITS),
                "threshold": In(THRESHOLD_BITS),
                "en": In(1),
                "data": In(OPERAND_BITS * config.axis_bytes),
                "row_last": Out(1),
                "band_last": Out(1),
                "map_last": Out(1),
                "count": Out(range(config.axis_bytes + 1)),
                "overrun": Out(1),
                "flag_en": Out(1),
                "flag_data": Out(config.axis_bytes),
                "flags_done": Out(1),
                "sensitive_count": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read a region's sums, add, and write them back; at its last pixel compare."""
        m = Module()
        config = self._config
        walk = place(m, "walk", RowWalk(config))
        rows = place(m, "rows", FlagRows(config))
        for unit in (walk, rows):
            m.d.comb += [
                unit.width.eq(self.width),
                unit.channels.eq(self.channels),
                unit.region_width.eq(self.region_width),
            ]
        y, region_y = Signal(DIMENSION_BITS), Signal(DIMENSION_BITS)
        y_last = Signal()
        m.d.comb += [
            walk.step.eq(self.en),
            y_last.eq(y == self.height - 1),
            self.row_last.eq(walk.row_last),
            self.band_last.eq(y_last | (region_y == self.region_height - 1)),
            self.map_last.eq(walk.row_last & y_last),
            self.count.eq(walk.count),
            self.overrun.eq(self.en & (walk.address == config.sum_words)),
        ]
        with m.If(self.en & walk.row_last):
            m.d.sync += [y.eq(y + 1), region_y.eq(Mux(self.band_last, 0, region_y + 1))]

        flags_en, flags_address, flags = self._sums(m, walk, region_y == 0)
        found = Signal(range(config.axis_bytes + 1), reset_less=True)
        found_en, ends = Signal(), Signal()
        m.d.sync += [
            rows.start.eq(self.en & walk.row_last & self.band_last),
            found.eq(balanced_sum(list(flags))),
            found_en.eq(flags_en),
        ]
        with m.If(found_en):
            m.d.sync += self.sensitive_count.eq(self.sensitive_count + found)
        with m.If(self.en & self.map_last):
            m.d.sync += ends.eq(1)
        # A row of flags ends behind the next row of the map where bands are a row high: so they are counted.
        bands = Signal(2)  # rows of flags to come
        with m.If(rows.start & ~rows.row_done):
            m.d.sync += bands.eq(bands + 1)
        with m.Elif(rows.row_done & ~rows.start):
            m.d.sync += bands.eq(bands - 1)
        m.d.comb += [
            rows.write_en.eq(flags_en),
            rows.write_address.eq(flags_address),
            rows.write_data.eq(flags),
            self.flag_en.eq(rows.flag_en),
            self.flag_data.eq(rows.flag_data),
            self.flags_done.eq(rows.row_done & ends & (bands == 1) & ~rows.start),
        ]
        return m

    def _sums(self, m: Module, walk: RowWalk, first_row: object) -> tuple[Signal, Signal, Signal]:
        """Return the flags of a region's channels when they are known, two cycles after its last word came."""
        config = self._config
        lanes, bits = config.axis_bytes, config.sum_bits
        sums = place(m, "sums", Ram(lanes * bits, config.sum_words, transparent=True))
        valid, last = Signal(), Signal()
        first = Signal(reset_less=True)
        address = Signal(address_bits(config.sum_words), reset_less=True)
        used = Signal(lanes, reset_less=True)
        flags_en = Signal()
        flags = Signal(lanes, reset_less=True)
        flags_address = Signal.like(address)
        m.d.comb += [
            sums.read_en.eq(self.en),
            sums.read_addr.eq(walk.address),
            sums.write_en.eq(valid),
            sums.write_addr.eq(address),
        ]
        m.d.sync += [
            valid.eq(self.en),
            first.eq(walk.first & first_row),
            last.eq(walk.last & self.band_last),
            address.eq(walk.address),
            used.eq(Cat(self.count > lane for lane in range(lanes))),
            flags_en.eq(valid & last),
            flags_address.eq(address),
        ]
        for lane in range(lanes):
            value = self.data.word_select(lane, OPERAND_BITS).as_signed()
            change = Signal(signed(max(THRESHOLD_BITS, OPERAND_BITS + FRACTION_BITS) + 1), reset_less=True)
            total = Signal(signed(bits), name=f"total{lane}")
            magnitude = Mux(value < 0, -value, value)[:OPERAND_BITS]
            m.d.sync += [
                change.eq((magnitude << FRACTION_BITS) - self.threshold),
                flags[lane].eq(used[lane] & (total > 0)),
            ]
            before = sums.read_data[lane * bits : (lane + 1) * bits].as_signed()
            m.d.comb += [
                total.eq(Mux(first, 0, before) + change),
                sums.write_data[lane * bits : (lane + 1) * bits].eq(total),
            ]
        return flags_en, flags_address, flags
