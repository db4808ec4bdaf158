"""Run a whole layer as the machine does: precisions, GEMM, requantization, function, pooling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.drift.conversion import Rounding
from bitfabric.quant.drift.decision import Selection
from bitfabric.quant.drift.operands import MixedOperand, gemm, mixed_acts
from bitfabric.quant.drift.pooling import Pooling
from bitfabric.quant.drift.selection import select_rows
from bitfabric.quant.pwl import PwlTable, evaluate
from bitfabric.quant.requant import requantize


@dataclass(frozen=True, kw_only=True, eq=False)
class PostProcess:
    """Hold what follows the GEMM: requantization, then a function, then pooling.

    Parameters
    ----------
    multiplier, shift : integer array, () or (N,)
        As ``quant.requant.requant_parameters`` gives them.
    bias : integer array, () or (N,), optional
        In units of the accumulators.
    zero_point, low, high : int
        As in ``quant.requant.requantize``.
    table : PwlTable, optional
        Piecewise-linear function of the requantized codes; its output's zero point is in it.
    pooling : Pooling, optional
        Of what comes out last.
    """

    multiplier: ArrayLike
    shift: ArrayLike
    bias: ArrayLike | None = None
    zero_point: int = 0
    low: int = -128
    high: int = 127
    table: PwlTable | None = None
    pooling: Pooling | None = None

    def __call__(self, acc: ArrayLike) -> NDArray[np.integer]:
        """Return the layer's output from its accumulators (M, N)."""
        codes: NDArray[np.integer] = requantize(
            acc, self.multiplier, self.shift, self.zero_point, self.low, self.high, self.bias
        )
        if self.table is not None:
            codes = evaluate(self.table, codes)
        return codes if self.pooling is None else self.pooling(codes)


@dataclass(frozen=True, eq=False)
class LayerResult:
    """Hold a layer's output and how it came about.

    Members
    -------
    output : integer array
        (M, N), pooled (images·out_height·out_width, N); without post-processing the accumulators.
    acc : int64 array, (M, N)
        The GEMM's result, shifted, before the bias.
    selection : Selection
        Of the activations' rows.
    acts : MixedOperand
        The activations as multiplied, with the count of saturated ones.
    """

    output: NDArray[np.integer]
    acc: NDArray[np.int64]
    selection: Selection
    acts: MixedOperand


def drift_layer(
    q_acts: ArrayLike,
    weights: MixedOperand,
    *,
    scale: float,
    threshold: float,
    rows_per_subtensor: int = 1,
    high_bits: int = 8,
    low_bits: int = 4,
    rounding: Rounding = "half_up",
    post: PostProcess | None = None,
) -> LayerResult:
    """Return what the machine computes for one layer, to the bit.

    Parameters
    ----------
    q_acts : integer array, (M, K)
        Activations of hp bits, zero point 0; saturated on entry to ``±(2^(hp-1)-1)``.
    weights : MixedOperand, (K, N)
        As ``select_weights``, ``mixed_weights`` or ``high_operand`` give them.
    scale, threshold : float
        Δ of the activations and δ.
    rows_per_subtensor : int
        Consecutive rows that share a precision; the last sub-tensor may have fewer.
    high_bits, low_bits, rounding
        hp, lp and rounding of the activations; the weights' are their own.
    post : PostProcess, optional

    Returns
    -------
    LayerResult

    Raises
    ------
    ParameterError
        If a parameter is out of range, or an accumulator with its bias does not fit 32 bits where there is
        post-processing.
    """
    selection = select_rows(q_acts, scale, threshold, rows_per_subtensor, high_bits, low_bits)
    acts = mixed_acts(q_acts, selection, rounding)
    acc = gemm(acts, weights)
    return LayerResult(acc if post is None else post(acc), acc, selection, acts)
