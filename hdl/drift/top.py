"""The Drift machine behind AXI4-Lite and AXI4-Stream."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockDomain, DomainRenamer, Module, Mux, Signal, Value
from amaranth.lib.wiring import Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.axi_stream import axi_stream_ports, connect_axi_stream_in, connect_axi_stream_out
from bitfabric.hdl.common.register_map import RegisterMap
from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.counters import Counters
from bitfabric.hdl.drift.drain import Drain
from bitfabric.hdl.drift.job import GEMM, INTAKE, POOLING
from bitfabric.hdl.drift.machine import ERROR_PORTS, DriftMachine
from bitfabric.hdl.drift.readout import Readout
from bitfabric.hdl.drift.registers import ARRAY_COUNTERS, COUNTERS, ERRORS, drift_registers
from bitfabric.hdl.drift.sequencer import TO_FABRIC
from bitfabric.hdl.drift.splitter import WORK, Splitter
from bitfabric.hdl.drift.start import HELD, Start, nibbles, stored_bits


class DriftTop(Block):
    """Compute layers whose rows and channels each have one of two precisions [paper, section 4].

    The host writes the registers, starts the machine and streams activations, channel parameters and weights; the
    machine selects the rows' precisions, chooses the split and returns results in token order, or writes them back
    as the next layer's activations. Everything but the registers and the splitter is in a domain of its own that is
    reset between layers: an error stops the layer, and the next start finds a clean machine.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    aclk, aresetn : In(1)
        Clock and synchronous reset, active low.
    s_axil_*
        AXI4-Lite, see ``drift_registers``.
    s_axis_*, m_axis_*
        AXI4-Stream in and out.
    irq : Out(1)
        High while ``status.done`` or an error is set.
    """

    NAME = "drift"

    def __init__(self, config: DriftConfig):
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
        return drift_registers(self._config, self.NAME)

    def latency(self) -> dict[str, int]:
        """Return the fixed latencies in cycles."""
        return {
            "s_axis_to_machine": 1,
            "memory": 1,
            "to_fabric": TO_FABRIC,
            "drain": Drain.LATENCY,
            "read_out": Readout.LATENCY,
            "requantizer": Requantizer.LATENCY,
        }

    def elaborate(self, platform: object) -> Module:
        """Place registers, machine, splitter and counters."""
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
        machine = place(inner, "machine", DriftMachine(config))
        connect_axi_stream_in(inner, self, "s_axis", machine.i)
        m.submodules.layer = DomainRenamer({"sync": "layer"})(inner)
        connect_axi_stream_out(m, self, "m_axis", machine.o)

        held, held_valid = Signal(HELD, reset_less=True), Signal()
        now = Start(m, config, registers, held, held_valid)
        flags = self._start(m, registers, machine, now, busy, start)
        splitter = self._split(m, registers, machine, now, held, held_valid, flags, busy, start)
        self._hold(m, machine, held, held_valid, flags, start)
        self._finish(m, registers, machine, flags, busy)

        counters = place(m, "counters", Counters())
        m.d.comb += [
            counters.start.eq(start),
            counters.busy.eq(busy),
            counters.active.eq(machine.active),
            counters.waiting.eq(machine.waiting),
            *(
                getattr(registers, f"{name}_cycles").eq(getattr(counters, f"{name}_cycles"))
                for name in (*COUNTERS, *ARRAY_COUNTERS)
            ),
            registers.array_rows.eq(config.rows),
            registers.array_columns.eq(config.columns),
            registers.array_bit_aligned.eq(config.alignment == "bit"),
            registers.array_buffering.eq(BUFFERINGS.index(config.weight_buffering)),
            registers.array_greedy.eq(config.scheduler == "greedy"),
            registers.status_prepared.eq(splitter.prepared),
            registers.split_columns_left.eq(splitter.columns_left),
            registers.split_rows_left.eq(splitter.rows_left),
            registers.split_rows_right.eq(splitter.rows_right),
            registers.rows_high.eq(held.rows_high),
            registers.rows_low.eq(held.rows_low),
            machine.table_en.eq(registers.pwl_write_write),
            machine.table_addr.eq(registers.pwl_write_segment),
            machine.table_data.eq(registers.pwl_low | (registers.pwl_write_high << 32)),
            machine.selection_index.eq(registers.selection_index),
            registers.selection_low.eq(machine.selection_low),
            registers.selection_clip.eq(machine.selection_clip),
        ]
        return m

    def _start(
        self,
        m: Module,
        registers: AxiLiteRegisters,
        machine: DriftMachine,
        now: Start,
        busy: Signal,
        start: Signal,
    ) -> Signal:
        """Accept or refuse a start; keep the layer as it was when it was started; return resident, keep, pool."""
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
        for name, refused in refusals.items():
            error: Value = wanted & refused
            if f"{name}_error" in ERROR_PORTS:
                error |= busy & getattr(machine, f"{name}_error")
            m.d.comb += getattr(registers, f"status_{name}_error").eq(error)
        m.d.sync += start.eq(accepted)
        flags = Signal(3)
        jobs = (("act_job", INTAKE), ("next_job", INTAKE), ("gemm", GEMM), ("pooling", POOLING))
        latched = {name: Signal(layout, name=f"layer_{name}", reset_less=True) for name, layout in jobs}
        with m.If(accepted):
            m.d.sync += [busy.eq(1), flags.eq(Cat(now.resident, now.keep, now.pool))]
            for name, signal in latched.items():
                m.d.sync += [signal[field].eq(value) for field, value in getattr(now, name).items()]
        m.d.comb += [
            machine.start.eq(start),
            machine.resident.eq(flags[0]),
            machine.keep.eq(flags[1]),
            machine.pool.eq(flags[2]),
            *(getattr(machine, name).eq(signal.as_value()) for name, signal in latched.items()),
        ]
        return flags

    def _split(
        self,
        m: Module,
        registers: AxiLiteRegisters,
        machine: DriftMachine,
        now: Start,
        held: Signal,
        held_valid: Signal,
        flags: Signal,
        busy: Signal,
        start: Signal,
    ) -> Splitter:
        """Have splits chosen for the layer and, when the host asks, for the next one."""
        splitter = place(m, "splitter", Splitter(self._config))
        counted = Signal()
        asked = Signal(WORK, reset_less=True)
        with m.If(registers.control_prepare):
            m.d.sync += [
                asked.k.eq(registers.k),
                asked.granules_high.eq(now.gemm["granules_high"]),
                asked.granules_low.eq(now.gemm["granules_low"]),
            ]
        # Activations that are written back have the widths of their own job: nibbles are counted when they are there.
        with m.If(start):
            m.d.sync += counted.eq(flags[0])
        with m.If(machine.selected):
            m.d.sync += counted.eq(1)
        for name in WORK.members:
            m.d.comb += splitter.work[name].eq(machine.gemm[name])
        m.d.comb += [
            splitter.start.eq(start),
            splitter.reuse.eq(flags[0]),
            splitter.counted.eq(counted),
            splitter.rows_high.eq(held.rows_high),
            splitter.rows_low.eq(held.rows_low),
            splitter.prepare.eq(registers.control_prepare),
            splitter.prepare_work.k.eq(asked.k),
            splitter.prepare_work.granules_high.eq(asked.granules_high),
            splitter.prepare_work.granules_low.eq(asked.granules_low),
            splitter.prepare_work.nibbles_high.eq(nibbles(m, "asked_high", asked.k, held.bits_high)),
            splitter.prepare_work.nibbles_low.eq(nibbles(m, "asked_low", asked.k, held.bits_low)),
            splitter.settled.eq(held_valid & (held.k == asked.k) & ~(busy & flags[1])),
            splitter.forget.eq(~held_valid),
            machine.counted.eq(counted),
            machine.rows_high.eq(held.rows_high),
            machine.rows_low.eq(held.rows_low),
            machine.split_valid.eq(splitter.valid),
            machine.split_impossible.eq(splitter.impossible),
            machine.columns_left.eq(splitter.columns_left),
            machine.rows_left.eq(splitter.rows_left),
            machine.rows_right.eq(splitter.rows_right),
        ]
        return splitter

    def _hold(
        self,
        m: Module,
        machine: DriftMachine,
        held: Signal,
        held_valid: Signal,
        flags: Signal,
        start: Signal,
    ) -> None:
        """Remember which activations are in the global buffer."""
        config, keep = self._config, flags[1]
        for half in ("high", "low"):
            bits = Mux(
                machine.written_back, machine.next_job[f"{half}_bits"], machine.act_job[f"{half}_bits"]
            )
            stored = stored_bits(m, config, f"held_{half}", bits)
            with m.If(machine.selected):
                m.d.sync += [
                    held[f"bits_{half}"].eq(stored),
                    held[f"rows_{half}"].eq(getattr(machine, f"new_{half}")),
                ]
        with m.If(machine.selected):
            m.d.sync += [
                held.m.eq(Mux(machine.written_back, machine.next_job.m, machine.act_job.m)),
                held.k.eq(Mux(machine.written_back, machine.next_job.k, machine.act_job.k)),
                held_valid.eq(~keep | machine.written_back),
            ]
        # What a layer overwrites, or will, is not there for another one should it fail.
        with m.If(start & (~flags[0] | keep)):
            m.d.sync += held_valid.eq(0)

    def _finish(
        self, m: Module, registers: AxiLiteRegisters, machine: DriftMachine, flags: Signal, busy: Signal
    ) -> None:
        """End a layer with its last beat, its last word written back, an error or the host's wish."""
        ends, failed, stop = Signal(), Signal(), Signal()
        sent = self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast
        m.d.comb += [
            ends.eq(busy & Mux(flags[1], machine.written_back, sent)),
            failed.eq(
                busy & (Cat(getattr(machine, name) for name in ERROR_PORTS).any() | registers.control_start)
            ),
            stop.eq(ends | failed | registers.control_stop),
            registers.status_busy.eq(busy),
            registers.status_done.eq(ends & ~failed & ~registers.control_stop),
        ]
        for name in ERROR_PORTS:
            if name != "bad_counts_error":  # which a start may be refused for, too
                m.d.comb += getattr(registers, f"status_{name}").eq(busy & getattr(machine, name))
        with m.If(stop):
            m.d.sync += busy.eq(0)
        saturated = Signal(32, reset_less=True)
        with m.If(machine.selected):
            m.d.sync += saturated.eq(machine.saturated)
        m.d.comb += registers.saturated.eq(saturated)
        irq: Value = registers.status_done_state
        for name in ERRORS:
            irq |= getattr(registers, f"status_{name}_error_state")
        m.d.comb += self.irq.eq(irq)
