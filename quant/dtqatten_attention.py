"""Compute one block's attention in integers: outputs, importance, and the next block's tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.dtqatten import importance, next_order, select_top
from bitfabric.quant.dtqatten_checks import Ints, check_bits, check_ids
from bitfabric.quant.dtqatten_parameters import OUT_SHIFT_MAX, AttentionParameters
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.quant.softmax import MASKED, SCORE_LIMIT, Softmax, numerators, reciprocal, softmax

# The importance accumulator is 32 bits wide and saturates.
IMPORTANCE_MAX = 2**32 - 1


@dataclass(frozen=True, eq=False)
class Attended:
    """Hold a block's attention, step by step.

    Members
    -------
    scores : int64 array, (heads, m, m)
        t of each query (row) and key, 12 fraction bits, log2 units; ``MASKED`` where hidden.
    softmax : Softmax
        Of the scores; its probabilities are unfolded, whatever the scales.
    numerators : int64 array, (heads, m, m)
        a, 0 to 255.
    acc : int64 array, (heads, m, d)
        Sums of ``a * V``.
    multipliers, shifts : int64 array, (heads, m)
        Of each row's division: ``outputs = clip((acc*multiplier + half) >> shift, -128, 127)``.
    outputs : int8 array, (heads, m, d)
    """

    scores: Ints
    softmax: Softmax
    numerators: Ints
    acc: Ints
    multipliers: Ints
    shifts: Ints
    outputs: NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class BlockResult:
    """Hold what one block gives.

    Members
    -------
    outputs : int8 array, (heads, m, d)
        By position in this block.
    importance : int64 array, (m,)
        By position; of earlier blocks too when accumulated; at most 2^32-1.
    bits : int64 array, (m,)
        Bits in the next block of the token at each position: 8, 4 or 0 (pruned).
    order : int64 array, (m',)
        Position in this block of each token of the next, in the order the next block holds them.
    next_ids, next_bits, next_importance : int64 array, (m',)
        Id, bits (8 or 4) and carried importance (0 without accumulation) of the next block's tokens.
    attended : Attended
        The steps to the outputs.
    """

    outputs: NDArray[np.int8]
    importance: Ints
    bits: Ints
    order: Ints
    next_ids: Ints
    next_bits: Ints
    next_importance: Ints
    attended: Attended


def attention(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    bits: ArrayLike,
    parameters: AttentionParameters,
    k0: int,
    k1: int,
    ids: ArrayLike | None = None,
    causal: bool = False,
    reorder: bool = True,
    accumulate: bool = False,
    carried: ArrayLike | None = None,
) -> BlockResult:
    """Compute one block: attention of every head, each token's importance, the next block's tokens.

    Parameters
    ----------
    q, k, v, bits, parameters, ids, causal
        As in ``attend``.
    k0, k1 : int
        Tokens that stay and 8-bit tokens of the next block, see ``quant.dtqatten.counts``.
    reorder : bool
        Whether the next block holds 4-bit tokens before 8-bit ones.
    accumulate : bool
        Leave the importance to the next block, which goes on from it [ours], instead of 0 [paper].
    carried : integer array, (m,), optional
        What the block before left, its ``next_importance``: by position, 0 to 2^32-1; 0 by default.

    Returns
    -------
    BlockResult
        By token id the same bits with and without reordering.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    attended = attend(q, k, v, bits=bits, parameters=parameters, ids=ids, causal=causal)
    size = attended.outputs.shape[1]
    names = np.arange(size) if ids is None else check_ids(ids, size)
    total = importance(attended.softmax.probabilities).astype(np.int64)
    if carried is not None:
        before = check_integers("carried", carried, 0, IMPORTANCE_MAX).astype(np.int64)
        if before.shape != (size,):
            raise ParameterError("carried", before.shape, f"of shape ({size},)")
        total = total + before
    total = np.minimum(total, IMPORTANCE_MAX)
    chosen = select_top(total, k0, k1, ids=names)
    order = next_order(chosen, reorder)
    return BlockResult(
        outputs=attended.outputs,
        importance=total,
        bits=chosen,
        order=order,
        next_ids=names[order],
        next_bits=chosen[order],
        next_importance=total[order] if accumulate else np.zeros(order.size, np.int64),
        attended=attended,
    )


def attend(
    q: ArrayLike,
    k: ArrayLike,
    v: ArrayLike,
    *,
    bits: ArrayLike,
    parameters: AttentionParameters,
    ids: ArrayLike | None = None,
    causal: bool = False,
) -> Attended:
    """Compute every head's attention of the tokens at positions 0 to m-1, in integers.

    Parameters
    ----------
    q, k, v : integer array, (heads, m, d)
        Machine integers, -128 to 127; multiples of 16 where the token is 4-bit.
    bits : integer array, (m,)
        8 or 4, by position.
    parameters : AttentionParameters
        With scales for each token, by position.
    ids : integer array, (m,), optional
        Index in the original sequence, all different; 0 to m-1 by default.
    causal : bool
        Hide a key from the queries whose id is lower (GPT-2) [ours].

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    kept = check_bits("bits", bits)
    query, key, value = (_machine_integers(*one, kept) for one in (("q", q), ("k", k), ("v", v)))
    if not query.shape == key.shape == value.shape:
        raise ParameterError("q, k, v", [query.shape, key.shape, value.shape], "of one shape (heads, m, d)")
    size = query.shape[1]
    names = np.arange(size) if ids is None else check_ids(ids, size)
    if parameters.sq is not None and parameters.sq.size != size:
        raise ParameterError("sq", parameters.sq.shape, f"of shape ({size},)")
    scores = _scores(gemm(query, key.transpose(0, 2, 1)), parameters)
    if causal:
        scores = np.where(names[np.newaxis, :] > names[:, np.newaxis], MASKED, scores)
    rows = softmax(scores)
    a, largest = numerators(rows.exponents, parameters.sv)
    acc = gemm(a, value).astype(np.int64)
    multipliers, shifts = row_factors(a.sum(axis=-1), rows.sums, largest, parameters)
    m, s = multipliers[..., np.newaxis], shifts[..., np.newaxis]
    outputs = np.clip((acc * m + (np.int64(1) << (s - 1))) >> s, -128, 127).astype(np.int8)
    return Attended(scores, rows, a, acc, multipliers, shifts, outputs)


def row_factors(
    numerator_sums: ArrayLike, sums: ArrayLike, largest: ArrayLike, parameters: AttentionParameters
) -> tuple[Ints, Ints]:
    """Return the multiplier and the shift that divide each row of ``a * V`` by its sum and scale it.

    Parameters
    ----------
    numerator_sums : integer array, (...)
        A, the row's sum of numerators; used with one scale for the layer.
    sums, largest : integer array, (...)
        S, the row's sum of E, and mx, its largest ``E * sv / 2^22``; used with scales for each token.
    parameters : AttentionParameters

    Returns
    -------
    multipliers, shifts : int64 array, (...)
        M, at least 1, below 2^17, and sh, 1 to 63.

    Raises
    ------
    ParameterError
        For a sum below 1.
    """
    if parameters.per_token:
        r, e = reciprocal(sums)
        _, octaves = reciprocal(largest)
        fraction = (np.asarray(largest, np.int64) << 16) >> octaves
        # ro*2^-eo is 2^6*mx/S: S has 22 fraction bits, mx the 16 of a scale.
        ro, eo = (fraction * r + 65536) >> 17, e - octaves + 10
    else:
        ro, eo = reciprocal(numerator_sums)
    multipliers = np.maximum(1, (parameters.out_multiplier * ro + 32768) >> 16)
    return multipliers, np.minimum(OUT_SHIFT_MAX, parameters.out_shift + eo)


def _scores(acc: NDArray[np.integer], parameters: AttentionParameters) -> Ints:
    multiplier: Ints | int = parameters.score_multiplier
    if parameters.sq is not None and parameters.sk is not None:
        multiplier = (np.outer(parameters.sq, parameters.sk) + 32768) >> 16
    scaled = acc.astype(np.int64) * multiplier
    rounded = (scaled + (1 << (parameters.score_shift - 1))) >> parameters.score_shift
    return np.clip(rounded, -SCORE_LIMIT, SCORE_LIMIT)


def _machine_integers(name: str, values: ArrayLike, bits: Ints) -> NDArray[np.integer]:
    array = check_integers(name, values, -128, 127)
    if array.ndim != 3 or array.size == 0 or array.shape[1] != bits.size:
        raise ParameterError(name, array.shape, f"of shape (heads, {bits.size}, d)")
    if not bits.all():
        raise ParameterError("bits", 0, "8 or 4: pruned tokens are not in a block")
    if (array[:, bits == 4] & 15).any():
        raise ParameterError(name, "a 4-bit token's value", "a multiple of 16: its nibble is the high one")
    return array
