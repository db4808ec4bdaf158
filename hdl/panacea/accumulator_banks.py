"""Accumulators in memory, two banks: one is added to while the other is read out and emptied."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.quant.errors import check_range


class AccumulatorBanks(Block):
    """Add vectors of sums to words of accumulators, one word a cycle, the same word or another.

    ``en``, ``bank`` and ``word`` go one cycle before ``values``; the word is in memory at the end of the cycle of
    ``values``. A word that was read out, or never added to, counts as 0. Sums wrap.

    Parameters
    ----------
    lanes, bits : int
        Accumulators in a word; bits of each.
    value_bits : int
        Bits of a signed sum, at most ``bits``.
    depth : int
        Words of a bank.

    Members
    -------
    en, bank, word : In
        A sum comes in the next cycle, for that word.
    values : In(signed(value_bits)).array(lanes)
        The sums.
    read_en, read_bank, read_word : In
        Read a word and empty it; its bank must not be added to. Latency 1.
    data : Out(signed(bits)).array(lanes)
        It, kept until the next ``read_en`` or the next sum for its bank.

    Raises
    ------
    ParameterError
        If a number is not positive or the values are too wide.
    """

    def __init__(self, lanes: int, bits: int, value_bits: int, depth: int):
        self._lanes = check_range("lanes", lanes, 1)
        self._bits = check_range("bits", bits, 1)
        self._value_bits = check_range("value_bits", value_bits, 1, bits)
        self._depth = check_range("depth", depth, 1)
        address = address_bits(depth)
        super().__init__(
            {
                "en": In(1),
                "bank": In(1),
                "word": In(address),
                "values": In(signed(value_bits)).array(lanes),
                "read_en": In(1),
                "read_bank": In(1),
                "read_word": In(address),
                "data": Out(signed(bits)).array(lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read, then add and write; ``live`` says which words hold something."""
        m = Module()
        lanes, bits = self._lanes, self._bits
        adding, bank, word = Signal(), Signal(reset_less=True), Signal.like(self.word, reset_less=True)
        read_bank = Signal(reset_less=True)
        m.d.sync += [adding.eq(self.en), bank.eq(self.bank), word.eq(self.word)]
        with m.If(self.read_en):
            m.d.sync += read_bank.eq(self.read_bank)
        rams = [
            place(m, f"bank{index}", Ram(lanes * bits, self._depth, transparent=True)) for index in range(2)
        ]
        live = [Signal(self._depth, name=f"live{index}") for index in range(2)]
        old = Array(ram.read_data for ram in rams)[bank]
        has_old = Signal()
        m.d.comb += has_old.eq(Array(choose(list(flags), word) for flags in live)[bank])
        total = []
        for lane in range(lanes):
            value = Signal(signed(bits), name=f"total{lane}")
            before = old[lane * bits : (lane + 1) * bits].as_signed()
            m.d.comb += value.eq(Mux(has_old, before, 0) + self.values[lane])
            total.append(value)
        alive = Signal()
        with m.If(self.read_en):
            m.d.sync += alive.eq(Array(choose(list(flags), self.read_word) for flags in live)[self.read_bank])
        for index, ram in enumerate(rams):
            adds = Signal(name=f"adds{index}")
            reads = Signal(name=f"reads{index}")
            m.d.comb += [
                adds.eq(self.en & (self.bank == index)),
                reads.eq(self.read_en & (self.read_bank == index)),
                ram.read_en.eq(adds | reads),
                ram.read_addr.eq(Mux(reads, self.read_word, self.word)),
                ram.write_en.eq(adding & (bank == index)),
                ram.write_addr.eq(word),
                ram.write_data.eq(Cat(*total)),
            ]
            with m.If(ram.write_en):
                m.d.sync += live[index].bit_select(word, 1).eq(1)
            with m.If(reads):
                m.d.sync += live[index].bit_select(self.read_word, 1).eq(0)
        chosen = Array(ram.read_data for ram in rams)[read_bank]
        for lane in range(lanes):
            m.d.comb += self.data[lane].eq(Mux(alive, chosen[lane * bits : (lane + 1) * bits].as_signed(), 0))
        return m
