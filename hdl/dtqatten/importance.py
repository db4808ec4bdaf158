"""The tokens' importance: accumulated by position, read in words of L tokens, in two banks."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import VALUE_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.topk import topk_lanes, topk_words


def add_bits(config: DtqattenConfig) -> int:
    """Return the width of a sum of 16-bit probabilities over the queries of a band."""
    return (65535 * config.columns).bit_length()


class ImportanceMemory(Block):
    """Hold an importance of 32 bits and an id for each position of two banks; add to it, one position a cycle.

    An add takes 3 cycles and saturates at 2^32 - 1; adds may follow each other in every cycle, to the same position
    too. The bank that ``bank`` names is the block's own: it is set up, added to and read; ``store`` writes the other.
    Of reads and adds there is one in a cycle, and of set-ups, stores, and adds two cycles ago: the block's course sees
    to that. Contents are undefined until they are written, and stay over a reset.

    Parameters
    ----------
    config : DtqattenConfig
        Gives L and ``tokens_max``.

    Members
    -------
    bank : In(1)
        The block's own; constant while a read or an add is under way.
    init_en, init_position, init_id : In
        Set a position's id, and its importance to 0.
    add_en, add_position, add_value : In
        Add to a position's importance. Reads see it from the third cycle on.
    word_en, word : In
        Read the word of positions ``L * word`` to ``L * word + L - 1``.
    word_data : Out(L * (32 + id_bits))
        Importance and, above it, id of each, one cycle later.
    entry_en, entry_position : In
        Read a position.
    entry_value, entry_id : Out
        What it holds, two cycles later; a new one in every cycle.
    store_en, store_position, store_value, store_id : In
        Write a position of the other bank.
    """

    LATENCY = 3  # from an add to the first read that sees it
    ENTRY_LATENCY = 2

    def __init__(self, config: DtqattenConfig) -> None:
        self.lanes, self.words = topk_lanes(config), topk_words(config)
        self.tokens, self.id_bits = config.tokens_max, config.id_bits
        self.entry_bits = VALUE_BITS + self.id_bits
        position = token = In(self.id_bits)
        super().__init__(
            {
                "bank": In(1),
                "init_en": In(1),
                "init_position": position,
                "init_id": token,
                "add_en": In(1),
                "add_position": position,
                "add_value": In(add_bits(config)),
                "word_en": In(1),
                "word": In(address_bits(self.words)),
                "word_data": Out(self.lanes * self.entry_bits),
                "entry_en": In(1),
                "entry_position": position,
                "entry_value": Out(VALUE_BITS),
                "entry_id": Out(self.id_bits),
                "store_en": In(1),
                "store_position": position,
                "store_value": In(VALUE_BITS),
                "store_id": token,
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read (cycle 0), pick the lane (1), add and write (2); a sum that is being written is passed on."""
        m = Module()
        memory = place(
            m, "ram", Ram(self.lanes * self.entry_bits, 2 * self.words, granularity=self.entry_bits)
        )
        # Cycle 0.
        position = Signal(self.id_bits)
        m.d.comb += position.eq(Mux(self.entry_en, self.entry_position, self.add_position))
        word, lane = self._split(position)
        m.d.comb += [
            memory.read_en.eq(self.word_en | self.entry_en | self.add_en),
            memory.read_addr.eq(self._address(Mux(self.word_en, self.word, word), self.bank)),
            self.word_data.eq(memory.read_data),
        ]
        # Cycle 1. The add of two cycles before wrote when this one read; the one before follows in cycle 2.
        summed, sum_position = Signal(), Signal(self.id_bits, reset_less=True)
        total = Signal(VALUE_BITS, reset_less=True)
        picking, picked_lane = Signal(), Signal(len(lane), reset_less=True)
        picked_position = Signal(self.id_bits, reset_less=True)
        picked_add = Signal.like(self.add_value, reset_less=True)
        m.d.sync += [
            picking.eq(self.add_en),
            picked_lane.eq(lane),
            picked_position.eq(position),
            picked_add.eq(self.add_value),
        ]
        entry = Signal(self.entry_bits)
        m.d.comb += entry.eq(
            choose([memory.read_data.word_select(i, self.entry_bits) for i in range(self.lanes)], picked_lane)
        )
        # Cycle 2.
        adding, position_now = Signal(), Signal(self.id_bits, reset_less=True)
        addend = Signal.like(self.add_value, reset_less=True)
        m.d.sync += [
            adding.eq(picking),
            position_now.eq(picked_position),
            addend.eq(picked_add),
            self.entry_value.eq(Mux(summed & (sum_position == picked_position), total, entry[:VALUE_BITS])),
            self.entry_id.eq(entry[VALUE_BITS:]),
        ]
        old, sum_now, saturated = Signal(VALUE_BITS), Signal(VALUE_BITS + 1), Signal(VALUE_BITS)
        m.d.comb += [
            old.eq(Mux(summed & (sum_position == position_now), total, self.entry_value)),
            sum_now.eq(old + addend),
            saturated.eq(sum_now[:VALUE_BITS] | sum_now[VALUE_BITS].replicate(VALUE_BITS)),
        ]
        m.d.sync += [summed.eq(adding), sum_position.eq(position_now), total.eq(saturated)]
        self._write(m, memory, adding, position_now, saturated)
        return m

    def _write(self, m: Module, memory: Ram, adding: Value, position_now: Value, total: Value) -> None:
        position, value = Signal(self.id_bits), Signal(VALUE_BITS)
        token, enable, bank = Signal(self.id_bits), Signal(), Signal()
        m.d.comb += [
            enable.eq(self.store_en | self.init_en | adding),
            bank.eq(self.bank ^ self.store_en),
        ]
        with m.If(self.store_en):
            m.d.comb += [
                position.eq(self.store_position),
                value.eq(self.store_value),
                token.eq(self.store_id),
            ]
        with m.Elif(self.init_en):
            m.d.comb += [position.eq(self.init_position), token.eq(self.init_id)]
        with m.Else():
            m.d.comb += [position.eq(position_now), value.eq(total), token.eq(self.entry_id)]
        word, lane = self._split(position)
        m.d.comb += [
            memory.write_en.eq(Cat(enable & (lane == i) for i in range(self.lanes))),
            memory.write_addr.eq(self._address(word, bank)),
            memory.write_data.eq(Cat(value, token).replicate(self.lanes)),
        ]

    def _address(self, word: Value, bank: Value) -> Value:
        return word + Mux(bank, self.words, 0)

    def _split(self, position: Value) -> tuple[Value, Value]:
        # Word and lane of a position: its quotient and remainder by L.
        lanes = self.lanes
        if self.words == 1:
            return Const(0, 1), position
        if lanes == 1:
            return position, Const(0, 1)
        if lanes & (lanes - 1) == 0:
            shift = lanes.bit_length() - 1
            return position[shift:], position[:shift]
        factor, shift = division(lanes, self.tokens)
        word = ((position * factor) >> shift)[: address_bits(self.words)]
        return word, (position - word * lanes)[: address_bits(lanes)]


def division(divisor: int, numbers: int) -> tuple[int, int]:
    """Return ``(factor, shift)``, the least, with ``x * factor >> shift == x // divisor`` for all x below ``numbers``.

    Parameters
    ----------
    divisor, numbers : int
        At least 1.
    """
    shift = 0
    while True:
        factor = -(-(1 << shift) // divisor)
        # The quotient is exact if it is just below the multiples of the divisor: the product errs upwards only.
        if all(x * factor >> shift == x // divisor for x in range(numbers)):
            return factor, shift
        shift += 1
