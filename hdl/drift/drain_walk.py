"""The drain's walk: it picks complete banks, reads their rows and counts the words of each."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.controls import drain_layout
from bitfabric.hdl.drift.job import REGIONS

PLANES = 4  # bytes of an accumulator


class DrainWalk(Block):
    """Take a bank at a time, row by row, ``word_granules`` columns of it per cycle, without gaps.

    A bank is picked in the cycle t in which nothing is drained or the last word of the bank before is taken, if one
    is ``full`` then; of several the one whose region comes first after the last picked region in the order
    hh, hl, lh, ll, hh ... [ours]. Row 0 is read in t, its first word taken in t + 1, and so on in every cycle: a row
    has ``ceil(granules / word_granules)`` words, each taken in four cycles if results are accumulators. The next
    row is read with the last word of the one before; the bank is freed in the cycle of its last word.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    accumulators : In(1)
        Each word is taken four times, for its four bytes.
    full, bank, info, take, freed, read_en, read_region, read_bank, read_row, index_rank, index_low
        See ``Drain``.
    running : Out(1)
        A word is taken in this cycle; the following ports tell of it.
    row_starts : Out(1)
        It is the first one of a row, or its first plane: the row was read in the cycle before.
    region : Out(2)
        Its region.
    word, granule : Out
        Its number in the row; granule of its first column, among those of its precision.
    used : Out(range(word_granules + 1))
        Columns of it that there are.
    plane : Out(2)
        Byte of the accumulators that is wanted.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "accumulators": In(1),
                "full": In(4),
                "bank": In(4),
                "info": In(drain_layout(config)).array(4),
                "take": Out(4),
                "freed": Out(4),
                "read_en": Out(1),
                "read_region": Out(2),
                "read_bank": Out(1),
                "read_row": Out(address_bits(config.acc_depth)),
                "index_rank": Out(DIMENSION_BITS),
                "index_low": Out(1),
                "running": Out(1),
                "row_starts": Out(1),
                "region": Out(2),
                "word": Out(address_bits(-(-config.columns // config.word_granules))),
                "granule": Out(GRANULE_BITS),
                "used": Out(range(config.word_granules + 1)),
                "plane": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep what is left of the bank, of the row and of the word."""
        m = Module()
        config = self._config
        per_word = config.word_granules
        running, row_starts = Signal(), Signal()
        region, plane = Signal(2, reset_less=True), Signal(2, reset_less=True)
        word, granule = (Signal.like(getattr(self, name), reset_less=True) for name in ("word", "granule"))
        left = Signal(
            drain_layout(config), reset_less=True
        )  # rows and granules; the rank of the row to read next
        granules = Signal.like(left.granules, name="granules", reset_less=True)  # of every row
        first = Signal(GRANULE_BITS, reset_less=True)
        bank, row = Signal(reset_less=True), Signal(address_bits(config.acc_depth), reset_less=True)
        words_end, row_ends, bank_ends, pick = Signal(), Signal(), Signal(), Signal()
        choice, info = self._choose(m, pick)
        m.d.comb += [
            words_end.eq(running & (~self.accumulators | (plane == PLANES - 1))),
            row_ends.eq(words_end & (left.granules <= per_word)),
            bank_ends.eq(row_ends & (left.rows == 1)),
            pick.eq((~running | bank_ends) & self.full.any()),
            self.take.eq(Mux(pick, Cat(choice == index for index in range(4)), 0)),
            self.freed.eq(Mux(bank_ends, Cat(region == index for index in range(4)), 0)),
            self.read_en.eq(pick | (row_ends & ~bank_ends)),
            self.read_region.eq(Mux(pick, choice, region)),
            self.read_bank.eq(Mux(pick, Array(self.bank[index] for index in range(4))[choice], bank)),
            self.read_row.eq(Mux(pick, 0, row)),
            self.index_rank.eq(Mux(pick, info.rank, left.rank)),
            self.index_low.eq(self.read_region[1]),
            self.running.eq(running),
            self.row_starts.eq(row_starts),
            self.region.eq(region),
            self.word.eq(word),
            self.granule.eq(granule),
            self.used.eq(Mux(left.granules > per_word, per_word, left.granules)),
            self.plane.eq(plane),
        ]
        m.d.sync += row_starts.eq(self.read_en)
        with m.If(words_end):
            m.d.sync += [
                plane.eq(0),
                word.eq(word + 1),
                granule.eq(granule + per_word),
                left.granules.eq(left.granules - per_word),
            ]
        with m.Elif(running):
            m.d.sync += plane.eq(plane + 1)
        with m.If(row_ends):
            m.d.sync += [
                word.eq(0),
                granule.eq(first),
                left.granules.eq(granules),
                left.rows.eq(left.rows - 1),
                left.rank.eq(left.rank + 1),
                row.eq(row + 1),
            ]
        with m.If(bank_ends):
            m.d.sync += running.eq(0)
        with m.If(pick):
            m.d.sync += [
                running.eq(1),
                region.eq(choice),
                bank.eq(self.read_bank),
                row.eq(1),
                left.eq(info),
                left.rank.eq(info.rank + 1),
                granules.eq(info.granules),
                first.eq(info.granule),
                granule.eq(info.granule),
                word.eq(0),
                plane.eq(0),
            ]
        return m

    def _choose(self, m: Module, pick: Signal) -> tuple[Signal, Signal]:
        """Return the region whose turn it is, and what its bank holds."""
        choice, info = Signal(2), Signal(drain_layout(self._config))
        latest = Signal(2, init=len(REGIONS) - 1)
        with m.Switch(latest):
            for last in range(4):
                with m.Case(last):
                    for step in (4, 3, 2, 1):  # the last assignment, of the next region, wins
                        with m.If(self.full[(last + step) % 4]):
                            m.d.comb += choice.eq((last + step) % 4)
        m.d.comb += info.eq(Array(self.info[index].as_value() for index in range(4))[choice])
        with m.If(pick):
            m.d.sync += latest.eq(choice)
        return choice, info
