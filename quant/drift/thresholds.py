"""Turn Drift's threshold into integers, and measure what a conversion can represent."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_range

# The T that no sub-tensor reaches.
NEVER = 2**64 - 1


def check_widths(high_bits: int, low_bits: int) -> tuple[int, int]:
    """Return hp and lp when ``2 <= hp <= 8`` and ``1 <= lp <= hp``.

    Raises
    ------
    ParameterError
        If they are not.
    """
    high_bits = check_range("high_bits", high_bits, 2, 8)
    return high_bits, check_range("low_bits", low_bits, 1, high_bits)


def check_real(name: str, value: ArrayLike, allowed: str) -> float:
    """Return one real number as a float.

    Raises
    ------
    ParameterError
        If it is none that float64 holds: NaN, a string, an array of several.
    """
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or array.ndim or np.isnan(array):
        raise ParameterError(name, value, allowed)
    return float(array)


def check_scale(scale: ArrayLike) -> float:
    """Return Δ when it is positive and finite.

    Raises
    ------
    ParameterError
        If it is not.
    """
    step = check_real("scale", scale, "positive and finite")
    if not 0 < step < math.inf:
        raise ParameterError("scale", scale, "positive and finite")
    return step


def check_scales(scale: ArrayLike) -> NDArray[np.float64]:
    """Return an array of Δ when all are positive and finite.

    Raises
    ------
    ParameterError
        If one is not.
    """
    steps = np.asarray(scale)
    if steps.dtype.kind not in "fiu":
        raise ParameterError("scale", steps.dtype.name, "a real number or an array of them")
    wrong = ~((steps > 0) & (steps < math.inf))  # written so that NaN is wrong
    if wrong.any():
        raise ParameterError("scale", float(steps[wrong].flat[0]), "positive and finite")
    return steps.astype(np.float64)


def check_threshold(threshold: ArrayLike) -> float:
    """Return δ when it is at least 0; infinity stands for "never".

    Raises
    ------
    ParameterError
        If it is negative or no number.
    """
    allowed = "at least 0 (infinity: never low precision)"
    least = check_real("threshold", threshold, allowed)
    if least < 0:
        raise ParameterError("threshold", threshold, allowed)
    return least


def integer_threshold(n: int, scale: float, threshold: float, high_bits: int = 8, low_bits: int = 4) -> int:
    """Return ``T = ceil(n²·δ·2^(hp-lp) / (2Δ))``, eq. (6) in integers [derived].

    Computed from the exact fractions that the two floats stand for, so that nothing is rounded but the result.

    Parameters
    ----------
    n : int
        Elements of the sub-tensor, at least 1.
    scale : float
        Δ, positive and finite.
    threshold : float
        δ, at least 0, in the unit of the real values; infinity is "never". For a threshold that does not depend on
        the scale, give δ/Δ here and 1 as the scale.
    high_bits, low_bits : int
        hp in [2, 8], lp in [1, hp].

    Returns
    -------
    int
        In ``[0, 2^64-1]``; what is beyond saturates to ``NEVER`` = 2^64-1.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    n = check_range("n", n, 1)
    high_bits, low_bits = check_widths(high_bits, low_bits)
    scale, threshold = check_scale(scale), check_threshold(threshold)
    if math.isinf(threshold):
        return NEVER
    exact = Fraction(threshold) * n**2 * 2 ** (high_bits - low_bits) / (2 * Fraction(scale))
    return min(math.ceil(exact), NEVER)


def critical_threshold(
    total: int, high_clip: int, n: int, scale: float, high_bits: int = 8, low_bits: int = 4
) -> float:
    """Return the largest δ (a float64) at which a sub-tensor is still low precision [derived].

    ``(Σ|q|)²·2^hc · 2Δ / (n²·2^(hp-lp))`` rounded down, so that the sub-tensor is low exactly where
    ``δ <= critical_threshold``; ``numpy.nextafter`` of it is the smallest δ that keeps the sub-tensor high.
    Infinite where all is zero, which is low at any δ. A reach that only ``NEVER`` would bound counts as one less.

    Parameters
    ----------
    total, high_clip, n : int
        Σ|q| of the sub-tensor, its hc, its elements.
    scale : float
        Δ.
    high_bits, low_bits : int
        hp, lp.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    n, total = check_range("n", n, 1), check_range("total", total, 0)
    high_bits, low_bits = check_widths(high_bits, low_bits)
    high_clip = check_range("high_clip", high_clip, 0, high_bits - low_bits)
    scale = check_scale(scale)
    if total == 0:
        return math.inf
    reach = min(total**2 * 2**high_clip, NEVER - 1)
    exact = reach * 2 * Fraction(scale) / (n**2 * 2 ** (high_bits - low_bits))
    if exact >= Fraction(sys.float_info.max):
        return sys.float_info.max  # the next float, infinity, is never low
    nearest = float(exact)
    return nearest if Fraction(nearest) <= exact else math.nextafter(nearest, 0.0)


def high_clips(maximum: ArrayLike, high_bits: int = 8, low_bits: int = 4) -> NDArray[np.int64]:
    """Return hc: the largest integer in ``[0, hp-lp]`` with ``max|q|·2^hc <= 2^(hp-1)-1`` (eq. 5) [paper].

    Parameters
    ----------
    maximum : integer array
        max|q| of each sub-tensor, in ``[0, 2^(hp-1)-1]``.
    high_bits, low_bits : int
        hp, lp.

    Returns
    -------
    int64 array
        Of the shape of ``maximum``; hp-lp where it is 0.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    high_bits, low_bits = check_widths(high_bits, low_bits)
    limit = 2 ** (high_bits - 1) - 1
    largest = check_integers("maximum", maximum, 0, limit).astype(np.int64)
    fits = [largest << clip <= limit for clip in range(1, high_bits - low_bits + 1)]
    # Each next clip doubles what the one before asks for: counting those that fit finds the largest.
    return np.asarray(sum(fits, start=np.zeros(largest.shape, np.int64)), np.int64)


def representation_range(high_clip: ArrayLike, scale: ArrayLike, high_bits: int = 8) -> NDArray[np.float64]:
    """Return RR, the largest magnitude a converted sub-tensor represents: ``(2^(hp-1)-1)/2^hc·Δ`` (eq. 3) [paper].

    Parameters
    ----------
    high_clip : integer array
        hc, in ``[0, hp]``.
    scale : array
        Δ; broadcasts with it.
    high_bits : int
        hp, 2 to 8.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    high_bits = check_range("high_bits", high_bits, 2, 8)
    clip = check_integers("high_clip", high_clip, 0, high_bits).astype(np.int64)
    return np.asarray(np.ldexp((2 ** (high_bits - 1) - 1) * check_scales(scale), -clip))


def representation_density(low_clip: ArrayLike, scale: ArrayLike) -> NDArray[np.float64]:
    """Return RD, the step between values a converted sub-tensor represents: ``2^lc·Δ`` (eq. 3) [paper].

    Parameters
    ----------
    low_clip : integer array
        lc, 0 to 7.
    scale : array
        Δ; broadcasts with it.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    clip = check_integers("low_clip", low_clip, 0, 7).astype(np.int64)
    return np.asarray(np.ldexp(check_scales(scale), clip))
