"""Choose a layer's quantization parameters: scale, zero point (ZPM), width of the LO slice (DBS)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.quant.panacea.keep import Sparsity, act_sparsity
from bitfabric.quant.panacea.slices import ACT_BITS, WEIGHT_BITS, Slicing
from bitfabric.quant.slicing import LOW_BITS
from bitfabric.quant.uniform import Quantized, quantize, quantize_with

# The share of elements DBS aims to put into the skip range; the paper gives no figure [ours].
TARGET_SPARSITY = 0.9

Zpm = Literal["off", "on", "auto"]


@dataclass(frozen=True, kw_only=True)
class ActParameters:
    """Hold one layer's activation parameters, and what they do to the tensor they were made from.

    Members
    -------
    scale : float
        Real value of one LSB.
    zero_point : int
        The one to use: manipulated where ``manipulated``.
    bits : int
        4, 8 or 12.
    low_bits : int
        l: 4, 5 or 6.
    manipulated : bool
        Whether ZPM was applied.
    clipped : float
        Share of elements that saturate, whether by ZPM or by a percentile range.
    std : float
        Standard deviation σ in LSBs, before ZPM.
    sparsity : Sparsity
        Of the HO slice.
    """

    scale: float
    zero_point: int
    bits: int
    low_bits: int
    manipulated: bool
    clipped: float
    std: float
    sparsity: Sparsity

    @property
    def skipped(self) -> int:
        """Return r, the HO slice that is skipped."""
        return Slicing(act_bits=self.bits, low_bits=self.low_bits).skipped(self.zero_point)

    @property
    def dbs_type(self) -> int:
        """Return the DBS type: 1, 2 or 3 for low_bits 4, 5 or 6."""
        return self.low_bits - 3

    def quantize(self, x: ArrayLike) -> Quantized:
        """Return ``clip(rint(x/scale) + zero_point, 0, 2^bits - 1)``, halves to even."""
        return quantize_with(x, self.scale, self.zero_point, self.bits, symmetric=False)


@overload
def manipulate_zero_point(zp: int, low_bits: int = 4) -> int: ...
@overload
def manipulate_zero_point(zp: NDArray[np.integer], low_bits: int = 4) -> NDArray[np.int64]: ...
def manipulate_zero_point(zp: int | NDArray[np.integer], low_bits: int = 4) -> int | NDArray[np.int64]:
    """Move a zero point to the middle of its skip range: ``2^l·floor(zp/2^l) + 2^(l-1)`` [derived, eq. 7].

    r, the HO slice, does not change, and the result is in range: it moves by at most 2^(l-1).

    Parameters
    ----------
    zp : int or integer array
        8-bit for low_bits 4, 5 and 6; 12-bit for 8.
    low_bits : int
        Bits below the HO slice: 4, 5, 6, or 8 for 12-bit activations.

    Returns
    -------
    int, or int64 array of the shape of ``zp``

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    low_bits = check_choice("low_bits", low_bits, (*LOW_BITS, 8))
    points = check_integers("zp", zp, 0, 4095 if low_bits == 8 else 255).astype(np.int64)
    moved = (points >> low_bits << low_bits) + (1 << low_bits >> 1)
    return moved if points.ndim else int(moved)


