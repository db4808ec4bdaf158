"""DTQAtten: tokens at 8, 4 or 0 bits by their importance, chosen anew in every attention block (golden model)."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.dtqatten_checks import TOKENS_MAX, check_bits, check_ids, check_numbers
from bitfabric.quant.errors import ParameterError, check_range

Ints = NDArray[np.int64]


def importance(prob: ArrayLike) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return each token's importance: its column's sum of attention probabilities (Fig. 2(a)) [paper].

    Parameters
    ----------
    prob : array, (..., queries, tokens)
        Probabilities, at least 0; leading axes are heads. Integers (16 fraction bits in the machine) or
        reals.

    Returns
    -------
    int64 or float64 array, (tokens,)
        Summed over every query and head; exact for integers.

    Raises
    ------
    ParameterError
        For no matrix, no token, or a value that is negative or not finite.
    """
    values = np.asarray(prob)
    if values.ndim < 2 or values.size == 0:
        raise ParameterError("prob", values.shape, "a matrix (queries, tokens), or one for each head")
    values = check_numbers("prob", values)
    return values.sum(axis=tuple(range(values.ndim - 1)))


def counts(tokens: int, keep: float, high: float, left: int | None = None) -> tuple[int, int]:
    """Return (k0, k1): how many tokens stay, and how many of these are 8-bit.

    ``k0 = max(1, ceil(keep*tokens))``, never above ``left``; ``k1 = min(k0, ceil(high*tokens))`` [ours: the
    paper gives the ratios, not how they are rounded]. A product within 1e-9 of an integer is that integer:
    0.35 * 20 is 7, whatever floats say.

    Parameters
    ----------
    tokens : int
        n, tokens of the original sequence, 1 to 2^20.
    keep, high : float
        Shares of n in [0, 1]; ``high`` above ``keep`` makes every token that stays 8-bit.
    left : int, optional
        Tokens not pruned by earlier blocks, 1 to ``tokens``; all by default.

    Raises
    ------
    ParameterError
        For a parameter out of range.
    """
    tokens = check_range("tokens", tokens, 1, TOKENS_MAX)
    left = tokens if left is None else check_range("left", left, 1, tokens)
    k0 = min(left, max(1, _ceil_share("keep", keep, tokens)))
    return k0, min(k0, _ceil_share("high", high, tokens))


def select_tokens(
    importance: ArrayLike,
    keep: float,
    high: float,
    *,
    previous: ArrayLike | None = None,
    ids: ArrayLike | None = None,
    tokens: int | None = None,
) -> Ints:
    """Return each token's bits in the next block, by the two top-k stages of section III-B [paper].

    Parameters
    ----------
    importance : array, (m,)
        Integers or reals, at least 0; one for each token at hand.
    keep, high : float
        Shares of the original token count, see ``counts``.
    previous : integer array, (m,), optional
        Bits so far, 8, 4 or 0: a token of 0 bits was pruned and never returns. None: all are there.
    ids : integer array, (m,), optional
        Index in the original sequence of each token, all different. By default 0 to m-1.
    tokens : int, optional
        n, the original token count, above every id. By default m, or, as it then cannot be known,
        required where ``ids`` is given.

    Returns
    -------
    int64 array, (m,)
        8, 4 or 0. Of equally important tokens the lower id comes first.

    Raises
    ------
    ParameterError
        If a parameter is out of range or no token is left.
    """
    size = _checked_importance(importance).size
    if ids is not None and tokens is None:
        raise ParameterError("tokens", tokens, "given with ids: the original token count")
    n = check_range("tokens", size if tokens is None else tokens, 1, TOKENS_MAX)
    check_ids(np.arange(size) if ids is None else ids, size, n)
    left = size if previous is None else int((check_bits("previous", previous, size) > 0).sum())
    if left == 0:
        raise ParameterError("previous", "no token above 0 bits", "such that a token is left")
    return select_top(importance, *counts(n, keep, high, left), previous=previous, ids=ids)


