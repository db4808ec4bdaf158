"""Quantize real tensors to uniform integers and back, symmetric or asymmetric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.errors import ParameterError, check_range

MAX_BITS = 16

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.signedinteger[Any]] | NDArray[np.unsignedinteger[Any]]


@dataclass(frozen=True, eq=False)
class Quantized:
    """Hold integers and what gives them a real value.

    Members
    -------
    values : integer array
        The shape of what was quantized; the smallest numpy integer that holds ``bits``.
    scale : float64 array
        Real value of one LSB, > 0; 0-dimensional per tensor, else kept dimensions that broadcast.
    zero_point : int64 array
        The integer that stands for 0.0, of the shape of ``scale``; all 0 when symmetric.
    bits : int
        Width of the integers: signed when symmetric, unsigned when asymmetric.
    symmetric : bool
        Which of the two.
    """

    values: IntArray
    scale: FloatArray
    zero_point: NDArray[np.int64]
    bits: int
    symmetric: bool = True

    def dequantize(self) -> FloatArray:
        """Return ``(values - zero_point) * scale`` as float64, of the shape of ``values``."""
        return (self.values.astype(np.int64) - self.zero_point) * self.scale


def integer_range(bits: int, symmetric: bool) -> tuple[int, int]:
    """Return the lowest and highest integer a uniform quantizer gives out.

    Parameters
    ----------
    bits : int
        2 to 16.
    symmetric : bool
        True: ``-(2^(b-1)-1) .. 2^(b-1)-1``, without -2^(b-1) [paper]. False: ``0 .. 2^b-1``.
    """
    bits = check_range("bits", bits, 2, MAX_BITS)
    if symmetric:
        return -(2 ** (bits - 1) - 1), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def quantize(
    x: ArrayLike,
    bits: int = 8,
    symmetric: bool = True,
    axis: int | Sequence[int] | None = None,
    percentile: float | None = None,
) -> Quantized:
    """Calibrate a scale on ``x`` and quantize ``x`` with it.

    Symmetric: ``scale = max|x| / (2^(b-1)-1)``, zero point 0. Asymmetric: ``scale = (max-min) / (2^b-1)``
    over a range that includes 0, ``zero_point = clip(rint(-min/scale))`` [paper]. An empty range (only an
    all-zero tensor has one) gives scale 1; so does a scale below the smallest normal float64 [ours].

    Parameters
    ----------
    x : array
        Real, finite, not empty; any shape.
    bits : int
        2 to 16.
    symmetric : bool
        Signed symmetric or unsigned asymmetric integers.
    axis : int or sequence of int, optional
        Axes that keep a scale of their own (axis 0 of a (N, K) weight: one per output channel);
        None is one scale for the tensor.
    percentile : float, optional
        Calibrate on this percentile instead of the extremes, in (50, 100]: of ``|x|`` when symmetric;
        of ``x`` and, mirrored, ``100 - percentile`` when asymmetric. Values outside are clipped [ours].

    Returns
    -------
    Quantized
        Rounded half to even (``np.rint``), saturated to ``integer_range(bits, symmetric)``.

    Raises
    ------
    ParameterError
        For an empty or non-finite ``x``, or a parameter out of range.
    """
    real = _checked(x)
    high = integer_range(bits, symmetric)[1]
    reduced = _reduced_axes(axis, real.ndim)
    if percentile is not None and not 50 < percentile <= 100:
        raise ParameterError("percentile", percentile, "greater than 50 and at most 100")
    if symmetric:
        top = _percentile(np.abs(real), percentile, reduced)
        scale = _usable_scale(top / high)
        zero_point = np.zeros(scale.shape, np.int64)
    else:
        ceiling = np.maximum(_percentile(real, percentile, reduced), 0.0)
        floor = np.minimum(-_percentile(-real, percentile, reduced), 0.0)
        # Halving is exact, and keeps max - min of two huge values from overflowing.
        scale = _usable_scale((ceiling / 2 - floor / 2) / (high / 2))
        zero_point = np.clip(np.rint(-floor / scale), 0, high).astype(np.int64)
    return quantize_with(real, scale, zero_point, bits, symmetric)


def quantize_with(
    x: ArrayLike, scale: ArrayLike, zero_point: ArrayLike = 0, bits: int = 8, symmetric: bool = True
) -> Quantized:
    """Quantize ``x`` with a scale and zero point known beforehand (static quantization).

    Parameters
    ----------
    x : array
        Real, finite, not empty.
    scale : array
        > 0 and finite; broadcasts to ``x``.
    zero_point : integer array
        Inside ``integer_range``, broadcasts to ``x``; 0 when symmetric.
    bits, symmetric
        As in ``quantize``.

    Returns
    -------
    Quantized
        ``clip(rint(x / scale) + zero_point, low, high)``, rounded half to even.

    Raises
    ------
    ParameterError
    """
    real = _checked(x)
    low, high = integer_range(bits, symmetric)
    scales = np.asarray(scale, np.float64)
    if not (np.isfinite(scales).all() and (scales > 0).all()):
        raise ParameterError("scale", scale, "finite and greater than 0")
    allowed = (0, 0) if symmetric else (low, high)
    points = check_integers("zero_point", zero_point, *allowed).astype(np.int64)
    check_broadcast("scale", scales.shape, real.shape)
    check_broadcast("zero_point", points.shape, real.shape)
    points = np.broadcast_to(points, np.broadcast_shapes(points.shape, scales.shape))
    # A quotient may overflow to infinity: clipping then saturates it, which is the rule.
    with np.errstate(over="ignore"):
        values = np.clip(np.rint(real / scales) + points, low, high)
    return Quantized(values.astype(_dtype(bits, symmetric)), scales, points, bits, symmetric)


def _dtype(bits: int, symmetric: bool) -> type[np.integer[Any]]:
    narrow, wide = (np.int8, np.int16) if symmetric else (np.uint8, np.uint16)
    return narrow if bits <= 8 else wide


def _checked(x: ArrayLike) -> FloatArray:
    real = np.asarray(x)
    if real.dtype.kind not in "fiu":
        raise ParameterError("x", real.dtype.name, "an array of real numbers")
    if real.size == 0:
        raise ParameterError("x", real.shape, "an array with at least one element")
    if not np.isfinite(real).all():
        raise ParameterError("x", f"{int((~np.isfinite(real)).sum())} NaN or infinite values", "finite")
    return real.astype(np.float64)


def _reduced_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    if axis is None:
        return tuple(range(ndim))
    given = (axis,) if not isinstance(axis, (Sequence, tuple)) else tuple(axis)
    kept = {check_range("axis", one, -ndim, ndim - 1) % ndim for one in given}
    if len(kept) != len(given):
        raise ParameterError("axis", axis, "a sequence of different axes")
    return tuple(one for one in range(ndim) if one not in kept)


def _percentile(x: FloatArray, percentile: float | None, reduced: tuple[int, ...]) -> FloatArray:
    keepdims = len(reduced) != x.ndim
    if percentile is None:
        return np.asarray(x.max(axis=reduced, keepdims=keepdims))
    return np.asarray(np.percentile(x, percentile, axis=reduced, keepdims=keepdims))


def _usable_scale(scale: FloatArray) -> FloatArray:
    return np.where(scale >= np.finfo(np.float64).tiny, scale, 1.0)
