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


class Machine:
    """Drive a top: AXI4-Lite, one stream in, one stream out.

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
        packets = b""
        while not self.sink.empty():
            packets += bytes(self.sink.recv_nowait(compact=False).tdata)
        return packets
