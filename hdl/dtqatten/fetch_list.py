"""The list reader: a block's tokens from the host, checked, put at their positions."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.dtqatten.config import DtqattenConfig

# Four bytes of the host's memory, little-endian.
ENTRY = data.StructLayout({"id": 16, "bits": 8, "reserved": 8})


def list_outputs(config: DtqattenConfig) -> dict[str, Member]:
    """Return the ports that write the token table, and what can be wrong with a list; see ``ListReader``."""
    return {
        "table_en": Out(1),
        "table_position": Out(config.id_bits),
        "table_id": Out(config.id_bits),
        "table_high": Out(1),
        "bad_index": Out(1),
        "bad_precision": Out(1),
        "bad_counts": Out(1),
    }


class ListReader(Block):
    """Take a packet of list entries, one a cycle, and write the token table.

    Entries of 0 bits are passed over. With ``reorder`` the tokens of 4 bits stand at 0, 1, ... and those of 8 bits behind
    them, both in the list's order; else all stand in the list's order [paper: cluster by precision; ours: stable]. An entry
    taken in cycle c is written in c + 2; ``done`` comes in c + 3 of the last one, unless there was an error.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Strobe: a list is coming.
    reorder, entries, tokens, kept, kept_high : In
        Levels: entries of the list (at least 1), the sequence's tokens, tokens to stay and those of 8 bits.
    i : In(stream.Signature(beat_layout(axis_data_bits)))
        Its beats.
    table_en, table_position, table_id, table_high : Out
        A token at a position.
    done : Out(1)
        Strobe: the table holds the list.
    bad_index : Out(1)
        An id is none of the sequence's or is there twice; stays, like the other errors.
    bad_precision : Out(1)
        A precision is not 0, 4 or 8.
    bad_counts : Out(1)
        The entries of 4 and 8 bits are not as many as ``kept`` and ``kept_high`` say.
    framing_error : Out(1)
        ``last`` is not where the list ends.
    """

    TABLE_LATENCY: ClassVar[int] = 2
    DONE_LATENCY: ClassVar[int] = 3

    def __init__(self, config: DtqattenConfig):
        self._config = config
        count = config.count_bits
        super().__init__(
            {
                "start": In(1),
                "reorder": In(1),
                "entries": In(count),
                "tokens": In(count),
                "kept": In(count),
                "kept_high": In(count),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                **list_outputs(config),
                "done": Out(1),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Cut beats into entries, then check and place: a stage each."""
        m = Module()
        config = self._config
        per_beat = config.axis_data_bits // ENTRY.size
        reading, slot, left = Signal(), Signal(range(per_beat)), Signal(config.count_bits)
        taken, last = Signal(), Signal()
        m.d.comb += [
            last.eq(left == 1),
            taken.eq(self.i.valid & reading),
            self.i.ready.eq(reading & (last | (slot == per_beat - 1))),
        ]
        with m.If(self.start):
            m.d.sync += [reading.eq(1), left.eq(self.entries), slot.eq(0)]
        with m.Elif(taken):
            m.d.sync += [slot.eq(slot + 1), left.eq(left - 1)]
            with m.If(last):
                m.d.sync += reading.eq(0)
        with m.If(taken & self.i.ready & (self.i.payload.last != last)):
            m.d.sync += self.framing_error.eq(1)

        beat = self.i.payload.data
        words = [beat[ENTRY.size * index : ENTRY.size * (index + 1)] for index in range(per_beat)]
        entry = Signal(ENTRY, reset_less=True)
        valid, final = Signal(), Signal()
        with m.If(taken):
            m.d.sync += entry.eq(choose(words, slot))
        m.d.sync += [valid.eq(taken), final.eq(taken & last)]
        self._place(m, entry, valid, final)
        return m

    def _place(self, m: Module, entry: data.View, valid: Signal, final: Signal) -> None:
        """Check the entry in its register and place it; judge the counts behind the last one."""
        config = self._config
        seen = Signal(config.tokens_max)
        lows, highs = Signal(config.count_bits), Signal(config.count_bits)
        token, known = Signal(config.id_bits), Signal()
        low, high = Signal(), Signal()
        m.d.comb += [
            token.eq(entry.id),
            known.eq(entry.id < self.tokens),
            low.eq(entry.bits == 4),
            high.eq(entry.bits == 8),
        ]
        twice = choose(list(seen), token)
        with m.If(valid):
            with m.If(known):
                m.d.sync += Array(seen)[token].eq(1)
            with m.If(~known | twice):
                m.d.sync += self.bad_index.eq(1)
            with m.If(~low & ~high & (entry.bits != 0)):
                m.d.sync += self.bad_precision.eq(1)
            m.d.sync += [lows.eq(lows + low), highs.eq(highs + high)]

        first_high = Signal(config.count_bits)
        m.d.comb += first_high.eq(self.kept - self.kept_high)
        position = Mux(self.reorder, Mux(high, first_high + highs, lows), lows + highs)
        m.d.sync += self.table_en.eq(valid & (low | high))
        with m.If(valid):
            m.d.sync += [
                self.table_position.eq(position),
                self.table_id.eq(token),
                self.table_high.eq(high),
            ]

        complete, agree = Signal(), Signal()
        m.d.comb += agree.eq((lows == first_high) & (highs == self.kept_high))
        m.d.sync += [
            complete.eq(final),
            self.done.eq(complete & agree & ~(self.bad_index | self.bad_precision | self.framing_error)),
        ]
        with m.If(complete & ~agree):
            m.d.sync += self.bad_counts.eq(1)
