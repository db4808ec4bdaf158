"""The cycle model of the GEMM machine: when every item is loaded, every tile fed and every bank drained.

Times are cycles after the start strobe. A tile's times depend only on tiles before it, so that one pass in tile
order is enough; over the N tiles of an M step the pass repeats itself and is then extrapolated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.gemm.drain import OUT_LATENCY
from bitfabric.hdl.gemm.words import PARAM_BEATS
from bitfabric.sim.cycles import Cycles


@dataclass(frozen=True)
class Tile:
    """Describe a tile as ``TileLoop`` does."""

    m_valid: int
    n_valid: int
    k_valid: int
    first_n: bool
    last_n: bool
    first_k: bool
    last_k: bool


@dataclass
class Times:
    """Hold the state that later tiles depend on.

    ``weights``, ``acts``, ``params`` and ``banks`` are the cycles of the last two releases of each double buffer,
    the older one first.
    """

    loader: int = 1
    feed_end: int = 0  # last issue of the tile before
    feed_start: int = 0
    drain_end: int = 0
    weights: list[int] = field(default_factory=lambda: [-1, -1])
    acts: list[int] = field(default_factory=lambda: [-1, -1])
    params: list[int] = field(default_factory=lambda: [-1, -1])
    banks: list[int] = field(default_factory=lambda: [-1, -1])
    stalled: int = 0
    opened: int | None = None
    pace: int = 0  # cycle of the next feed if nothing delays it

    def relative(self) -> tuple[int, ...]:
        """Return the state as seen from itself: equal states have equal futures.

        What lies before both the loader and the array delays nothing any more.
        """
        base = self.base()
        times = (self.loader, self.feed_end, self.feed_start, self.drain_end, self.pace)
        return tuple(
            max(t - base, -1) for t in (*times, *self.weights, *self.acts, *self.params, *self.banks)
        )

    def base(self) -> int:
        """Return the time that ``relative`` counts from."""
        return min(self.loader, self.feed_start)

    def shift(self, cycles: int, stalled: int) -> None:
        """Move everything by ``cycles``, with ``stalled`` cycles of stalls in them."""
        for name in ("loader", "feed_end", "feed_start", "drain_end", "pace"):
            setattr(self, name, getattr(self, name) + cycles)
        for releases in (self.weights, self.acts, self.params, self.banks):
            releases[:] = [t + cycles for t in releases]
        self.stalled += stalled


class ArrayTiming(Protocol):
    """Say when an array works on a tile; equal timings are equal keys."""

    def __hash__(self) -> int:
        """Return the hash of its parameters."""

    def issue(self, times: Times, tile: Tile, weights: int, acts: int, bank: int) -> None:
        """Advance ``times`` by one tile.

        Parameters
        ----------
        times : Times
            The state; ``feed_start``, ``feed_end``, ``weights``, ``pace``, ``stalled`` and ``opened`` are updated.
        tile : Tile
            The tile.
        weights, acts, bank : int
            First cycle in which its weights are there, its activations, and an accumulator bank (0: not needed).
        """

    def complete(self, feed_end: int) -> int:
        """Return the cycle in which the bank of a tile fed until ``feed_end`` is seen to be full."""


def steps(total: int, step: int) -> Iterator[int]:
    """Yield the sizes of the steps that cover ``total``."""
    for start in range(0, total, step):
        yield min(step, total - start)


def machine_cycles(
    config: GemmConfig, timing: ArrayTiming, m: int, k: int, n: int, *, requantize: bool = False
) -> Cycles:
    """Return what the machine counts for a GEMM whose streams do not stall.

    Networks repeat their shapes, so results are kept; each caller gets a copy.

    Raises
    ------
    ParameterError
        If a dimension is not allowed.
    """
    config.check_gemm(m, k, n)
    cycles = compute_cycles(config, timing, m, k, n, requantize)
    return replace(cycles, breakdown=dict(cycles.breakdown))


@lru_cache(maxsize=4096)
def compute_cycles(
    config: GemmConfig, timing: ArrayTiming, m: int, k: int, n: int, requantize: bool
) -> Cycles:
    """Return ``machine_cycles`` of dimensions that are allowed."""
    resident = config.resident(m, k)
    times = Times()
    for m_valid in steps(m, config.m_step):
        _m_step(config, timing, times, m_valid, k, n, resident, requantize)
    total = times.drain_end + OUT_LATENCY + (Requantizer.LATENCY if requantize else 0)
    assert times.opened is not None
    load = times.opened - 1
    end = times.feed_end + config.rows + config.columns - 2
    compute = end - load - times.stalled
    return Cycles(
        array_cycles=compute,
        total=total,
        utilization=m * k * n / (config.rows * config.columns * compute),
        machine_utilization=m * k * n / (config.rows * config.columns * total),
        breakdown={"load": load, "compute": compute, "stalled": times.stalled, "drain": total - end},
    )


def _m_step(
    config: GemmConfig,
    timing: ArrayTiming,
    times: Times,
    m_valid: int,
    k: int,
    n: int,
    resident: bool,
    requantize: bool,
) -> None:
    n_sizes = list(steps(n, config.columns))
    k_sizes = list(steps(k, config.k_step))
    seen: dict[tuple[int, ...], tuple[int, int, int]] = {}
    index = 0
    while index < len(n_sizes):
        # The first N tile loads the activations and the last may be narrower: those between are alike.
        if 0 < index < len(n_sizes) - 1:
            state = times.relative()
            if state in seen:
                before, base, stalled = seen[state]
                period = index - before
                repeats = (len(n_sizes) - 1 - index) // period
                times.shift(repeats * (times.base() - base), repeats * (times.stalled - stalled))
                index += repeats * period
                seen.clear()
                if repeats:
                    continue
            seen[state] = (index, times.base(), times.stalled)
        _n_tile(
            config, timing, times, m_valid, n_sizes[index], k_sizes, index, len(n_sizes), resident, requantize
        )
        index += 1


def _n_tile(
    config: GemmConfig,
    timing: ArrayTiming,
    times: Times,
    m_valid: int,
    n_valid: int,
    k_sizes: list[int],
    index: int,
    n_tiles: int,
    resident: bool,
    requantize: bool,
) -> None:
    beat = config.axis_data_bits // 8
    groups = -(-n_valid // config.drain_lanes)
    for number, k_valid in enumerate(k_sizes):
        tile = Tile(
            m_valid,
            n_valid,
            k_valid,
            index == 0,
            index == n_tiles - 1,
            number == 0,
            number == len(k_sizes) - 1,
        )
        if requantize and tile.first_k:
            times.loader = max(times.loader, times.params[0] + 1) + PARAM_BEATS * groups
        times.loader += 1
        times.loader = max(times.loader, times.weights[0] + 1) + k_valid * -(-n_valid // beat) + 1
        weights, acts = times.loader, 0
        if tile.first_n or not resident:
            words = config.act_words(m_valid, k_valid)
            lanes = k_valid if config.m_innermost else m_valid
            free = times.acts[0] + 1 if tile.first_k or not resident else 0
            times.loader = max(times.loader, free) + words * -(-lanes // beat) + 1
            acts = times.loader
        timing.issue(times, tile, weights, acts, times.banks[0] + 1 if tile.first_k else 0)
        if not resident or (tile.last_n and tile.last_k):
            times.acts = [times.acts[1], times.feed_end]
    start = max(timing.complete(times.feed_end), times.drain_end + 1)
    times.drain_end = start + m_valid * groups
    times.banks = [times.banks[1], times.drain_end + 1]  # when the last group has left `drain_data`
    if requantize:
        times.params = [times.params[1], times.drain_end]
