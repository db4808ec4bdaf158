"""Streams: the skid buffer that cuts their paths, and helpers to connect them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, ShapeLike, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import ParameterError


def connect_stream(m: Module, source: Any, sink: Any) -> None:
    """Let the stream ``source`` feed the stream ``sink``, both seen from the outside of their blocks.

    Unlike ``wiring.connect`` it needs no ``flipped`` at a component's own ports, and payload shapes may differ
    as long as they have the same width.

    Raises
    ------
    ParameterError
        If the payloads differ in width.
    """
    give, take = Value.cast(source.payload), Value.cast(sink.payload)
    if len(give) != len(take):
        raise ParameterError("payload width", len(give), f"the sink's {len(take)} bits")
    m.d.comb += [
        take.eq(give),
        sink.valid.eq(source.valid),
        source.ready.eq(sink.ready),
    ]


class StreamRegister(Block):
    """Register a stream in both directions (skid buffer).

    Latency is 1 cycle, throughput 1 payload per cycle. Every output comes from a flip-flop, so no path leads
    from ``i.valid``, ``i.payload`` or ``o.ready`` to the other side. ``i.ready`` is low during reset and becomes
    high one cycle after it, so that a neighbour who leaves reset a cycle earlier loses nothing.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload, at least 1 bit.

    Members
    -------
    i : In(stream.Signature(shape))
        Source.
    o : Out(stream.Signature(shape))
        Sink.

    Raises
    ------
    ParameterError
        If the payload has no bits.
    """

    def __init__(self, shape: ShapeLike):
        check_payload(shape)
        self.shape = shape
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: Any) -> Module:
        """Return the buffer's logic."""
        m = Module()
        front = Signal(self.shape, reset_less=True)
        spare = Signal(self.shape, reset_less=True)
        front_valid = Signal()
        spare_valid = Signal()
        ready = Signal()
        m.d.comb += [
            self.i.ready.eq(ready),
            self.o.valid.eq(front_valid),
            Value.cast(self.o.payload).eq(Value.cast(front)),
        ]
        # `ready` equals `~spare_valid` except during reset.
        with m.If(self.o.ready | ~front_valid):
            m.d.sync += [front_valid.eq(spare_valid | (self.i.valid & ready)), spare_valid.eq(0), ready.eq(1)]
            with m.If(spare_valid):
                m.d.sync += front.eq(spare)
            with m.Else():
                m.d.sync += front.eq(self.i.payload)
        with m.Elif(ready):
            m.d.sync += [spare.eq(self.i.payload), spare_valid.eq(self.i.valid), ready.eq(~self.i.valid)]
        return m


def check_payload(shape: ShapeLike) -> int:
    """Return the width in bits of a stream's payload.

    Raises
    ------
    ParameterError
        If it is 0.
    """
    width = len(Value.cast(Signal(shape)))
    if width == 0:
        raise ParameterError("shape", shape, "a payload of at least 1 bit")
    return width
