"""What Drift's BitGroups and BitFusion's fusion units compute, in numpy: slices, column sums, packing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range

ROWS = 4  # activation bits of a BitGroup
COLUMNS = 4  # weight nibbles of a BitGroup
UNIT_BITS = 8  # a fusion unit is worth one 8x8 product
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class RowLayout:
    """Say which bit of which element every row of a column of BitGroups holds.

    Members
    -------
    element : (tiles, groups, 4) int64
        Index along K, -1 beyond the end.
    significance : (tiles, groups, 4) int64
        The bit's weight is ``2**significance``; 0 beyond the end.
    sign : (tiles, groups, 4) bool
        The bit is its element's sign and counts negatively.
    """

    element: Ints
    significance: Ints
    sign: NDArray[np.bool_]


def row_layout(k: int, bits: int, groups: int) -> RowLayout:
    """Lay the ``k * bits`` bit string of the activations over tiles of ``groups`` BitGroups.

    Element 0 first, each from its least significant bit, from row 0 of the northernmost group; no
    gaps, so that an element may straddle two groups or two tiles: ``ceil(k*bits / 4*groups)`` tiles, eq. (7)
    [paper]; the order within the string [ours].

    Raises
    ------
    ParameterError
        If ``k`` or ``groups`` is below 1 or ``bits`` outside 1 to 8.
    """
    check_range("k", k, 1)
    check_range("bits", bits, 1, 8)
    check_range("groups", groups, 1)
    per_tile = ROWS * groups
    tiles = -(-k * bits // per_tile)
    position = np.arange(tiles * per_tile).reshape(tiles, groups, ROWS)
    inside = position < k * bits
    significance = np.where(inside, position % bits, 0)
    return RowLayout(
        element=np.where(inside, position // bits, -1),
        significance=significance,
        sign=inside & (significance == bits - 1),
    )


def slice_acts(acts: ArrayLike, bits: int, groups: int) -> NDArray[np.uint8]:
    """Return the rows' bits of signed activations.

    Parameters
    ----------
    acts : (..., K) integer array
        Values in ``[-2^(bits-1), 2^(bits-1) - 1]``.
    bits, groups : int
        As ``row_layout``'s.

    Returns
    -------
    (..., tiles, groups, 4) uint8
        0 beyond the end.

    Raises
    ------
    ParameterError
        For a value outside the range.
    """
    values = _in_range("acts", acts, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    layout = row_layout(values.shape[-1], bits, groups)
    taken = values[..., layout.element] >> layout.significance & 1
    return np.where(layout.element >= 0, taken, 0).astype(np.uint8)


def nibble_columns(weights: ArrayLike, bits: int) -> Ints:
    """Return the nibble columns of signed weights.

    Parameters
    ----------
    weights : (..., N) integer array
        Values in ``[-2^(bits-1), 2^(bits-1) - 1]``.
    bits : int
        4: a column each. 8: two, the unsigned low nibble (0 to 15) before the signed high one (-8 to 7).

    Returns
    -------
    (..., N * bits/4) int64

    Raises
    ------
    ParameterError
        For another width or a value outside the range.
    """
    check_choice("bits", bits, (4, 8))
    values = _in_range("weights", weights, -(1 << (bits - 1)), (1 << (bits - 1)) - 1)
    if bits == 4:
        return values
    pair = np.stack([values & 15, values >> 4], axis=-1)
    return pair.reshape(*values.shape[:-1], -1)


def stationary_nibbles(columns: ArrayLike, layout: RowLayout) -> Ints:
    """Return the nibble that each row of each group multiplies by: ``(tiles, groups, 4, C)``, 0 beyond the end.

    Parameters
    ----------
    columns : (K, C) integer array
        From ``nibble_columns``.
    layout : RowLayout
    """
    nibbles = np.asarray(columns, np.int64)[layout.element]
    return np.where(layout.element[..., None] >= 0, nibbles, 0)


def group_sums(bits: ArrayLike, nibbles: ArrayLike, significance: ArrayLike, sign: ArrayLike) -> Ints:
    """Return what a BitGroup adds to the psums: ``sum over rows of (+-bit * nibble) << significance``.

    Parameters
    ----------
    bits : (..., 4) array of 0 and 1
    nibbles : (..., 4, C) integer array
        -8 to 15; a nibble-aligned group has the same nibbles in all four rows.
    significance, sign : (..., 4) arrays
        A nibble-aligned group has significance 0 to 3 or 4 to 7, and a sign in row 3 only.

    Returns
    -------
    (..., C) int64
    """
    weight = np.where(np.asarray(sign, bool), -1, 1) * (1 << np.asarray(significance, np.int64))
    return np.einsum("...r,...rc->...c", np.asarray(bits, np.int64) * weight, np.asarray(nibbles, np.int64))


def join_columns(psums: ArrayLike, weight_bits: int) -> Ints:
    """Return the sums of whole weights: the psums, or at 8 bits ``even + 16*odd`` of each column pair."""
    check_choice("weight_bits", weight_bits, (4, 8))
    values = np.asarray(psums, np.int64)
    return values if weight_bits == 4 else values[..., 0::2] + 16 * values[..., 1::2]


def gemm(acts: ArrayLike, weights: ArrayLike, act_bits: int, weight_bits: int, groups: int) -> Ints:
    """Multiply as a column array of BitGroups does: sliced, tile by tile, joined at the end.

    Parameters
    ----------
    acts : (M, K) integer array
        Of ``act_bits`` bits, 1 to 8.
    weights : (K, N) integer array
        Of ``weight_bits`` bits, 4 or 8.
    groups : int
        R.

    Returns
    -------
    (M, N) int64
        Equal to ``acts @ weights``.
    """
    rows = slice_acts(acts, act_bits, groups)
    layout = row_layout(np.shape(acts)[-1], act_bits, groups)
    nibbles = stationary_nibbles(nibble_columns(weights, weight_bits), layout)
    sums = group_sums(rows, nibbles, layout.significance, layout.sign)
    return join_columns(sums.sum(axis=(1, 2)), weight_bits)


def fusion_products(act_bits: int, weight_bits: int, max_bits: int = 8, min_bits: int = 2) -> int:
    """Return a fusion unit's products per cycle, ``64 / (act_bits * weight_bits)`` [paper].

    Raises
    ------
    ParameterError
        If the unit has no such mode.
    """
    widths = tuple(b for b in (2, 4, 8) if min_bits <= b <= max_bits)
    check_choice("act_bits", act_bits, widths)
    check_choice("weight_bits", weight_bits, widths)
    return UNIT_BITS * UNIT_BITS // (act_bits * weight_bits)


def pack_fusion(
    values: ArrayLike, side: str, act_bits: int, weight_bits: int, brick_bits: int = 2
) -> NDArray[np.uint64]:
    """Pack one side's operands of a cycle into the word that a fusion unit takes.

    Brick (i, j) of the n x n bricks, n = 8/brick_bits, takes bits from ``brick_bits * (i + n*j)`` on: slice
    ``i mod pa/b`` of the activation or ``j mod pw/b`` of the weight of its product, number
    ``i div (pa/b) + (n*b/pa) * (j div (pw/b))`` [ours].

    Parameters
    ----------
    values : (..., products) integer array
        One operand per product, signed or unsigned, within ``act_bits`` or ``weight_bits`` bits.
    side : str
        "act" or "weight".
    act_bits, weight_bits, brick_bits : int
        The mode, and the width of the unit's bricks (its ``min_bits``).

    Raises
    ------
    ParameterError
        For a mode that such bricks do not have, another number of operands, or one too wide.
    """
    check_choice("side", side, ("act", "weight"))
    products = fusion_products(act_bits, weight_bits, min_bits=check_choice("brick_bits", brick_bits, (2, 4)))
    bits = act_bits if side == "act" else weight_bits
    operands = _in_range("values", values, -(1 << (bits - 1)), (1 << bits) - 1)
    if operands.shape[-1] != products:
        raise ParameterError("values", operands.shape, f"an array of {products} operands along its last axis")
    product, act_slice, weight_slice = _bricks(act_bits, weight_bits, brick_bits)
    index = act_slice if side == "act" else weight_slice
    slices = operands[..., product] >> brick_bits * index & ((1 << brick_bits) - 1)
    places = np.arange(len(product), dtype=np.uint64) * np.uint64(brick_bits)
    return np.bitwise_or.reduce(slices.astype(np.uint64) << places, axis=-1)


def fusion_sum(
    act: ArrayLike,
    weight: ArrayLike,
    act_bits: int,
    weight_bits: int,
    brick_bits: int = 2,
    act_signed: bool = True,
    weight_signed: bool = True,
) -> Ints:
    """Return a fusion unit's sum for packed words, brick by brick: the sum of all products of the cycle.

    Parameters
    ----------
    act, weight : arrays of words from ``pack_fusion``
    act_bits, weight_bits, brick_bits : int
        The mode, and the bricks' width.
    act_signed, weight_signed : bool
        False: that side's operands are unsigned.
    """
    _, act_slice, weight_slice = _bricks(act_bits, weight_bits, brick_bits)
    x = _brick_values(act, act_slice, act_bits, brick_bits, act_signed)
    w = _brick_values(weight, weight_slice, weight_bits, brick_bits, weight_signed)
    return (x * w << brick_bits * (act_slice + weight_slice)).sum(axis=-1)


def _bricks(act_bits: int, weight_bits: int, brick_bits: int) -> tuple[Ints, Ints, Ints]:
    """Return every brick's product, activation slice and weight slice, in the order of the word."""
    n = UNIT_BITS // brick_bits
    j, i = np.divmod(np.arange(n * n), n)
    across, down = act_bits // brick_bits, weight_bits // brick_bits
    return i // across + (n // across) * (j // down), i % across, j % down


def _brick_values(word: ArrayLike, index: Ints, bits: int, brick_bits: int, signed: bool) -> Ints:
    words = np.asarray(word, np.uint64)[..., None]
    places = np.arange(len(index), dtype=np.uint64) * np.uint64(brick_bits)
    values = (words >> places).astype(np.int64) & ((1 << brick_bits) - 1)
    top = (index == bits // brick_bits - 1) & signed
    return values - np.where(top & (values >> (brick_bits - 1) == 1), 1 << brick_bits, 0)


def _in_range(name: str, values: ArrayLike, low: int, high: int) -> Ints:
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ParameterError(name, array.dtype.name, "an array of integers")
    if array.size and (array.min() < low or array.max() > high):
        outside = array.max() if array.max() > high else array.min()
        raise ParameterError(name, int(outside), f"in [{low}, {high}]")
    return array.astype(np.int64)
