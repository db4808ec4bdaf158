"""A top-k engine: find the k-th greatest of many keys, a digit at a time, from the most significant one."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import VALUE_BITS, DtqattenConfig

DIGIT_BITS = 4
LEVELS = (1 << DIGIT_BITS) - 1  # digits above 0: for each one, the candidates that reach it are counted


def topk_lanes(config: DtqattenConfig) -> int:
    """Return the keys of a word, L: ``topk_lanes``, or every token's if there are fewer."""
    return min(config.topk_lanes, config.tokens_max)


def topk_words(config: DtqattenConfig) -> int:
    """Return the words of L keys that hold every token's."""
    return -(-config.tokens_max // topk_lanes(config))


def key_digits(config: DtqattenConfig) -> int:
    """Return the digits of a key: an importance, and below it the id that decides ties."""
    return -(-(VALUE_BITS + config.id_bits) // DIGIT_BITS)


class TopK(Block):
    """Select the ``need`` greatest of keys that all differ, by a radix select over the passes of a walk [ours].

    The paper asks for O(n) and leaves the engine to its reference [8], whose quick select is that on average; this
    one takes the same number of cycles for any data. Whoever feeds it walks over all keys once for each digit, the most significant
    one first, a word of L keys a cycle. A key is a candidate while its digits so far are those of the key that is
    sought. A pass counts, for each digit v above 0, the candidates whose digit is at least v; the greatest v that
    ``need`` of them reach, or else 0, is the sought key's digit, and the candidates above it are selected: so many
    fewer are needed of those that go on. A pass's first word comes at least ``GAP`` cycles after the end of the one
    before: 3 cycles after its last word.

    Parameters
    ----------
    config : DtqattenConfig
        Gives L and ``tokens_max``.

    Members
    -------
    start : In(1)
        Take ``need``; before the first word, with no word under way.
    need : In(range(tokens_max + 1))
        Keys to select, at most those that there are. With 0, the threshold means nothing.
    read_en, read_word : In
        A word's digits come in the next cycle; its number.
    lanes : In(L)
        Lanes of it that hold a key; of use in the first pass only.
    digits, previous : In(4 * L)
        Their digits in this pass, and in the one before.
    first_pass, last : In(1)
        With the digits: they are the most significant ones; the word is the pass's last.
    threshold : Out(4 * digits)
        The least key that is selected, ``LATENCY`` cycles after the last digits of the last pass.
    """

    GAP = 2
    LATENCY = 4

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        self.lanes_count = topk_lanes(config)
        self.words = topk_words(config)
        lanes = self.lanes_count
        super().__init__(
            {
                "start": In(1),
                "need": In(config.count_bits),
                "read_en": In(1),
                "read_word": In(address_bits(self.words)),
                "lanes": In(lanes),
                "digits": In(DIGIT_BITS * lanes),
                "previous": In(DIGIT_BITS * lanes),
                "first_pass": In(1),
                "last": In(1),
                "threshold": Out(DIGIT_BITS * key_digits(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Find candidates (cycle 0), count them (1), subtract the counts (2), decide on a pass (3)."""
        m = Module()
        lanes, width = self.lanes_count, self._config.count_bits + 1
        # Cycle 0. `decide` is a pass's cycle 3, in which the next one's first word may already be here.
        decide = Signal()
        digit, sought = Signal(DIGIT_BITS), Signal(DIGIT_BITS)
        m.d.comb += sought.eq(Mux(decide, digit, self.threshold[:DIGIT_BITS]))
        memory = place(m, "candidates", Ram(lanes, self.words))
        valid, word = Signal(), Signal(address_bits(self.words), reset_less=True)
        m.d.sync += [valid.eq(self.read_en), word.eq(self.read_word)]
        m.d.comb += [memory.read_en.eq(self.read_en), memory.read_addr.eq(self.read_word)]
        still = Cat(
            memory.read_data[lane] & (self.previous.word_select(lane, DIGIT_BITS) == sought)
            for lane in range(lanes)
        )
        # Cycle 1. The next pass reads the word's candidates in its cycle -1, two cycles from here at the earliest.
        candidates = Signal(lanes, reset_less=True)
        digits = Signal(DIGIT_BITS * lanes, reset_less=True)
        counted_word = Signal.like(word, reset_less=True)
        counting, counting_last = Signal(), Signal()
        m.d.sync += [
            candidates.eq(Mux(self.first_pass, self.lanes, still)),
            digits.eq(self.digits),
            counted_word.eq(word),
            counting.eq(valid),
            counting_last.eq(valid & self.last),
        ]
        m.d.comb += [
            memory.write_en.eq(counting),
            memory.write_addr.eq(counted_word),
            memory.write_data.eq(candidates),
        ]
        # Cycle 2. What is missing, less 1, so that its sign says that no more is needed.
        summing, fresh = Signal(), Signal()
        base = Signal(signed(width), reset_less=True)
        missing = []
        for level in range(1, LEVELS + 1):
            count = Signal(range(lanes + 1), name=f"count_{level}", reset_less=True)
            left = Signal(signed(width), name=f"missing_{level}", reset_less=True)
            reached = [
                candidates[lane] & (digits.word_select(lane, DIGIT_BITS) >= level) for lane in range(lanes)
            ]
            m.d.sync += count.eq(balanced_sum(reached))
            with m.If(summing):
                m.d.sync += left.eq(Mux(fresh, base, left) - count)
            missing.append(left)
        summing_last = Signal()
        m.d.sync += [summing.eq(counting), summing_last.eq(counting_last), decide.eq(summing_last)]
        with m.If(self.start | summing_last):
            m.d.sync += fresh.eq(1)
        with m.Elif(summing):
            m.d.sync += fresh.eq(0)
        # Cycle 3.
        m.d.comb += digit.eq(Cat(_greatest([left[-1] for left in missing])))
        with m.If(self.start):
            m.d.sync += base.eq(self.need - 1)
        with m.Elif(decide):
            m.d.sync += [
                base.eq(choose([*missing, base], digit)),
                self.threshold.eq(Cat(digit, self.threshold)),
            ]
        return m


def _greatest(reached: Sequence[Value]) -> list[Value]:
    # The bits, from the lowest, of how many are set, where none is set above one that is not.
    if len(reached) == 1:
        return list(reached)
    middle = len(reached) // 2
    top = reached[middle]
    halves = zip(reached[:middle], reached[middle + 1 :], strict=True)
    return [*_greatest([Mux(top, high, low) for low, high in halves]), top]
