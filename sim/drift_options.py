"""What a Drift layer says of its activations' precisions and of its pooling, and what follows from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.pooling import KERNEL_MAX
from bitfabric.quant.drift import (
    NEVER,
    MixedOperand,
    Pooling,
    Selection,
    Statistics,
    block_statistics,
    critical_threshold,
    high_clips,
    integer_threshold,
    mixed_acts,
    saturate,
    select_integer,
)
from bitfabric.quant.drift.convolution import pair, window_counts
from bitfabric.quant.drift.thresholds import check_scale, check_threshold, check_widths
from bitfabric.quant.errors import ParameterError, check_choice, check_range

DIMENSION = (1 << 16) - 1


@dataclass(frozen=True, kw_only=True)
class Precision:
    """Say how rows of activations get their precision.

    Members
    -------
    scale, threshold : float
        Δ and δ of the selection.
    subtensor_rows : int
        Consecutive rows that share a precision; the last sub-tensor may have fewer.
    high_bits, low_bits : int
        hp, 2 to 8, and lp, 1 to hp.
    truncate : bool
        Low bits are dropped instead of rounded half up.
    threshold_int, threshold_tail_int : int, optional
        T of a sub-tensor and of the last one where it has fewer rows, 0 to 2^64-1 (never low), instead of
        what follows from Δ and δ.

    Raises
    ------
    ParameterError
        If one is out of range.
    """

    scale: float = 1.0
    threshold: float = 1.0
    subtensor_rows: int = 1
    high_bits: int = 8
    low_bits: int = 4
    truncate: bool = False
    threshold_int: int | None = None
    threshold_tail_int: int | None = None

    def __post_init__(self) -> None:
        check_scale(self.scale)
        check_threshold(self.threshold)
        check_range("subtensor_rows", self.subtensor_rows, 1, DIMENSION)
        check_widths(self.high_bits, self.low_bits)
        for name in ("threshold_int", "threshold_tail_int"):
            if getattr(self, name) is not None:
                check_range(name, getattr(self, name), 0, NEVER)

    def limits(self, m: int, k: int) -> tuple[int, int]:
        """Return T of a whole sub-tensor of rows of ``k`` elements, and of the last one of ``m`` rows."""

        def limit(given: int | None, rows: int) -> int:
            if given is not None:
                return given
            return integer_threshold(rows * k, self.scale, self.threshold, self.high_bits, self.low_bits)

        tail = m % self.subtensor_rows or self.subtensor_rows
        return limit(self.threshold_int, self.subtensor_rows), limit(self.threshold_tail_int, tail)

    def select(self, acts: NDArray[np.integer[Any]]) -> Selection:
        """Return the precision of each sub-tensor of ``acts`` (M, K)."""
        block = (self.subtensor_rows, None)
        found = block_statistics(saturate(acts, self.high_bits)[0], block)
        m, k = acts.shape
        whole, tail = self.limits(m, k)
        limit = np.full(found.total.shape, whole, np.uint64)
        if m % self.subtensor_rows:
            limit[-1] = tail
        chosen = select_integer(found.maximum, found.total, limit, self.high_bits, self.low_bits)
        return Selection(*chosen, self.high_bits, self.low_bits, block)

    def convert(self, acts: NDArray[np.integer[Any]], selection: Selection) -> MixedOperand:
        """Return ``acts`` (M, K) as the machine stores them."""
        return mixed_acts(acts, selection, "truncate" if self.truncate else "half_up")


def threshold_for(found: Statistics, low: int, scale: float, high_bits: int = 8, low_bits: int = 4) -> float:
    """Return the largest δ at which at least ``low`` of the sub-tensors are of low precision; infinity for none."""
    if low == 0:
        return math.inf
    parts = (found.total, high_clips(found.maximum, high_bits, low_bits), found.elements)
    critical = sorted(
        critical_threshold(int(total), int(clip), int(n), scale, high_bits, low_bits)
        for total, clip, n in zip(*(part.flat for part in parts), strict=True)
    )
    return critical[-low]


class Counts(NamedTuple):
    """Hold how many rows, channels and granules have either precision."""

    m_high: int
    m_low: int
    n_high: int
    n_low: int
    granules_high: int
    granules_low: int


class PoolSize(NamedTuple):
    """Hold what the pooling unit's registers say, and the images that a layer's rows are."""

    average: bool
    height: int
    width: int
    kernel_height: int
    kernel_width: int
    stride: int
    padding: int
    out_height: int
    out_width: int
    images: int

    @property
    def rows(self) -> int:
        """Rows that leave the pooling unit."""
        return self.images * self.out_height * self.out_width


def pool_size(pooling: Pooling, m: int) -> PoolSize:
    """Return how the machine pools ``m`` rows.

    Raises
    ------
    ParameterError
        If a parameter is out of range, or the rows are not whole images.
    """
    check_choice("kind", pooling.kind, ("max", "average"))
    average = pooling.kind == "average"
    size = (
        check_range("height", pooling.height, 1, DIMENSION),
        check_range("width", pooling.width, 1, DIMENSION),
    )
    kernel, step, pad = (
        pair(name, getattr(pooling, name), least)
        for name, least in (("kernel", 1), ("stride", 1), ("padding", 0))
    )
    for name, sides, least, most in (
        ("kernel", kernel, 1, KERNEL_MAX),
        ("stride", step, 1, KERNEL_MAX),
        ("padding", pad, 0, 0 if average else min(kernel) - 1),
    ):
        for side in sides:
            check_range(name, side, least, most)
    for name, sides in (("stride", step), ("padding", pad)):
        if sides[0] != sides[1]:
            raise ParameterError(name, sides, "the same along height and width")
    images, rest = divmod(m, size[0] * size[1])
    if rest or not images:
        raise ParameterError("M", m, f"whole images of {size[0]} x {size[1]} positions for pooling")
    return PoolSize(average, *size, *kernel, step[0], pad[0], *window_counts(size, kernel, step, pad), images)
