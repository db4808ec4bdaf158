"""What DRQ's cycles are made of: the words that im2col reads for a tile, and the array's steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.machine import FLOOR
from bitfabric.sim.cycles import vssa


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Hold a convolution's sizes.

    Members
    -------
    height, width, channels, n, kernel_height, kernel_width, stride, padding : int
        See ``sim.drq_case.DrqCase``.
    requantized : bool
        Bytes come out.
    """

    height: int
    width: int
    channels: int
    n: int
    kernel_height: int = 1
    kernel_width: int = 1
    stride: int = 1
    padding: int = 0
    requantized: bool = False

    @property
    def k(self) -> int:
        """Contraction."""
        return self.kernel_height * self.kernel_width * self.channels

    @cached_property
    def positions(self) -> tuple[int, int]:
        """Rows and columns of output positions."""
        sides = (self.height, self.kernel_height), (self.width, self.kernel_width)
        rows, columns = ((side + 2 * self.padding - kernel) // self.stride + 1 for side, kernel in sides)
        return rows, columns

    @property
    def m(self) -> int:
        """Output positions."""
        return self.positions[0] * self.positions[1]


@dataclass(frozen=True)
class TileCost:
    """Hold what the array needs for a tile.

    Members
    -------
    released, full : int
        See ``vssa.TileTimes``.
    steps, slow : int
        Steps, and those of them of 4 cycles.
    working, stalled : int
        See ``vssa.PeCounts``.
    """

    released: int
    full: int
    steps: int
    slow: int
    working: int
    stalled: int


def word_times(counts: NDArray[np.int64], lanes: int) -> tuple[list[int], bool]:
    """Return when the words of a packed row leave, in cycles after its first piece, and if the last one is late.

    Parameters
    ----------
    counts : int array (pieces,)
        Elements of each piece; they come one per cycle.
    lanes : int
        Elements of a word.
    """
    ends = np.cumsum(counts)
    words = -(-int(ends[-1]) // lanes)
    times = [int(np.argmax(ends >= min((word + 1) * lanes, ends[-1]))) for word in range(words)]
    late = words > 1 and times[-1] == times[-2]
    times[-1] += late
    return times, late


def row_cycles(layer: Layer, lanes: int) -> tuple[int, int]:
    """Return the cycles of a map row, a word of S channels of a pixel each, and of the packing's last word if it is late."""
    words = -(-layer.channels // lanes)
    last = (layer.channels - 1) % lanes + 1
    return layer.width * words, int(last > (layer.width * layer.channels - 1) % lanes + 1)


def fill_cycles(config: DrqConfig, layer: Layer) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return im2col's cycles of each M tile, from its first piece to the one before the next tile's, and where each begins.

    A kernel row has as many pieces as it touches words, and a position one cycle more if its last piece is longer than
    what is left of its words.
    """
    lanes = config.axis_bytes
    segment = layer.kernel_width * layer.channels
    first = (np.arange(layer.positions[1]) * layer.stride - layer.padding) * layer.channels
    end = first + segment - 1
    words = end // lanes - first // lanes + 1
    count = np.where(words == 1, segment, end % lanes + 1)
    late = count > (layer.k - 1) % lanes + 1
    position = np.tile(layer.kernel_height * words + late, layer.positions[0])
    starts = np.arange(0, layer.m, config.rows)
    return np.add.reduceat(position, starts).astype(np.int64), starts


def tile_costs(
    config: DrqConfig, layer: Layer, high_rows: NDArray[np.bool_], n_valid: int
) -> Iterator[TileCost]:
    """Yield what each M tile costs beside ``n_valid`` columns of 8-bit weights."""
    for start in range(0, layer.m, config.rows):
        high = np.ascontiguousarray(high_rows[start : start + config.rows].T)
        sizes = {"k": layer.k, "rows": high.shape[1], "columns": n_valid}
        flags: NDArray[np.bool_] | bool = high
        if high.all() or not high.any():
            flags = bool(high.flat[0])  # the quick way
        durations = vssa.steps(flags, True, FLOOR, **sizes)
        times = vssa.tile_times(durations, layer.k, config.line_elements)
        pes = vssa.pe_counts(flags, True, durations, **sizes)
        yield TileCost(*times, len(durations), int((durations == 4).sum()), pes.working, pes.stalled)
