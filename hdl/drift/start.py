"""What a start makes of the registers: the layer's jobs, and the reasons to refuse it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data

from bitfabric.hdl.common.axi_lite import AxiLiteRegisters
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, N_MAX, NIBBLES_BITS, DriftConfig

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
    act_job, next_job, gemm, pooling : dict
        What the registers say, by the fields of ``INTAKE``, ``GEMM`` and ``POOLING``.
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
        self.act_job: dict[str, Value] = {}
        self.next_job: dict[str, Value] = {}
        self.gemm: dict[str, Value] = {}
        self.pooling: dict[str, Value] = {}
        self.bad_dimension, self.bad_counts, self.bad_format = Signal(), Signal(), Signal()
        self._intakes()
        self._gemm(held)
        self._pooling()
        self._refusals(held, held_valid)

    def _intakes(self) -> None:
        registers, m = self._registers, self._m
        self._next_m = Signal(DIMENSION_BITS, name="next_m")
        self._beats = Signal(DIMENSION_BITS, name="act_beats")
        next_beats = Signal(DIMENSION_BITS)
        m.d.comb += [
            self._next_m.eq(Mux(self.pool, registers.pooled_m, registers.m)),
            self._beats.eq(divide(registers.k, self._config.beat_bytes)),
            next_beats.eq(divide(registers.n, self._config.beat_bytes)),
        ]
        for prefix, job, rows, k, beats in (
            ("", self.act_job, registers.m, registers.k, self._beats),
            ("next_", self.next_job, self._next_m, registers.n, next_beats),
        ):
            job |= {"m": rows, "k": k, "beats": beats}
            job["subtensor_rows"] = getattr(registers, f"{prefix}subtensor_rows")
            for name in ("high_bits", "low_bits", "truncate"):
                job[name] = getattr(registers, f"{prefix}act_format_{name}")
            for name in ("threshold", "threshold_tail"):
                low, high = (getattr(registers, f"{prefix}{name}_{half}") for half in ("low", "high"))
                job[name] = Cat(low, high)

    def _gemm(self, held: Signal) -> None:
        registers, m, gemm = self._registers, self._m, self.gemm
        self._granules = {half: Signal(GRANULE_BITS, name=f"granules_{half}") for half in ("high", "low")}
        for half, per_granule in (("high", 2), ("low", 4)):
            count = getattr(registers, f"n_{half}")
            bits = Signal(4, name=f"width_{half}")
            given = getattr(registers, f"act_format_{half}_bits")
            own = stored_bits(m, self._config, f"own_{half}", given)
            granules = self._granules[half]
            m.d.comb += [
                granules.eq(divide(count, per_granule)),
                bits.eq(Mux(self.resident, held[f"bits_{half}"], own)),
            ]
            gemm |= {
                f"n_{half}": count,
                f"granules_{half}": granules,
                f"bits_{half}": bits,
                f"nibbles_{half}": nibbles(m, f"string_{half}", registers.k, bits),
                f"stride_{half}": divide(self._beats * bits, 8),
            }
        gemm |= {
            "m": registers.m,
            "k": registers.k,
            "accumulators": registers.control_accumulators,
            "function": registers.control_function,
            "low": registers.bounds_low,
            "high": registers.bounds_high,
            "zero_point": registers.zero_point,
        }

    def _pooling(self) -> None:
        registers = self._registers
        for name in ("kernel_height", "kernel_width", "stride", "padding", "average"):
            self.pooling[name] = getattr(registers, f"pooling_{name}")
        self.pooling |= {
            "enabled": self.pool,
            "height": registers.image_height,
            "width": registers.image_width,
            "out_height": registers.pooled_height,
            "out_width": registers.pooled_width,
            "reciprocal": registers.reciprocal,
        }

    def _refusals(self, held: Signal, held_valid: Signal) -> None:
        config, registers, m = self._config, self._registers, self._m
        granules = Signal(DIMENSION_BITS + 1)
        m.d.comb += granules.eq(
            divide(self._granules["high"], config.word_granules) * config.word_granules
            + self._granules["low"]
        )

        def bad_rows(prefix: str, rows: Value) -> Value:
            return (rows == 0) | (rows > config.m_max) | (getattr(registers, f"{prefix}subtensor_rows") == 0)

        def bad_bits(prefix: str) -> Value:
            high, low = (getattr(registers, f"{prefix}act_format_{half}_bits") for half in ("high", "low"))
            return (high < 2) | (high > 8) | (low == 0) | (low > high)

        absent = ~held_valid | (held.m != registers.m) | (held.k != registers.k)
        bytes_only = self.keep | self.pool | registers.control_function
        stride, padding = registers.pooling_stride, registers.pooling_padding
        bad_pool: Value = (stride == 0) | (stride > 8) | (registers.pooling_average & (padding != 0))
        for side in (registers.pooling_kernel_height, registers.pooling_kernel_width):
            bad_pool |= (side == 0) | (side > 8) | (padding >= side)
        for size in ("image_height", "image_width", "pooled_height", "pooled_width"):
            bad_pool |= getattr(registers, size) == 0
        m.d.comb += [
            self.bad_dimension.eq(
                (registers.m == 0)
                | (registers.m > config.m_max)
                | (registers.k == 0)
                | (registers.k > config.k_max)
                | (registers.n == 0)
                | (registers.n > N_MAX)
                | (granules > config.granules_max)
                | (~self.resident & bad_rows("", registers.m))
                | (self.keep & bad_rows("next_", self._next_m))
                | (self.keep & (registers.n > config.k_max))
            ),
            self.bad_counts.eq(registers.n_high + registers.n_low != registers.n),
            self.bad_format.eq(
                (~self.resident & bad_bits(""))
                | (self.keep & bad_bits("next_"))
                | (bytes_only & registers.control_accumulators)
                | (self.resident & absent)
                | (self.pool & bad_pool)
            ),
        ]
