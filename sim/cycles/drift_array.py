"""Cycles of Drift's four arrays at their boundaries: weight load and compute, without buffers and buses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.hdl.drift.config import BUFFERINGS, DIMENSION_BITS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.hdl.drift.schedule_split import CYCLES_BITS
from bitfabric.quant.errors import ParameterError, check_choice, check_range

INFINITE = (1 << CYCLES_BITS) - 1  # where the scheduler's counts saturate
WEIGHT_BITS = 16  # weight bits that a column of groups holds for a k
GROUP_BITS = 4  # of an activation string that a group holds
GROUP_PRODUCT_BITS = 64  # activation bits x weight bits that a group multiplies per cycle


class Split(NamedTuple):
    """Name the lines that cut the fabric in four.

    Members
    -------
    columns : int
        Columns of groups of the left half, which has the 8-bit weights, 0 to C.
    left_rows, right_rows : int
        Upper rows of either half, which have the high-precision activations, 0 to R.
    """

    columns: int
    left_rows: int
    right_rows: int

    def shapes(self, config: DriftConfig) -> dict[str, tuple[int, int]]:
        """Return rows and columns of each region.

        Raises
        ------
        ParameterError
            If a line lies outside the fabric.
        """
        rows, columns = config.rows, config.columns
        left = check_range("columns", self.columns, 0, columns)
        upper_left = check_range("left_rows", self.left_rows, 0, rows)
        upper_right = check_range("right_rows", self.right_rows, 0, rows)
        return {
            "hh": (upper_left, left),
            "hl": (upper_right, columns - left),
            "lh": (rows - upper_left, left),
            "ll": (rows - upper_right, columns - left),
        }


@dataclass(frozen=True)
class ArrayWork:
    """Hold what the scheduler has to know of a GEMM.

    Members
    -------
    m_high, m_low : int
        Activation rows of either precision.
    q_high, q_low : int
        Nibbles of a row's string of activation bits, from 1.
    g_high, g_low : int
        Granules, 16 weight bits for each k, of channels with 8-bit and with 4-bit weights.
    """

    m_high: int
    m_low: int
    q_high: int
    q_low: int
    g_high: int
    g_low: int

    def __post_init__(self) -> None:
        """Refuse what the scheduler's ports do not hold."""
        top = (1 << DIMENSION_BITS) - 1
        for name in ("m_high", "m_low"):
            check_range(name, getattr(self, name), 0, top)
        for name in ("q_high", "q_low"):
            check_range(name, getattr(self, name), 1, 2 * top)
        for name in ("g_high", "g_low"):
            check_range(name, getattr(self, name), 0, (1 << GRANULE_BITS) - 1)

    def of_region(self, region: str) -> tuple[int, int, int]:
        """Return rows, nibbles and granules of a region, ``hh`` to ``ll``."""
        m, q = (self.m_high, self.q_high) if region[0] == "h" else (self.m_low, self.q_low)
        return m, q, self.g_high if region[1] == "h" else self.g_low


