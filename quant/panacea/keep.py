"""Decide which HO slice-vectors are kept, and how many are not."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.quant.panacea.slices import VECTORS, Slicing
from bitfabric.quant.slicing import signed_slices, unsigned_slices

BoolArray = NDArray[np.bool_]


class Sparsity(NamedTuple):
    """Hold the share of HO slices, and of HO slice-vectors, that have the skipped value; 0 without them."""

    element: float
    vector: float


def weight_keep(high: ArrayLike, vector: int = 4) -> BoolArray:
    """Return which v x 1 vectors of the weights' HO slice are kept: those not all 0 [paper, III-B].

    Parameters
    ----------
    high : integer array, (M, K)
        The HO slice.
    vector : int
        1, 2, 4 or 8 rows; absent ones of the last group count as 0.

    Returns
    -------
    bool array, (ceil(M/v), K)

    Raises
    ------
    ParameterError
        For an array that is no integer matrix, or another vector length.
    """
    return any_of_rows(check_matrix("high", high) != 0, vector)


def act_keep(high: ArrayLike, skipped: int, vector: int = 4) -> BoolArray:
    """Return which 1 x v vectors of the activations' HO slice are kept: those not all r [paper, III-B].

    Parameters
    ----------
    high : integer array, (K, N)
        The HO slice.
    skipped : int
        r, the HO slice of the zero point, 0 to 15.
    vector : int
        1, 2, 4 or 8 columns; absent ones of the last group count as r.

    Returns
    -------
    bool array, (K, ceil(N/v))

    Raises
    ------
    ParameterError
        For an array that is no integer matrix, another vector length, or r out of range.
    """
    differs = check_matrix("high", high) != check_range("skipped", skipped, 0, 15)
    return any_of_rows(differs.T, vector).T


def act_sparsity(
    x: ArrayLike, zero_point: int, act_bits: int = 8, low_bits: int = 4, vector: int = 4
) -> Sparsity:
    """Return the shares of HO slices equal to r, and of HO vectors all r, in integer activations (K, N).

    Parameters
    ----------
    x, zero_point, act_bits, low_bits, vector
        As in ``aqs_gemm``.

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    slicing = Slicing(act_bits=act_bits, low_bits=low_bits, vector=vector)
    skipped = slicing.skipped(zero_point)
    high = unsigned_slices(x, act_bits, low_bits)[-1]
    if slicing.act_slices == 1:
        return Sparsity(0.0, 0.0)
    return _shares(high == skipped, ~act_keep(high, skipped, vector))


def weight_sparsity(w: ArrayLike, weight_bits: int = 7, vector: int = 4) -> Sparsity:
    """Return the shares of HO slices that are 0, and of HO vectors all 0, in integer weights (M, K).

    Parameters
    ----------
    w, weight_bits, vector
        As in ``aqs_gemm``.

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    slicing = Slicing(weight_bits=weight_bits, vector=vector)
    high = signed_slices(w, weight_bits)[-1]
    if slicing.weight_slices == 1:
        return Sparsity(0.0, 0.0)
    return _shares(high == 0, ~weight_keep(high, vector))


def any_of_rows(flags: BoolArray, vector: int) -> BoolArray:
    """Return whether any of each ``vector`` rows is set: (ceil(rows/v), columns)."""
    vector = check_choice("vector", vector, VECTORS)
    result = np.zeros((-(-len(flags) // vector), flags.shape[1]), np.bool_)
    # Row by row of the groups: a short last group just has fewer of them, and nothing is padded.
    for first in range(vector):
        part = flags[first::vector]
        result[: len(part)] |= part
    return result


def check_matrix(name: str, values: ArrayLike) -> NDArray[np.integer[Any]]:
    """Return an integer array when it has two axes.

    Raises
    ------
    ParameterError
        If it is of another kind or shape.
    """
    array = check_integers(name, values)
    if array.ndim != 2:
        raise ParameterError(name, array.shape, "a matrix")
    return array


def _shares(elements: NDArray[np.bool_], vectors: NDArray[np.bool_]) -> Sparsity:
    return Sparsity(float(elements.mean()), float(vectors.mean())) if elements.size else Sparsity(0.0, 0.0)
