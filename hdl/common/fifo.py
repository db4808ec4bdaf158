"""A FIFO between streams, in a memory with synchronous read."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.common.stream import check_payload
from bitfabric.quant.errors import check_range


class StreamFifo(Block):
    """Buffer up to ``depth`` payloads of a stream.

    A payload taken in cycle t is offered from cycle t + 2. Throughput is 1 payload per cycle from a depth of 3;
    depths 1 and 2 give 1 every 3 cycles and 2 every 3 (a freed place is seen a cycle later). ``i.ready`` depends
    on flip-flops only; ``o.ready`` reaches nothing but the enables of the memory and of flip-flops.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload, at least 1 bit.
    depth : int
        Capacity in payloads.

    Members
    -------
    i : In(stream.Signature(shape))
        Source.
    o : Out(stream.Signature(shape))
        Sink.
    level : Out(range(depth + 1))
        Payloads inside, the offered one included.

    Raises
    ------
    ParameterError
        If the payload has no bits or ``depth`` is not positive.
    """

    def __init__(self, shape: ShapeLike, depth: int):
        self.width = check_payload(shape)
        self.depth = check_range("depth", depth, 1)
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(self.depth + 1)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the FIFO's logic."""
        m = Module()
        ram = place(m, "ram", Ram(self.width, self.depth))
        write_addr = Signal(ram.address_bits)
        read_addr = Signal(ram.address_bits)
        level = Signal(range(self.depth + 1))
        waiting = Signal(range(self.depth + 1))  # in the memory, not yet in its output register
        offered = Signal()
        put, fetch, take = Signal(), Signal(), Signal()
        m.d.comb += [
            self.level.eq(level),
            self.i.ready.eq(level != self.depth),
            self.o.valid.eq(offered),
            Value.cast(self.o.payload).eq(ram.read_data),
            put.eq(self.i.valid & self.i.ready),
            take.eq(offered & self.o.ready),
            fetch.eq((waiting != 0) & (~offered | self.o.ready)),
            ram.write_en.eq(put),
            ram.write_addr.eq(write_addr),
            ram.write_data.eq(Value.cast(self.i.payload)),
            ram.read_en.eq(fetch),
            ram.read_addr.eq(read_addr),
        ]
        m.d.sync += [
            level.eq(level + put - take),
            waiting.eq(waiting + put - fetch),
            offered.eq(fetch | (offered & ~self.o.ready)),
        ]
        for address, step in ((write_addr, put), (read_addr, fetch)):
            with m.If(step):
                # Depths need not be powers of two.
                with m.If(address == self.depth - 1):
                    m.d.sync += address.eq(0)
                with m.Else():
                    m.d.sync += address.eq(address + 1)
        return m
