"""Multiply by AQS-GEMM: partial GEMMs over the kept slice-vectors, fold and compensation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_broadcast, check_integers
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.quant.panacea.compression import SUB_TILE, Storage, storage
from bitfabric.quant.panacea.counts import TableOne, count_operations, outer_products
from bitfabric.quant.panacea.keep import BoolArray, act_keep, weight_keep
from bitfabric.quant.panacea.slices import Slicing
from bitfabric.quant.slicing import signed_slices, unsigned_slices


@dataclass(frozen=True, eq=False, kw_only=True)
class AqsResult:
    """Hold an AQS-GEMM: ``acc == sum(part_weights * parts) + fold - compensation``, exactly.

    Members
    -------
    acc : int64 array, (M, N)
        W·x, before zero point and bias; with low_bits 5 or 6 of x whose low_bits-4 low bits are dropped.
    parts : int32 array, (n+1, k+1, M, N)
        Unweighted partial GEMMs over the kept vectors, by weight slice, then activation slice, least
        significant first.
    part_weights : int64 array, (n+1, k+1)
        What a unit of each part is worth in acc.
    fold, compensation : int64 arrays, (M, N)
        In units of acc. ``r * 2^l * sum_k W``, which goes into the bias offline; and the same over the k
        whose activation vector is kept, which the compensators subtract. Zero without an activation HO slice.
    weight_keep : bool array, (ceil(M/v), K)
        Which HO vectors are kept; all True where the weights have one slice only.
    act_keep : bool array, (K, ceil(N/v))
        Which HO vectors are kept; all True where the activations have one slice only.
    part_outer_products : int64 array, (n+1, k+1)
        Outer products of each partial GEMM.
    operations : TableOne
        Table I of these patterns.
    slicing : Slicing
        Widths and vector length.
    """

    acc: NDArray[np.int64]
    parts: NDArray[np.int32] | NDArray[np.int64]
    part_weights: NDArray[np.int64]
    fold: NDArray[np.int64]
    compensation: NDArray[np.int64]
    weight_keep: BoolArray
    act_keep: BoolArray
    part_outer_products: NDArray[np.int64]
    operations: TableOne[int]
    slicing: Slicing

    @property
    def outer_products(self) -> int:
        """Return the outer products of all parts."""
        return int(self.part_outer_products.sum())

    @property
    def multiplications(self) -> int:
        """Return the bit-slice GEMMs' multiplications, v^2 an outer product; compensation apart."""
        return self.operations.panacea.multiplications

    @property
    def additions(self) -> int:
        """Return the bit-slice GEMMs' additions, v^2 an outer product; compensation apart."""
        return self.operations.panacea.additions

    @property
    def memory_words(self) -> int:
        """Return the 4-bit words of both operands without their skipped vectors, each once."""
        return self.operations.panacea.memory_words

    def weight_storage(self, sub_tile: int = SUB_TILE, index_bits: int = 4) -> Storage:
        """Count the vectors the weights occupy, forced ones included."""
        return storage(
            self.weight_keep, self.slicing.weight_slices, self.slicing.vector, sub_tile, index_bits
        )

    def act_storage(self, sub_tile: int = SUB_TILE, index_bits: int = 4) -> Storage:
        """Count the vectors the activations occupy, forced ones included."""
        return storage(self.act_keep.T, self.slicing.act_slices, self.slicing.vector, sub_tile, index_bits)


