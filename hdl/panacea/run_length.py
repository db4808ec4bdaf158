"""The run-length encoder: which HO vectors of a block are stored, and with which index."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import ENTRY_BITS, INDEX_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.ppu import slices_layout

SLOTS = VECTOR + 1  # entries of a block: its vectors, and a forced one in front


def entries_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a block with its stored HO vectors: ``count`` of the ``entries``, without gaps; the rest are 0."""
    return data.StructLayout(
        {
            "block": slices_layout(config),
            "entries": data.ArrayLayout(ENTRY_BITS, SLOTS),
            "count": SLOTS.bit_length(),
        }
    )


class RunLengthEncoder(Block):
    """Give the kept HO vectors of a block their indices, and put a forced vector before a long run's end.

    An index counts the vectors of the group skipped in front of a kept one. With more than 15 of them the 16th
    is stored too, as a forced vector: index 15, value all r. At most one can stand before a kept vector, as
    a sub-tile has at most 32; a run that ends the group stores nothing [paper]. Latency 1 cycle, 1 block per
    cycle; ``i.ready`` depends on ``o.ready``.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the length of a sub-tile.

    Members
    -------
    skipped : In(4)
        r.
    i : In(stream of slices_layout)
        Blocks; a group's follow one another along K.
    o : Out(stream of entries_layout)
        The same blocks with their entries.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "skipped": In(4),
                "i": In(stream.Signature(slices_layout(config))),
                "o": Out(stream.Signature(entries_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Measure the gap before each row, and give each kept row its place among the entries."""
        m = Module()
        i, keep = self.i.payload, self.i.payload.keep
        valid = Signal()
        result = Signal(entries_layout(self._config), reset_less=True)
        run = Signal((self._config.tile_k - 1).bit_length(), reset_less=True)
        before = Signal(run.shape())
        m.d.comb += [
            before.eq(Mux(i.first_of_group, 0, run)),
            self.i.ready.eq(self.o.ready | ~valid),
            self.o.valid.eq(valid),
            Value.cast(self.o.payload).eq(result),
        ]
        gaps = []
        for row in range(VECTOR + 1):  # the row behind the block sees the run that goes on
            gap = Signal(INDEX_BITS + 2, name=f"gap_{row}")
            m.d.comb += gap.eq(before + row)
            for near in range(row):
                with m.If(keep[near]):
                    m.d.comb += gap.eq(row - near - 1)
            gaps.append(gap)
        forced = Signal()
        # Behind the first kept row no gap is that long.
        m.d.comb += forced.eq(Cat(keep[row] & gaps[row][INDEX_BITS] for row in range(VECTOR)).any())
        ranks = []
        for row in range(VECTOR + 1):
            rank = Signal(range(SLOTS + 1), name=f"rank_{row}")
            m.d.comb += rank.eq(balanced_sum([forced, *(keep[near] for near in range(row))]))
            ranks.append(rank)
        filler = Cat(self.skipped.replicate(VECTOR), Const((1 << INDEX_BITS) - 1, INDEX_BITS))
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), result.block.eq(i), result.count.eq(ranks[VECTOR])]
            for index in range(SLOTS):
                entry: Value = Mux(forced, filler, 0) if index == 0 else Const(0, ENTRY_BITS)
                for row in range(VECTOR):
                    own = Cat(i.high[row], gaps[row][:INDEX_BITS])
                    entry |= Mux(keep[row] & (ranks[row] == index), own, 0)
                m.d.sync += result.entries[index].eq(entry)
            with m.If(self.i.valid):
                m.d.sync += run.eq(gaps[VECTOR])
        return m
