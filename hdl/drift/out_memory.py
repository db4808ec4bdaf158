"""The global buffer for results: even and odd words side by side, so that a run of bytes may cross a word's end."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drift.config import DriftConfig


class OutMemory(Block):
    """Write a run of up to ``lanes`` bytes anywhere and read a word, both in every cycle.

    Byte j of ``write_data`` goes to those bytes of memory whose place in their word is j modulo ``lanes``: whoever
    writes rotates by the run's place in ``lanes`` bytes, not in a word [ours]. Words that are read in the cycle of
    their write, or before, are the old ones; the read latency is 1 cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives ``out_words`` (even), the width of a word and ``lanes``.

    Members
    -------
    write_en : In(1)
        Write a run of bytes; no part of it may be beyond the last word.
    write_address, write_offset : In
        Word and byte of the run's first byte.
    write_count : In(range(lanes + 1))
        Bytes of the run.
    write_data : In(8 * lanes)
        Bytes.
    read_en, read_address : In
        Read a word.
    read_data : Out(axis_data_bits)
        The word, kept until the next one is read.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        address = address_bits(config.out_words)
        super().__init__(
            {
                "write_en": In(1),
                "write_address": In(address),
                "write_offset": In(address_bits(config.beat_bytes)),
                "write_count": In(range(config.lanes + 1)),
                "write_data": In(8 * config.lanes),
                "read_en": In(1),
                "read_address": In(address),
                "read_data": Out(config.axis_data_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Mark the bytes of two neighbouring words and give each to its bank."""
        m = Module()
        config = self._config
        word_bytes = config.beat_bytes
        end = Signal(range(word_bytes + config.lanes + 1))
        m.d.comb += end.eq(self.write_offset + self.write_count)
        first, second = Signal(word_bytes), Signal(word_bytes)
        m.d.comb += [
            first.eq(
                Cat((self.write_offset <= i) & (end > i) for i in range(word_bytes))
                & self.write_en.replicate(word_bytes)
            ),
            second.eq(
                Cat(end > word_bytes + i if i < config.lanes else 0 for i in range(word_bytes))
                & self.write_en.replicate(word_bytes)
            ),
        ]
        odd, pair = self.write_address[0], self.write_address[1:]
        answering = Signal(reset_less=True)
        with m.If(self.read_en):
            m.d.sync += answering.eq(self.read_address[0])
        banks = [
            place(m, name, Ram(config.axis_data_bits, config.out_words // 2, granularity=8))
            for name in ("even", "odd")
        ]
        for index, bank in enumerate(banks):
            m.d.comb += [
                # A run that starts in an odd word goes on in the next pair's even one.
                bank.write_en.eq(Mux(odd == index, first, second)),
                bank.write_addr.eq(pair if index else pair + odd),
                bank.write_data.eq(self.write_data.replicate(word_bytes // config.lanes)),
                bank.read_en.eq(self.read_en & (self.read_address[0] == index)),
                bank.read_addr.eq(self.read_address[1:]),
            ]
        m.d.comb += self.read_data.eq(Mux(answering, banks[1].read_data, banks[0].read_data))
        return m
