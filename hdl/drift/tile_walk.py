"""The tiles of a region in order: N tiles, chunks of rows, K tiles innermost."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig


def tile_layout(config: DriftConfig, words: int) -> data.StructLayout:
    """Return what is known of a tile.

    Fields: ``first``, ``last`` (K tile of its accumulation), ``end`` (last tile that uses its N tile's weights),
    ``rows`` (activation rows), ``rank`` (of row 0), ``address``, ``nibble`` (of row 0's window in the store of
    ``words`` words), ``granule`` (that of column 0), ``granules`` (columns used).
    """
    return data.StructLayout(
        {
            "first": 1,
            "last": 1,
            "end": 1,
            "rows": config.acc_depth.bit_length(),
            "rank": DIMENSION_BITS,
            "address": address_bits(words),
            "nibble": address_bits(config.word_nibbles),
            "granule": GRANULE_BITS,
            "granules": config.columns.bit_length(),
        }
    )


class TileWalk(Block):
    """Walk over a region's tiles: for every N tile, for every chunk of ``acc_depth`` rows, for every K tile.

    The paper's model counts tiles and says nothing of their order. With the rows' chunks inside the N tiles the
    weights cross the streams once whatever M is, at the same cycles [ours].

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.
    words : int
        Words of the region's activation store.

    Members
    -------
    start : In(1)
        Go to the first tile; the job's ports are stable from then on.
    rows, columns : In
        Size of the region.
    m, granules, nibbles, stride : In
        Rows of activations, granules of weights, nibbles and words of a stored row.
    slots, slot_words : In
        N tiles that the weight buffer holds, and words of one.
    step : In(1)
        Go to the next tile.
    valid : Out(1)
        There is a tile.
    tile : Out(tile_layout(config, words))
        The tile.
    stripe : Out(GRANULE_BITS)
        Its N tile's number.
    base : Out
        Address of its weights.
    """

    def __init__(self, config: DriftConfig, words: int) -> None:
        self._config = config
        self._layout = tile_layout(config, words)
        super().__init__(
            {
                "start": In(1),
                "rows": In(range(config.rows + 1)),
                "columns": In(range(config.columns + 1)),
                "m": In(DIMENSION_BITS),
                "granules": In(GRANULE_BITS),
                "nibbles": In(NIBBLES_BITS),
                "stride": In(DIMENSION_BITS),
                "slots": In(4),
                "slot_words": In(config.weight_words.bit_length()),
                "step": In(1),
                "valid": Out(1),
                "tile": Out(self._layout),
                "stripe": Out(GRANULE_BITS),
                "base": Out(config.weight_address_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count what is left in every dimension."""
        m = Module()
        config = self._config
        depth, word_bits = config.acc_depth, address_bits(config.word_nibbles)
        valid = Signal()
        nibble = Signal(NIBBLES_BITS, reset_less=True)  # of the string, where the K tile begins
        nibbles_left = Signal(NIBBLES_BITS, reset_less=True)
        m_left, rank = Signal(DIMENSION_BITS, reset_less=True), Signal(DIMENSION_BITS, reset_less=True)
        chunk = Signal(len(self.tile.address), reset_less=True)
        granules_left, granule = Signal(GRANULE_BITS, reset_less=True), Signal(GRANULE_BITS, reset_less=True)
        stripe = Signal(GRANULE_BITS, reset_less=True)
        slot = Signal(4, reset_less=True)
        base = Signal(config.weight_address_bits, reset_less=True)
        last_k, last_m, last_n = Signal(), Signal(), Signal()
        tile = self.tile
        m.d.comb += [
            last_k.eq(nibbles_left <= self.rows),
            last_m.eq(m_left <= depth),
            last_n.eq(granules_left <= self.columns),
            self.valid.eq(valid),
            self.stripe.eq(stripe),
            self.base.eq(base),
            tile.first.eq(nibble == 0),
            tile.last.eq(last_k),
            tile.end.eq(last_k & last_m),
            tile.rows.eq(Mux(last_m, m_left, depth)),
            tile.rank.eq(rank),
            tile.address.eq(chunk + (nibble >> word_bits)),
            tile.nibble.eq(nibble[:word_bits]),
            tile.granule.eq(granule),
            tile.granules.eq(Mux(last_n, granules_left, self.columns)),
        ]
        next_k, next_m = Signal(), Signal()
        with m.If(self.step):
            m.d.sync += [nibble.eq(nibble + self.rows), nibbles_left.eq(nibbles_left - self.rows)]
            m.d.comb += next_k.eq(last_k)
        with m.If(next_k):
            m.d.sync += [
                m_left.eq(m_left - depth),
                rank.eq(rank + depth),
                chunk.eq(chunk + self.stride * depth),
            ]
            m.d.comb += next_m.eq(last_m)
        with m.If(next_m):
            m.d.sync += [
                granules_left.eq(granules_left - self.columns),
                granule.eq(granule + self.columns),
                stripe.eq(stripe + 1),
                slot.eq(slot + 1),
                base.eq(base + self.slot_words),
            ]
            with m.If(slot + 1 == self.slots):
                m.d.sync += [slot.eq(0), base.eq(0)]
            with m.If(last_n):
                m.d.sync += valid.eq(0)
        with m.If(self.start):
            m.d.sync += [
                valid.eq((self.m != 0) & (self.granules != 0)),
                granules_left.eq(self.granules),
                granule.eq(0),
                stripe.eq(0),
                slot.eq(0),
                base.eq(0),
            ]
        with m.If(self.start | next_m):
            m.d.sync += [m_left.eq(self.m), rank.eq(0), chunk.eq(0)]
        with m.If(self.start | next_k):
            m.d.sync += [nibble.eq(0), nibbles_left.eq(self.nibbles)]
        return m
