"""How many N tiles of a K the weight buffer holds."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DIMENSION_BITS, WEIGHT_SLOTS, DriftConfig


class SlotCount(Block):
    """Divide a column's words by those of a granule, up to ``WEIGHT_SLOTS``.

    By a repeated sum: there are a few slots at most. ``valid`` is high ``slots`` + 2 cycles after ``start``.

    Parameters
    ----------
    config : DriftConfig
        Gives the words.

    Members
    -------
    start : In(1)
        Begin; only once after a reset.
    k : In(16)
        K, constant from ``start`` on.
    words, slots : Out
        Words of a granule, and granules of a column.
    valid : Out(1)
        They are there, and at least one granule fits.
    overflow : Out(1)
        None does.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "k": In(DIMENSION_BITS),
                "words": Out(config.weight_words.bit_length()),
                "slots": Out(4),
                "valid": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Add until a granule more would not fit."""
        m = Module()
        there, per_word = self._config.weight_words, self._config.word_weights
        needed, held = Signal(DIMENSION_BITS), Signal(range(2 * there + 2))
        words, slots = Signal.like(self.words, reset_less=True), Signal(4)
        counting, counted = Signal(), Signal()
        m.d.comb += [
            needed.eq((self.k + per_word - 1) >> (per_word.bit_length() - 1)),
            self.words.eq(words),
            self.slots.eq(slots),
            self.valid.eq(counted & ~self.overflow),
        ]
        with m.If(self.start):
            m.d.sync += [words.eq(needed), counting.eq(1), self.overflow.eq(needed > there)]
        with m.Elif(counting):
            with m.If((held + words > there) | (slots == WEIGHT_SLOTS)):
                m.d.sync += [counting.eq(0), counted.eq(1)]
            with m.Else():
                m.d.sync += [slots.eq(slots + 1), held.eq(held + words)]
        return m
