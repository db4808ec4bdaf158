"""Store the HO slice-vectors that are kept, run-length encoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant import rle
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.quant.panacea.keep import BoolArray, any_of_rows, check_matrix
from bitfabric.quant.panacea.slices import VECTORS

# K positions of a sub-tile, T_K [ours].
SUB_TILE = 32

SliceArray = NDArray[np.int8] | NDArray[np.uint8]


class Storage(NamedTuple):
    """Count the slice-vectors one operand occupies: those a memory holds, and that one pass over it reads.

    Members
    -------
    dense : int
        Vectors of the slices that are not compressed, without an index.
    kept : int
        HO vectors that are not skipped.
    forced : int
        HO vectors stored only because a run outgrew its index: storage and reads, never outer products.
    vector, index_bits : int
        Slices of a vector; bits of an index.
    """

    dense: int
    kept: int
    forced: int
    vector: int
    index_bits: int

    @property
    def vectors(self) -> int:
        """Return all the vectors stored."""
        return self.dense + self.kept + self.forced

    @property
    def words(self) -> int:
        """Return the 4-bit words of their values, indices not among them."""
        return self.vectors * self.vector

    @property
    def bits(self) -> int:
        """Return the bits of values and indices."""
        return 4 * self.words + (self.kept + self.forced) * self.index_bits


@dataclass(frozen=True, eq=False, kw_only=True)
class Compressed:
    """Hold one operand's HO slice as a memory does: kept and forced vectors with their indices.

    Members
    -------
    vectors : int8 or uint8 array, (stored, v)
        Values, group by group (v output channels, or v tokens), within a group along K; forced vectors hold
        ``skipped`` v times, absent rows and columns ``skipped``.
    indices : uint16 array, (stored,)
        HO vectors skipped in front of each, restarted at every sub-tile.
    counts : int64 array, (groups, sub-tiles)
        Stored vectors of each sub-tile.
    skipped : int
        The slice value that is skipped: 0 for weights, r for activations.
    shape : tuple of int
        Of the HO slice: (M, K) for weights, (K, N) for activations.
    activations : bool
        Which of the two.
    sub_tile, index_bits : int
        K positions after which the index restarts, T_K; bits of an index.
    """

    vectors: SliceArray
    indices: NDArray[np.uint16]
    counts: NDArray[np.int64]
    skipped: int
    shape: tuple[int, int]
    activations: bool
    sub_tile: int
    index_bits: int


def storage(
    keep: ArrayLike, slices: int = 2, vector: int = 4, sub_tile: int = SUB_TILE, index_bits: int = 4
) -> Storage:
    """Count the vectors an operand occupies when its HO slice is compressed.

    Parameters
    ----------
    keep : bool array, (groups, K)
        Of the HO slice, as ``weight_keep`` gives it, or ``act_keep`` transposed.
    slices : int
        Slices of the operand, at least 1. The only slice of an operand is not compressed [derived].
    vector, sub_tile, index_bits
        As in ``compress_weights``.

    Returns
    -------
    Storage

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    code = rle.encode(keep, index_bits, sub_tile)
    slices = check_range("slices", slices, 1)
    vector = check_choice("vector", vector, VECTORS)
    size = np.size(keep)
    if slices == 1:
        return Storage(size, 0, 0, vector, index_bits)
    forced = int(code.forced.sum())
    return Storage((slices - 1) * size, code.forced.size - forced, forced, vector, index_bits)


