"""Multiply operands of mixed precision, exactly, and see how the work divides among the four arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift.conversion import Rounding, convert
from bitfabric.quant.drift.decision import Selection
from bitfabric.quant.drift.selection import select
from bitfabric.quant.drift.statistics import saturate
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.gemm import gemm as integer_gemm

# The activations' precision first, then the weights'.
REGIONS = ("hh", "hl", "lh", "ll")


@dataclass(frozen=True, eq=False)
class MixedOperand:
    """Hold a GEMM operand whose lines have a precision each: rows of (M, K), or columns of (K, N).

    Members
    -------
    values : int8 array
        What the multipliers see.
    low : bool array, (M,) or (N,)
        Which lines are low precision.
    bits : int64 array
        Width of each line: hp or lp.
    shift : int64 array
        lc of each line, 0 at high precision: ``values·2^shift`` stands for the integers converted.
    saturated : int
        Elements that were outside ``±(2^(hp-1)-1)``.
    """

    values: NDArray[np.int8]
    low: NDArray[np.bool_]
    bits: NDArray[np.int64]
    shift: NDArray[np.int64]
    saturated: int = 0

    def integers(self, axis: int) -> NDArray[np.int64]:
        """Return ``values·2^shift``; ``axis`` numbers the lines, 0 for rows and 1 for columns."""
        shift = self.shift[:, np.newaxis] if axis == 0 else self.shift
        return self.values.astype(np.int64) << shift


class SubGemm(NamedTuple):
    """Name the rows and columns of one of the four arrays, in ascending order; either may be empty."""

    rows: NDArray[np.int64]
    columns: NDArray[np.int64]


class LowShare(NamedTuple):
    """Hold shares in [0, 1].

    Members
    -------
    acts, weights : float
        Rows, and columns, of low precision.
    regions : dict of str to float
        Share of the multiply-accumulates of hh, hl, lh, ll; they add up to 1.
    """

    acts: float
    weights: float
    regions: dict[str, float]


def mixed_acts(q: ArrayLike, selection: Selection, rounding: Rounding = "half_up") -> MixedOperand:
    """Convert activations (M, K) of which each row lies in one sub-tensor.

    Parameters
    ----------
    q : integer array, (M, K)
    selection : Selection
        As ``select`` over the last axis or ``select_rows`` give it.
    rounding : {"half_up", "truncate"}

    Raises
    ------
    ParameterError
        For a selection that cuts rows along K, as no row of the machine can be, or other rows than these.
    """
    return _mixed(q, selection, rounding, axis=0)


def mixed_weights(q: ArrayLike, selection: Selection, rounding: Rounding = "half_up") -> MixedOperand:
    """Convert weights (K, N) of which each column, an output channel, lies in one sub-tensor.

    Parameters
    ----------
    q : integer array, (K, N)
    selection : Selection
        As ``select`` over axis 0 gives it.
    rounding : {"half_up", "truncate"}

    Raises
    ------
    ParameterError
        For a selection that cuts columns along K, or other columns than these.
    """
    return _mixed(q, selection, rounding, axis=1)


def select_weights(
    q: ArrayLike,
    scale: ArrayLike,
    threshold: ArrayLike,
    high_bits: int = 8,
    low_bits: int = 4,
    rounding: Rounding = "half_up",
) -> MixedOperand:
    """Choose a precision for each output channel of weights (K, N), offline, and convert them.

    Parameters
    ----------
    q : integer array, (K, N)
    scale, threshold : float or array, (N,)
        Δ and δ of the tensor or of each channel.
    high_bits, low_bits, rounding
        As in ``select`` and ``convert``.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    if np.ndim(q) != 2:
        raise ParameterError("q", np.shape(q), "a matrix (K, N)")
    return mixed_weights(q, select(q, scale, threshold, 0, high_bits, low_bits), rounding)