def gemm_work(
    config: DriftConfig,
    m_high: int,
    m_low: int,
    k: int,
    n_high: int,
    n_low: int,
    bits: tuple[int, int] = (8, 4),
) -> ArrayWork:
    """Return the work of a GEMM whose activations of either precision have ``bits`` bits, high first.

    ``q = ceil(K * pa / 4)`` with pa the stored width, ``g = ceil(N * pw / 16)`` [paper, eq. 7].

    Raises
    ------
    ParameterError
        If a size is out of range.
    """
    check_range("k", k, 1, config.k_max)
    for name, width in zip(("high_bits", "low_bits"), bits, strict=True):
        check_range(name, width, 1, 8)
    q_high, q_low = (-(-k * config.stored_bits(width) // GROUP_BITS) for width in bits)
    granules = (-(-n * width // WEIGHT_BITS) for n, width in ((n_high, 8), (n_low, 4)))
    return ArrayWork(m_high, m_low, q_high, q_low, *granules)


def region_cycles(
    weight_buffering: str,
    acc_depth: int,
    m: ArrayLike,
    q: ArrayLike,
    g: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
) -> NDArray[np.int64]:
    """Return the cycles that a region of ``rows`` x ``columns`` groups is active for, elementwise.

    With ``tiles = ceil(q / rows) * ceil(g / columns)``, and f full chunks of ``acc_depth`` rows and a tail:

    - single: ``tiles * (chunks * (2 rows + columns - 2) + M)`` [paper, eq. 7 for each chunk];
    - double: ``tiles * (f * max(D, 2 rows - 1) + max(tail, 2 rows - 1)) - max(last, 2 rows - 1) + last + 2 rows +
      columns - 2``, where the term of the tail is 0 if there is none [derived];
    - transit: as double, with ``rows`` for ``2 rows - 1`` within ``max``, and one cycle more [derived].

    Parameters
    ----------
    weight_buffering : str
        ``single``, ``double`` or ``transit``.
    acc_depth : int
        Rows of a chunk, D.
    m, q, g : array_like of int
        Activation rows, nibbles of their strings (from 1), granules.
    rows, columns : array_like of int
        Size of the region.

    Returns
    -------
    ndarray of int64
        0 without work; ``INFINITE`` for work without groups, and at most that.
    """
    check_choice("weight_buffering", weight_buffering, BUFFERINGS)
    m, q, g, rows, columns = np.broadcast_arrays(
        *(np.asarray(value, dtype=np.int64) for value in (m, q, g, rows, columns))
    )
    r, c = np.maximum(rows, 1), np.maximum(columns, 1)
    tiles = -(-q // r) * -(-g // c)
    full, tail = m // acc_depth, m % acc_depth
    partial = (tail > 0).astype(np.int64)
    if weight_buffering == "single":
        total = tiles * ((full + partial) * (2 * r + c - 2) + m)
    else:
        transit = weight_buffering == "transit"
        pace = r if transit else 2 * r - 1
        last = np.where(partial, tail, acc_depth)
        each = full * np.maximum(acc_depth, pace) + partial * np.maximum(tail, pace)
        total = int(transit) + r + tiles * each - np.maximum(last, pace) + last + r + c - 2
    total = np.where((rows == 0) | (columns == 0), INFINITE, np.minimum(total, INFINITE))
    return np.where((m == 0) | (g == 0), 0, total)


def split_cycles(config: DriftConfig, work: ArrayWork, split: Split) -> dict[str, int]:
    """Return the cycles of each region, ``hh`` to ``ll``.

    Raises
    ------
    ParameterError
        If a line of the split lies outside the fabric.
    """
    shapes = split.shapes(config)
    return {
        region: int(
            region_cycles(config.weight_buffering, config.acc_depth, *work.of_region(region), *shapes[region])
        )
        for region in REGIONS
    }


def array_cycles(
    config: DriftConfig,
    m_high: int,
    m_low: int,
    k: int,
    n_high: int,
    n_low: int,
    split: Split,
    bits: tuple[int, int] = (8, 4),
) -> dict[str, int]:
    """Return the cycles of each region for a GEMM; the fabric's are their maximum [paper, eq. 8].

    Raises
    ------
    ParameterError
        If a size is out of range, or the split does not fit the fabric.
    """
    return split_cycles(config, gemm_work(config, m_high, m_low, k, n_high, n_low, bits), split)


def bound_cycles(
    config: DriftConfig,
    m_high: int,
    m_low: int,
    k: int,
    n_high: int,
    n_low: int,
    bits: tuple[int, int] = (8, 4),
) -> int:
    """Return the cycles in which the multipliers could form all products, were none ever idle.

    A product of pa x pw bits is ``pa * pw / 16`` products of 4 x 4 bits, of which a group forms 4 per cycle [paper];
    pa is the stored width.

    Raises
    ------
    ParameterError
        If a width is out of range.
    """
    widths = [config.stored_bits(check_range("bits", width, 1, 8)) for width in bits]
    act_bits = m_high * widths[0] + m_low * widths[1]
    return -(-act_bits * k * (8 * n_high + 4 * n_low) // (GROUP_PRODUCT_BITS * config.groups))


def check_split(config: DriftConfig, work: ArrayWork, split: Split) -> None:
    """Refuse a split that leaves work without groups.

    Raises
    ------
    ParameterError
        Naming the parameter that is too small, or else the region.
    """
    for name, what, halves in (
        ("rows", "activations", (work.m_high, work.m_low)),
        ("columns", "weights", (work.g_high, work.g_low)),
    ):
        if getattr(config, name) < 2 and all(halves):
            raise ParameterError(name, getattr(config, name), f"at least 2 for {what} of both precisions")
    for region, cycles in split_cycles(config, work, split).items():
        if cycles == INFINITE:
            raise ParameterError("split", tuple(split), f"one that gives groups to region {region}")
