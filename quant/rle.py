"""Run-length encode which vectors of a sub-tile are stored, with forced vectors in long runs."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_range

MAX_INDEX_BITS = 16


class RleCode(NamedTuple):
    """Hold the stored vectors of one or more sub-tiles, in order.

    Members
    -------
    indices : uint16 array, (stored,)
        Vectors skipped before each stored one, 0 to 2^index_bits - 1.
    positions : int64 array, (stored,)
        Where each stored vector lies in the flattened ``keep``, strictly rising.
    forced : bool array, (stored,)
        True where the vector was to be skipped but the index could count no further: it costs storage and
        reads, never an outer product.
    """

    indices: NDArray[np.uint16]
    positions: NDArray[np.int64]
    forced: NDArray[np.bool_]


def encode(keep: ArrayLike, index_bits: int = 4, sub_tile: int | None = None) -> RleCode:
    """Encode every row of ``keep``, each sub-tile of a row by itself.

    A stored vector's index is the number of vectors skipped before it. A run of skipped vectors longer than
    2^index_bits - 1 stores its 2^index_bits-th vector as a forced one, index 2^index_bits - 1, and the
    count starts again behind it. A run that ends the sub-tile stores nothing, however long: neither a
    vector to close it nor a forced one, as the decoder knows the length [paper].

    Parameters
    ----------
    keep : bool array, (..., length)
        True where the vector is not skipped.
    index_bits : int
        Width of an index, 1 to 16; 4 is the paper's.
    sub_tile : int, optional
        Positions along the last axis after which the index restarts; the last sub-tile of a row may be
        shorter. None: a row is one sub-tile.

    Returns
    -------
    RleCode

    Raises
    ------
    ParameterError
        For an array that is not boolean or has no axis, or a parameter out of range.
    """
    kept = np.asarray(keep)
    if kept.dtype != np.bool_:
        raise ParameterError("keep", kept.dtype.name, "an array of bool")
    shape, tile_length, _ = _layout("keep", kept.shape, sub_tile)
    period = 1 << check_range("index_bits", index_bits, 1, MAX_INDEX_BITS)
    kept_at = np.flatnonzero(kept)
    column = kept_at % max(shape[-1], 1)
    previous = np.concatenate([np.full(min(kept_at.size, 1), -1), kept_at[:-1]])
    run = kept_at - 1 - np.maximum(previous, kept_at - column % tile_length - 1)
    # Every full period in front of a kept vector ends in a forced one.
    group = run // period + 1
    owner = np.repeat(np.arange(kept_at.size), group)
    last = np.cumsum(group) - 1
    behind = last[owner] - np.arange(owner.size)
    forced = behind > 0
    positions = kept_at[owner] - np.where(forced, run[owner] % period + 1 + (behind - 1) * period, 0)
    indices = np.where(forced, period - 1, run[owner] % period).astype(np.uint16)
    return RleCode(indices, positions, forced)


def count_stored(
    positions: ArrayLike, shape: tuple[int, ...], sub_tile: int | None = None
) -> NDArray[np.int64]:
    """Return how many vectors each sub-tile stores, forced ones included: (..., tiles).

    Parameters
    ----------
    positions : integer array, (stored,)
        As ``encode`` gave them.
    shape : tuple of int
        The shape of ``keep``.
    sub_tile : int, optional
        As given to ``encode``.

    Raises
    ------
    ParameterError
        For a position outside the shape.
    """
    sizes, tile_length, tiles = _layout("shape", shape, sub_tile)
    # An empty Python list is one of floats to numpy.
    given = np.asarray(positions) if np.size(positions) else np.zeros(0, np.int64)
    at = check_integers("positions", given, 0, math.prod(sizes) - 1).astype(np.int64)
    length = max(sizes[-1], 1)
    tile = at // length * tiles + at % length // tile_length
    rows = sizes[:-1]
    return np.bincount(tile, minlength=math.prod(rows) * tiles).reshape(*rows, tiles)


def decode(
    indices: ArrayLike,
    length: int | tuple[int, ...],
    *,
    counts: ArrayLike | None = None,
    skippable: ArrayLike | None = None,
    index_bits: int = 4,
    sub_tile: int | None = None,
) -> NDArray[np.bool_]:
    """Return which positions the indices name: the inverse of ``encode``.

    Parameters
    ----------
    indices : integer array, (stored,)
        As ``encode`` made them.
    length : int or tuple of int
        The shape of ``keep``; an int is one row.
    counts : integer array, optional
        Stored vectors of each sub-tile, by ``count_stored``; may be left out when there is only one.
    skippable : bool array, (stored,), optional
        True where the stored vector's value is the one that is skipped (all 0, all r): a forced
        vector, recognised by value as the hardware does, and dropped. None drops nothing: the result then
        says which vectors are stored.
    index_bits, sub_tile
        As given to ``encode``.

    Returns
    -------
    bool array of shape ``length``

    Raises
    ------
    ParameterError
        For an index out of range, one that leads past the end of its sub-tile, or counts or skippable that
        do not fit.
    """
    shape, tile_length, tiles = _layout("length", (length,) if isinstance(length, int) else length, sub_tile)
    limit = (1 << check_range("index_bits", index_bits, 1, MAX_INDEX_BITS)) - 1
    skipped = np.asarray(indices)
    if skipped.ndim != 1 or (skipped.size and skipped.dtype.kind not in "iu"):
        raise ParameterError("indices", (skipped.shape, skipped.dtype.name), "one axis of integers")
    if skipped.size and not 0 <= skipped.min() <= skipped.max() <= limit:
        raise ParameterError("indices", (int(skipped.min()), int(skipped.max())), f"in [0, {limit}]")
    number = math.prod(shape[:-1]) * tiles
    stored = np.asarray([skipped.size] if counts is None else counts, np.int64).reshape(-1)
    if stored.size != number or stored.sum() != skipped.size or (stored < 0).any():
        raise ParameterError(
            "counts", stored.tolist(), f"{number} sub-tile counts with the sum {skipped.size}"
        )
    dropped = np.zeros(skipped.size, np.bool_) if skippable is None else np.asarray(skippable)
    if dropped.dtype != np.bool_ or dropped.shape != skipped.shape:
        raise ParameterError("skippable", (dropped.shape, dropped.dtype.name), f"{skipped.size} bools")
    tile = np.repeat(np.arange(number), stored)
    steps = np.concatenate([[0], np.cumsum(skipped.astype(np.int64) + 1)])
    inside = steps[1:] - steps[(np.cumsum(stored) - stored)[tile]] - 1
    start = tile % max(tiles, 1) * tile_length
    if (inside >= np.minimum(tile_length, shape[-1] - start)).any():
        raise ParameterError("indices", skipped.tolist(), "indices that stay inside their sub-tile")
    result = np.zeros(shape, np.bool_)
    result.reshape(-1)[(tile // max(tiles, 1) * shape[-1] + start + inside)[~dropped]] = True
    return result


def _layout(name: str, shape: tuple[int, ...], sub_tile: int | None) -> tuple[tuple[int, ...], int, int]:
    """Return the shape, the length of a sub-tile and the sub-tiles of a row."""
    if not shape:
        raise ParameterError(name, shape, "of at least one axis")
    sizes = tuple(check_range(name, size, 0) for size in shape)
    tile = max(sizes[-1], 1) if sub_tile is None else check_range("sub_tile", sub_tile, 1)
    return sizes, tile, max(1, -(-sizes[-1] // tile))
