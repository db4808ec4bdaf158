"""List a block's tiles in the order in which they are dealt."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.tile import tile_layout

# Stages of a head: bands with or without a token of 8 bits, and for scores tiles of keys with or without one: the
# longest tiles first [ours]. Results come in the order in which their bands' scores are complete.
SCORES = ((1, 1), (1, 0), (0, 1), (0, 0))
RESULTS = (1, 0)


class TileList(Block):
    """List the tiles of all heads; a candidate is looked at in each cycle, a band without the stage's flag is one.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Level: everything below is known.
    kept, head_size, heads : In
        m, d and H, each at least 1.
    bands : In
        Bands of C queries.
    tile_high, band_high : In
        Flags of ``Scan``.
    o : Out(stream of tile_layout)
        Tiles. A tile is offered in the cycle in which it is looked at.
    channel_tiles : Out
        Tiles of R channels; known with the first tile of results that is the last of its band.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "kept": In(config.count_bits),
                "head_size": In(config.head_size_max.bit_length()),
                "heads": In(config.heads_max.bit_length()),
                "bands": In(config.bands_max.bit_length()),
                "tile_high": In(config.tiles_max),
                "band_high": In(config.bands_max),
                "o": Out(stream.Signature(tile_layout(config))),
                "channel_tiles": Out(config.channel_tiles_max.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Step through stages, bands and tiles."""
        m = Module()
        config = self._config
        stages = len(SCORES) + len(RESULTS)
        stage, band = Signal(range(stages)), Signal(address_bits(config.bands_max))
        head = Signal(config.heads_max.bit_length())
        band_first = Signal(
            config.count_bits + config.columns.bit_length()
        )  # position of the band's first query
        inner = _Inner(m, config, stage >= len(SCORES), self.kept, self.head_size)

        wanted_band, wanted_tile = Signal(), Signal()
        table = [*SCORES, *((high, 0) for high in RESULTS)]
        with m.Switch(stage):
            for number, (of_band, of_tile) in enumerate(table):
                with m.Case(number):
                    m.d.comb += [wanted_band.eq(of_band), wanted_tile.eq(of_tile)]
        there, emits, moves, band_last = Signal(), Signal(), Signal(), Signal()
        running = Signal()
        m.d.comb += [
            running.eq(self.start & (head != self.heads)),
            there.eq(Array(self.band_high)[band] == wanted_band),
            emits.eq(there & (inner.pv | (Array(self.tile_high)[inner.tile] == wanted_tile))),
            moves.eq(running & (~emits | self.o.ready)),
            band_last.eq(band_first + config.columns >= self.kept),
        ]
        result_bands = Signal(config.bands_max.bit_length())
        band_ends = Signal()
        m.d.comb += band_ends.eq(~there | inner.last)
        with m.If(moves):
            inner.step(band_ends)
            with m.If(band_ends):
                m.d.sync += [band.eq(band + 1), band_first.eq(band_first + config.columns)]
                with m.If(band_last):
                    m.d.sync += [band.eq(0), band_first.eq(0), stage.eq(stage + 1)]
                    with m.If(stage == stages - 1):
                        m.d.sync += [stage.eq(0), head.eq(head + 1), result_bands.eq(0)]
                with m.If(emits & inner.pv & ~((stage == stages - 1) & band_last)):
                    m.d.sync += result_bands.eq(result_bands + 1)
            with m.If(emits & inner.pv & inner.last):
                m.d.sync += self.channel_tiles.eq(inner.tile + 1)
        tile, tag = self.o.payload, self.o.payload.tag
        columns = Signal(config.columns.bit_length())
        m.d.comb += [
            columns.eq(Mux(band_last, self.kept - band_first, config.columns)),
            self.o.valid.eq(running & emits),
            tag.pv.eq(inner.pv),
            tag.port.eq(inner.port),
            tag.band.eq(band),
            tag.first.eq(Mux(inner.pv, 0, inner.first)),
            tag.slot.eq(inner.slot),
            tag.rows.eq(inner.rows),
            tag.columns.eq(columns),
            tile.tile.eq(inner.tile),
            tag.floor.eq(Mux(inner.pv, 1, wanted_band + wanted_tile)),
            tile.band_first.eq(inner.pv & (inner.tile == 0)),
            tile.band_last.eq(inner.pv & inner.last),
            tile.head_last.eq(inner.pv & inner.last & (result_bands == self.bands - 1)),
        ]
        return m


class _Inner:
    """Step over the tiles of a band: keys for scores, channels for results; both R at a time."""

    def __init__(self, m: Module, config: DtqattenConfig, pv: Value, kept: Value, head_size: Value):
        self._m, self._config = m, config
        size = Signal(max(len(kept), len(head_size)))
        tiles = max(config.tiles_max, config.channel_tiles_max)
        self.pv = Signal()
        self.tile = Signal(address_bits(tiles), name="inner_tile")
        self.first = Signal(len(size) + config.rows.bit_length(), name="inner_first")
        self.slot = Signal(
            max(address_bits(config.slots_max), address_bits(config.port_tiles_max)), name="inner_slot"
        )
        self.port = Signal(address_bits(config.unload_ports), name="inner_port")
        self.last = Signal(name="inner_last")
        self.rows = Signal(config.rows.bit_length(), name="inner_rows")
        m.d.comb += [
            self.pv.eq(pv),
            size.eq(Mux(pv, head_size, kept)),
            self.last.eq(self.first + config.rows >= size),
            self.rows.eq(Mux(self.last, size - self.first, config.rows)),
        ]

    def step(self, ends: Value) -> None:
        """Go to the next tile, or to the first one of another band."""
        m, config = self._m, self._config
        m.d.sync += [self.tile.eq(self.tile + 1), self.first.eq(self.first + config.rows)]
        with m.If(self.port == config.unload_ports - 1):
            m.d.sync += [self.port.eq(0), self.slot.eq(self.slot + Mux(self.pv, 1, config.rows))]
        with m.Else():
            m.d.sync += self.port.eq(self.port + 1)
        with m.If(ends):
            m.d.sync += [signal.eq(0) for signal in (self.tile, self.first, self.slot, self.port)]
