"""Deal tiles to arrays: each to the first one that is free."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.tile import tag_layout, tile_layout

TO_ARRAY = 3  # cycles from the deal to the tile's first word


class Dealer(Block):
    """Send each tile's words to the free array of lowest index; tiles wait for their operands in their order.

    A tile dealt in cycle t has its words read in t + 1 to t + W, and written into the array two cycles later.
    The next one may be dealt in cycle t + W.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    i : In(stream of tile_layout)
        Tiles.
    kept, head_size : In
        m and d.
    qk_loaded, v_loaded : In(1)
        Strobes: queries and keys, or values, of a head are in the line buffers.
    numerators_done, numerators_band : In
        Strobe: a band's numerators are there.
    band_sent, band_sent_band : In
        Strobe: a band's results have left, so that the next head's may come.
    released : In(arrays)
        Strobes: a tile buffer may be overwritten.
    read_en, read_pv, read_bank, read_tile, read_band, read_group : Out
        Command to the line buffers.
    retire : Out(1)
        Strobe: the last word of a head has been asked for.
    write_en : Out(arrays)
        The array that the word on the operand bus is for.
    write_address : Out
        Its place in the tile.
    first : Out(1)
        It is the tile's first one, for which the following say what the tile is.
    length, tag : Out
        See ``VssaArray``.
    dealt_pv : Out(1)
        Strobe: a tile of results was dealt.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        band = address_bits(config.bands_max)
        super().__init__(
            {
                "i": In(stream.Signature(tile_layout(config))),
                "kept": In(config.count_bits),
                "head_size": In(config.head_size_max.bit_length()),
                "qk_loaded": In(1),
                "v_loaded": In(1),
                "numerators_done": In(1),
                "numerators_band": In(band),
                "band_sent": In(1),
                "band_sent_band": In(band),
                "released": In(config.arrays),
                "read_en": Out(1),
                "read_pv": Out(1),
                "read_bank": Out(1),
                "read_tile": Out(address_bits(max(config.tiles_max, config.channel_tiles_max))),
                "read_band": Out(band),
                "read_group": Out(address_bits(config.tile_words)),
                "retire": Out(1),
                "write_en": Out(config.arrays),
                "write_address": Out(address_bits(config.tile_words)),
                "first": Out(1),
                "length": Out(self._length_bits(config)),
                "tag": Out(tag_layout(config).size),
                "dealt_pv": Out(1),
            }
        )

    @staticmethod
    def _length_bits(config: DtqattenConfig) -> int:
        return max(config.count_bits, config.head_size_max.bit_length())

    def elaborate(self, platform: object) -> Module:
        """Choose an array, then command a word a cycle."""
        m = Module()
        config = self._config
        tile = self.i.payload
        free = Signal(config.arrays, init=(1 << config.arrays) - 1)
        chosen = Signal(config.arrays)
        m.d.comb += chosen.eq(free & -free)
        ready, deal, streaming, ends = Signal(), Signal(), Signal(), Signal()
        bank = self._ready(m, ready, deal)
        m.d.comb += [
            deal.eq(self.i.valid & ready & free.any() & (~streaming | ends)),
            self.i.ready.eq(deal),
            self.dealt_pv.eq(deal & tile.tag.pv),
        ]
        m.d.sync += free.eq((free & ~Mux(deal, chosen, 0)) | self.released)

        length = Signal(self._length_bits(config))
        m.d.comb += length.eq(Mux(tile.tag.pv, self.kept, self.head_size))
        step = config.line_elements.bit_length() - 1
        last_group = Signal(address_bits(config.tile_words), reset_less=True)
        group = Signal(address_bits(config.tile_words), reset_less=True)
        now = Signal(tile_layout(config), reset_less=True)
        array = Signal(config.arrays, reset_less=True)
        now_length = Signal(len(length), reset_less=True)
        now_bank = Signal(reset_less=True)
        m.d.comb += ends.eq(streaming & (group == last_group))
        with m.If(streaming):
            m.d.sync += group.eq(group + 1)
        with m.If(ends):
            m.d.sync += streaming.eq(0)
        with m.If(deal):
            m.d.sync += [
                streaming.eq(1),
                group.eq(0),
                last_group.eq((length - 1) >> step),
                now.eq(tile),
                array.eq(chosen),
                now_length.eq(length),
                now_bank.eq(bank),
            ]
        m.d.comb += [
            self.read_en.eq(streaming),
            self.read_pv.eq(now.tag.pv),
            self.read_bank.eq(now_bank),
            self.read_tile.eq(now.tile),
            self.read_band.eq(now.tag.band),
            self.read_group.eq(group),
            self.retire.eq(ends & now.head_last),
        ]
        # The word is on the operand bus two cycles after its command.
        value: Value = Cat(array & streaming.replicate(config.arrays), group, group == 0)
        fields = Cat(now_length, now.tag.as_value())
        for stage in range(2):
            delayed = Signal(len(value), name=f"word{stage}")
            described = Signal(len(fields), name=f"tile{stage}", reset_less=True)
            m.d.sync += [delayed.eq(value), described.eq(fields)]
            value, fields = delayed, described
        m.d.comb += [
            Cat(self.write_en, self.write_address, self.first).eq(value),
            Cat(self.length, self.tag).eq(fields),
        ]
        return m

    def _ready(self, m: Module, ready: Signal, deal: Signal) -> Signal:
        """Tell whether the tile's operands are there; return the head's bank of the line buffers."""
        config, tile = self._config, self.i.payload
        tag = tile.tag
        bank = Signal()
        there: dict[str, Value] = {}
        for name, strobe in (("qk", self.qk_loaded), ("v", self.v_loaded)):
            full, next_bank = Signal(2, name=f"{name}_full"), Signal(name=f"{name}_bank")
            m.d.sync += next_bank.eq(next_bank ^ strobe)
            with m.If(strobe):
                m.d.sync += Array(full)[next_bank].eq(1)
            with m.If(deal & tile.head_last):
                m.d.sync += Array(full)[bank].eq(0)
            there[name] = Array(full)[bank]
        with m.If(deal & tile.head_last):
            m.d.sync += bank.eq(~bank)
        numerators, taken = Signal(config.bands_max), Signal(config.bands_max)
        with m.If(self.numerators_done):
            m.d.sync += Array(numerators)[self.numerators_band].eq(1)
        with m.If(deal & tile.band_last):
            m.d.sync += Array(numerators)[tag.band].eq(0)
        with m.If(self.band_sent):
            m.d.sync += Array(taken)[self.band_sent_band].eq(0)
        with m.If(deal & tile.band_first):
            m.d.sync += Array(taken)[tag.band].eq(1)
        place_free = Signal()
        m.d.comb += [
            place_free.eq(~tile.band_first | ~Array(taken)[tag.band]),
            ready.eq(
                Mux(tag.pv, there["v"] & Array(numerators)[tag.band] & place_free, there["qk"]),
            ),
        ]
        return bank
