"""Cycle model of ``systolic_os``."""

from __future__ import annotations

from dataclasses import dataclass

from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.gemm import Tile, Times, machine_cycles


@dataclass(frozen=True)
class SystolicOsTiming:
    """Time the sequencer of ``SystolicOsCore`` for a GEMM of ``k`` elements of K."""

    config: SystolicOsConfig
    k: int

    def issue(self, times: Times, tile: Tile, weights: int, acts: int, bank: int) -> None:
        """Feed a block of K; see ``ArrayTiming``."""
        rows, tail = self.config.rows, self.config.rows + self.config.columns - 2
        feed = max(times.pace, 1, weights, acts, bank)
        if times.opened is None:
            times.opened = times.pace = feed
        times.stalled += feed - times.pace
        times.feed_start, times.feed_end = feed, feed + tile.k_valid - 1
        times.weights = [times.weights[1], times.feed_end]
        gap = max(rows - self.k, 0) if self.config.tile_overlap else tail
        times.pace = times.feed_end + 1 + (gap if tile.last_k else 0)

    def complete(self, feed_end: int) -> int:
        """Return when the first row has left the drain chain's last column; see ``ArrayTiming``."""
        return feed_end + 2 * self.config.rows + self.config.columns + 3


def gemm_cycles(config: SystolicOsConfig, m: int, k: int, n: int, *, requantize: bool = False) -> Cycles:
    """Return the cycles of ``acts (M, K) x weights (K, N)``, equal to the RTL's counters.

    ``array_cycles`` is ``(R + C + K - 2) * tiles`` [derived]; with ``tile_overlap``
    ``(tiles-1)*max(K, R) + K + R + C - 2`` [ours].

    Raises
    ------
    ParameterError
        If a dimension is not allowed.
    """
    return machine_cycles(config, SystolicOsTiming(config, k), m, k, n, requantize=requantize)
