"""Read the block's tokens once and tell everybody where each stands."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig


class Scan(Block):
    """Walk over the positions 0 to m - 1: position p is told in cycle ``start`` + 2 + p.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        The table holds the list.
    kept : In
        m, at least 1.
    read_en, read_position, read_high : Out, Out, In
        Port of the token table, as is the id that goes with a told position.
    en, position : Out
        A position is told.
    tile, lane : Out
        Its tile of R keys, and its row there.
    band, band_lane : Out
        Its band of C queries, and its column there.
    group, slot : Out
        Its word of E elements, and its place there.
    tiles, bands : Out
        Their numbers, once ``done``.
    tile_high, band_high : Out
        A bit for each: there is a token of 8 bits in it.
    done : Out(1)
        A level from the cycle after the last position was told.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "kept": In(config.count_bits),
                "read_en": Out(1),
                "read_position": Out(config.id_bits),
                "read_high": In(1),
                "en": Out(1),
                "position": Out(config.id_bits),
                "tile": Out(address_bits(config.tiles_max)),
                "lane": Out(address_bits(config.rows)),
                "band": Out(address_bits(config.bands_max)),
                "band_lane": Out(address_bits(config.columns)),
                "group": Out(address_bits(config.token_groups_max)),
                "slot": Out(address_bits(config.line_elements)),
                "tiles": Out(config.tiles_max.bit_length()),
                "bands": Out(config.bands_max.bit_length()),
                "tile_high": Out(config.tiles_max),
                "band_high": Out(config.bands_max),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count positions, and what they are called elsewhere, a cycle behind."""
        m = Module()
        config = self._config
        reading, last = Signal(), Signal()
        position = Signal(config.id_bits)
        m.d.comb += [
            self.read_en.eq(reading),
            self.read_position.eq(position),
            last.eq(position == self.kept - 1),
        ]
        with m.If(self.start):
            m.d.sync += reading.eq(1)
        with m.If(reading):
            m.d.sync += position.eq(position + 1)
            with m.If(last):
                m.d.sync += reading.eq(0)
        m.d.sync += [self.en.eq(reading), self.position.eq(position)]
        told_last = Signal()
        m.d.sync += [told_last.eq(reading & last), self.done.eq(self.done | told_last)]
        for outer, inner, size in (
            (self.tile, self.lane, config.rows),
            (self.band, self.band_lane, config.columns),
            (self.group, self.slot, config.line_elements),
        ):
            self._count(m, outer, inner, size)
        with m.If(self.en):
            m.d.sync += [self.tiles.eq(self.tile + 1), self.bands.eq(self.band + 1)]
        with m.If(self.en & self.read_high):
            for flags, index in ((self.tile_high, self.tile), (self.band_high, self.band)):
                m.d.sync += Array(flags)[index].eq(1)
        return m

    def _count(self, m: Module, outer: Value, inner: Value, size: int) -> None:
        with m.If(self.en):
            with m.If(inner == size - 1):
                m.d.sync += [inner.eq(0), outer.eq(outer + 1)]
            with m.Else():
                m.d.sync += inner.eq(inner + 1)
