"""Pass bands on in the order of their results: those with a token of 8 bits first."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig


class BandOrder(Block):
    """Count the tiles that ports have done, and offer each band once all of its tiles are.

    A tile done in cycle t counts from t + 1 on. A band that does not belong here is passed over in a cycle.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Level: everything below up to ``band_high`` is known.
    kept, heads, bands : In
        m, H and the bands.
    band_high : In
        Bands with a token of 8 bits.
    tiles : In
        Tiles of a band; 0 until it is known.
    open : In(1)
        Level: the first band of a head may be offered.
    done, done_band : In
        Strobe of each port, and its band (one after the other).
    valid, band, columns, first, ready : Out, Out, Out, Out, In
        A band, its queries and the position of the first one.
    finished : Out(1)
        Level: the bands of all heads have been taken.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        band = address_bits(config.bands_max)
        tiles = max(config.tiles_max, config.channel_tiles_max)
        super().__init__(
            {
                "start": In(1),
                "kept": In(config.count_bits),
                "heads": In(config.heads_max.bit_length()),
                "bands": In(config.bands_max.bit_length()),
                "band_high": In(config.bands_max),
                "tiles": In(tiles.bit_length()),
                "open": In(1),
                "done": In(config.unload_ports),
                "done_band": In(band * config.unload_ports),
                "valid": Out(1),
                "band": Out(band),
                "columns": Out(config.columns.bit_length()),
                "first": Out(config.id_bits),
                "ready": In(1),
                "finished": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count, and walk over the bands twice for each head."""
        m = Module()
        config = self._config
        counts = Array(Signal(len(self.tiles), name=f"count{band}") for band in range(config.bands_max))
        width = len(self.band)
        for band, count in enumerate(counts):
            added: Value = count
            for port in range(config.unload_ports):
                done_band = self.done_band[port * width : (port + 1) * width]
                added = added + (self.done[port] & (done_band == band))
            taken = self.valid & self.ready & (self.band == band)
            m.d.sync += count.eq(Mux(taken, 0, added))

        high, first_band = Signal(init=1), Signal(init=1)
        band, band_first = Signal(width), Signal(config.count_bits + config.columns.bit_length())
        head = Signal(len(self.heads))
        there, complete, last, moves = Signal(), Signal(), Signal(), Signal()
        running = Signal()
        m.d.comb += [
            running.eq(self.start & ~self.finished),
            self.finished.eq(self.start & (head == self.heads)),
            there.eq(Array(self.band_high)[band] == high),
            last.eq(band_first + config.columns >= self.kept),
            complete.eq((counts[band] == self.tiles) & (self.tiles != 0)),
            self.valid.eq(running & there & complete & (self.open | ~first_band)),
            moves.eq(running & Mux(there, self.valid & self.ready, 1)),
            self.band.eq(band),
            self.first.eq(band_first),
            self.columns.eq(Mux(last, self.kept - band_first, config.columns)),
        ]
        with m.If(self.valid & self.ready):
            m.d.sync += first_band.eq(0)
        with m.If(moves):
            m.d.sync += [band.eq(band + 1), band_first.eq(band_first + config.columns)]
            with m.If(last):
                m.d.sync += [band.eq(0), band_first.eq(0), high.eq(~high)]
                with m.If(~high):
                    m.d.sync += [head.eq(head + 1), first_band.eq(1)]
        return m
