"""What a start makes of the registers: the layer's jobs, and the reasons to refuse it."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from bitfabric.hdl.common.axi_lite import AxiLiteRegisters
from bitfabric.hdl.drift.config import DIMENSION_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.job import GEMM, INTAKE, POOLING

# Activations in the global buffer.
HELD = data.StructLayout(
    {
        "m": DIMENSION_BITS,
        "k": DIMENSION_BITS,
        "bits_high": 4,  # stored widths
        "bits_low": 4,
        "rows_high": DIMENSION_BITS,
        "rows_low": DIMENSION_BITS,
    }
)


def divide(value: Value, step: int) -> Value:
    """Return ``value / step`` rounded up; ``step`` is a power of two."""
    return (value + step - 1) >> (step.bit_length() - 1)


def nibbles(m: Module, name: str, k: Value, bits: Value) -> Signal:
    """Return the nibbles of a row of ``k`` activations of ``bits`` bits."""
    result = Signal(NIBBLES_BITS, name=name)
    m.d.comb += result.eq(divide(k * bits, 4))
    return result


def stored_bits(m: Module, config: DriftConfig, name: str, bits: Value) -> Signal:
    """Return the width at which ``bits``-bit activations are stored, as ``DriftConfig.stored_bits``."""
    result = Signal(4, name=name)
    m.d.comb += result.eq(bits if config.alignment == "bit" else Mux(bits <= 4, 4, 8))
    return result


class Start:
    """Read the registers as a layer's jobs; combinational.

    Parameters
    ----------
    m : Module
        Takes the logic.
    config : DriftConfig
        Every parameter of the design.
    registers : AxiLiteRegisters
        The machine's registers.
    held, held_valid : Signal
        Activations in the global buffer.

    Members
    -------
    act_job, next_job, gemm, pooling : Signal
        What the registers say.
    resident, keep, pool : Value
        Options.
    bad_dimension, bad_counts, bad_format : Signal
        Why they cannot be started.
    """

    def __init__(
        self, m: Module, config: DriftConfig, registers: AxiLiteRegisters, held: Signal, held_valid: Signal
    ) -> None:
        self._m, self._config, self._registers = m, config, registers
        self.resident, self.keep = registers.control_resident, registers.control_keep
        self.pool = registers.control_pool
        self.act_job, self.next_job = Signal(INTAKE, name="act_now"), Signal(INTAKE, name="next_now")
        self.gemm, self.pooling = Signal(GEMM, name="gemm_now"), Signal(POOLING, name="pooling_now")
        self.bad_dimension, self.bad_counts, self.bad_format = Signal(), Signal(), Signal()
        self._intakes()
        self._gemm(held)
        self._pooling()
        self._refusals(held, held_valid)

    def _intakes(self) -> None:
        registers, m = self._registers, self._m
        pooled_m = Mux(self.pool, registers.pooled_m, registers.m)
        for prefix, job, rows, k in (
            ("", self.act_job, registers.m, registers.k),
            ("next_", self.next_job, pooled_m, registers.n),
        ):
            m.d.comb += [
                job.m.eq(rows),
                job.k.eq(k),
                job.beats.eq(divide(k, self._config.beat_bytes)),
                job.subtensor_rows.eq(getattr(registers, f"{prefix}subtensor_rows")),
            ]
            for name in ("high_bits", "low_bits", "truncate"):
                m.d.comb += job[name].eq(getattr(registers, f"{prefix}act_format_{name}"))
            for name in ("threshold", "threshold_tail"):
                low, high = (getattr(registers, f"{prefix}{name}_{half}") for half in ("low", "high"))
                m.d.comb += job[name].eq(low | (high << 32))

    def _gemm(self, held: Signal) -> None:
        registers, m, gemm = self._registers, self._m, self.gemm
        for half, per_granule in (("high", 2), ("low", 4)):
            count = getattr(registers, f"n_{half}")
            bits = Signal(4, name=f"width_{half}")
            own = stored_bits(m, self._config, f"own_{half}", self.act_job[f"{half}_bits"])
            m.d.comb += [
                bits.eq(Mux(self.resident, held[f"bits_{half}"], own)),
                gemm[f"n_{half}"].eq(count),
                gemm[f"granules_{half}"].eq(divide(count, per_granule)),
                gemm[f"bits_{half}"].eq(bits),
                gemm[f"nibbles_{half}"].eq(nibbles(m, f"string_{half}", registers.k, bits)),
                gemm[f"stride_{half}"].eq(divide(self.act_job.beats * bits, 8)),
            ]
        m.d.comb += [
            gemm.m.eq(registers.m),
            gemm.k.eq(registers.k),
            gemm.accumulators.eq(registers.control_accumulators),
            gemm.function.eq(registers.control_function),
            gemm.low.eq(registers.bounds_low),
            gemm.high.eq(registers.bounds_high),
            gemm.zero_point.eq(registers.zero_point),
        ]

    def _pooling(self) -> None:
        registers, pooling = self._registers, self.pooling
        for name in ("kernel_height", "kernel_width", "stride", "padding", "average"):
            self._m.d.comb += pooling[name].eq(getattr(registers, f"pooling_{name}"))
        self._m.d.comb += [
            pooling.enabled.eq(self.pool),
            pooling.height.eq(registers.image_height),
            pooling.width.eq(registers.image_width),
            pooling.out_height.eq(registers.pooled_height),
            pooling.out_width.eq(registers.pooled_width),
            pooling.reciprocal.eq(registers.reciprocal),
        ]

    def _refusals(self, held: Signal, held_valid: Signal) -> None:
        config, registers, m = self._config, self._registers, self._m
        gemm, pooling = self.gemm, self.pooling
        granules = Signal(DIMENSION_BITS + 1)
        m.d.comb += granules.eq(
            divide(gemm.granules_high, config.word_granules) * config.word_granules + gemm.granules_low
        )

        def bad_rows(job: Signal) -> Value:
            return (job.m == 0) | (job.m > config.m_max) | (job.subtensor_rows == 0)

        def bad_bits(job: Signal) -> Value:
            return (
                (job.high_bits < 2)
                | (job.high_bits > 8)
                | (job.low_bits == 0)
                | (job.low_bits > job.high_bits)
            )

        absent = ~held_valid | (held.m != registers.m) | (held.k != registers.k)
        bytes_only = self.keep | self.pool | registers.control_function
        kernel = [pooling.kernel_height, pooling.kernel_width]
        sizes = [pooling.height, pooling.width, pooling.out_height, pooling.out_width]
        bad_pool: Value = (
            (pooling.stride == 0) | (pooling.stride > 8) | (pooling.average & (pooling.padding != 0))
        )
        for side in kernel:
            bad_pool |= (side == 0) | (side > 8) | (pooling.padding >= side)
        for size in sizes:
            bad_pool |= size == 0
        m.d.comb += [
            self.bad_dimension.eq(
                (registers.m == 0)
                | (registers.m > config.m_max)
                | (registers.k == 0)
                | (registers.k > config.k_max)
                | (registers.n == 0)
                | (granules > config.granules_max)
                | (~self.resident & bad_rows(self.act_job))
                | (self.keep & bad_rows(self.next_job))
                | (self.keep & (registers.n > config.k_max))
            ),
            self.bad_counts.eq(registers.n_high + registers.n_low != registers.n),
            self.bad_format.eq(
                (~self.resident & bad_bits(self.act_job))
                | (self.keep & bad_bits(self.next_job))
                | (bytes_only & registers.control_accumulators)
                | (self.resident & absent)
                | (self.pool & bad_pool)
            ),
        ]
