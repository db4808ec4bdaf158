"""Decide the precision of each sub-tensor from its statistics, in integers as the hardware does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.drift.statistics import Block, Statistics
from bitfabric.quant.drift.thresholds import NEVER, check_widths, high_clips, integer_threshold
from bitfabric.quant.errors import ParameterError

# (2^28)²·2^7 = 2^63: below it, uint64 holds what is compared. Above, Python's integers do.
_UINT64_TOTAL = 2**28


@dataclass(frozen=True, eq=False)
class Selection:
    """Hold what was chosen for each sub-tensor, arrays of one shape.

    Members
    -------
    low : bool array
        Whether it goes to lp bits.
    high_clip, low_clip : int64 arrays
        hc and lc = hp-lp-hc (eqs. 5, 2), whether it goes to lp bits or not.
    high_bits, low_bits : int
        hp, lp.
    block : tuple of int or None
        Size of a sub-tensor along each axis of the tensor, None for a whole axis; the arrays have an axis for
        each size that is not None.
    """

    low: NDArray[np.bool_]
    high_clip: NDArray[np.int64]
    low_clip: NDArray[np.int64]
    high_bits: int = 8
    low_bits: int = 4
    block: Block = (1, None)

    @property
    def bits(self) -> NDArray[np.int64]:
        """Return the width of each sub-tensor: lp or hp."""
        return np.where(self.low, self.low_bits, self.high_bits)

    @property
    def shift(self) -> NDArray[np.int64]:
        """Return by how much each sub-tensor's values are to be shifted left: lc, 0 where it stays at hp bits."""
        return np.where(self.low, self.low_clip, 0)

    def expand(self, values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
        """Return one of the arrays spread over the tensor's elements; whole axes have length 1, to broadcast.

        Raises
        ------
        ParameterError
            If a tensor of that shape does not have these sub-tensors.
        """
        counts = tuple(
            -(-length // size) for length, size in zip(shape, self.block, strict=False) if size is not None
        )
        if len(shape) != len(self.block) or values.shape != counts:
            allowed = f"of {len(self.block)} axes cut by block={self.block} into {self.low.shape} sub-tensors"
            raise ParameterError("shape", shape, allowed)
        spread = values
        for axis, (length, size) in enumerate(zip(shape, self.block, strict=True)):
            if size is None:
                spread = np.expand_dims(spread, axis)
            elif size > 1:
                spread = np.repeat(spread, size, axis=axis).take(np.arange(length), axis=axis)
        return spread


def select_integer(
    magnitude_max: ArrayLike,
    magnitude_sum: ArrayLike,
    limit: ArrayLike,
    high_bits: int = 8,
    low_bits: int = 4,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Return low, hc and lc from the statistics, exactly, as the precision selector does [derived].

    Low where ``(Σ|q|)²·2^hc >= T`` and T is not ``NEVER``, and where all is zero, whatever T [ours].

    Parameters
    ----------
    magnitude_max, magnitude_sum : integer arrays
        max|q| in ``[0, 2^(hp-1)-1]`` and Σ|q| of each sub-tensor, of one shape.
    limit : integer array
        T, 0 to 2^64-1, see ``integer_threshold``; broadcasts to them.
    high_bits, low_bits : int
        hp, lp.

    Returns
    -------
    low : bool array
    high_clip, low_clip : int64 arrays

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    high_bits, low_bits = check_widths(high_bits, low_bits)
    clip = high_clips(magnitude_max, high_bits, low_bits)
    total = check_integers("magnitude_sum", magnitude_sum, 0, 2**63 - 1)
    if total.shape != clip.shape:
        raise ParameterError("magnitude_sum", total.shape, f"of magnitude_max's shape, {clip.shape}")
    bound = check_integers("limit", limit, 0, NEVER).astype(np.uint64)
    check_broadcast("limit", bound.shape, clip.shape)
    kind = np.uint64 if total.size == 0 or int(total.max()) < _UINT64_TOTAL else object
    reach = total.astype(kind) ** 2 * (1 << clip).astype(kind)
    low = (reach >= bound.astype(kind)).astype(bool) & (bound != NEVER) | (total == 0)
    return np.asarray(low), clip, high_bits - low_bits - clip


def select_statistics(
    found: Statistics,
    block: Block,
    scale: ArrayLike,
    threshold: ArrayLike,
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose precisions from statistics gathered before; each sub-tensor's T follows from its own n.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    scales, deltas = (
        _per_subtensor(name, value, block, found.elements.shape)
        for name, value in (("scale", scale), ("threshold", threshold))
    )
    keys = [
        (int(n), float(one), float(delta))
        for n, one, delta in zip(found.elements.flat, scales.flat, deltas.flat, strict=True)
    ]
    known = {key: integer_threshold(*key, high_bits, low_bits) for key in set(keys)}
    limit = np.array([known[key] for key in keys], np.uint64).reshape(found.elements.shape)
    chosen = select_integer(found.maximum, found.total, limit, high_bits, low_bits)
    return Selection(*chosen, high_bits, low_bits, block)


def _per_subtensor(name: str, value: ArrayLike, block: Block, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a parameter for each sub-tensor; one with the whole axes kept as length 1 fits too."""
    given = np.asarray(value)
    if given.dtype.kind not in "fiu":
        raise ParameterError(name, given.dtype.name, "a real number or an array of them")
    whole = tuple(axis for axis, size in enumerate(block) if size is None)
    if whole and given.ndim == len(block) and all(given.shape[axis] == 1 for axis in whole):
        given = given.squeeze(whole)
    check_broadcast(name, given.shape, shape)
    return np.broadcast_to(given.astype(np.float64), shape)
