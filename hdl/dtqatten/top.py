"""The DTQAtten machine behind AXI4-Lite and AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.axi_stream import (
    axi_stream_ports,
    beat_layout,
    connect_axi_stream_in,
    connect_axi_stream_out,
)
from bitfabric.hdl.common.copies import copies
from bitfabric.hdl.common.register_map import RegisterMap
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, LENGTH_BITS, DtqattenConfig
from bitfabric.hdl.dtqatten.counters import Counters
from bitfabric.hdl.dtqatten.dealer import TO_ARRAY
from bitfabric.hdl.dtqatten.machine import TILE_PORTS, DtqattenMachine
from bitfabric.hdl.dtqatten.output_port import OutputPort
from bitfabric.hdl.dtqatten.registers import (
    COUNTERS,
    ERRORS,
    PE_COUNTERS,
    RUNNING_ERRORS,
    counter_register,
    dtqatten_registers,
)
from bitfabric.hdl.dtqatten.score_port import ScorePort
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.hdl.dtqatten.start import Start, held_layout

DESCRIPTOR_STREAMS = ("m_axis_desc", "m_axis_wdesc")


class DtqattenTop(Block):
    """Compute a block's attention on tokens of 8 and 4 bits, and choose the next block's [paper, section IV].

    The host writes the registers and starts the machine; it asks for the list of tokens, Q, K and V by descriptors
    itself, and says by descriptors where the results and the next list belong. Everything but the registers is in a
    domain of its own that is reset between blocks: an error stops the block, and the next start finds a clean
    machine. Beats that still come for a block that was given up are dropped while none runs.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    aclk, aresetn : In(1)
        Clock and synchronous reset, active low.
    s_axil_*
        AXI4-Lite, see ``dtqatten_registers``.
    s_axis_*, m_axis_*
        AXI4-Stream in and out, a packet for each descriptor.
    m_axis_desc_*, m_axis_wdesc_*
        Descriptors of the packets in and out: byte address (32 bits) and length in bytes (16 bits).
    irq : Out(1)
        High while ``status.done`` or an error is set.
    """

    NAME = "dtqatten"

    def __init__(self, config: DtqattenConfig):
        self._config = config
        ports = {
            **axi_clock_ports(),
            **axi_lite_ports("s_axil"),
            **axi_stream_ports("s_axis", config.axis_data_bits, "in"),
            **axi_stream_ports("m_axis", config.axis_data_bits, "out"),
        }
        for name in DESCRIPTOR_STREAMS:
            ports |= axi_stream_ports(name, ADDRESS_BITS + LENGTH_BITS, "out")
        super().__init__({**ports, "irq": Out(1)})

    @property
    def register_map(self) -> RegisterMap:
        """The machine's registers."""
        return dtqatten_registers(self._config, self.NAME)

    def latency(self) -> dict[str, int]:
        """Return the fixed latencies in cycles."""
        return {
            "s_axis_to_machine": 1,
            "memory": 1,
            "to_array": TO_ARRAY,
            "score": ScorePort.LATENCY,
            "softmax_first_pass": SoftmaxUnit.START,
            "softmax_second_pass": SoftmaxUnit.NUMERATORS,
            "result": OutputPort.LATENCY,
        }

    def elaborate(self, platform: object) -> Module:
        """Place registers, machine and counters."""
        m = Module()
        config = self._config
        axi_domain(m, self)
        registers = place(m, "registers", AxiLiteRegisters(self.register_map))
        connect_axi_lite(m, self, "s_axil", registers)
        busy, start, bank = Signal(), Signal(), Signal()
        block = ClockDomain("block")
        block.clk = self.aclk
        block.rst = Signal(name="block_reset")
        m.domains.block = block
        m.d.comb += block.rst.eq(~busy)

        inner = Module()
        machine = place(inner, "machine", DtqattenMachine(config))
        m.submodules.block = DomainRenamer({"sync": "block"})(inner)
        self._streams(m, machine, busy)
        held, held_valid = Signal(held_layout(config), reset_less=True), Signal()
        job = self._start(m, registers, machine, held, held_valid, busy, start)
        done = self._finish(m, registers, machine, busy)
        with m.If(start):
            m.d.sync += held_valid.eq(0)
        with m.If(done):
            m.d.sync += [
                held_valid.eq(1),
                bank.eq(~bank),
                held.tokens.eq(job.tokens),
                held.kept.eq(job.next_kept),
                held.kept_high.eq(job.next_high),
            ]
        counters = place(m, "counters", Counters(config))
        m.d.comb += [
            machine.bank.eq(bank),
            counters.start.eq(start),
            counters.busy.eq(busy),
            *copies(counters, machine, ("qk_arrays", "pv_arrays", "selecting", "pv_left", *TILE_PORTS)),
            *(
                getattr(registers, counter_register(name)).eq(getattr(counters, f"{name}_count"))
                for name in (*COUNTERS, *(PE_COUNTERS if config.pe_counters else ()))
            ),
            registers.array_count.eq(config.arrays),
            registers.array_rows.eq(config.rows),
            registers.array_columns.eq(config.columns),
            registers.array_ports.eq(config.unload_ports),
            registers.array_pe_counters.eq(config.pe_counters),
            registers.status_listed.eq(held_valid),
        ]
        return m

    def _streams(self, m: Module, machine: DtqattenMachine, busy: Signal) -> None:
        """Connect the streams; what comes while no block runs is dropped."""
        came = stream.Signature(beat_layout(self._config.axis_data_bits)).create()
        connect_axi_stream_in(m, self, "s_axis", came)
        m.d.comb += [
            machine.i.payload.eq(came.payload),
            machine.i.valid.eq(came.valid & busy),
            came.ready.eq(machine.i.ready | ~busy),
        ]
        connect_axi_stream_out(m, self, "m_axis", machine.o)
        for name, source in zip(DESCRIPTOR_STREAMS, (machine.desc, machine.wdesc), strict=True):
            beats = stream.Signature(beat_layout(ADDRESS_BITS + LENGTH_BITS)).create()
            m.d.comb += [
                beats.payload.data.eq(source.payload.as_value()),
                beats.payload.last.eq(1),
                beats.valid.eq(source.valid),
                source.ready.eq(beats.ready),
            ]
            connect_axi_stream_out(m, self, name, beats)

    def _start(
        self,
        m: Module,
        registers: AxiLiteRegisters,
        machine: DtqattenMachine,
        held: Signal,
        held_valid: Signal,
        busy: Signal,
        start: Signal,
    ) -> Signal:
        """Accept or refuse a start; keep the block as it was when it was started, and return it."""
        now = Start(m, self._config, registers, held, held_valid)
        wanted, accepted = Signal(), Signal()
        refusals = {
            "bad_dimension": now.bad_dimension,
            "bad_counts": now.bad_counts,
            "bad_format": now.bad_format,
        }
        m.d.comb += [
            wanted.eq(registers.control_start & ~busy),
            accepted.eq(wanted & ~Cat(*refusals.values()).any()),
            registers.status_busy_start_error.eq(registers.control_start & busy),
        ]
        for name in (name for name in ERRORS if name != "busy_start"):
            error: Value = wanted & refusals[name] if name in refusals else Signal()
            if name in RUNNING_ERRORS:
                running = busy & getattr(machine, f"{name}_error")
                error = error | running if name in refusals else running
            m.d.comb += getattr(registers, f"status_{name}_error").eq(error)
        m.d.sync += start.eq(accepted)
        job = Signal(now.job.shape(), name="job", reset_less=True)
        with m.If(accepted):
            m.d.sync += [busy.eq(1), job.eq(now.job)]
        m.d.comb += [machine.start.eq(start), machine.job.eq(job)]
        return job

    def _finish(
        self, m: Module, registers: AxiLiteRegisters, machine: DtqattenMachine, busy: Signal
    ) -> Signal:
        """End a block with its last beat, an error or the host's wish; return whether it is done."""
        sent, ends, failed = Signal(), Signal(), Signal()
        errors = Cat(getattr(machine, f"{name}_error") for name in RUNNING_ERRORS)
        m.d.comb += [
            ends.eq(busy & sent & ~self.m_axis_tvalid & ~self.m_axis_wdesc_tvalid),
            failed.eq(busy & (errors.any() | registers.control_start | registers.control_stop)),
            registers.status_busy.eq(busy),
            registers.status_done.eq(ends & ~failed),
        ]
        with m.If(~busy):
            m.d.sync += sent.eq(0)
        with m.Elif(machine.done):
            m.d.sync += sent.eq(1)
        with m.If(ends | failed):
            m.d.sync += busy.eq(0)
        irq: Value = registers.status_done_state
        for name in ERRORS:
            irq |= getattr(registers, f"status_{name}_error_state")
        m.d.comb += self.irq.eq(irq)
        return registers.status_done
