"""A memory with one write port and one synchronous read port."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib import memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import ParameterError, check_range


def address_bits(depth: int) -> int:
    """Return the width of an address of ``depth`` words; a single word has one address bit too."""
    return max(1, ceil_log2(depth))


class Ram(Block):
    """Hold ``depth`` words of ``width`` bits behind one write port and one read port.

    Read latency is 1 cycle, throughput one write and one read per cycle. ``read_data`` keeps its value while
    ``read_en`` is low; it has no reset, so that block RAM is inferred, and is undefined before the first read.
    Reading the word that is written in the same cycle gives the old word, or the new one if ``transparent``.

    Parameters
    ----------
    width : int
        Bits per word.
    depth : int
        Words. Addresses of ``depth`` and above must not be used; a memory of one word ignores its address.
    transparent : bool
        Whether a read sees the write of its own cycle.
    granularity : int, optional
        Bits that a write enable is for, a divisor of ``width``; the whole word unless given.

    Members
    -------
    write_en : In(width // granularity)
        Enables, one for each ``granularity`` bits from bit 0 up.
    read_en : In(1)
        Enable.
    write_addr, read_addr : In(max(1, ceil_log2(depth)))
        Addresses.
    write_data : In(width)
        Word to write.
    read_data : Out(width)
        Word read by the last ``read_en``.

    Raises
    ------
    ParameterError
        If ``width`` or ``depth`` is not positive or ``granularity`` does not divide ``width``.
    """

    def __init__(self, width: int, depth: int, transparent: bool = False, granularity: int | None = None):
        self.width = check_range("width", width, 1)
        self.depth = check_range("depth", depth, 1)
        self.transparent = bool(transparent)
        self.granularity = self.width if granularity is None else check_range("granularity", granularity, 1)
        if self.width % self.granularity:
            raise ParameterError("granularity", granularity, f"a divisor of width={self.width}")
        self.address_bits = address_bits(self.depth)
        super().__init__(
            {
                "write_en": In(self.width // self.granularity),
                "write_addr": In(self.address_bits),
                "write_data": In(self.width),
                "read_en": In(1),
                "read_addr": In(self.address_bits),
                "read_data": Out(self.width),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the memory."""
        m = Module()
        if self.depth == 1:
            self._single_word(m)
            return m
        m.submodules.memory = store = memory.Memory(shape=unsigned(self.width), depth=self.depth, init=[])
        write = store.write_port(granularity=None if self.granularity == self.width else self.granularity)
        read = store.read_port(transparent_for=(write,) if self.transparent else ())
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.en.eq(self.read_en),
            read.addr.eq(self.read_addr),
            self.read_data.eq(read.data),
        ]
        return m

    def _single_word(self, m: Module) -> None:
        # A memory of one word has no address, which few tools expect: it is two registers.
        word = Signal(self.width, reset_less=True)
        data = Signal(self.width, reset_less=True)
        m.d.comb += self.read_data.eq(data)
        with m.If(self.read_en):
            m.d.sync += data.eq(word)
        for index, enable in enumerate(self.write_en):
            part = slice(self.granularity * index, self.granularity * (index + 1))
            with m.If(enable):
                m.d.sync += word[part].eq(self.write_data[part])
                if self.transparent:
                    with m.If(self.read_en):
                        m.d.sync += data[part].eq(self.write_data[part])