def high_operand(q: ArrayLike, axis: int, high_bits: int = 8) -> MixedOperand:
    """Return an operand of which every line stays at hp bits; ``axis`` 0 for rows (M, K), 1 for columns (K, N).

    Raises
    ------
    ParameterError
        If ``q`` is no matrix of integers, or ``axis`` or hp is out of range.
    """
    values, count = saturate(q, high_bits)
    if values.ndim != 2:
        raise ParameterError("q", values.shape, "a matrix")
    lines = values.shape[check_range("axis", axis, 0, 1)]
    return MixedOperand(
        values, np.zeros(lines, np.bool_), np.full(lines, high_bits), np.zeros(lines, np.int64), count
    )


def gemm(acts: MixedOperand, weights: MixedOperand) -> NDArray[np.int64]:
    """Return ``(Σ_k act·weight) << (lc of the row + lc of the column)``, exactly.

    The shift comes after the sum, as in the machine, and loses nothing: the result is in units of
    ``act scale · weight scale`` whatever the precisions.

    Parameters
    ----------
    acts : MixedOperand, (M, K)
    weights : MixedOperand, (K, N)

    Returns
    -------
    int64 array, (M, N)

    Raises
    ------
    ParameterError
        For operands that do not fit together.
    """
    _check("acts", acts, 0)
    _check("weights", weights, 1)
    sums = integer_gemm(acts.values, weights.values, acc_bits=64).astype(np.int64)
    return sums << (acts.shift[:, np.newaxis] + weights.shift)


def sub_gemms(acts: MixedOperand, weights: MixedOperand) -> dict[str, SubGemm]:
    """Return which rows and columns each of the four arrays multiplies: hh, hl, lh, ll, activations first.

    The four cover every element of the result once; gathered by them, operands are of one precision each.

    Raises
    ------
    ParameterError
        For operands that are not lines of one precision each.
    """
    _check("acts", acts, 0)
    _check("weights", weights, 1)
    rows = {"h": np.flatnonzero(~acts.low), "l": np.flatnonzero(acts.low)}
    columns = {"h": np.flatnonzero(~weights.low), "l": np.flatnonzero(weights.low)}
    return {name: SubGemm(rows[name[0]], columns[name[1]]) for name in REGIONS}


def low_share(acts: MixedOperand, weights: MixedOperand) -> LowShare:
    """Return the shares of low precision: of rows, of columns, and of multiply-accumulates by region.

    Raises
    ------
    ParameterError
        For operands that are not lines of one precision each.
    """
    total = acts.values.shape[0] * weights.values.shape[1]
    regions = {
        name: part.rows.size * part.columns.size / total for name, part in sub_gemms(acts, weights).items()
    }
    return LowShare(float(acts.low.mean()), float(weights.low.mean()), regions)


def _mixed(q: ArrayLike, selection: Selection, rounding: Rounding, axis: int) -> MixedOperand:
    values, count = saturate(q, selection.high_bits)
    if values.ndim != 2:
        raise ParameterError("q", values.shape, "a matrix")
    if len(selection.block) != 2 or selection.block[1 - axis] is not None or selection.block[axis] is None:
        allowed = "of rows (sub-tensors along K cannot be multiplied)" if axis == 0 else "of columns"
        raise ParameterError("selection.block", selection.block, allowed)
    low, bits, shift = (
        np.broadcast_to(selection.expand(each, values.shape), values.shape).take(0, axis=1 - axis)
        for each in (selection.low, selection.bits, selection.shift)
    )
    return MixedOperand(convert(values, selection, rounding), low, bits, shift, count)


def _check(name: str, operand: MixedOperand, axis: int) -> None:
    if operand.values.ndim != 2 or operand.values.size == 0:
        raise ParameterError(f"{name}.values", operand.values.shape, "a matrix, not empty")
    check_integers(f"{name}.values", operand.values, -128, 127)
    lines = (operand.values.shape[axis],)
    for member in ("low", "bits", "shift"):
        shape = getattr(operand, member).shape
        if shape != lines:
            raise ParameterError(f"{name}.{member}", shape, f"of shape {lines}, one for each line")
    check_integers(f"{name}.shift", operand.shift, 0, 7)