def compress_weights(
    high: ArrayLike, vector: int = 4, sub_tile: int = SUB_TILE, index_bits: int = 4
) -> Compressed:
    """Store the kept and forced v x 1 vectors of the weights' HO slice.

    Parameters
    ----------
    high : integer array, (M, K)
        The HO slice, in [-8, 7].
    vector : int
        1, 2, 4 or 8.
    sub_tile : int
        K positions after which the index restarts, T_K; 32 is [ours].
    index_bits : int
        4 is the paper's: an index counts up to 15 skipped vectors.

    Returns
    -------
    Compressed

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    rows = check_integers("high", check_matrix("high", high), -8, 7).astype(np.int8)
    return _compress(rows, 0, False, vector, sub_tile, index_bits)


def compress_acts(
    high: ArrayLike, skipped: int, vector: int = 4, sub_tile: int = SUB_TILE, index_bits: int = 4
) -> Compressed:
    """Store the kept and forced 1 x v vectors of the activations' HO slice.

    Parameters
    ----------
    high : integer array, (K, N)
        The HO slice, in [0, 15].
    skipped : int
        r, 0 to 15.
    vector, sub_tile, index_bits
        As in ``compress_weights``.

    Returns
    -------
    Compressed

    Raises
    ------
    ParameterError
        If an argument is out of range.
    """
    rows = check_integers("high", check_matrix("high", high), 0, 15).astype(np.uint8).T
    return _compress(rows, check_range("skipped", skipped, 0, 15), True, vector, sub_tile, index_bits)


def decompress(stored: Compressed) -> tuple[SliceArray, BoolArray]:
    """Return the HO slice and which of its vectors take part in outer products.

    A stored vector whose every value is the skipped one is a forced one and is dropped, whatever its index
    [derived]: that is all the hardware can see.

    Parameters
    ----------
    stored : Compressed

    Returns
    -------
    high : int8 or uint8 array
        Of ``stored.shape``; skipped vectors hold the skipped value.
    keep : bool array
        ``(ceil(M/v), K)`` for weights, ``(K, ceil(N/v))`` for activations.

    Raises
    ------
    ParameterError
        For a truncated or inconsistent stream: other numbers of indices and vectors, counts that do not add
        up to them, an index that leads out of its sub-tile, a value that is no slice.
    """
    values = check_matrix("vectors", stored.vectors)
    vector = check_choice("vector", values.shape[1], VECTORS)
    if len(values) != len(stored.indices):
        raise ParameterError("vectors", len(values), f"{len(stored.indices)}, one for each index")
    low, high = (0, 15) if stored.activations else (-8, 7)
    skipped = check_range("skipped", stored.skipped, low, high)
    check_integers("vectors", values, low, high)
    rows, depth = stored.shape[::-1] if stored.activations else stored.shape
    arguments: dict[str, Any] = {
        "counts": stored.counts,
        "index_bits": stored.index_bits,
        "sub_tile": stored.sub_tile,
    }
    groups = (-(-rows // vector), depth)
    forced = (values == skipped).all(axis=1)
    keep = rle.decode(stored.indices, groups, skippable=forced, **arguments)
    filled = np.full((*groups, vector), skipped, np.uint8 if stored.activations else np.int8)
    filled[keep] = values[~forced]
    slices = filled.transpose(0, 2, 1).reshape(groups[0] * vector, depth)[:rows]
    return (slices.T, keep.T) if stored.activations else (slices, keep)


def _compress(
    rows: SliceArray, skipped: int, activations: bool, vector: int, sub_tile: int, index_bits: int
) -> Compressed:
    keep = any_of_rows(rows != skipped, vector)
    code = rle.encode(keep, index_bits, sub_tile)
    groups, depth = keep.shape
    padded = np.full((groups * vector, depth), skipped, rows.dtype)
    padded[: len(rows)] = rows
    vectors = padded.reshape(groups, vector, depth).transpose(0, 2, 1).reshape(-1, vector)
    return Compressed(
        vectors=vectors[code.positions],
        indices=code.indices,
        counts=rle.count_stored(code.positions, keep.shape, sub_tile),
        skipped=skipped,
        shape=(rows.shape[1], rows.shape[0]) if activations else (rows.shape[0], rows.shape[1]),
        activations=activations,
        sub_tile=sub_tile,
        index_bits=index_bits,
    )
