"""The machine around a GEMM core, with its AXI ports."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi import axi_clock_ports, axi_domain
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters, axi_lite_ports, connect_axi_lite
from bitfabric.hdl.common.axi_stream import (
    axi_stream_ports,
    connect_axi_stream_in,
    connect_axi_stream_out,
)
from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.hdl.common.register_map import RegisterMap
from bitfabric.hdl.gemm.accumulator import Accumulators
from bitfabric.hdl.gemm.act_buffer import ActBuffer
from bitfabric.hdl.gemm.config import DIMENSION_BITS, GemmConfig
from bitfabric.hdl.gemm.core import FEED_LATENCY
from bitfabric.hdl.gemm.drain import OUT_LATENCY, Drain
from bitfabric.hdl.gemm.loader import Loader, params_layout
from bitfabric.hdl.gemm.registers import COUNTERS, gemm_registers

_GEMM = data.StructLayout(
    {
        "m": DIMENSION_BITS,
        "k": DIMENSION_BITS,
        "n": DIMENSION_BITS,
        "resident": 1,
        "requantize": 1,
        "low": signed(9),
        "high": signed(9),
        "zero_point": signed(9),
    }
)


class GemmTop(Block):
    """Compute ``acts (M, K) x weights (K, N)`` behind AXI4-Lite and AXI4-Stream.

    The host writes the registers, starts the machine and streams what ``Loader`` describes; the results come back
    by M step, N tile and row. Loading, computing and draining overlap through double buffers.

    Members
    -------
    aclk, aresetn : In(1)
        Clock and synchronous reset, active low.
    s_axil_*
        AXI4-Lite, see ``gemm_registers``.
    s_axis_*, m_axis_*
        AXI4-Stream in and out.
    irq : Out(1)
        High while ``status.done`` is set.
    """

    NAME: str
    ACCUMULATE: bool  # the machine adds the tiles of K, not the array

    @property
    def array_latency(self) -> int:
        """Cycles from a tile's last activation at row 0 to its last psum at the south edge; subclasses give it."""
        raise NotImplementedError

    def __init__(self, config: GemmConfig):
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
        return gemm_registers(self._config, self.NAME)

    def core(self) -> Block:
        """Return the array core; subclasses give it."""
        raise NotImplementedError

    def latency(self) -> dict[str, int]:
        """Return the fixed latencies in cycles."""
        return {
            "s_axis_to_loader": 1,
            "buffer_to_array": FEED_LATENCY,
            "array": self.array_latency,
            "accumulators_to_m_axis": OUT_LATENCY,
            "requantizer": Requantizer.LATENCY,
        }

    def elaborate(self, platform: object) -> Module:
        """Wire loader, buffers, core, accumulators and drain."""
        m = Module()
        config = self._config
        axi_domain(m, self)
        registers = place(m, "registers", AxiLiteRegisters(self.register_map))
        connect_axi_lite(m, self, "s_axil", registers)
        m.d.comb += [
            registers.array_rows.eq(config.rows),
            registers.array_columns.eq(config.columns),
            registers.m_step.eq(config.m_step),
            registers.k_step.eq(config.k_step),
            registers.k_max.eq(config.k_max),
            registers.act_depth.eq(config.act_depth),
        ]

        start, busy, gemm = self._start(m, registers)
        loader = place(m, "loader", Loader(config))
        core = place(m, "core", self.core())
        for unit in (loader, core):
            m.d.comb += [
                unit.m.eq(gemm.m),
                unit.k.eq(gemm.k),
                unit.n.eq(gemm.n),
                unit.resident.eq(gemm.resident),
                unit.start.eq(start),
            ]
        m.d.comb += [
            loader.requantize.eq(gemm.requantize),
            registers.status_framing_error.eq(loader.framing_error),
            registers.status_overrun.eq(loader.overrun),
            self.irq.eq(registers.status_done_state),
        ]
        accumulators = self._buffers(m, loader, core)
        drain = place(m, "drain", Drain(config, config.m_step))
        m.d.comb += [
            drain.requantize.eq(gemm.requantize),
            drain.low.eq(gemm.low),
            drain.high.eq(gemm.high),
            drain.zero_point.eq(gemm.zero_point),
            drain.full.eq(accumulators.full),
            drain.info.eq(accumulators.info),
            accumulators.drain_en.eq(drain.drain_en),
            accumulators.drain_row.eq(drain.drain_row),
            accumulators.release.eq(drain.release),
            accumulators.freed.eq(drain.freed),
            *(a.eq(b) for a, b in zip(drain.drain_data, accumulators.drain_data, strict=True)),
        ]
        params = place(
            m, "params", DoubleBuffer(params_layout(config).size, -(-config.columns // config.drain_lanes))
        )
        m.d.comb += [
            loader.params_free.eq(params.write_free),
            params.write_en.eq(loader.params_en),
            params.write_addr.eq(loader.params_addr),
            params.write_data.eq(loader.params_data),
            params.write_done.eq(loader.params_done),
            params.read_en.eq(drain.params_en),
            params.read_addr.eq(drain.params_addr),
            drain.params_data.eq(params.read_data),
            params.read_done.eq(drain.params_release),
        ]
        connect_axi_stream_in(m, self, "s_axis", loader.i)
        connect_axi_stream_out(m, self, "m_axis", drain.o)
        self._count(m, registers, start, busy, core)
        return m

    def _start(self, m: Module, registers: AxiLiteRegisters) -> tuple[Signal, Signal, data.View]:
        """Return the start strobe, the busy flag and the GEMM as it was when it was started.

        The host may prepare the next GEMM's registers while one runs.
        """
        gemm = Signal(_GEMM, reset_less=True)
        accepted, start, busy, ends = Signal(), Signal(), Signal(), Signal()
        bad = (registers.m == 0) | (registers.k == 0) | (registers.n == 0)
        if self._config.k_max < (1 << DIMENSION_BITS) - 1:
            bad |= registers.k > self._config.k_max
        m.d.comb += [
            accepted.eq(registers.control_start & ~busy & ~bad),
            registers.status_bad_dimension.eq(registers.control_start & ~busy & bad),
            ends.eq(self.m_axis_tvalid & self.m_axis_tready & self.m_axis_tlast),
            registers.status_busy.eq(busy),
            registers.status_done.eq(ends),
        ]
        m.d.sync += start.eq(accepted)
        with m.If(accepted):
            m.d.sync += [
                busy.eq(1),
                gemm.m.eq(registers.m),
                gemm.k.eq(registers.k),
                gemm.n.eq(registers.n),
                gemm.resident.eq(registers.control_resident),
                gemm.requantize.eq(registers.control_requantize),
                gemm.low.eq(registers.clip_low),
                gemm.high.eq(registers.clip_high),
                gemm.zero_point.eq(registers.zero_point),
            ]
        with m.Elif(ends):
            m.d.sync += busy.eq(0)
        return start, busy, gemm

    def _buffers(self, m: Module, loader: Loader, core: Block) -> Accumulators:
        """Place the buffers between loader and core, and the accumulators behind it."""
        config = self._config
        weights = place(m, "weights", DoubleBuffer(config.columns * config.weight_bits, config.k_step))
        acts = place(m, "acts", ActBuffer(config.rows * config.act_bits, config.act_depth))
        psum_bits = len(core.psum[0])
        accumulators = place(
            m,
            "accumulators",
            Accumulators(config.columns, config.acc_bits, psum_bits, config.m_step, self.ACCUMULATE),
        )
        m.d.comb += [
            loader.weights_free.eq(weights.write_free),
            weights.write_en.eq(loader.weights_en),
            weights.write_addr.eq(loader.weights_addr),
            weights.write_data.eq(loader.weights_data),
            weights.write_done.eq(loader.weights_done),
            core.weights_full.eq(weights.read_full),
            weights.read_en.eq(core.weights_en),
            weights.read_addr.eq(core.weights_addr),
            core.weights_data.eq(weights.read_data),
            weights.read_done.eq(core.weights_release),
            loader.acts_free.eq(acts.write_free),
            acts.write_en.eq(loader.acts_en),
            acts.write_addr.eq(loader.acts_addr),
            acts.write_data.eq(loader.acts_data),
            acts.tile_written.eq(loader.acts_tile_done),
            acts.bank_written.eq(loader.acts_bank_done),
            core.acts_ready.eq(acts.tile_ready),
            acts.tile_taken.eq(core.acts_taken),
            acts.read_en.eq(core.acts_en),
            acts.read_addr.eq(core.acts_addr),
            core.acts_data.eq(acts.read_data),
            acts.bank_released.eq(core.acts_release),
            core.acc_free.eq(accumulators.free),
            accumulators.claim.eq(core.claim),
            accumulators.claim_info.eq(core.claim_info),
            accumulators.south.eq(core.south),
            *(a.eq(b) for a, b in zip(accumulators.psum, core.psum, strict=True)),
        ]
        return accumulators

    def _count(self, m: Module, registers: AxiLiteRegisters, start: Value, busy: Value, core: Block) -> None:
        """Put every cycle of a GEMM into one of four counters."""
        opened = Signal()
        counting = busy & ~start
        when = {
            "load": counting & ~opened & ~core.window,
            "compute": core.window & ~core.stalled,
            "stalled": core.stalled,
            "drain": counting & opened & ~core.window,
            "total": counting,
        }
        with m.If(core.window):
            m.d.sync += opened.eq(1)
        for name in COUNTERS:
            count = Signal(32, name=f"{name}_cycles", reset_less=True)
            m.d.comb += getattr(registers, f"{name}_cycles").eq(count)
            with m.If(start):
                m.d.sync += count.eq(0)
            with m.Elif(when[name]):
                m.d.sync += count.eq(count + 1)
        with m.If(start):
            m.d.sync += opened.eq(0)
