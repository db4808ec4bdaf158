"""Drivers and monitors of the AXI ports that every top has."""

from __future__ import annotations

import logging
import random
from collections.abc import Iterator
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, First, Timer
from cocotb.utils import get_sim_steps, get_sim_time
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamSink, AxiStreamSource

from bitfabric.sim.job import Beats

CLOCK_NS = 10
POLL_CYCLES = 16  # between reads of a register that is waited for


def pauses(seed: int, probability: float) -> Iterator[bool]:
    """Yield for every cycle whether a channel pauses."""
    generator = random.Random(seed)
    while True:
        yield generator.random() < probability


class Dma:
    """Answer a machine's descriptors out of a memory image, and note them.

    Parameters
    ----------
    machine : Machine
        What has ``m_axis_desc`` and ``m_axis_wdesc``.
    """

    def __init__(self, machine: Machine, reset: dict[str, Any]):
        clock = machine.dut.aclk
        self._machine = machine
        self._clock = clock
        self.reads = AxiStreamSink(AxiStreamBus.from_prefix(machine.dut, "m_axis_desc"), clock, **reset)
        self.writes = AxiStreamSink(AxiStreamBus.from_prefix(machine.dut, "m_axis_wdesc"), clock, **reset)
        self._memory, self._latency = b"", 0
        self.notes: list[bytes] = []
        self._busy = 0
        cocotb.start_soon(self._serve())

    def begin(self, memory: bytes, latency: int) -> None:
        """Take a step's memory."""
        self._memory, self._latency = memory, latency
        self.notes = []
        while not self.writes.empty():
            self.writes.recv_nowait()

    async def idle(self) -> None:
        """Wait until everything that was asked for has been given."""
        while self._busy or not self._machine.source.idle():
            await ClockCycles(self._clock, 1)

    async def _serve(self) -> None:
        while True:
            note = bytes((await self.reads.recv(compact=False)).tdata)
            self.notes.append(note)
            self._busy += 1
            cocotb.start_soon(self._answer(note))

    async def _answer(self, note: bytes) -> None:
        address, length = int.from_bytes(note[:4], "little"), int.from_bytes(note[4:6], "little")
        width = self._machine.source.byte_lanes
        size = -(-length // width) * width
        packet = self._memory[address : address + length].ljust(size, b"\0")
        # It was taken at the edge that has just passed, and is offered after the one that follows the last wait.
        if self._latency > 2:
            await ClockCycles(self._clock, self._latency - 2)
        await self._machine.source.send(packet)
        self._busy -= 1


class Machine:
    """Drive a top: AXI4-Lite, one stream in, one stream out; descriptors, if it asks for packets itself.

    Parameters
    ----------
    dut : cocotb handle
        The top.
    seed, stall
        Of the pauses: every channel of every port pauses independently with this probability.
    """

    def __init__(self, dut: Any, *, seed: int, stall: float):
        logging.getLogger("cocotb").setLevel(logging.WARNING)
        self.dut = dut
        # One clock for all: the Python side then wakes up once per edge.
        Clock(dut.aclk, CLOCK_NS, unit="ns").start()
        reset = {"reset": dut.aresetn, "reset_active_level": False}
        self.lite = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), dut.aclk, **reset)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), dut.aclk, **reset)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), dut.aclk, **reset)
        channels = [
            self.source,
            self.sink,
            self.lite.write_if.aw_channel,
            self.lite.write_if.w_channel,
            self.lite.write_if.b_channel,
            self.lite.read_if.ar_channel,
            self.lite.read_if.r_channel,
        ]
        self.dma = Dma(self, reset) if hasattr(dut, "m_axis_desc_tdata") else None
        if self.dma is not None:
            channels += [self.dma.reads, self.dma.writes]
        for index, channel in enumerate(channels):
            channel.log.setLevel(logging.WARNING)
            if stall:
                channel.set_pause_generator(pauses(seed * 16 + index, stall))
        for port in (self.lite.write_if, self.lite.read_if):
            port.log.setLevel(logging.WARNING)

    async def reset(self) -> None:
        """Hold the reset for a few cycles."""
        self.dut.aresetn.value = 0
        await ClockCycles(self.dut.aclk, 4)
        self.dut.aresetn.value = 1
        await ClockCycles(self.dut.aclk, 4)

    async def write(self, offset: int, word: int) -> None:
        """Write a register."""
        await self.lite.write_dword(offset, word)

    async def read(self, offset: int) -> int:
        """Read a register."""
        return int(await self.lite.read_dword(offset))

    async def send(self, stream: Beats) -> None:
        """Queue a packet."""
        await self.source.send(stream.tobytes())

    async def receive(self, timeout: int) -> bytes | None:
        """Return the next packet, or None if it has not ended within ``timeout`` cycles."""
        packet = cocotb.start_soon(self.sink.recv(compact=False))
        limit = Timer(timeout * CLOCK_NS, unit="ns")
        await First(packet, limit)
        if not packet.done():
            packet.cancel()
            return None
        return bytes(packet.result().tdata)

    async def receive_until(self, offset: int, mask: int, timeout: int) -> bytes | None:
        """Return all that came once a register has the bits of ``mask``, or None after ``timeout`` cycles."""
        limit = get_sim_time("step") + get_sim_steps(timeout * CLOCK_NS, "ns")
        while (await self.read(offset)) & mask != mask:
            if get_sim_time("step") >= limit:
                return None
            await ClockCycles(self.dut.aclk, POLL_CYCLES)
        packets, beats = b"", []
        while not self.sink.empty():
            packet = bytes(self.sink.recv_nowait(compact=False).tdata)
            beats.append(len(packet) // self.sink.byte_lanes)
            packets += packet
        return packets if self.dma is None else packets + self._descriptors(beats)

    def _descriptors(self, beats: list[int]) -> bytes:
        """Return the rows of ``job.descriptor_rows``."""
        assert self.dma is not None
        rows = [note[:6] + b"\0\0" for note in self.dma.notes]
        while not self.dma.writes.empty():
            note = bytes(self.dma.writes.recv_nowait(compact=False).tdata)
            rows.append(note[:6] + (beats.pop(0) if beats else 0).to_bytes(2, "little"))
        return b"".join(row.ljust(self.sink.byte_lanes, b"\0") for row in rows)
