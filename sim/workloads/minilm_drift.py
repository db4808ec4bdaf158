"""Measure Drift on MiniLM: share of 4-bit activations against the cosine of the sentence embeddings."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np

from bitfabric.quant.drift import gemm, high_operand, mixed_acts, select_rows, select_weights
from bitfabric.quant.drift.conversion import Rounding
from bitfabric.quant.drift.operands import MixedOperand
from bitfabric.quant.drift.sweep import mean_cosine
from bitfabric.quant.drift.thresholds import check_threshold
from bitfabric.quant.uniform import Quantized, quantize
from bitfabric.sim.workloads.minilm import embeddings
from bitfabric.sim.workloads.minilm_model import Floats, forward, frozen_sentences, load

# δ, and δ/Δ, of the table in docs/drift.md.
ABSOLUTE = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)
RELATIVE = (1.0, 2.1, 4.0, 8.0, 12.0, 16.0)


class DriftPoint(NamedTuple):
    """Hold what one threshold gives over the 36 GEMMs of the frozen sentences.

    Members
    -------
    threshold : float
        δ, or δ/Δ where ``relative``.
    relative : bool
    row_share : float
        Share of the activation rows (tokens) that are low precision, mean of the 36 GEMMs.
    act_share, weight_share : float
        Share of the multiply-accumulates whose activation, or weight, is low precision.
    cosine : float
        Mean over the sentences, to the float32 embeddings.
    cosine_int8 : float
        To those of 8-bit activations and weights.
    """

    threshold: float
    relative: bool
    row_share: float
    act_share: float
    weight_share: float
    cosine: float
    cosine_int8: float


def measure(
    threshold: float,
    *,
    relative: bool = False,
    weight_threshold: float | None = None,
    rows_per_subtensor: int = 1,
    rounding: Rounding = "half_up",
    low_bits: int = 4,
) -> DriftPoint:
    """Run MiniLM with every GEMM in mixed precision.

    Activations are INT8, symmetric, dynamic, a scale per tensor; weights INT8, symmetric, a scale per output
    channel, as in ``minilm_case``. Attention, layer norm and GELU stay float32.

    Parameters
    ----------
    threshold : float
        δ of the activations; the same for all 36 GEMMs.
    relative : bool
        Thresholds are δ/Δ with each tensor's own Δ [ours].
    weight_threshold : float, optional
        δ (or δ/Δ) of the output channels; None keeps the weights at 8 bits.
    rows_per_subtensor : int
        Consecutive tokens that share a precision.
    rounding, low_bits
        As in ``quant.drift``.

    Raises
    ------
    ParameterError, BitfabricError
        If a parameter is out of range; if the models extra is not installed.
    """
    check_threshold(threshold)
    row_shares: list[float] = []
    total = act_low = weight_low = 0.0

    def linear(layer: int, name: str, x: Floats) -> Floats:
        nonlocal total, act_low, weight_low
        act, (weight, bias) = quantize(x), _weights(layer, name)
        scale = float(act.scale)
        unit = 1.0 if relative else scale
        chosen = select_rows(act.values, unit, threshold, rows_per_subtensor, 8, low_bits)
        acts = mixed_acts(act.values, chosen, rounding)
        weights = _operand(weight, weight_threshold, relative, rounding, low_bits)
        macs = x.size * weight.values.shape[1]
        row_shares.append(float(acts.low.mean()))
        total += macs
        act_low += macs * row_shares[-1]
        weight_low += macs * float(weights.low.mean())
        unit_of_acc = scale * weight.scale
        acc = gemm(acts, weights) + np.rint(bias / unit_of_acc.reshape(-1)).astype(np.int64)
        return np.asarray(acc * unit_of_acc, np.float32)

    found = forward(frozen_sentences(), linear)
    cosines = [mean_cosine(found, _reference(int8)) for int8 in (False, True)]
    rows = float(np.mean(row_shares))
    return DriftPoint(threshold, relative, rows, act_low / total, weight_low / total, cosines[0], cosines[1])


def table() -> list[DriftPoint]:
    """Return the points of docs/drift.md, in the order of its table."""
    absolute = [measure(threshold) for threshold in ABSOLUTE]
    return absolute + [measure(threshold, relative=True) for threshold in RELATIVE]


@cache
def _reference(int8: bool) -> Floats:
    return embeddings(int8)


@cache
def _weights(layer: int, name: str) -> tuple[Quantized, Floats]:
    weight, bias = load().weight(layer, name)
    return quantize(weight, axis=1), bias


def _operand(
    weight: Quantized, threshold: float | None, relative: bool, rounding: Rounding, low_bits: int
) -> MixedOperand:
    if threshold is None:
        return high_operand(weight.values, 1)
    scale = 1.0 if relative else weight.scale
    return select_weights(weight.values, scale, threshold, 8, low_bits, rounding)
