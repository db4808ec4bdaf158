"""Cycle model of ``systolic_ws``."""

from __future__ import annotations

from dataclasses import dataclass

from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.gemm import Tile, Times, machine_cycles


@dataclass(frozen=True)
class SystolicWsTiming:
    """Time the two sequencers of ``SystolicWsCore``."""

    config: SystolicWsConfig

    def issue(self, times: Times, tile: Tile, weights: int, acts: int, bank: int) -> None:
        """Load the weights, then feed; see ``ArrayTiming``."""
        rows, tail = self.config.rows, self.config.rows + self.config.columns - 2
        double = self.config.weight_buffering == "double"
        if times.opened is None:
            load = max(weights, 1)
            times.opened, times.pace = load, load + rows
        else:
            load = max(weights, times.feed_start if double else times.feed_end + 1 + tail)
        feed = max(load + rows, times.feed_end + 1, acts, bank)
        times.stalled += feed - times.pace
        times.weights = [times.weights[1], load + rows - 1]
        times.feed_start, times.feed_end = feed, feed + tile.m_valid - 1
        times.pace = feed + (max(tile.m_valid, rows) if double else tile.m_valid + tail + rows)

    def complete(self, feed_end: int) -> int:
        """Return when the last psum is in the last column's accumulator; see ``ArrayTiming``."""
        return feed_end + self.config.rows + self.config.columns + 3


def gemm_cycles(config: SystolicWsConfig, m: int, k: int, n: int, *, requantize: bool = False) -> Cycles:
    """Return the cycles of ``acts (M, K) x weights (K, N)``, equal to the RTL's counters.

    ``array_cycles`` is ``(R + M + R + C - 2) * tiles`` single buffered [paper, Drift eq. 7] and
    ``R + (tiles-1)*max(M, R) + M + R + C - 2`` double buffered [derived] while M fits ``acc_depth``.

    Raises
    ------
    ParameterError
        If a dimension is not allowed.
    """
    return machine_cycles(config, SystolicWsTiming(config), m, k, n, requantize=requantize)
