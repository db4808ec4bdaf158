"""What a Drift machine can compute and hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift import MixedOperand
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.pwl import PwlFormat
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, MAX_MULTIPLIER, MAX_SHIFT
from bitfabric.sim.cycles.drift_array import check_split, gemm_work
from bitfabric.sim.cycles.drift_schedule import schedule
from bitfabric.sim.drift_options import Precision

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.drift_case import DriftCase

ACC_PLANES = 4  # bytes of an accumulator


def check_dimensions(config: DriftConfig, m: int, k: int, n: int) -> None:
    """Refuse a GEMM that no number of layers computes; rows beyond ``m_max`` are a matter of several.

    Raises
    ------
    ParameterError
        Naming M, K or N.
    """
    check_range("M", m, 1, (1 << DIMENSION_BITS) - 1)
    config.check_gemm(1, k, n)


def check_case(config: DriftConfig, case: DriftCase) -> None:
    """Refuse a case that a machine cannot compute.

    Raises
    ------
    ParameterError
        If a dimension, an operand, an option or a memory does not allow it.
    """
    config.check_gemm(case.m, case.k, case.n)
    _check_operands(case)
    if case.requantized:
        _check_requantization(config, case)
    _check_memories(config, case)
    _check_lines(config, case)
    if case.keep:
        check_range("N of a result that is kept", case.n, 1, config.k_max)
        check_range("M of a result that is kept", case.m_out, 1, config.m_max)
        _check_activations(config, case.next_precision, case.next_rows, "the results that are kept")


def fits(config: DriftConfig, case: DriftCase) -> bool:
    """Return whether a machine can compute a case."""
    try:
        check_case(config, case)
    except ParameterError:
        return False
    return True


def check_sequence(cases: Sequence[DriftCase]) -> None:
    """Refuse a resident case whose activations are not those that the cases before it leave in the machine.

    Raises
    ------
    ParameterError
        Naming ``resident``.
    """
    held: NDArray[np.integer[Any]] | None = None
    precision = Precision()
    for case in cases:
        if case.resident:
            if held is None:
                raise ParameterError("resident", True, "false: no case before this one brings activations")
            if case.precision != precision or not np.array_equal(case.acts, held):
                allowed = (
                    "false: activations or precisions are not those that the case before this one leaves"
                )
                raise ParameterError("resident", True, allowed)
        held = case.stored() if case.keep else case.acts
        precision = case.next_precision if case.keep else case.precision


def _check_operands(case: DriftCase) -> None:
    check_integers("acts", case.acts, -128, 127)
    low = np.int64(1) << (case.weight_bits.astype(np.int64) - 1)
    wrong = ((case.weights < -low) | (case.weights >= low)).any(axis=0)
    if wrong.any():
        channel = int(wrong.argmax())
        bits, values = int(case.weight_bits[channel]), case.weights[:, channel]
        value = int(values.max() if values.max() >= 1 << (bits - 1) else values.min())
        raise ParameterError("weights", value, f"within channel {channel}'s {bits} bits, two's complement")
    check_integers("weight_clip", case.weight_clip, 0, 8)
    room = 8 - case.weight_bits.astype(np.int64)
    wrong = case.weight_clip > room
    if wrong.any():
        channel = int(wrong.argmax())
        allowed = (
            f"at most {int(room[channel])} with channel {channel}'s {int(case.weight_bits[channel])} bits"
        )
        raise ParameterError("weight_clip", int(case.weight_clip[channel]), allowed)


def _check_requantization(config: DriftConfig, case: DriftCase) -> None:
    limits = {"bias": (ACC_MIN, ACC_MAX), "multiplier": (1, MAX_MULTIPLIER), "shift": (1, MAX_SHIFT)}
    for name, (low, high) in limits.items():
        check_integers(name, getattr(case, name), low, high)
    for name in ("low", "high", "zero_point"):
        check_range(name, getattr(case, name), -256, 255)  # the registers have 9 bits
    if case.low > case.high:
        raise ParameterError("low", case.low, f"at most high={case.high}")
    for name in ("low", "high"):
        check_range(f"{name} + zero_point", getattr(case, name) + case.zero_point, -128, 127)
    if case.table is not None:
        form = {name: getattr(case.table, name) for name in PwlFormat.__dataclass_fields__}
        if PwlFormat(**form) != config.pwl:
            raise ParameterError("table", form, f"of the form {dataclasses.asdict(config.pwl)}")


def _check_memories(config: DriftConfig, case: DriftCase) -> None:
    _check_activations(config, case.precision, case.rows, "the activations")
    check_weights(config, case.k)
    counts = case.counts
    check_results(config, case.m, counts.n_high, counts.n_low, accumulators=not case.requantized)


def check_weights(config: DriftConfig, k: int) -> None:
    """Refuse a K that a column's weight buffer cannot hold.

    Raises
    ------
    ParameterError
        Naming the memory.
    """
    words = -(-k // config.word_weights)
    _fit(config, "weight_words", words, f"for the weights of a granule of K={k}")


def check_results(config: DriftConfig, m: int, n_high: int, n_low: int, *, accumulators: bool) -> None:
    """Refuse channels and results that the parameters' and the results' memories cannot hold.

    Raises
    ------
    ParameterError
        Naming the memory.
    """
    n = n_high + n_low
    high = -(-n_high // 2)
    granules = -(-high // config.word_granules) * config.word_granules - (-n_low // 4)
    _fit(config, "granules_max", granules, f"for the parameters of N={n} channels")
    words = m * (ACC_PLANES if accumulators else 1) * -(-n // config.beat_bytes)
    _fit(config, "out_words", words, "for the " + ("accumulators" if accumulators else "bytes"))


def check_rows(config: DriftConfig, k: int, rows: dict[str, int], bits: dict[str, int], what: str) -> None:
    """Refuse activation rows, by "high" and "low", that the global buffer cannot hold.

    Raises
    ------
    ParameterError
        Naming the memory.
    """
    beats = -(-k // config.beat_bytes)
    for half, count in rows.items():
        stride = -(-beats * config.stored_bits(bits[half]) // 8)
        _fit(config, f"{half}_words", count * stride, f"for {count} {half}-precision rows of {what}")


def _check_lines(config: DriftConfig, case: DriftCase) -> None:
    """Refuse what no split of the fabric serves."""
    if config.rows > 1 and config.columns > 1:
        return  # either precision then has lines of groups
    counts = case.counts
    rows, channels = (counts.m_high, counts.m_low), (counts.n_high, counts.n_low)
    bits = (case.act_high_bits, case.act_low_bits)
    work = gemm_work(config, *rows, case.k, *channels, bits=bits)
    check_split(config, work, schedule(config, work).split)


def _check_activations(config: DriftConfig, precision: Precision, rows: MixedOperand, what: str) -> None:
    m, k = rows.values.shape
    beats = -(-k // config.beat_bytes)
    together = min(precision.subtensor_rows, m)
    _fit(config, "staging_beats", together * beats, f"for a sub-tensor of {together} rows of {what}")
    m_low = int(rows.low.sum())
    widths = {"high": precision.high_bits, "low": precision.low_bits}
    check_rows(config, k, {"high": m - m_low, "low": m_low}, widths, what)


def _fit(config: DriftConfig, name: str, needed: int, why: str) -> None:
    there = getattr(config, name)
    if needed > there:
        raise ParameterError(name, there, f"at least {needed} {why}")
