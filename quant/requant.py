"""Requantize accumulators to narrow integers with a fixed-point multiplier, as the hardware does."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.errors import ParameterError, check_range

ACC_MIN, ACC_MAX = -(2**31), 2**31 - 1
MULTIPLIER_BITS = 31
MAX_MULTIPLIER = 2**MULTIPLIER_BITS - 1
MAX_SHIFT = 62


def requantize(
    acc: ArrayLike,
    multiplier: ArrayLike,
    shift: ArrayLike,
    zero_point: ArrayLike = 0,
    low: int = -128,
    high: int = 127,
    bias: ArrayLike | None = None,
) -> NDArray[np.int32]:
    """Return ``clip((acc*multiplier + (1 << (shift-1))) >> shift, low, high) + zero_point``, exactly.

    The shift is arithmetic: the quotient is rounded to nearest, halves towards plus infinity [ours].
    Nothing wraps: an accumulator that does not fit 32 bits, its bias added, is refused.

    Parameters
    ----------
    acc : integer array
        Any shape, in ``[-2^31, 2^31-1]``.
    multiplier : integer array
        1 to 2^31 - 1; broadcasts to ``acc`` (``(N,)`` for one per output channel of ``(M, N)``).
    shift : integer array
        1 to 62; broadcasts to ``acc``.
    zero_point : integer array
        Added after the clip; in ``[-2^16, 2^16]``; broadcasts to ``acc``.
    low, high : int
        Bounds before the zero point, ``low <= high``, each in ``[-2^16, 2^16]``: for uint8 with zero
        point z, ``-z`` and ``255-z``.
    bias : integer array, optional
        Added to ``acc`` first, at its scale; broadcasts to ``acc``.

    Returns
    -------
    int32 array
        Of the shape of ``acc``.

    Raises
    ------
    ParameterError
        For anything out of range.
    """
    total = check_integers("acc", acc, ACC_MIN, ACC_MAX).astype(np.int64)
    if bias is not None:
        added = check_integers("bias", bias, ACC_MIN, ACC_MAX).astype(np.int64)
        check_broadcast("bias", added.shape, total.shape)
        total = check_integers("acc + bias", total + added, ACC_MIN, ACC_MAX).astype(np.int64)
    factor = check_integers("multiplier", multiplier, 1, MAX_MULTIPLIER).astype(np.int64)
    places = check_integers("shift", shift, 1, MAX_SHIFT).astype(np.int64)
    offset = check_integers("zero_point", zero_point, -(2**16), 2**16).astype(np.int64)
    high = check_range("high", high, -(2**16), 2**16)
    low = check_range("low", low, -(2**16), high)
    for name, array in (("multiplier", factor), ("shift", places), ("zero_point", offset)):
        check_broadcast(name, array.shape, total.shape)
    # |acc*multiplier| <= 2^31 * (2^31 - 1) < 2^62 and the rounding constant is at most 2^61:
    # their sum stays below 2^63, so that int64 holds it at every shift.
    rounded = (total * factor + (np.int64(1) << (places - 1))) >> places
    result: NDArray[np.int32] = (np.clip(rounded, low, high) + offset).astype(np.int32)
    return result


def requant_parameters(real_scale: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the multiplier and shift nearest to a real factor.

    ``real_scale ~ multiplier * 2^-shift`` with a mantissa of 31 bits, ``2^30 <= multiplier < 2^31``, rounded
    half to even (relative error at most 2^-31). Factors so small that they would need a shift over 62
    keep shift 62 and a shorter mantissa.

    Parameters
    ----------
    real_scale : array
        Any shape, in ``[2^-62, 2^30)``: what a multiplier of 1 or more and a shift of 1 to 62 can give.

    Returns
    -------
    multiplier, shift : int64 arrays
        Of the shape of ``real_scale``.

    Raises
    ------
    ParameterError
        If a factor is not finite or cannot be represented.
    """
    real = np.asarray(real_scale)
    if real.dtype.kind not in "fiu":
        raise ParameterError("real_scale", real.dtype.name, "an array of real numbers")
    real = real.astype(np.float64)
    top = MAX_MULTIPLIER / 2
    wrong = ~((real >= 2.0**-MAX_SHIFT) & (real <= top))  # written so that NaN is wrong
    if wrong.any():
        raise ParameterError("real_scale", float(real[wrong].flat[0]), f"in [2^-{MAX_SHIFT}, {top}]")
    _, exponent = np.frexp(real)
    shift = np.clip(MULTIPLIER_BITS - exponent.astype(np.int64), 1, MAX_SHIFT)
    multiplier = np.rint(np.ldexp(real, shift)).astype(np.int64)
    # A mantissa just below 1 rounds up to 2^31, which is 2^30 at the next shift; shift 1 has no such
    # neighbour, but `top` keeps it from getting there.
    over = multiplier > MAX_MULTIPLIER
    return np.where(over, multiplier >> 1, multiplier), np.where(over, shift - 1, shift)
