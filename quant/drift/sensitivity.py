"""Choose the threshold of a tensor by its predicted effect on the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast
from bitfabric.quant.drift.conversion import Rounding, convert
from bitfabric.quant.drift.decision import Selection
from bitfabric.quant.drift.selection import select_blocks
from bitfabric.quant.drift.statistics import block_statistics, full_block, saturate
from bitfabric.quant.drift.thresholds import check_real, check_scale, critical_threshold
from bitfabric.quant.errors import ParameterError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ThresholdChoice:
    """Hold the threshold found for a tensor.

    Members
    -------
    threshold : float
        δ; 0 where everything may be low precision.
    predicted : float
        Predicted change of the loss, at most the budget.
    low_share : float
        Share of elements at low precision on the calibration tensor.
    selection : Selection
        Of the calibration tensor.
    """

    threshold: float
    predicted: float
    low_share: float
    selection: Selection


def choose_threshold(
    q: ArrayLike,
    scale: float,
    curvature: ArrayLike,
    budget: float,
    *,
    block: Sequence[int | None] = (1,),
    high_bits: int = 8,
    low_bits: int = 4,
    rounding: Rounding = "half_up",
) -> ThresholdChoice:
    """Return the smallest δ whose predicted loss change stays within the budget (section 3.3) [paper, derived].

    A higher δ only takes sub-tensors away from low precision, so that the prediction, a sum over them, falls with it:
    the δ at which each one leaves are tried in order, and no grid is needed. The result is the least float64.

    Parameters
    ----------
    q : integer array
        Calibration tensor, quantized at hp bits.
    scale : float
        Its Δ.
    curvature : array
        Diagonal of the loss's Hessian with respect to the real tensor, at least 0, finite; broadcasts to ``q``. See
        ``fisher_curvature`` and ``trace_curvature``.
    budget : float
        Largest predicted change of the loss, at least 0.
    block : sequence of int or None
        Sub-tensors as in ``select_blocks``; (1,) are the rows, (None, 1) the columns of a matrix.
    high_bits, low_bits, rounding
        As in ``select`` and ``convert``.

    Returns
    -------
    ThresholdChoice

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    budget = check_real("budget", budget, "at least 0")
    if budget < 0:
        raise ParameterError("budget", budget, "at least 0")
    scale = check_scale(scale)
    values, _ = saturate(q, high_bits)
    diagonal = np.asarray(curvature, np.float64)
    check_broadcast("curvature", diagonal.shape, values.shape)
    wrong = ~((diagonal >= 0) & (diagonal < math.inf))  # written so that NaN is wrong
    if wrong.any():
        raise ParameterError("curvature", float(diagonal[wrong].flat[0]), "at least 0 and finite")
    sizes = full_block(block, values.ndim)
    everything = select_blocks(values, sizes, scale, 0.0, high_bits, low_bits)
    error = conversion_error(values, everything, scale, rounding)
    costs = _sums(0.5 * diagonal * np.square(error), everything).ravel()
    found = block_statistics(values, sizes)
    critical = np.array(
        [
            critical_threshold(int(total), int(clip), int(n), scale, high_bits, low_bits)
            for total, clip, n in zip(
                found.total.flat, everything.high_clip.flat, found.elements.flat, strict=True
            )
        ]
    )
    threshold, spent = 0.0, 0.0
    for level in np.unique(critical)[::-1]:
        leaving = float(costs[critical == level].sum())
        if not spent + leaving <= budget:
            threshold = math.nextafter(float(level), math.inf)
            break
        spent += leaving
    chosen = select_blocks(values, sizes, scale, threshold, high_bits, low_bits)
    share = float(np.broadcast_to(chosen.expand(chosen.low, values.shape), values.shape).mean())
    return ThresholdChoice(threshold, spent, share, chosen)


def conversion_error(
    q: ArrayLike, selection: Selection, scale: float, rounding: Rounding = "half_up"
) -> Floats:
    """Return what conversion adds to the real values: ``(y·2^lc - q)·Δ``, 0 at high precision.

    Raises
    ------
    ParameterError
        If ``q`` does not have these sub-tensors.
    """
    values, _ = saturate(q, selection.high_bits)
    narrow = convert(values, selection, rounding).astype(np.int64)
    return ((narrow << selection.expand(selection.shift, values.shape)) - values) * check_scale(scale)


def _sums(values: Floats, selection: Selection) -> Floats:
    """Return the sums over each sub-tensor, of the selection's shape."""
    sums = values
    for axis, (length, size) in enumerate(zip(values.shape, selection.block, strict=True)):
        sums = np.add.reduceat(sums, np.arange(0, length, size or length), axis=axis)
    return sums.reshape(selection.low.shape)
