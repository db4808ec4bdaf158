"""Take the softmax of fixed-point scores in integers: exponent, reciprocal, probabilities, numerators' parts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError

Ints = NDArray[np.int64]

SCORE_FRACTION = 12
SCORE_LIMIT = 2**23 - 1
# The score of a key that a query may not see.
MASKED = -(2**23)
EXPONENT_FRACTION = 22
ONE = 2**EXPONENT_FRACTION
# From here on even 1.0 rounds to nothing.
OCTAVES = EXPONENT_FRACTION + 2
PROBABILITY_MAX = 2**16 - 1
RECIPROCAL_FRACTION = 17
# Above this `x << 16` would not fit int64.
RECIPROCAL_MAX = 2**46
VALUE_SCALE_MAX = 2**16 - 1

_EXPONENT_SEGMENTS = 64
_RECIPROCAL_SEGMENTS = 128
# 16 fraction bits; the 6 of the place in a piece make 22.
_EXPONENT_BASE = np.rint(2**16 * 2.0 ** (-np.arange(_EXPONENT_SEGMENTS + 1) / 64)).astype(np.int64)
_RECIPROCAL_BASE = np.rint(2**RECIPROCAL_FRACTION * 128 / (128 + np.arange(129))).astype(np.int64)


class Softmax(NamedTuple):
    """Hold the softmax of rows of scores.

    Members
    -------
    exponents : int64 array, (..., m)
        E, ``2^-(max - score)`` with 22 fraction bits, 0 to 2^22; 0 where masked.
    sums : int64 array, (...)
        S, the sum of a row's E, at least 2^22: the largest score's is 1.
    probabilities : int64 array, (..., m)
        p, ``E / S`` with 16 fraction bits, 0 to 65535.
    """

    exponents: Ints
    sums: Ints
    probabilities: Ints


def exponent_table() -> tuple[Ints, Ints]:
    """Return the 65 bases (16 fraction bits) and 64 slopes of ``exponent``'s straight pieces, as the hardware holds them."""
    return _EXPONENT_BASE.copy(), -np.diff(_EXPONENT_BASE)


def reciprocal_table() -> tuple[Ints, Ints]:
    """Return the 129 bases and 128 slopes of ``reciprocal``'s straight pieces, as the hardware holds them."""
    return _RECIPROCAL_BASE.copy(), -np.diff(_RECIPROCAL_BASE)


def exponent(x: ArrayLike) -> Ints:
    """Return ``2^(-x/4096)`` with 22 fraction bits, by 64 straight pieces for an octave and a shift [ours].

    A piece is exact in 22 bits, ``(base << 6) - slope*rest``; only the shift by octaves rounds.

    Parameters
    ----------
    x : integer array
        How far a score lies below its row's largest, 12 fraction bits, at least 0.

    Returns
    -------
    int64 array
        0 to 2^22, halves up; 0 from 24 octaves on. Within 2^-15 of the exact value relatively and half an LSB more.

    Raises
    ------
    ParameterError
        For a negative ``x``.
    """
    below = check_integers("x", x)
    if below.size and int(below.min()) < 0:
        raise ParameterError("x", int(below.min()), "at least 0")
    return _exponent(below)


def _exponent(below: NDArray[np.integer]) -> Ints:
    x = np.minimum(below, OCTAVES << SCORE_FRACTION).astype(np.int64, copy=False)
    octaves = x >> SCORE_FRACTION
    segment, rest = (x >> 6) & 63, x & 63
    base, slope = _EXPONENT_BASE, -np.diff(_EXPONENT_BASE)
    y = (base[segment] << 6) - slope[segment] * rest
    return (y + ((np.int64(1) << octaves) >> 1)) >> octaves


def reciprocal(x: ArrayLike) -> tuple[Ints, Ints]:
    """Return (r, e) so that ``1/x`` is about ``r * 2^(-17-e)``, by 128 straight pieces [ours].

    Parameters
    ----------
    x : integer array
        1 to 2^46.

    Returns
    -------
    r : int64 array
        65536 to 131072; within 2^-14 of the exact value, relatively.
    e : int64 array
        ``floor(log2 x)``.

    Raises
    ------
    ParameterError
        For an ``x`` out of range.
    """
    number = check_integers("x", x, 1, RECIPROCAL_MAX).astype(np.int64)
    # Exact: float64 holds every x in range.
    e = np.frexp(number.astype(np.float64))[1].astype(np.int64) - 1
    fraction = ((number << 16) >> e) - 65536
    segment, rest = fraction >> 9, fraction & 511
    base, slope = _RECIPROCAL_BASE, -np.diff(_RECIPROCAL_BASE)
    return base[segment] - ((slope[segment] * rest + 256) >> 9), e