def aqs_gemm(
    w: ArrayLike,
    x: ArrayLike,
    zero_point: int,
    low_bits: int = 4,
    weight_bits: int = 7,
    act_bits: int = 8,
    vector: int = 4,
) -> AqsResult:
    """Return W·x, computed slice by slice over the vectors that are not skipped [paper, III-B, eq. 6].

    ``W·X_HO = sum_{k in U} W_k·X_k + r·(sum_all W_k - sum_{k in U} W_k)``, U the k whose activation vector
    is kept, for every weight slice. Only the top slice of an operand of two or more is compressed. Exact for
    all widths; nothing is rounded or saturated but the ``low_bits - 4`` low bits that low_bits 5 and 6 drop
    from x by truncation.

    Parameters
    ----------
    w : integer array, (M, K)
        Signed weights of ``weight_bits``, the most negative one included.
    x : integer array, (K, N)
        Unsigned activations of ``act_bits``.
    zero_point : int
        Of x, in ``[0, 2^act_bits - 1]``; 128 is the symmetric mode of 8 bits. It sets r alone: any value
        gives the same acc.
    low_bits : int
        4, or with 8-bit activations 5 or 6.
    weight_bits, act_bits : int
        4, 7 or 10; 4, 8 or 12.
    vector : int
        Length of a slice-vector: 1, 2, 4 or 8. Absent rows of the last group count as 0, absent columns as r;
        K is never padded.

    Returns
    -------
    AqsResult

    Raises
    ------
    ParameterError
        For operands that are not integer matrices of one K, a value outside its width, or a parameter out of
        range.
    """
    slicing = Slicing(weight_bits=weight_bits, act_bits=act_bits, low_bits=low_bits, vector=vector)
    skipped = slicing.skipped(zero_point)
    (m, k), (depth, n) = (_shape(name, operand) for name, operand in (("w", w), ("x", x)))
    if k != depth:
        raise ParameterError("x", (depth, n), f"of shape ({k}, N), to follow w of shape {(m, k)}")
    weights, acts = signed_slices(w, weight_bits), unsigned_slices(x, act_bits, low_bits)
    # A skipped weight vector is all 0 as it stands. Skipped activations are not: they are taken out.
    kept_weights = weight_keep(weights[-1], vector)
    if slicing.weight_slices == 1:
        kept_weights = np.ones_like(kept_weights)
    kept_acts = act_keep(acts[-1], skipped, vector)
    if slicing.act_slices == 1:
        kept_acts = np.ones_like(kept_acts)
    acts[-1] *= np.repeat(kept_acts, vector, axis=1)[:, :n]
    parts = gemm(weights[:, None], acts)
    part_weights = slicing.part_weights()
    # The compensator's sums: W_i[k] of every weight slice, each k of U once, for a group of v columns.
    compensated = gemm(weights, kept_acts.view(np.uint8)).astype(np.int64)
    worth = skipped * part_weights[:, -1]
    compensation = np.repeat(np.tensordot(worth, compensated, axes=1), vector, axis=1)[:, :n]
    fold = (skipped << slicing.ho_shift) * np.asarray(w).sum(axis=1, dtype=np.int64)
    acc = fold[:, None] - compensation
    for i, j in np.ndindex(part_weights.shape):
        acc += parts[i, j] * part_weights[i, j]
    patterns = (kept_weights, kept_acts, slicing.weight_slices, slicing.act_slices)
    return AqsResult(
        acc=acc,
        parts=parts,
        part_weights=part_weights,
        fold=np.repeat(fold[:, None], n, axis=1),
        compensation=compensation,
        weight_keep=kept_weights,
        act_keep=kept_acts,
        part_outer_products=outer_products(*patterns),
        operations=count_operations(*patterns, vector),
        slicing=slicing,
    )


def fold_bias(
    bias: ArrayLike,
    w: ArrayLike,
    zero_point: int,
    low_bits: int = 4,
    act_bits: int = 8,
    dropped: bool = False,
) -> NDArray[np.int64]:
    """Return the bias that the PPU adds to the weighted parts less the compensation.

    ``b + (r·2^l - zp)·sum_k W`` [derived from eqs. 3 and 6]; with the manipulated zero point its second term is
    ``-2^(l-1)·sum_k W`` whatever the layer.

    Parameters
    ----------
    bias : integer array, (M,)
        In units of acc, as ``integer_bias`` gives it.
    w : integer array, (M, K)
        The integer weights.
    zero_point, low_bits, act_bits
        As in ``aqs_gemm``.
    dropped : bool
        Add also the mean of the bits that low_bits 5 and 6 drop, ``(2^(l-4) - 1)/2 · sum_k W``, rounded half to
        even [ours].

    Returns
    -------
    int64 array, (M,)

    Raises
    ------
    ParameterError
        For shapes that do not fit or a parameter out of range.
    """
    slicing = Slicing(act_bits=act_bits, low_bits=low_bits)
    high = slicing.skipped(zero_point) << slicing.ho_shift
    m, _ = _shape("w", w)
    sums = check_integers("w", w).sum(axis=1, dtype=np.int64)
    given = check_integers("bias", bias).astype(np.int64)
    check_broadcast("bias", given.shape, (m,))
    mean = np.rint((2 ** (low_bits - 4) - 1) * sums / 2).astype(np.int64) if dropped else 0
    return np.asarray(given + (high - int(zero_point)) * sums + mean)


def _shape(name: str, operand: ArrayLike) -> tuple[int, int]:
    shape = np.shape(operand)
    if len(shape) != 2:
        raise ParameterError(name, shape, "a matrix")
    return shape[0], shape[1]