def distribution_type(std: float, target_sparsity: float = TARGET_SPARSITY) -> int:
    """Return l, the width of the LO slice, that DBS gives a layer [paper, III-C].

    The smallest l in {4, 5, 6} whose half skip range reaches the target's quantile of a normal distribution,
    ``z·σ <= 2^(l-1)`` with ``z = Φ⁻¹((1 + target)/2)`` [derived]; 6 where none does.

    Parameters
    ----------
    std : float
        Standard deviation σ of the quantized activations, in LSBs of 8 bits; finite, at least 0.
    target_sparsity : float
        Share of elements to lie in the skip range, in [0, 1); 0.9 is [ours].

    Returns
    -------
    int
        4 (type 1), 5 (type 2) or 6 (type 3).

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    if not (math.isfinite(std) and std >= 0):
        raise ParameterError("std", std, "finite and at least 0")
    if not 0 <= target_sparsity < 1:
        raise ParameterError("target_sparsity", target_sparsity, "at least 0 and less than 1")
    reach = NormalDist().inv_cdf((1 + target_sparsity) / 2) * std
    return next((low_bits for low_bits in LOW_BITS if reach <= 2 ** (low_bits - 1)), LOW_BITS[-1])


def calibrate_weights(
    w: ArrayLike, bits: int = 7, per_channel: bool = False, percentile: float | None = None
) -> Quantized:
    """Quantize weights symmetrically [paper, eq. 1].

    Parameters
    ----------
    w : array, (M, K)
        Real.
    bits : int
        4, 7 or 10; values in ``±(2^(bits-1) - 1)``, rounded half to even.
    per_channel : bool
        A scale for each output channel (row) instead of one for the tensor.
    percentile : float, optional
        Of ``|w|``, in (50, 100], instead of the maximum; what lies outside is clipped.

    Returns
    -------
    Quantized

    Raises
    ------
    ParameterError
        For an array that is no matrix, or a parameter out of range.
    """
    check_choice("bits", bits, WEIGHT_BITS)
    if np.ndim(w) != 2:
        raise ParameterError("w", np.shape(w), "a matrix")
    return quantize(w, bits, axis=0 if per_channel else None, percentile=percentile)


def calibrate_acts(
    x: ArrayLike,
    bits: int = 8,
    *,
    symmetric: bool = False,
    percentile: float | None = None,
    zpm: Zpm | None = None,
    target_sparsity: float | None = None,
    vector: int = 4,
) -> ActParameters:
    """Choose the activation parameters of a layer: range, then DBS, then ZPM with its l [paper, III-C].

    The range is ``[min, max]`` with 0 included, or mirrored percentiles; a tensor that is all 0 gets scale 1.
    ZPM keeps the scale. "auto" applies it only where it raises the vector sparsity of ``x``: on a tie the zero
    point stays, and nothing is clipped for nothing [ours].

    Parameters
    ----------
    x : array, (K, N)
        Real calibration data, tokens along N.
    bits : int
        4, 8 or 12.
    symmetric : bool
        Zero point ``2^(bits-1)`` (128) and ``scale = max|x| / (2^(bits-1) - 1)`` [paper, IV].
    percentile : float, optional
        In (50, 100], instead of the extremes.
    zpm : {"off", "on", "auto"}, optional
        Of no effect on 4-bit activations, which have no HO slice. By default on, but off where ``symmetric`` says
        that the zero point is 128.
    target_sparsity : float, optional
        Choose l by ``distribution_type``, 8 bits only; None is l = 4.
    vector : int
        Tokens of a slice-vector: 1, 2, 4 or 8.

    Returns
    -------
    ActParameters

    Raises
    ------
    ParameterError
        For an array that is no matrix, or a parameter out of range.
    """
    check_choice("bits", bits, ACT_BITS)
    zpm = check_choice("zpm", zpm or ("off" if symmetric else "on"), ("off", "on", "auto"))
    if np.ndim(x) != 2:
        raise ParameterError("x", np.shape(x), "a matrix")
    if target_sparsity is not None and bits != 8:
        raise ParameterError("target_sparsity", target_sparsity, f"None with {bits}-bit activations")
    ranged = quantize(x, bits, symmetric=symmetric, percentile=percentile)
    scale = float(ranged.scale)
    point = 2 ** (bits - 1) if symmetric else int(ranged.zero_point)
    # A quotient may overflow to infinity: it saturates like any other.
    with np.errstate(over="ignore"):
        values = np.rint(np.asarray(x, np.float64) / scale)
    limit = 2**bits - 1
    std = float(np.clip(values + point, 0, limit).std())
    low_bits = 4 if target_sparsity is None else distribution_type(std, target_sparsity)
    shift = Slicing(act_bits=bits, low_bits=low_bits).ho_shift
    centred = manipulate_zero_point(point, shift) if shift else point
    sparsity, moved = (
        act_sparsity(np.clip(values + zp, 0, limit).astype(np.int64), zp, bits, low_bits, vector)
        for zp in (point, centred)
    )
    manipulated = shift > 0 and (zpm == "on" or (zpm == "auto" and moved.vector > sparsity.vector))
    if manipulated:
        point, sparsity = centred, moved
    outside = (values + point < 0) | (values + point > limit)
    return ActParameters(
        scale=scale,
        zero_point=point,
        bits=bits,
        low_bits=low_bits,
        manipulated=manipulated,
        clipped=float(outside.mean()),
        std=std,
        sparsity=sparsity,
    )


def integer_bias(bias: ArrayLike, weight_scale: ArrayLike, act_scale: float) -> NDArray[np.int64]:
    """Return a real bias (M,) in units of acc: ``rint(b / (weight_scale·act_scale))``, halves to even.

    Parameters
    ----------
    bias : array, (M,)
        Real.
    weight_scale : array
        Of the tensor, or one for each of the M output channels, in any shape.
    act_scale : float

    Raises
    ------
    ParameterError
        For shapes that do not fit, or a result that is not finite.
    """
    given = np.asarray(bias, np.float64)
    units = np.asarray(weight_scale, np.float64).reshape(-1) * act_scale
    if units.size != 1:
        check_broadcast("weight_scale", units.shape, given.shape)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        scaled = np.rint(given / units)
    if not (np.abs(scaled) < 2.0**62).all():
        raise ParameterError(
            "bias",
            float(scaled[~(np.abs(scaled) < 2.0**62)].flat[0]),
            "finite and below 2^62 in units of acc",
        )
    return np.asarray(scaled.astype(np.int64))