def select_top(
    importance: ArrayLike,
    k0: int,
    k1: int,
    *,
    previous: ArrayLike | None = None,
    ids: ArrayLike | None = None,
) -> Ints:
    """Return each token's bits when ``k0`` stay, ``k1`` of them at 8 bits, as the two top-k engines do [paper].

    Parameters
    ----------
    importance, previous, ids
        As in ``select_tokens``.
    k0 : int
        1 to the tokens left.
    k1 : int
        0 to ``k0``.

    Returns
    -------
    int64 array, (m,)
        The k0 most important tokens stay, the k1 most important of these at 8 bits, the others at 4; the
        rest are 0-bit. Ties go to the lower id [ours].

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    values = _checked_importance(importance)
    size = values.size
    names = np.arange(size) if ids is None else check_ids(ids, size)
    bits = np.full(size, 8) if previous is None else check_bits("previous", previous, size)
    candidates = np.flatnonzero(bits)
    k0 = check_range("k0", k0, 1, candidates.size)
    k1 = check_range("k1", k1, 0, k0)
    by_rank = candidates[np.lexsort((names[candidates], -values[candidates]))]
    chosen = np.zeros(size, np.int64)
    chosen[by_rank[:k0]] = 4
    chosen[by_rank[:k1]] = 8
    return chosen


def next_order(bits: ArrayLike, reorder: bool = True) -> Ints:
    """Return the positions, in this block, of the next block's tokens in the order it holds them.

    Parameters
    ----------
    bits : integer array, (m,)
        Next block's bits of the token at each position: 8, 4 or 0.
    reorder : bool
        True: 4-bit tokens first, then 8-bit ones, each kind in the order carried so far (section IV-C
        [paper]; stable [ours]). False: the carried order. Either way without the pruned.

    Returns
    -------
    int64 array, (m',)

    Raises
    ------
    ParameterError
        For another precision, or no token kept.
    """
    kept = check_bits("bits", bits)
    if not kept.any():
        raise ParameterError("bits", "no token above 0 bits", "such that a token is kept")
    positions = np.flatnonzero(kept)
    return positions[np.argsort(kept[positions], kind="stable")] if reorder else positions


def stall_ratio(row_bits: ArrayLike, column_bits: ArrayLike, rows: int, columns: int) -> NDArray[np.float64]:
    """Return the stall cycle ratio of each tile of Q·Kᵀ on the variable-speed array, eq. (3) [paper].

    A product takes 1 cycle at 4x4 bits, 2 at 4x8 and 8x4, 4 at 8x8; each step of a tile lasts as long as
    its slowest product, and the other PEs stall for the rest.

    Parameters
    ----------
    row_bits, column_bits : integer array, (m,) and (n,)
        Bits of the tokens of Q and of K in the order they enter: 8 or 4 (pruned ones never enter).
    rows, columns : int
        Size of the array, at least 1.

    Returns
    -------
    float64 array, (ceil(m/rows), ceil(n/columns))
        Stalled share of the cycles of the PEs that have a product: in a tile at the edge fewer than the
        array has [ours]; the paper's tiles are full.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    cycles = []
    for name, given, lanes in (("row", row_bits, rows), ("column", column_bits, columns)):
        lanes = check_range(f"{name}s", lanes, 1)
        bits = check_bits(f"{name}_bits", given)
        if bits.size == 0 or not bits.all():
            raise ParameterError(f"{name}_bits", given, "8 or 4 for each token, of at least one token")
        starts = np.arange(0, bits.size, lanes)
        # Total, maximum and count over each tile's lanes: products of a row and a column factor.
        parts = (np.add.reduceat(bits // 4, starts), np.maximum.reduceat(bits // 4, starts))
        cycles.append((*parts, np.diff(starts, append=bits.size)))
    working, slowest, products = (np.outer(row, column) for row, column in zip(*cycles, strict=True))
    return 1.0 - working / (products * slowest)


def _checked_importance(importance: ArrayLike) -> NDArray[np.int64] | NDArray[np.float64]:
    values = np.asarray(importance)
    if values.ndim != 1 or values.size == 0:
        raise ParameterError("importance", values.shape, "of shape (tokens,), of at least one token")
    return check_numbers("importance", values)


def _ceil_share(name: str, share: float, tokens: int) -> int:
    if isinstance(share, bool) or not isinstance(share, (int, float, np.floating, np.integer, Fraction)):
        raise ParameterError(name, share, "a number in [0, 1]")
    if not 0 <= share <= 1:
        raise ParameterError(name, share, "in [0, 1]")
    return math.ceil(round(float(share) * tokens, 9))
