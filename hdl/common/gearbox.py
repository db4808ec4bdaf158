"""The gearbox: packets of bytes cut into words of another size."""

from __future__ import annotations

import math
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.quant.errors import check_range


def packet_layout(count: int) -> data.StructLayout:
    """Return a word of ``count`` bytes of a packet.

    Fields: ``data`` (byte 0 lowest), ``count`` (how many bytes count, at least 1; looked at only with ``last``: all
    others are full), ``last`` (it ends the packet).
    """
    return data.StructLayout({"data": 8 * count, "count": range(count + 1), "last": 1})


def gearbox_limit(in_bytes: int, out_bytes: int) -> int:
    """Return the bytes inside the gearbox up to which it takes a word."""
    return out_bytes - math.gcd(in_bytes, out_bytes) + min(in_bytes, out_bytes)


class Gearbox(Block):
    """Cut packets that come in words of ``in_bytes`` bytes into words of ``out_bytes`` bytes.

    A packet begins with a word of its own on both sides; its last word is filled up with zeros. Bytes stand in a buffer,
    a packet's end padded to whole words of the output [ours]. A word is taken while the buffer holds at most
    ``gearbox_limit`` bytes (padding included); an output word that it completes is offered from the next cycle on, one a
    cycle. The output therefore never pauses where it is the narrower side (a word offered in every cycle), nor the input
    where it is, but for one cycle after a packet whose last word completes two. ``sim/cycles/gearbox.py`` has
    the recurrence. No path leads from one side to the other: ``i.ready`` and ``o`` come from flip-flops.

    Parameters
    ----------
    in_bytes, out_bytes : int
        Bytes of a word on either side, at least 1; the buffer's shifter works in steps of their greatest common divisor.

    Members
    -------
    i : In(stream.Signature(packet_layout(in_bytes)))
        Words of packets.
    o : Out(stream.Signature(beat_layout(8 * out_bytes)))
        The same bytes: ``data``, and ``last`` with a packet's last word.

    Raises
    ------
    ParameterError
        If a size is not a positive integer.
    """

    def __init__(self, in_bytes: int, out_bytes: int):
        self.in_bytes = check_range("in_bytes", in_bytes, 1)
        self.out_bytes = check_range("out_bytes", out_bytes, 1)
        super().__init__(
            {
                "i": In(stream.Signature(packet_layout(self.in_bytes))),
                "o": Out(stream.Signature(beat_layout(8 * self.out_bytes))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the buffer and its level, in units of the greatest common divisor."""
        m = Module()
        unit = math.gcd(self.in_bytes, self.out_bytes)
        give, word = self.in_bytes // unit, self.out_bytes // unit
        limit = gearbox_limit(self.in_bytes, self.out_bytes) // unit
        words = -(-(limit + give) // word)  # of the output, in the buffer
        held = Signal(8 * self.out_bytes * words)  # zero beyond what it holds
        ends = Signal(words)  # which of its words end a packet
        level = Signal(range(words * word + 1))
        ready, put, take = Signal(), Signal(), Signal()
        m.d.sync += ready.eq(1)  # low in reset, like any stream's here
        m.d.comb += [
            self.i.ready.eq(ready & (level <= limit)),
            self.o.valid.eq(level >= word),
            self.o.payload.data.eq(held),
            self.o.payload.last.eq(ends[0]),
            put.eq(self.i.valid & self.i.ready),
            take.eq(self.o.valid & self.o.ready),
        ]

        end = Signal(range(limit + give + 1))  # level behind the word, before padding
        padded, ending = Signal.like(level), Signal(words)
        last = self.i.payload.last
        m.d.comb += [
            end.eq(level + Mux(last, self._units(m, unit), give)),
            padded.eq(end),
        ]
        with m.If(last):
            for index in range(words):
                with m.If(end > index * word):
                    m.d.comb += [padded.eq((index + 1) * word), ending.eq(1 << index)]

        moved: Value = self._masked(m)
        for bit in range(limit.bit_length()):  # level is at most limit when a word is taken
            moved = Mux(level[bit], moved << (8 * unit << bit), moved)
        bytes_after, ends_after, after = Signal.like(held), Signal.like(ends), Signal.like(level)
        m.d.comb += [bytes_after.eq(held), ends_after.eq(ends), after.eq(level)]
        with m.If(put):
            m.d.comb += [
                bytes_after.eq(held | moved[: len(held)]),
                ends_after.eq(ends | ending),
                after.eq(padded),
            ]
        m.d.sync += [held.eq(bytes_after), ends.eq(ends_after), level.eq(after)]
        with m.If(take):
            m.d.sync += [
                held.eq(bytes_after[8 * self.out_bytes :]),
                ends.eq(ends_after[1:]),
                level.eq(after - word),
            ]
        return m

    def _units(self, m: Module, unit: int) -> Value:
        """Return the units that a packet's last word has a part of."""
        if unit == 1:
            return self.i.payload.count
        units = Signal(range(self.in_bytes // unit + 1), name="last_units")
        for index in range(self.in_bytes // unit):
            with m.If(self.i.payload.count > index * unit):
                m.d.comb += units.eq(index + 1)
        return units

    def _masked(self, m: Module) -> Signal:
        """Return the word without what its packet does not have."""
        payload = self.i.payload
        masked = Signal(8 * self.in_bytes, name="masked")
        keep = [~payload.last | (payload.count > index) for index in range(self.in_bytes)]
        m.d.comb += masked.eq(payload.data & Cat(bit.replicate(8) for bit in keep))
        return masked
