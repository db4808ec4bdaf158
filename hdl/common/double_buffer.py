"""Two memory banks that a writer and a reader hand over to each other."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits


class DoubleBuffer(Block):
    """Fill one bank while the other one is read.

    Read latency is 1 cycle, throughput one write and one read per cycle. A bank handed over in cycle t is seen
    by the other side in t + 1. The banks are two memories: each is written or read, never both, so that it maps
    to a single-port SRAM, and no word is lost where ``depth`` is not a power of two; the price is a 2:1
    multiplexer behind them.

    Parameters
    ----------
    width : int
        Bits per word.
    depth : int
        Words per bank. Addresses of ``depth`` and above must not be used.
    granularity : int, optional
        Bits that a write enable is for, a divisor of ``width``; the whole word unless given.

    Members
    -------
    write_free : Out(1)
        The bank to be written is free. While it is low, ``write_en`` and ``write_done`` do nothing.
    write_en, write_addr, write_data : In
        Write port; an enable for each ``granularity`` bits.
    write_done : In(1)
        Hand the bank over; allowed in the cycle of its last write.
    read_full : Out(1)
        The bank to be read, the oldest one handed over, is full. While it is low, ``read_en`` and ``read_done``
        do nothing.
    read_en, read_addr : In
        Read port.
    read_data : Out(width)
        Word read by the last ``read_en``; it survives ``read_done``.
    read_done : In(1)
        Free the bank; allowed in the cycle of its last ``read_en``.

    Raises
    ------
    ParameterError
        If ``width`` or ``depth`` is not positive or ``granularity`` does not divide ``width``.
    """

    def __init__(self, width: int, depth: int, granularity: int | None = None):
        bank = Ram(width, depth, granularity=granularity)
        bank._MustUse__used = True  # it only checks
        self.width, self.depth, self.granularity = bank.width, bank.depth, bank.granularity
        self.address_bits = address_bits(self.depth)
        super().__init__(
            {
                "write_free": Out(1),
                "write_en": In(self.width // self.granularity),
                "write_addr": In(self.address_bits),
                "write_data": In(self.width),
                "write_done": In(1),
                "read_full": Out(1),
                "read_en": In(1),
                "read_addr": In(self.address_bits),
                "read_data": Out(self.width),
                "read_done": In(1),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the banks and their handover."""
        m = Module()
        banks = [
            place(m, f"bank{number}", Ram(self.width, self.depth, granularity=self.granularity))
            for number in range(2)
        ]
        write_bank = Signal()
        read_bank = Signal()
        answering = Signal(reset_less=True)  # the bank whose word stands on read_data
        full = Array(Signal(name=f"full{number}") for number in range(2))
        m.d.comb += [
            self.write_free.eq(~full[write_bank]),
            self.read_full.eq(full[read_bank]),
            self.read_data.eq(Array(bank.read_data for bank in banks)[answering]),
        ]
        for number, bank in enumerate(banks):
            m.d.comb += [
                bank.write_en.eq(Mux(self.write_free & (write_bank == number), self.write_en, 0)),
                bank.write_addr.eq(self.write_addr),
                bank.write_data.eq(self.write_data),
                bank.read_en.eq(self.read_en & self.read_full & (read_bank == number)),
                bank.read_addr.eq(self.read_addr),
            ]
        with m.If(self.read_en & self.read_full):
            m.d.sync += answering.eq(read_bank)
        # The two never name the same bank: one needs it free, the other full.
        with m.If(self.write_done & self.write_free):
            m.d.sync += [full[write_bank].eq(1), write_bank.eq(~write_bank)]
        with m.If(self.read_done & self.read_full):
            m.d.sync += [full[read_bank].eq(0), read_bank.eq(~read_bank)]
        return m
