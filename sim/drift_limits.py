"""What a Drift machine can compute and hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift import MixedOperand
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.pwl import PwlFormat
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, MAX_MULTIPLIER, MAX_SHIFT
from bitfabric.sim.drift_options import Precision

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.drift_case import DriftCase

ACC_PLANES = 4  # bytes of an accumulator


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
    words = -(-case.k // config.word_weights)
    _fit(config, "weight_words", words, f"for the weights of a granule of K={case.k}")
    counts = case.counts
    granules = -(-counts.granules_high // config.word_granules) * config.word_granules + counts.granules_low
    _fit(config, "granules_max", granules, f"for the parameters of N={case.n} channels")
    planes = 1 if case.requantized else ACC_PLANES
    words = case.m * planes * -(-case.n // config.beat_bytes)
    _fit(config, "out_words", words, "for the " + ("bytes" if case.requantized else "accumulators"))


def _check_activations(config: DriftConfig, precision: Precision, rows: MixedOperand, what: str) -> None:
    m, k = rows.values.shape
    beats = -(-k // config.beat_bytes)
    together = min(precision.subtensor_rows, m)
    _fit(config, "staging_beats", together * beats, f"for a sub-tensor of {together} rows of {what}")
    m_low = int(rows.low.sum())
    for half, count, bits in (
        ("high", m - m_low, precision.high_bits),
        ("low", m_low, precision.low_bits),
    ):
        stride = -(-beats * config.stored_bits(bits) // 8)
        _fit(config, f"{half}_words", count * stride, f"for {count} {half}-precision rows of {what}")


def _fit(config: DriftConfig, name: str, needed: int, why: str) -> None:
    there = getattr(config, name)
    if needed > there:
        raise ParameterError(name, there, f"at least {needed} {why}")
