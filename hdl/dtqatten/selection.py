"""Selection of the next block's tokens: importance, two top-k engines on the same reads, the list."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import VALUE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.importance import ImportanceMemory, add_bits
from bitfabric.hdl.dtqatten.lister import Lister
from bitfabric.hdl.dtqatten.topk import DIGIT_BITS, TopK, key_digits, topk_lanes, topk_words


class Selection(Block):
    """Accumulate importance, and split a block's tokens into 8-bit, 4-bit and pruned ones (section III-B) [paper].

    The k0 tokens of greatest importance stay, the k1 greatest of these are 8-bit, the others 4-bit; of equally
    important ones the lower id comes first [ours]: a token's key is its importance and, below it, its inverted id, so
    that all keys differ. The paper's second engine works on what the first one leaves; as k1 <= k0 it selects the same
    among all of them, so both engines work on the same reads at the same time [ours].

    From ``start`` to ``ids_done`` it takes ``digits * (ceil(m/L) + 2) + m + 8`` cycles, whatever the data, with
    ``digits = ceil((32 + id_bits) / 4)`` [derived]: O(m), and at most ``m * (1 + digits/L) + 3 * digits + 8``. At the
    paper's size, 128 tokens and L = 16, that is 236, never above 2m + 37.

    Parameters
    ----------
    config : DtqattenConfig
        Gives L, ``tokens_max`` and ``columns``.

    Members
    -------
    bank : In(1)
        Which of two banks holds this block's tokens; the list is written into the other one. Constant in a block.
    init_en, init_position, init_id : In
        Put a token at a position, with importance 0; not while there are adds.
    add_en, add_position, add_value : In
        Add to a token's importance, in any cycle, with saturation at 2^32 - 1.
    start : In(1)
        Strobe: select; with the last add or later, and not again until ``ids_done``.
    positions, keep, high : In(range(tokens_max + 1))
        Tokens m, at positions 0 to m - 1; k0 in 1..m, k1 in 0..k0. Constant from ``start`` to ``ids_done``, as are
        the following.
    reorder : In(1)
        The next block has its 4-bit tokens first, then its 8-bit ones; else the order is kept.
    accumulate : In(1)
        The next block's importance starts from this one's, not from 0.
    list_* : Out
        One position a cycle, see ``Lister``; the sink takes it at once.
    ids_done : Out(1)
        Strobe in the cycle after the last position: the other bank is complete.
    """

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        count, token = config.count_bits, config.id_bits
        super().__init__(
            {
                "bank": In(1),
                "init_en": In(1),
                "init_position": In(token),
                "init_id": In(token),
                "add_en": In(1),
                "add_position": In(token),
                "add_value": In(add_bits(config)),
                "start": In(1),
                "positions": In(count),
                "keep": In(count),
                "high": In(count),
                "reorder": In(1),
                "accumulate": In(1),
                "list_valid": Out(1),
                "list_position": Out(token),
                "list_id": Out(token),
                "list_value": Out(VALUE_BITS),
                "list_bits": Out(2),
                "list_kept": Out(1),
                "list_new_position": Out(token),
                "ids_done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk over the words once for each digit, then over the positions."""
        m = Module()
        memory = place(m, "importance", ImportanceMemory(self._config))
        lister = place(m, "lister", Lister(self._config))
        engines = [place(m, name, TopK(self._config)) for name in ("keep_engine", "high_engine")]
        for name in ("bank", "init_en", "init_position", "init_id", "add_en", "add_position", "add_value"):
            m.d.comb += getattr(memory, name).eq(getattr(self, name))
        self._passes(m, memory, lister, engines)
        for engine, need in zip(engines, (self.keep, self.high), strict=True):
            m.d.comb += [engine.start.eq(self.start), engine.need.eq(need)]
        for name in ("positions", "keep", "high", "reorder"):
            m.d.comb += getattr(lister, name).eq(getattr(self, name))
        for name in ("valid", "position", "id", "value", "bits", "kept", "new_position"):
            m.d.comb += getattr(self, f"list_{name}").eq(getattr(lister, f"list_{name}"))
        m.d.comb += [
            lister.keep_threshold.eq(engines[0].threshold),
            lister.high_threshold.eq(engines[1].threshold),
            memory.entry_en.eq(lister.entry_en),
            memory.entry_position.eq(lister.entry_position),
            lister.entry_value.eq(memory.entry_value),
            lister.entry_id.eq(memory.entry_id),
            memory.store_en.eq(lister.list_valid & lister.list_kept),
            memory.store_position.eq(lister.list_new_position),
            memory.store_value.eq(Mux(self.accumulate, lister.list_value, 0)),
            memory.store_id.eq(lister.list_id),
            self.ids_done.eq(lister.done),
        ]
        return m

    def _passes(self, m: Module, memory: ImportanceMemory, lister: Lister, engines: list[TopK]) -> None:
        config = self._config
        lanes, digits = topk_lanes(config), key_digits(config)
        word_bits = address_bits(topk_words(config))
        # Ask for words. An add given with `start` lands in cycle 2, the first read is in cycle 3.
        settle, pause = Signal(ImportanceMemory.LATENCY - 1), Signal(TopK.GAP)
        reading, last, ended = Signal(), Signal(), Signal()
        index = Signal(range(digits))  # of the digit; 0 is the most significant one
        word = Signal(word_bits)
        left = Signal(config.count_bits)  # positions from this word on
        m.d.comb += [last.eq(left <= lanes), memory.word_en.eq(reading), memory.word.eq(word)]
        m.d.sync += [
            settle.eq(Cat(self.start, settle)),
            pause.eq(Cat(reading & last, pause)),
            lister.start.eq(pause[-1] & ended),
        ]
        with m.If(settle[-1] | (pause[-1] & ~ended)):
            m.d.sync += reading.eq(1)
        with m.Elif(last):
            m.d.sync += reading.eq(0)
        with m.If(self.start):
            m.d.sync += [index.eq(0), ended.eq(0)]
        with m.Elif(reading & last):
            m.d.sync += [index.eq(index + 1), ended.eq(index == digits - 1)]
        with m.If(reading & ~last):
            m.d.sync += [word.eq(word + 1), left.eq(left - lanes)]
        with m.Else():
            m.d.sync += [word.eq(0), left.eq(self.positions)]
        # A cycle later the word is there. Take the pass's digits of its keys, and those of the pass before.
        here, here_index, here_last = Signal(), Signal.like(index), Signal()
        here_word = Signal.like(word, reset_less=True)
        here_left = Signal.like(left, reset_less=True)
        m.d.sync += [
            here.eq(reading),
            here_index.eq(index),
            here_last.eq(last),
            here_word.eq(word),
            here_left.eq(left),
        ]
        chosen, before = [], []
        for lane in range(lanes):
            entry = memory.word_data.word_select(lane, memory.entry_bits)
            key = Signal(DIGIT_BITS * digits, name=f"key_{lane}")
            m.d.comb += key.eq(Cat(~entry[VALUE_BITS:], entry[:VALUE_BITS]))
            parts = [key.word_select(digits - 1 - i, DIGIT_BITS) for i in range(digits)]
            chosen.append(choose(parts, here_index))
            before.append(choose([parts[0], *parts[:-1]], here_index))
        found = Signal(DIGIT_BITS * lanes, reset_less=True)
        found_before = Signal(DIGIT_BITS * lanes, reset_less=True)
        there, first_pass, ends = Signal(lanes), Signal(), Signal()
        m.d.sync += [
            found.eq(Cat(chosen)),
            found_before.eq(Cat(before)),
            there.eq(Cat(here_left > lane for lane in range(lanes))),
            first_pass.eq(here_index == 0),
            ends.eq(here_last),
        ]
        for engine in engines:
            m.d.comb += [
                engine.read_en.eq(here),
                engine.read_word.eq(here_word),
                engine.lanes.eq(there),
                engine.digits.eq(found),
                engine.previous.eq(found_before),
                engine.first_pass.eq(first_pass),
                engine.last.eq(ends),
            ]
