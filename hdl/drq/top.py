"""The DRQ machine behind AXI4-Lite and AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Mux, Signal, Value
from amaranth.lib import data, stream
from amaranth.lib.wiring import Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.axi_stream import (
    axi_stream_ports,
    beat_layout,
    connect_axi_stream_in,
    connect_axi_stream_out,
)
from bitfabric.hdl.common.register_map import RegisterMap
from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.counters import Counters
from bitfabric.hdl.drq.dealer import Dealer
from bitfabric.hdl.drq.im2col import Im2col
from bitfabric.hdl.drq.layer import KERNEL, SIZES, layer_layout
from bitfabric.hdl.drq.machine import ERRORS, POST, DrqMachine
from bitfabric.hdl.drq.planner import Planner
from bitfabric.hdl.drq.registers import COUNTERS, PE_COUNTERS, drq_registers
from bitfabric.hdl.drq.registers import ERRORS as ALL_ERRORS
from bitfabric.hdl.gemm.drain import OUT_LATENCY

_JOB = data.StructLayout({"layer": layer_layout(), "requantize": 1, **POST})
_READ_ONLY = ("k_max", "map_words", "flag_words", "sum_words", "height_max")


class DrqTop(Block):
    """Compute a convolution whose sensitive regions have 8 bits, the others 4.

    The host writes the registers, starts the machine and streams what ``Loader`` describes; results come back by
    N tile, M tile and position. Everything but the registers is in a domain of its own that is reset between
    convolutions: an error stops one, and the next start finds a clean machine. What is left of
    a packet that a convolution which was given up had begun to take is dropped, up to its ``tlast``.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    aclk, aresetn : In(1)
        Clock and synchronous reset, active low.
    s_axil_*
        AXI4-Lite, see ``drq_registers``.
    s_axis_*, m_axis_*
        AXI4-Stream in and out.
    irq : Out(1)
        High while ``status.done`` or an error is set.
    """

    NAME = "drq"

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                **axi_clock_ports(),
                **axi_lite_ports("s_axil"),
                **axi_stream_ports("s_axis", config.axis_data_bits, "in"),
                **axi_stream_ports("m_axis", config.axis_data_bits, "out"),
                "irq": Out(1),
            }
        )

    @property
    def register_map(self) -> RegisterMap:
        """The machine's registers."""
        return drq_registers(self._config, self.NAME)

    def latency(self) -> dict[str, int]:
        """Return the fixed latencies in cycles."""
        return {
            "planner": Planner.LATENCY,
            "s_axis_to_loader": 1,
            "im2col": Im2col.LATENCY,
            "acts_to_array": Dealer.LATENCY,
            "results_to_m_axis": OUT_LATENCY,
            "requantizer": Requantizer.LATENCY,
        }

    def elaborate(self, platform: object) -> Module:
        """Place registers, machine and counters."""
        m = Module()
        config = self._config
        axi_domain(m, self)
        registers = place(m, "registers", AxiLiteRegisters(self.register_map))
        connect_axi_lite(m, self, "s_axil", registers)
        busy, start = Signal(), Signal()
        layer = ClockDomain("layer")
        layer.clk = self.aclk
        layer.rst = Signal(name="layer_reset")
        m.domains.layer = layer
        m.d.comb += layer.rst.eq(~busy)
        inner = Module()
        machine = place(inner, "machine", DrqMachine(config))
        m.submodules.layer = DomainRenamer({"sync": "layer"})(inner)

        connect_axi_stream_out(m, self, "m_axis", machine.o)
        self._start(m, registers, machine, busy, start)
        failed = self._finish(m, registers, machine, busy)
        self._take(m, registers, machine, busy, failed)
        counters = place(m, "counters", Counters(config))
        m.d.comb += [
            counters.start.eq(start),
            counters.busy.eq(busy),
            *(
                getattr(counters, name).eq(getattr(machine, name))
                for name in (
                    "computing",
                    "steps_en",
                    "steps",
                    "pes_en",
                    "working",
                    "stalled",
                    "sensitive_count",
                )
            ),
            *(
                getattr(registers, name).eq(getattr(counters, f"{name}_now"))
                for name in (*COUNTERS, *(PE_COUNTERS if config.pe_counters else ()))
            ),
            registers.array_rows.eq(config.rows),
            registers.array_columns.eq(config.columns),
            registers.array_line_elements.eq(config.line_elements),
            registers.array_pe_counters.eq(config.pe_counters),
            *(getattr(registers, name).eq(getattr(config, name)) for name in _READ_ONLY),
        ]
        return m

    def _take(
        self, m: Module, registers: AxiLiteRegisters, machine: DrqMachine, busy: Signal, failed: Signal
    ) -> None:
        """Let beats in; drop those that are left of the packet of a convolution that failed."""
        came = stream.Signature(beat_layout(self._config.axis_data_bits)).create()
        connect_axi_stream_in(m, self, "s_axis", came)
        within, dropping, taken, open_after = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            machine.i.payload.eq(came.payload),
            machine.i.valid.eq(came.valid & busy & ~dropping),
            came.ready.eq(Mux(dropping, 1, machine.i.ready & busy)),
            taken.eq(came.valid & came.ready),
            open_after.eq(Mux(taken, ~came.payload.last, within)),
        ]
        m.d.sync += [within.eq(open_after), dropping.eq((dropping | failed) & open_after)]
        with m.If(registers.control_stop & ~busy):
            m.d.sync += [within.eq(0), dropping.eq(0)]

    def _start(
        self, m: Module, registers: AxiLiteRegisters, machine: DrqMachine, busy: Signal, start: Signal
    ) -> None:
        """Keep the convolution as it was when it was started: the host may prepare the next one meanwhile."""
        job = Signal(_JOB, reset_less=True)
        accepted = Signal()
        m.d.comb += [
            accepted.eq(registers.control_start & ~busy),
            machine.start.eq(start),
            machine.layer.eq(job.layer),
            machine.requantize.eq(job.requantize),
            *(getattr(machine, name).eq(job[name]) for name in POST),
        ]
        m.d.sync += start.eq(accepted)
        with m.If(accepted):
            m.d.sync += [
                *(job.layer[name].eq(getattr(registers, name)) for name in (*SIZES, *KERNEL, "threshold")),
                job.requantize.eq(registers.control_requantize),
                job.low.eq(registers.clip_low),
                job.high.eq(registers.clip_high),
                job.zero_point.eq(registers.zero_point),
                busy.eq(1),
            ]

    def _finish(self, m: Module, registers: AxiLiteRegisters, machine: DrqMachine, busy: Signal) -> Signal:
        """End with the last beat, an error or the host's wish; return that it fails in this cycle."""
        sent, ends, failed, again = Signal(), Signal(), Signal(), Signal()
        errors = {name: getattr(machine, f"{name}_error") for name in ERRORS}
        m.d.comb += [
            again.eq(registers.control_start & busy),
            ends.eq(busy & sent & ~self.m_axis_tvalid),
            failed.eq(busy & (Cat(*errors.values()).any() | again | registers.control_stop)),
            registers.status_busy.eq(busy),
            registers.status_done.eq(ends & ~failed),
            registers.status_busy_start_error.eq(again),
            *(getattr(registers, f"status_{name}_error").eq(busy & error) for name, error in errors.items()),
        ]
        with m.If(~busy):
            m.d.sync += sent.eq(0)
        with m.Elif(machine.o.valid & machine.o.ready & machine.o.payload.last):
            m.d.sync += sent.eq(1)
        with m.If(ends | failed):
            m.d.sync += busy.eq(0)
        irq: Value = registers.status_done_state
        for name in ALL_ERRORS:
            irq |= getattr(registers, f"status_{name}_error_state")
        m.d.comb += self.irq.eq(irq)
        return failed
