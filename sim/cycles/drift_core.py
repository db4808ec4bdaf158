"""Cycle model of Drift's core: four arrays that wait for weights and accumulators, and the drain that they share."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.sequencer import TO_FULL
from bitfabric.sim.cycles.drift_drain import Drain, Events
from bitfabric.sim.cycles.drift_loader import Loader, RegionWork, Run, runs_of


@dataclass(kw_only=True)
class CoreTimes:
    """Hold when things happened, in cycles of the layer.

    Members
    -------
    done : int
        Cycle in which all regions say that they are done.
    weights_done : int
        Cycle in which the loader says that all weights have come.
    last_word : int
        Cycle in which the drain took its last word; the drain's pipeline follows.
    active : list of lists of (int, int)
        Each region's intervals, first and last cycle.
    """

    done: int = 0
    weights_done: int = 0
    last_word: int = 0
    active: list[list[tuple[int, int]]] = field(default_factory=lambda: [[], [], [], []])


class _Region:
    """Run a region's tiles: a run of K tiles is timed at once, when its weights and its bank are there."""

    def __init__(
        self,
        config: DriftConfig,
        events: Events,
        work: RegionWork,
        intervals: list[tuple[int, int]],
        consumed: Callable[[int, int], None],
        full: Callable[[int, int, int], None],
    ) -> None:
        self._config, self._events, self._work = config, events, work
        self._intervals, self._consumed, self._full = intervals, consumed, full
        self._runs = [] if work.empty else runs_of(config, work)
        self._next = 0
        self._ready: dict[int, int] = {}  # N tile to the cycle in which its weights can be loaded
        self._banks = deque([0, 0])  # cycles from which free banks can be claimed
        self._swap: int | None = None  # of the tile before
        self._rows = 0
        self.last_freed = 0

    def ready(self, tile: int, cycle: int) -> None:
        self._ready[tile] = cycle
        self._go()

    def freed(self, cycle: int) -> None:
        """Give a bank back in ``cycle``."""
        self._banks.append(cycle + 1)
        self.last_freed = max(self.last_freed, cycle)
        self._go()

    @property
    def finished(self) -> bool:
        return self._next == len(self._runs)

    def _go(self) -> None:
        while self._next < len(self._runs):
            run = self._runs[self._next]
            if run.tile not in self._ready or not self._banks:
                return
            self._next += 1
            self._time(run)

    def _time(self, run: Run) -> None:
        mode, work = self._config.weight_buffering, self._work
        r, c, m = work.rows, work.columns, run.rows
        tiles = -(-work.nibbles // r)
        load = self._ready[run.tile]
        if self._swap is not None:
            hold = {"single": self._rows + r + c - 1, "double": r, "transit": 0}[mode]
            load = max(load, self._swap + hold)
        swap = load + r - (mode != "transit")
        if self._swap is not None:
            swap = max(swap, self._swap + self._rows)
        swap = max(swap, self._banks.popleft())
        period = {"single": 2 * r + m + c - 2, "double": max(m, 2 * r - 1), "transit": max(m, r)}[mode]
        last_swap = swap + (tiles - 1) * period
        last_row = last_swap + m
        self._intervals += [(load, load + r - 1), (swap, last_row + r + c - 2)]
        if run.ends_tile:
            previous = last_swap - period
            last_load = (
                {
                    "single": previous + m + r + c - 1,
                    "double": previous + r,
                    "transit": previous,
                }[mode]
                if tiles > 1
                else load
            )
            self._consumed(run.tile, last_load + r - 1)
        self._swap, self._rows = last_swap, m
        self._full(last_row + r + c + TO_FULL + 1, run.rows, run.granules)


def core_times(
    config: DriftConfig,
    works: list[RegionWork],
    *,
    k: int,
    begin: int,
    accumulators: bool,
) -> CoreTimes:
    """Return when the arrays work.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    works : list of RegionWork
        Of the regions hh, hl, lh, ll.
    k : int
        Contraction.
    begin : int
        Cycle in which the first word of weights is taken.
    accumulators : bool
        Results are 32-bit accumulators.
    """
    events, times = Events(), CoreTimes()
    drain = Drain(config, events, accumulators)
    regions: list[_Region] = []

    def ready(half: int, tile: int, cycle: int) -> None:
        for region in (half, half + 2):
            if not works[region].empty:
                events.at(cycle, partial(regions[region].ready, tile))

    loader = Loader(config, -(-k // config.word_weights), works, begin, ready)
    for index, work in enumerate(works):
        regions.append(
            _Region(
                config,
                events,
                work,
                times.active[index],
                partial(loader.consumed, index),
                partial(drain.full, index),
            )
        )
    drain.freed = [region.freed for region in regions]
    loader.go()
    events.run()
    assert all(region.finished for region in regions), "the core waits for itself"
    times.weights_done = loader.done
    times.last_word = drain.last_word
    times.done = max(region.last_freed for region in regions) + 1
    return times
