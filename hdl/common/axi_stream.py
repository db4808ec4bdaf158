"""AXI4-Stream ports and their adapters to this package's streams."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Member, Out, Signature

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import port
from bitfabric.hdl.common.stream import StreamRegister, connect_stream
from bitfabric.quant.errors import ParameterError, check_choice, check_range


def check_data_bits(data_bits: int) -> int:
    """Return the width of ``tdata``.

    Raises
    ------
    ParameterError
        If it is not a positive multiple of 8.
    """
    bits = check_range("data_bits", data_bits, 8)
    if bits % 8:
        raise ParameterError("data_bits", data_bits, "a multiple of 8")
    return bits


def beat_layout(data_bits: int) -> StructLayout:
    """Return the payload of a stream that carries AXI4-Stream beats: ``data``, and ``last`` above it."""
    return StructLayout({"data": data_bits, "last": 1})


class AxiStreamSignature(Signature):
    """Describe an AXI4-Stream port as its source sees it; all bytes of a beat count.

    Parameters
    ----------
    data_bits : int
        Width of ``tdata``, a multiple of 8.

    Members
    -------
    tdata : Out(data_bits)
        Beat.
    tlast : Out(1)
        The beat ends a packet.
    tvalid : Out(1)
        A beat is offered.
    tready : In(1)
        The beat is taken.

    Raises
    ------
    ParameterError
        If ``data_bits`` is not a positive multiple of 8.
    """

    def __init__(self, data_bits: int):
        self.data_bits = check_data_bits(data_bits)
        super().__init__({"tdata": Out(self.data_bits), "tlast": Out(1), "tvalid": Out(1), "tready": In(1)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AxiStreamSignature) and other.data_bits == self.data_bits

    def __hash__(self) -> int:
        return hash((type(self), self.data_bits))

    def __repr__(self) -> str:
        return f"AxiStreamSignature({self.data_bits})"


class AxiStreamSink(Block):
    """Take AXI4-Stream beats into a stream; every output is registered (latency 1 cycle, 1 beat per cycle).

    Members
    -------
    bus : In(AxiStreamSignature(data_bits))
        Beats from outside.
    o : Out(stream.Signature(beat_layout(data_bits)))
        The same beats.

    Raises
    ------
    ParameterError
        If ``data_bits`` is not a positive multiple of 8.
    """

    def __init__(self, data_bits: int):
        self.data_bits = check_data_bits(data_bits)
        super().__init__(
            {
                "bus": In(AxiStreamSignature(self.data_bits)),
                "o": Out(stream.Signature(beat_layout(self.data_bits))),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the adapter."""
        m = Module()
        register = place(m, "register", StreamRegister(beat_layout(self.data_bits)))
        m.d.comb += [
            register.i.payload.data.eq(self.bus.tdata),
            register.i.payload.last.eq(self.bus.tlast),
            register.i.valid.eq(self.bus.tvalid),
            self.bus.tready.eq(register.i.ready),
        ]
        connect_stream(m, register.o, self.o)
        return m


class AxiStreamSource(Block):
    """Send a stream as AXI4-Stream beats; every output is registered (latency 1 cycle, 1 beat per cycle).

    Members
    -------
    i : In(stream.Signature(beat_layout(data_bits)))
        Beats.
    bus : Out(AxiStreamSignature(data_bits))
        The same beats, to the outside.

    Raises
    ------
    ParameterError
        If ``data_bits`` is not a positive multiple of 8.
    """

    def __init__(self, data_bits: int):
        self.data_bits = check_data_bits(data_bits)
        super().__init__(
            {
                "i": In(stream.Signature(beat_layout(self.data_bits))),
                "bus": Out(AxiStreamSignature(self.data_bits)),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        """Return the adapter."""
        m = Module()
        register = place(m, "register", StreamRegister(beat_layout(self.data_bits)))
        connect_stream(m, self.i, register.i)
        m.d.comb += [
            self.bus.tdata.eq(register.o.payload.data),
            self.bus.tlast.eq(register.o.payload.last),
            self.bus.tvalid.eq(register.o.valid),
            register.o.ready.eq(self.bus.tready),
        ]
        return m


def axi_stream_ports(prefix: str, data_bits: int, direction: str) -> dict[str, Member]:
    """Return the members ``<prefix>_tdata``, ``_tlast``, ``_tvalid`` and ``_tready`` of a top.

    Parameters
    ----------
    prefix : str
        ``s_axis``, for instance.
    data_bits : int
        Width of ``tdata``, a multiple of 8.
    direction : str
        ``in`` where the top receives the beats, ``out`` where it sends them.

    Raises
    ------
    ParameterError
        If ``data_bits`` or ``direction`` is not allowed.
    """
    check_choice("direction", direction, ("in", "out"))
    members = AxiStreamSignature(data_bits).members
    return {
        f"{prefix}_{name}": member if direction == "out" else member.flip()
        for name, member in members.items()
    }


def connect_axi_stream_in(m: Module, top: Any, prefix: str, sink: Any) -> None:
    """Feed the stream ``sink`` of a block inside ``top`` from the ports ``<prefix>_*`` through a register.

    ``sink`` carries ``beat_layout`` of the port's width, or anything as wide: ``last`` is the highest bit.

    Raises
    ------
    ParameterError
        If the widths differ.
    """
    adapter = place(m, f"{prefix}_sink", AxiStreamSink(len(port(top, prefix, "tdata"))))
    m.d.comb += [
        adapter.bus.tdata.eq(port(top, prefix, "tdata")),
        adapter.bus.tlast.eq(port(top, prefix, "tlast")),
        adapter.bus.tvalid.eq(port(top, prefix, "tvalid")),
        port(top, prefix, "tready").eq(adapter.bus.tready),
    ]
    connect_stream(m, adapter.o, sink)


def connect_axi_stream_out(m: Module, top: Any, prefix: str, source: Any) -> None:
    """Send the stream ``source`` of a block inside ``top`` to the ports ``<prefix>_*`` through a register.

    Raises
    ------
    ParameterError
        If the widths differ.
    """
    adapter = place(m, f"{prefix}_source", AxiStreamSource(len(port(top, prefix, "tdata"))))
    m.d.comb += [
        port(top, prefix, "tdata").eq(adapter.bus.tdata),
        port(top, prefix, "tlast").eq(adapter.bus.tlast),
        port(top, prefix, "tvalid").eq(adapter.bus.tvalid),
        adapter.bus.tready.eq(port(top, prefix, "tready")),
    ]
    connect_stream(m, source, adapter.i)
