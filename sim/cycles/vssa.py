"""Cycles of a VSSA array's tiles, exact: the steps' durations, and what follows from them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.errors import ParameterError, check_choice, check_range

FLOORS = (0, 1, 2)  # a step lasts 1, 2, 4 cycles at least
START_AFTER_WRITE = 3  # T - w0, the array being free
START_AFTER_TAKE = 2  # T - u

Flags = NDArray[np.bool_]


class TileTimes(NamedTuple):
    """Hold when a tile's buffer and its sums are free, in cycles after its first step's first cycle T.

    Members
    -------
    released : int
        X - T: the strobe ``released``; from the next cycle on the buffer may be written. -2 for one word.
    full : int
        F + 1 - T: the first cycle of ``full``, and the sum of the durations.
    """

    released: int
    full: int


class PeCounts(NamedTuple):
    """Hold a tile's PE-cycles with valid operands: the MAC at work, and idle."""

    working: int
    stalled: int


def start(write: int, take: int | None = None) -> int:
    """Return T, the first cycle of a tile's first step.

    Parameters
    ----------
    write : int
        w0, the cycle in which word 0 is written.
    take : int, optional
        u, the cycle in which the tile before was taken; none if this is the first.
    """
    free = write + START_AFTER_WRITE
    return free if take is None else max(free, take + START_AFTER_TAKE)


def steps(
    row_high: ArrayLike, column_high: ArrayLike, floor: int, *, k: int, rows: int, columns: int
) -> NDArray[np.int64]:
    """Return how long each step lasts.

    A step in which two 8-bit elements meet anywhere lasts four cycles, another one ``2**floor`` [paper]; element e
    is in PE (r, c) in step e + r + c.

    Parameters
    ----------
    row_high, column_high : bool, or bool array (K,), (K, R') and (K, C')
        Which elements have 8 bits: one flag for all, one per element for all lanes, or one each.
    floor : int
        0, 1, 2: at least 1, 2, 4 cycles.
    k, rows, columns : int
        K, R', C' of the tile.

    Returns
    -------
    int64 array (K + R' + C' - 2,)
        1, 2 or 4 cycles.

    Raises
    ------
    ParameterError
        If the flags do not fit, or with ``floor`` 0 elements are high: the array would skip their products.
    """
    check_choice("floor", floor, FLOORS)
    row_flags = _flags("row_high", row_high, k, rows)
    column_flags = _flags("column_high", column_high, k, columns)
    count = check_range("k", k, 1) + check_range("rows", rows, 1) + check_range("columns", columns, 1) - 2
    if floor == 0:
        for name, flags in (("row_high", row_flags), ("column_high", column_flags)):
            if flags.any():
                raise ParameterError(name, True, "false with floor=0")
        return np.ones(count, dtype=np.int64)
    if floor == 2:
        return np.full(count, 4, dtype=np.int64)
    return np.where(_meetings(row_flags, column_flags, k, rows, columns), 4, 2)


def tile_times(durations: NDArray[np.integer], k: int, line_elements: int) -> TileTimes:
    """Return a tile's times, in cycles after T.

    Parameters
    ----------
    durations : int array (K + R' + C' - 2,)
        What ``steps`` returned.
    k, line_elements : int
        K and E, the elements of a lane in a word.
    """
    before = (-(-k // line_elements) - 1) * line_elements  # elements in words before the last one
    # Element e enters at the end of step e - 1; the last word is read while the element before it enters.
    return TileTimes(int(durations[: before - 1].sum()) - 1 if before else -2, int(durations.sum()))


def pe_counts(
    row_high: ArrayLike,
    column_high: ArrayLike,
    durations: NDArray[np.integer],
    *,
    k: int,
    rows: int,
    columns: int,
) -> PeCounts:
    """Return a tile's PE-cycles, equal to the RTL's counters.

    With a of R' row elements and b of C' column elements high, an element of K works for
    ``(R' + a) * (C' + b)`` cycles: 1, 2, 2 and 4 per pair [derived]. ``durations`` minus that is stalled.

    Parameters
    ----------
    row_high, column_high, k, rows, columns
        As in ``steps``.
    durations : int array (K + R' + C' - 2,)
        What it returned.

    Raises
    ------
    ParameterError
        If the flags do not fit.
    """
    row_flags = _flags("row_high", row_high, k, rows)
    column_flags = _flags("column_high", column_high, k, columns)
    working = int(((rows + _high(row_flags, rows)) * (columns + _high(column_flags, columns))).sum())
    working *= k if row_flags.ndim == 0 and column_flags.ndim == 0 else 1
    diagonal = np.convolve(np.ones(rows, dtype=np.int64), np.ones(columns, dtype=np.int64))
    sums = np.cumsum(np.pad(diagonal, (0, k - 1)))
    sums[k:] -= sums[:-k].copy()  # the PEs that hold elements in each step
    return PeCounts(working, int(durations @ sums) - working)


def _flags(name: str, flags: ArrayLike, k: int, lanes: int) -> Flags:
    """Return flags as (), (K,) or (K, lanes)."""
    array = np.asarray(flags, dtype=bool)
    if array.shape not in ((), (k,), (k, lanes)):
        raise ParameterError(name, array.shape, f"flags of shape (), ({k},) or ({k}, {lanes})")
    return array


def _high(flags: Flags, lanes: int) -> NDArray[np.int64]:
    """Return how many lanes are high, by element or for all."""
    return flags.sum(axis=1) if flags.ndim == 2 else flags * np.int64(lanes)


def _meetings(row_flags: Flags, column_flags: Flags, k: int, rows: int, columns: int) -> Flags:
    """Return in which steps two high elements meet."""
    count, width = k + rows + columns - 2, rows + columns - 1
    if row_flags.ndim < 2 and column_flags.ndim < 2:  # all lanes alike: a window of `width` elements
        both = np.broadcast_to(row_flags & column_flags, (k,))
        sums = np.cumsum(np.pad(both.astype(np.int64), (0, width - 1)))
        sums[width:] -= sums[:-width].copy()
        return sums > 0
    if column_flags.ndim < 2:  # columns alike: what is in any PE of column 0, then a window of the columns
        high = row_flags & np.broadcast_to(column_flags, (k,))[:, None]
        first = np.zeros(k + rows - 1, dtype=bool)
        for row in range(rows):
            first[row : row + k] |= high[:, row]
        sums = np.cumsum(np.pad(first.astype(np.int64), (0, columns - 1)))
        sums[columns:] -= sums[:-columns].copy()
        return sums > 0
    # Diagonals first, a column at a time; then their elements, a diagonal at a time.
    row_lanes = np.broadcast_to(row_flags[:, None] if row_flags.ndim == 1 else row_flags, (k, rows))
    column_lanes = np.broadcast_to(
        column_flags[:, None] if column_flags.ndim == 1 else column_flags, (k, columns)
    )
    by_diagonal = np.zeros((width, k), dtype=bool)
    for row in range(rows):
        by_diagonal[row : row + columns] |= (row_lanes[:, row, None] & column_lanes).T
    meet = np.zeros(count, dtype=bool)
    for diagonal in range(width):
        meet[diagonal : diagonal + k] |= by_diagonal[diagonal]
    return meet