def softmax(scores: ArrayLike) -> Softmax:
    """Return the softmax, by powers of two, of rows of fixed-point scores, in integers throughout [ours].

    Scores are in log2 units (a score times log2 e), so that ``2^t`` is what e^score was. E has 22 fraction
    bits, so that m tails that all round the same way move a row's sum by ``m/2`` LSB: a probability is
    within ``m*2^-23 + 6*2^-16`` of the exact one, which is within 2^-12 for every row of up to 1024 [derived]. Scores
    drawn at a deviation of up to 1 stay within 2^-14 of it.

    Parameters
    ----------
    scores : integer array, (..., m)
        t, 12 fraction bits, in ``[-(2^23-1), 2^23-1]``, or ``MASKED`` (-2^23). A row has one that is not.

    Returns
    -------
    Softmax

    Raises
    ------
    ParameterError
        For scores out of range, no scores, or a row that is masked throughout.
    """
    t = check_integers("scores", scores, MASKED, SCORE_LIMIT)
    if t.ndim == 0 or t.shape[-1] == 0:
        raise ParameterError("scores", t.shape, "rows of at least one score")
    t = t.astype(np.int64, copy=False)
    largest = t.max(axis=-1, keepdims=True)
    masked = t == MASKED
    if (largest == MASKED).any():
        raise ParameterError("scores", "a row masked throughout", "rows with a score that is not masked")
    e = np.where(masked, 0, _exponent(largest - t))
    sums = e.sum(axis=-1)
    return Softmax(e, sums, _normalised(e, sums))


def _normalised(e: Ints, sums: Ints) -> Ints:
    r, octaves = (part[..., np.newaxis] for part in reciprocal(sums))
    return np.minimum(PROBABILITY_MAX, (e * r + (np.int64(1) << octaves)) >> (1 + octaves))


def numerators(exponents: ArrayLike, value_scales: ArrayLike | None = None) -> tuple[Ints, Ints]:
    """Return the 8-bit numerators that the array multiplies by V, and the largest scaled exponent.

    The row's largest numerator is about 255, whatever the row's length; the division by the row's sum is
    left to the output's requantization [ours].

    Parameters
    ----------
    exponents : integer array, (..., m)
        E, 0 to 2^22.
    value_scales : integer array, (m,), optional
        sv, 1 to 65535: V's scale for each token, folded in before the numerator is rounded [ours].
        None is one scale for the layer.

    Returns
    -------
    a : int64 array, (..., m)
        ``255 * E / 2^22``, or with scales ``255 * f / max f`` with ``f = E * sv / 2^22``; 0 to 255,
        halves up.
    largest : int64 array, (...)
        ``max f``, at least 1; 2^22 without scales.

    Raises
    ------
    ParameterError
        For integers out of range, or scales that are not one for each token.
    """
    e = check_integers("exponents", exponents, 0, ONE).astype(np.int64, copy=False)
    if e.ndim == 0 or e.shape[-1] == 0:
        raise ParameterError("exponents", e.shape, "rows of at least one exponent")
    if value_scales is None:
        return (255 * e + ONE // 2) >> EXPONENT_FRACTION, np.full(e.shape[:-1], ONE, np.int64)
    scales = check_integers("value_scales", value_scales, 1, VALUE_SCALE_MAX).astype(np.int64)
    if scales.shape != e.shape[-1:]:
        raise ParameterError("value_scales", scales.shape, f"of shape {e.shape[-1:]}")
    f = (e * scales + ONE // 2) >> EXPONENT_FRACTION
    largest = np.maximum(f.max(axis=-1), 1)
    r, octaves = (part[..., np.newaxis] for part in reciprocal(largest))
    g = (f * r + (np.int64(1) << octaves)) >> (1 + octaves)
    return np.minimum(255, (255 * g + 32768) >> 16), largest
