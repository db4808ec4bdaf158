"""Convert sub-tensors to their low precision, and back to real values."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.drift.decision import Selection
from bitfabric.quant.drift.statistics import saturate
from bitfabric.quant.drift.thresholds import check_scales
from bitfabric.quant.errors import check_choice

Rounding = Literal["half_up", "truncate"]
ROUNDINGS: tuple[Rounding, ...] = ("half_up", "truncate")


def convert(q: ArrayLike, selection: Selection, rounding: Rounding = "half_up") -> NDArray[np.int8]:
    """Return the values the multipliers see: low sub-tensors without their lc low bits and hc high bits.

    ``y = floor((q + h)/2^lc)`` saturated to ``[-2^(lp-1), 2^(lp-1)-1]``, h = 2^(lc-1) rounding half up where lc > 0 [ours],
    0 truncating [paper]. Saturation is met only by rounding up at the top of the range. High sub-tensors keep
    their values. What is outside ``±(2^(hp-1)-1)`` is saturated first.

    Parameters
    ----------
    q : integer array
        What ``selection`` was made for.
    selection : Selection
    rounding : {"half_up", "truncate"}

    Returns
    -------
    int8 array
        Of the shape of ``q``; ``y·2^lc`` stands for q.

    Raises
    ------
    ParameterError
        If ``q`` does not have these sub-tensors, or for another rounding.
    """
    check_choice("rounding", rounding, ROUNDINGS)
    values = saturate(q, selection.high_bits)[0].astype(np.int16)
    low, clip = (selection.expand(each, values.shape) for each in (selection.low, selection.low_clip))
    half = 1 << clip >> 1 if rounding == "half_up" else np.zeros_like(clip)
    bound = 2 ** (selection.low_bits - 1)
    narrow = np.clip((values + half) >> clip, -bound, bound - 1)
    return np.where(low, narrow, values).astype(np.int8)


def dequantize(y: ArrayLike, selection: Selection, scale: ArrayLike) -> NDArray[np.float64]:
    """Return the real values that converted integers stand for: ``y·2^lc·Δ``, ``y·Δ`` at high precision.

    Parameters
    ----------
    y : integer array
        As ``convert`` gives it.
    selection : Selection
    scale : array
        Δ, positive and finite; broadcasts to ``y``.

    Raises
    ------
    ParameterError
        If ``y`` is not of integers or does not have these sub-tensors, or the scale does not fit.
    """
    values = check_integers("y", y).astype(np.int64)
    steps = check_scales(scale)
    check_broadcast("scale", steps.shape, values.shape)
    return np.asarray((values << selection.expand(selection.shift, values.shape)) * steps)
