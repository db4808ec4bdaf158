"""The Panacea machine behind AXI4-Lite and AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.axi_stream import axi_stream_ports, connect_axi_stream_in, connect_axi_stream_out
from bitfabric.hdl.common.register_map import RegisterMap
from bitfabric.hdl.panacea.config import CODE_BITS, DIMENSION_BITS, PanaceaConfig
from bitfabric.hdl.panacea.drain import LATENCY
from bitfabric.hdl.panacea.job import JOB, skipped_slice
from bitfabric.hdl.panacea.machine import ERROR_PORTS, PanaceaMachine
from bitfabric.hdl.panacea.pea import PIPELINE
from bitfabric.hdl.panacea.registers import COUNTERS, EVENTS, panacea_registers

# What OMEM keeps, as the layer that takes it has to name it.
_KEPT = data.StructLayout(
    {"k": DIMENSION_BITS, "n": DIMENSION_BITS, "slices": 2, "drop": 2, "zero_point": CODE_BITS}
)


class PanaceaTop(Block):
    """Compute a layer from compressed tiles [paper, III-D].

    The host writes the registers, starts the machine and streams what ``Loader`` describes; outputs come back by M
    step, N tile, weight tile and half, as accumulators or as the next layer's compressed tiles, or stay in OMEM.
    Everything but the registers is in a domain of its own that is reset between layers: an error stops the layer,
    and the next start finds a clean machine.

    Parameters
    ----------
    config : PanaceaConfig
        Every parameter of the design.

    Members
    -------
    aclk, aresetn : In(1)
        Clock and synchronous reset, active low.
    s_axil_*
        AXI4-Lite, see ``panacea_registers``.
    s_axis_*, m_axis_*
        AXI4-Stream in and out.
    irq : Out(1)
        High while ``status.done`` or an error is set.
    """

    NAME = "panacea"

    def __init__(self, config: PanaceaConfig):
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
        return panacea_registers(self._config, self.NAME)

    def latency(self) -> dict[str, int]:
        """Return the fixed latencies in cycles."""
        return {
            "s_axis_to_loader": 1,
            "memory": 1,
            "pea_pipeline": PIPELINE,
            "drain": LATENCY,
            "requantizer": Requantizer.LATENCY,
        }

    def elaborate(self, platform: object) -> Module:
        """Place registers and machine."""
        m = Module()
        config = self._config
        axi_domain(m, self)
        registers = place(m, "registers", AxiLiteRegisters(self.register_map))
        connect_axi_lite(m, self, "s_axil", registers)
        busy, start, stop = Signal(), Signal(), Signal()
        layer = ClockDomain("layer")
        layer.clk = self.aclk
        layer.rst = Signal(name="layer_reset")
        m.domains.layer = layer
        m.d.comb += layer.rst.eq(~busy)

        inner = Module()
        machine = place(inner, "machine", PanaceaMachine(config))
        connect_axi_stream_in(inner, self, "s_axis", machine.i)
        m.submodules.layer = DomainRenamer({"sync": "layer"})(inner)
        connect_axi_stream_out(m, self, "m_axis", machine.o)

        self._kept, self._kept_valid = Signal(_KEPT, reset_less=True), Signal()
        job = self._start(m, registers, busy, start)
        ends, errors = Signal(), Signal()
        m.d.comb += [
            machine.job.eq(job),
            machine.start.eq(start),
            machine.table_en.eq(registers.pwl_write_write),
            machine.table_addr.eq(registers.pwl_write_segment),
            machine.table_data.eq(registers.pwl_low | (registers.pwl_write_high << 32)),
            ends.eq(Mux(job.keep, machine.done, self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast)),
            errors.eq(busy & Cat(getattr(machine, name) for name in ERROR_PORTS).any()),
            stop.eq(errors | (busy & ends) | registers.control_stop),
            registers.status_busy.eq(busy),
            registers.status_done.eq(busy & ends & ~errors & ~registers.control_stop),
            *(
                getattr(registers, f"status_{name.removesuffix('_error')}_error").eq(
                    busy & getattr(machine, name)
                )
                for name in ERROR_PORTS
            ),
            registers.array_peas.eq(config.peas),
            registers.array_dynamic_operators.eq(config.dynamic_operators),
            registers.array_static_operators.eq(config.static_operators),
            registers.array_dtp.eq(config.dtp),
            registers.array_flexible.eq(config.flexible),
        ]
        with m.If(stop):
            m.d.sync += busy.eq(0)
        self._remember(m, registers, registers.status_done & job.keep, accepted=start)
        states = ("done", *(f"{name.removesuffix('_error')}_error" for name in ERROR_PORTS))
        raised = [getattr(registers, f"status_{name}_state") for name in states]
        refused = [registers.status_bad_dimension_error_state, registers.status_bad_format_error_state]
        irq: Value = raised[0]
        for flag in (*raised[1:], *refused):
            irq |= flag
        m.d.comb += self.irq.eq(irq)
        self._count(m, registers, machine, start, busy)
        return m

    def _start(self, m: Module, registers: AxiLiteRegisters, busy: Signal, start: Signal) -> Signal:
        """Accept or refuse a start; return the layer as it was when it was started."""
        config = self._config
        job = Signal(JOB, reset_less=True)
        widths, next_widths = registers.format_weight_slices, registers.next_format_slices
        acts, drop, zero_point = (
            getattr(registers, f"format_{n}") for n in ("act_slices", "drop", "zero_point")
        )
        # Bits of W·X: those of the operands and ceil(log2 K).
        k_bits = Signal(range(DIMENSION_BITS + 1))
        for bit in range(DIMENSION_BITS):
            with m.If((registers.k - 1)[bit]):
                m.d.comb += k_bits.eq(bit + 1)
        psum_bits = Signal(7)
        m.d.comb += psum_bits.eq(3 * widths + 1 + (acts << 2) + k_bits)
        bad_dimension, bad_format, accepted = Signal(), Signal(), Signal()

        def bad_acts(slices: Value, low: Value, point: Value) -> Value:
            limit = Mux(slices == 1, point[4:] != 0, Mux(slices == 2, point[8:] != 0, 0))
            return (slices == 0) | (low == 3) | ((low != 0) & (slices != 2)) | limit

        codes, next_point = registers.control_codes, registers.next_format_zero_point
        m.d.comb += [
            bad_dimension.eq(
                (registers.m == 0)
                | (registers.n == 0)
                | (registers.k == 0)
                | (registers.k > config.k_max)
                | (psum_bits > config.acc_bits)
            ),
            bad_format.eq(
                (widths == 0)
                | (widths > (config.max_weight_bits - 1) // 3)
                | (acts > config.max_act_bits // 4)
                | bad_acts(acts, drop, zero_point)
                | (codes & (next_widths > config.max_act_bits // 4))
                | (codes & bad_acts(next_widths, registers.next_format_drop, next_point))
                | (registers.control_keep & ~codes)
                | (registers.control_dtp & (not config.dtp))
                | (registers.control_from_omem & ~self._matches(registers))
            ),
            accepted.eq(registers.control_start & ~busy & ~bad_dimension & ~bad_format),
            registers.status_bad_dimension_error.eq(registers.control_start & ~busy & bad_dimension),
            registers.status_bad_format_error.eq(registers.control_start & ~busy & bad_format),
        ]
        m.d.sync += start.eq(accepted)
        with m.If(accepted):
            m.d.sync += busy.eq(1)
            for name in ("m", "k", "n"):
                m.d.sync += job[name].eq(getattr(registers, name))
            for name in ("dtp", "resident", "stream_weights", "from_omem", "codes", "keep"):
                m.d.sync += job[name].eq(getattr(registers, f"control_{name}"))
            m.d.sync += [
                job.weight_slices.eq(widths),
                job.act_slices.eq(acts),
                job.drop.eq(drop),
                job.skipped.eq(0),
                job.next_slices.eq(next_widths),
                job.next_drop.eq(registers.next_format_drop),
                job.next_skipped.eq(0),
            ]
            for condition, value in skipped_slice(acts, drop, zero_point):
                with m.If(condition):
                    m.d.sync += job.skipped.eq(value)
            for condition, value in skipped_slice(next_widths, registers.next_format_drop, next_point):
                with m.If(condition):
                    m.d.sync += job.next_skipped.eq(value)
        return job

    def _matches(self, registers: AxiLiteRegisters) -> Value:
        """Return whether the layer to be started takes what OMEM keeps."""
        wanted = {
            "k": registers.k,
            "n": registers.n,
            "slices": registers.format_act_slices,
            "drop": registers.format_drop,
            "zero_point": registers.format_zero_point,
        }
        same: Value = self._kept_valid
        for name, value in wanted.items():
            same &= self._kept[name] == value
        return same

    def _remember(self, m: Module, registers: AxiLiteRegisters, done: Value, accepted: Value) -> None:
        """Note what the outputs of a layer that keeps them are, when it starts, and that they are there at its end."""
        made = Signal(_KEPT, reset_less=True)
        with m.If(accepted):  # the registers are those of the start: a host needs longer to write another
            m.d.sync += [
                made.k.eq(registers.m),
                made.n.eq(registers.n),
                made.slices.eq(registers.next_format_slices),
                made.drop.eq(registers.next_format_drop),
                made.zero_point.eq(registers.next_format_zero_point),
            ]
        with m.If(done):
            m.d.sync += [self._kept.eq(made), self._kept_valid.eq(1)]

    def _count(
        self, m: Module, registers: AxiLiteRegisters, machine: PanaceaMachine, start: Signal, busy: Signal
    ) -> None:
        """Put every cycle of a layer into one of four counters, and count what happens in it."""
        counts = {name: Signal(32, name=f"{name}_count", reset_less=True) for name in (*COUNTERS, *EVENTS)}
        for name in COUNTERS:
            m.d.comb += getattr(registers, f"{name}_cycles").eq(counts[name])
        for name in EVENTS:
            m.d.comb += getattr(registers, name).eq(counts[name])
        opened = Signal()
        with m.If(start):
            m.d.sync += [opened.eq(0), *(count.eq(0) for count in counts.values())]
        with m.Elif(busy):
            m.d.sync += [
                counts["total"].eq(counts["total"] + 1),
                counts["ppu_stall"].eq(counts["ppu_stall"] + machine.ppu_stalled),
                counts["static_products"].eq(counts["static_products"] + machine.static_products),
                counts["dynamic_products"].eq(counts["dynamic_products"] + machine.dynamic_products),
                counts["wmem_reads"].eq(counts["wmem_reads"] + machine.wmem_reads),
                counts["amem_reads"].eq(counts["amem_reads"] + machine.amem_reads),
            ]
            with m.If(machine.working):
                # The idle cycles since the last products were no part of the end.
                m.d.sync += [
                    opened.eq(1),
                    counts["compute"].eq(counts["compute"] + 1),
                    counts["stalled"].eq(counts["stalled"] + counts["drain"]),
                    counts["drain"].eq(0),
                ]
            with m.Elif(opened):
                m.d.sync += counts["drain"].eq(counts["drain"] + 1)
            with m.Else():
                m.d.sync += counts["load"].eq(counts["load"] + 1)
