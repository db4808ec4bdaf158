"""Sweep the threshold: share of low precision against error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.drift.conversion import Rounding, convert, dequantize
from bitfabric.quant.drift.selection import select_blocks
from bitfabric.quant.drift.statistics import saturate
from bitfabric.quant.drift.thresholds import check_scale


class SweepPoint(NamedTuple):
    """Hold one line of a sweep.

    Members
    -------
    threshold : float
        δ, in the unit of the real values.
    ratio : float
        δ/Δ.
    low_share : float
        Share of elements at low precision.
    error : float
        ``||x' - x||/||x||`` of the real values, x those of hp bits; 0 where all are 0.
    cosine : float or None
        Mean cosine of the model's output rows for x' and x, where there is a model.
    """

    threshold: float
    ratio: float
    low_share: float
    error: float
    cosine: float | None


def sweep_threshold(
    q: ArrayLike,
    scale: float,
    thresholds: Sequence[float],
    *,
    relative: bool = False,
    block: Sequence[int | None] = (1,),
    model: Callable[[NDArray[np.floating]], ArrayLike] | None = None,
    high_bits: int = 8,
    low_bits: int = 4,
    rounding: Rounding = "half_up",
) -> list[SweepPoint]:
    """Return share and error at each threshold.

    Parameters
    ----------
    q : integer array
        Quantized at hp bits.
    scale : float
        Δ.
    thresholds : sequence of float
        δ, or δ/Δ where ``relative`` says so.
    relative : bool
        One δ/Δ suits tensors of any scale: a layer's decision then depends on its integers only [ours].
    block : sequence of int or None
        Sub-tensors as in ``select_blocks``; (1,) are the rows.
    model : callable, optional
        Real values, of the shape of ``q``, to outputs (..., features).
    high_bits, low_bits, rounding
        As in ``select`` and ``convert``.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    scale = check_scale(scale)
    values, _ = saturate(q, high_bits)
    real = values * scale
    norm = float(np.linalg.norm(real))
    expected = None if model is None else np.asarray(model(real), np.float64)
    points = []
    for given in thresholds:
        unit = 1.0 if relative else scale
        # In units of Δ both sides of eq. (6) are the same, and δ/Δ is not rounded by a product.
        chosen = select_blocks(values, block, unit, given, high_bits, low_bits)
        converted = dequantize(convert(values, chosen, rounding), chosen, scale)
        error = float(np.linalg.norm(converted - real))
        share = np.broadcast_to(chosen.expand(chosen.low, values.shape), values.shape).mean()
        cosine = None
        if model is not None and expected is not None:
            cosine = mean_cosine(model(converted), expected)
        points.append(
            SweepPoint(
                given * scale if relative else given,
                given if relative else given / scale,
                float(share),
                error / norm if norm else 0.0,
                cosine,
            )
        )
    return points


def mean_cosine(a: ArrayLike, b: ArrayLike) -> float:
    """Return the mean cosine between the rows of two arrays; rows that are both zero count as 1."""
    left, right = np.asarray(a, np.float64), np.asarray(b, np.float64)
    dots = (left * right).sum(axis=-1)
    norms = np.linalg.norm(left, axis=-1) * np.linalg.norm(right, axis=-1)
    same = (left == right).all(axis=-1)
    return float(np.where(same, 1.0, dots / np.where(norms == 0, 1.0, norms)).mean())
