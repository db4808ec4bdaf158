"""Turn Drift's cases into jobs: the driver's side of the machine."""

from __future__ import annotations

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.pooling import reciprocal
from bitfabric.hdl.drift.registers import ARRAY_COUNTERS, COUNTERS, ERRORS, drift_registers
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_options import PoolSize, Precision
from bitfabric.sim.drift_records import output_of, stream_of
from bitfabric.sim.job import Step, start_writes

Writes = dict[str, dict[str, int]]
_WORD = (1 << 32) - 1


def _intake_writes(prefix: str, precision: Precision, m: int, k: int) -> Writes:
    """Return what says how ``m`` rows of ``k`` activations get their precision."""
    writes: Writes = {
        f"{prefix}act_format": {
            "high_bits": precision.high_bits,
            "low_bits": precision.low_bits,
            "truncate": int(precision.truncate),
        },
        f"{prefix}subtensor_rows": {"value": precision.subtensor_rows},
    }
    for name, limit in zip(("threshold", "threshold_tail"), precision.limits(m, k), strict=True):
        writes[f"{prefix}{name}_low"] = {"value": limit & _WORD}
        writes[f"{prefix}{name}_high"] = {"value": limit >> 32}
    return writes


def _pool_writes(size: PoolSize) -> Writes:
    names = ("kernel_height", "kernel_width", "stride", "padding", "average")
    writes: Writes = {
        "pooling": {name: int(getattr(size, name)) for name in names},
        "image": {"height": size.height, "width": size.width},
        "pooled": {"height": size.out_height, "width": size.out_width},
        "pooled_m": {"value": size.rows},
    }
    if size.average:
        writes["reciprocal"] = {"value": reciprocal(size.kernel_height * size.kernel_width)}
    return writes


def writes_of(config: DriftConfig, design: str, case: DriftCase) -> list[tuple[int, int]]:
    """Return the register writes that start the case; what it has no use for stays as it is."""
    registers, counts = drift_registers(config, design), case.counts
    sizes = {"m": case.m, "k": case.k, "n": case.n, "n_high": counts.n_high, "n_low": counts.n_low}
    values: Writes = {name: {"value": value} for name, value in sizes.items()}
    if not case.resident:
        values |= _intake_writes("", case.precision, case.m, case.k)
    if case.keep:
        values |= _intake_writes("next_", case.next_precision, case.m_out, case.n)
    if case.requantized:
        values["bounds"] = {"low": case.low, "high": case.high}
        values["zero_point"] = {"value": case.zero_point}
    if case.pool_size is not None:
        values |= _pool_writes(case.pool_size)
    writes = start_writes(registers, values)
    if case.table is not None:
        for segment, word in enumerate(case.table.words()):
            writes += start_writes(
                registers,
                {
                    "pwl_low": {"value": word & _WORD},
                    "pwl_write": {"high": word >> 32, "segment": segment, "write": 1},
                },
            )
    options = {
        "resident": case.resident,
        "keep": case.keep,
        "accumulators": not case.requantized,
        "function": case.table is not None,
        "pool": case.pool is not None,
    }
    status = {"done": 1, **{f"{name}_error": 1 for name in ERRORS}}
    control = {"start": 1, **{name: int(value) for name, value in options.items()}}
    return writes + start_writes(registers, {"status": status, "control": control})


def drift_step(config: DriftConfig, design: str, case: DriftCase, cycles: Cycles) -> Step:
    """Return the run of ``case`` on ``design``.

    ``cycles.breakdown`` holds the cycle counters under the registers' names without ``_cycles``; those of the arrays
    and ``split``, the register's word, are in ``cycles.traffic``.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    registers = drift_registers(config, design)
    status, done = registers.offset("status"), registers.constants()["STATUS_DONE_MASK"]
    # Rows and saturated activations are those of what came into the machine last: the results, where it keeps them.
    last = case.next_rows if case.keep else case.rows
    rows_low = int(last.low.sum())
    counters = {
        "status": done,
        "rows_high": len(last.low) - rows_low,
        "rows_low": rows_low,
        "saturated": last.saturated,
        "split": cycles.traffic["split"],
        "total_cycles": cycles.total,
    }
    counters |= {f"{name}_cycles": cycles.breakdown[name] for name in COUNTERS if name != "total"}
    counters |= {f"{name}_cycles": cycles.traffic[f"{name}_cycles"] for name in ARRAY_COUNTERS}
    return Step(
        name=case.name,
        writes=writes_of(config, design, case),
        stream=stream_of(config, case),
        expected=output_of(config, case),
        reads={name: registers.offset(name) for name in counters},
        counters=counters,
        wait=(status, done) if case.keep else None,
    )
