"""The list of the next block's tokens: each position's token with its bits and its new position."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.dtqatten.config import VALUE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.importance import ImportanceMemory
from bitfabric.hdl.dtqatten.topk import DIGIT_BITS, key_digits

PRUNED, LOW, HIGH = 0, 1, 2  # codes of 0, 4 and 8 bits


class Lister(Block):
    """Compare every token with the two engines' thresholds, one position a cycle, and number those that stay.

    With ``reorder`` the next order is the stable partition of this one, 4-bit tokens first, then 8-bit ones [paper:
    section IV-C; stable: ours]; else it is this one without the pruned tokens. Position 0 is asked for in the cycle
    after ``start`` and listed in cycle ``LATENCY``; then one position a cycle.

    Parameters
    ----------
    config : DtqattenConfig
        Gives ``tokens_max``.

    Members
    -------
    start : In(1)
        Begin; the lister is idle.
    positions, keep, high, reorder : In
        Tokens m, those that stay k0, 8-bit ones among these k1, and the order; constant until ``done``.
    keep_threshold, high_threshold : In(4 * digits)
        The least keys of tokens that stay, and of 8-bit ones; used from the third cycle after ``start`` on.
    entry_en, entry_position : Out
        Read a position's importance and id.
    entry_value, entry_id : In
        They come ``ImportanceMemory.ENTRY_LATENCY`` cycles later.
    list_valid : Out(1)
        A position is listed.
    list_position, list_id, list_value : Out
        The position, its token and importance.
    list_bits, list_kept : Out
        0, 1, 2 for 0, 4, 8 bits; whether it stays.
    list_new_position : Out
        Its position in the next block; only if it stays.
    done : Out(1)
        A strobe in the cycle after the last position.
    """

    LATENCY = ImportanceMemory.ENTRY_LATENCY + 3
    COMPARE = ImportanceMemory.ENTRY_LATENCY + 1  # first cycle after `start` in which the thresholds are used

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        count, key = In(config.count_bits), In(DIGIT_BITS * key_digits(config))
        super().__init__(
            {
                "start": In(1),
                "positions": count,
                "keep": count,
                "high": count,
                "reorder": In(1),
                "keep_threshold": key,
                "high_threshold": key,
                "entry_en": Out(1),
                "entry_position": Out(config.id_bits),
                "entry_value": In(VALUE_BITS),
                "entry_id": In(config.id_bits),
                "list_valid": Out(1),
                "list_position": Out(config.id_bits),
                "list_id": Out(config.id_bits),
                "list_value": Out(VALUE_BITS),
                "list_bits": Out(2),
                "list_kept": Out(1),
                "list_new_position": Out(config.id_bits),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Ask (cycles 1 to 3), compare (3), number (4)."""
        m = Module()
        config = self._config
        last = Signal()
        m.d.comb += last.eq(self.entry_position == (self.positions - 1)[: config.id_bits])
        with m.If(self.start):
            m.d.sync += [self.entry_en.eq(1), self.entry_position.eq(0)]
        with m.Elif(self.entry_en):
            m.d.sync += [self.entry_en.eq(~last), self.entry_position.eq(self.entry_position + 1)]
        # The position beside its entry.
        steps = ImportanceMemory.ENTRY_LATENCY
        valid, ends = Signal(steps), Signal(steps)
        positions = [Signal(config.id_bits, name=f"position_{i}", reset_less=True) for i in range(steps)]
        m.d.sync += [valid.eq(Cat(self.entry_en, valid)), ends.eq(Cat(self.entry_en & last, ends))]
        m.d.sync += [
            later.eq(earlier)
            for earlier, later in zip([self.entry_position, *positions], positions, strict=False)
        ]
        # Compare.
        key = Signal(DIGIT_BITS * key_digits(config))
        m.d.comb += key.eq(Cat(~self.entry_id, self.entry_value))
        numbering, numbering_ends = Signal(), Signal()
        kept, high = Signal(reset_less=True), Signal(reset_less=True)
        old_position = Signal(config.id_bits, reset_less=True)
        value = Signal(VALUE_BITS, reset_less=True)
        token = Signal(config.id_bits, reset_less=True)
        m.d.sync += [
            numbering.eq(valid[-1]),
            numbering_ends.eq(ends[-1]),
            kept.eq(key >= self.keep_threshold),
            high.eq((key >= self.high_threshold) & (self.high != 0)),
            old_position.eq(positions[-1]),
            value.eq(self.entry_value),
            token.eq(self.entry_id),
        ]
        # Number: one counter for the front of the new order, one for the 8-bit tokens behind.
        behind = Signal()
        m.d.comb += behind.eq(high & self.reorder)
        front_next, behind_next = (Signal(config.count_bits, name=f"{n}_next") for n in ("front", "behind"))
        with m.If(self.start):
            m.d.sync += [front_next.eq(0), behind_next.eq(self.keep - self.high)]
        with m.Elif(numbering & behind):
            m.d.sync += behind_next.eq(behind_next + 1)
        with m.Elif(numbering & kept):
            m.d.sync += front_next.eq(front_next + 1)
        m.d.sync += [
            self.list_valid.eq(numbering),
            self.list_position.eq(old_position),
            self.list_id.eq(token),
            self.list_value.eq(value),
            self.list_kept.eq(kept),
            self.list_bits.eq(Mux(high, HIGH, Mux(kept, LOW, PRUNED))),
            self.list_new_position.eq(Mux(behind, behind_next, front_next)),
        ]
        listed_ends = Signal()
        m.d.sync += [listed_ends.eq(numbering_ends), self.done.eq(listed_ends)]
        return m
