"""Gather what decides a sub-tensor's precision: its largest magnitude, its sum of magnitudes, its elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_range

# Elements of a sub-tensor along each axis of the tensor; None: the whole axis belongs to one.
Block = tuple[int | None, ...]


class Statistics(NamedTuple):
    """Hold the statistics of each sub-tensor, arrays of one shape.

    Members
    -------
    maximum : int64 array
        max|q|.
    total : int64 array
        Σ|q|.
    elements : int64 array
        n.
    """

    maximum: NDArray[np.int64]
    total: NDArray[np.int64]
    elements: NDArray[np.int64]


def saturate(q: ArrayLike, high_bits: int = 8) -> tuple[NDArray[np.int8], int]:
    """Bring integers into ``±(2^(hp-1)-1)``, as they are when they enter the machine [ours].

    Parameters
    ----------
    q : integer array
        Any shape.
    high_bits : int
        hp, 2 to 8.

    Returns
    -------
    values : int8 array
    count : int
        Elements that were outside, -2^(hp-1) among them.

    Raises
    ------
    ParameterError
        If ``q`` is not of integers or hp is out of range.
    """
    limit = 2 ** (check_range("high_bits", high_bits, 2, 8) - 1) - 1
    values = check_integers("q", q)
    # Compared as they are: -limit is no unsigned integer.
    outside = (values > limit) | ((values < -limit) if values.dtype.kind == "i" else False)
    low = -limit if values.dtype.kind == "i" else 0
    return np.clip(values, low, limit).astype(np.int8), int(np.count_nonzero(outside))


def reduced_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Return the axes over which statistics are taken, as numbers from 0, ascending.

    Raises
    ------
    ParameterError
        For an axis that is not there or is named twice.
    """
    given = tuple(axis) if isinstance(axis, Sequence) else (axis,)
    axes = {check_range("axis", one, -ndim, ndim - 1) % ndim for one in given}
    if len(axes) != len(given):
        raise ParameterError("axis", axis, "different axes")
    return tuple(sorted(axes))


def axis_block(axis: int | Sequence[int], ndim: int) -> Block:
    """Return the block of sub-tensors that take up the given axes whole and are one wide along the others."""
    axes = reduced_axes(axis, ndim)
    return tuple(None if one in axes else 1 for one in range(ndim))


def full_block(block: Sequence[int | None], ndim: int) -> Block:
    """Return a block with an entry for each axis; axes behind those given are whole.

    Raises
    ------
    ParameterError
        For more entries than axes, or one below 1.
    """
    if not hasattr(block, "__len__") or len(block) > ndim:
        raise ParameterError("block", block, f"a sequence of at most {ndim} sizes, one for each axis")
    for size in block:
        if size is not None:
            check_range("block", size, 1)
    return (*block, *(None,) * (ndim - len(block)))


def statistics(q: ArrayLike, axis: int | Sequence[int] = -1) -> Statistics:
    """Return the statistics over one axis or several; the other axes number the sub-tensors.

    Parameters
    ----------
    q : integer array
        Not empty, of at most 32 bits two's complement.
    axis : int or sequence of int
        Axes that belong to one sub-tensor: -1 of (tokens, features) is per token, 0 of (K, N) weights is per
        output channel.

    Returns
    -------
    Statistics
        Of the shape of ``q`` without ``axis``.

    Raises
    ------
    ParameterError
        For an empty array, one that is not of such integers, or an axis that is not there.
    """
    return block_statistics(q, axis_block(axis, np.ndim(q)))


def block_statistics(q: ArrayLike, block: Sequence[int | None]) -> Statistics:
    """Return the statistics of blocks side by side; the last along an axis may be smaller.

    Parameters
    ----------
    q : integer array
        Not empty, of at most 32 bits two's complement.
    block : sequence of int or None
        Size along each axis, None for a whole one; axes behind those given are whole.

    Returns
    -------
    Statistics
        With an axis for each size that is not None, as long as there are blocks.

    Raises
    ------
    ParameterError
        For an empty array, one that is not of such integers, or a block that does not fit it.
    """
    values = check_integers("q", q, -(2**31), 2**31 - 1)
    if values.size == 0:
        raise ParameterError("q", values.shape, "an array with at least one element")
    sizes = full_block(block, values.ndim)
    magnitude = np.abs(values.astype(np.int64))
    maximum, total, elements = magnitude, magnitude, np.ones((), np.int64)
    for axis, (length, size) in enumerate(zip(values.shape, sizes, strict=True)):
        starts = np.arange(0, length, size or length)
        maximum = np.maximum.reduceat(maximum, starts, axis=axis)
        total = np.add.reduceat(total, starts, axis=axis)
        elements = np.multiply.outer(elements, np.diff(starts, append=length))
    whole = tuple(axis for axis, size in enumerate(sizes) if size is None)
    return Statistics(*(np.asarray(each).squeeze(whole) for each in (maximum, total, elements)))
