"""Cycle model of Drift's core: four arrays that wait for weights and accumulators, and the drain that they share."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bitfabric.hdl.drift.config import WEIGHT_SLOTS, DriftConfig
from bitfabric.hdl.drift.drain import PLANES
from bitfabric.hdl.drift.sequencer import TO_FULL

Event = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class RegionWork:
    """Hold what a region does.

    Members
    -------
    rows, columns : int
        Its groups.
    m : int
        Activation rows.
    nibbles : int
        Of a row's string.
    granules : int
        Of its half's weights.
    """

    rows: int
    columns: int
    m: int
    nibbles: int
    granules: int

    @property
    def empty(self) -> bool:
        """There is nothing to do."""
        return self.m == 0 or self.granules == 0


@dataclass(frozen=True, kw_only=True)
class Run:
    """Hold the K tiles of an N tile and a chunk of rows."""

    tile: int
    rows: int
    granules: int
    ends_tile: bool


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


class _Events:
    """Call functions in the order of their cycles; within a cycle those that are ``late`` come last."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, bool, int, Event]] = []
        self._count = 0

    def at(self, cycle: int, call: Event, *, late: bool = False) -> None:
        heapq.heappush(self._heap, (cycle, late, self._count, call))
        self._count += 1

    def run(self) -> None:
        while self._heap:
            cycle, _, _, call = heapq.heappop(self._heap)
            call(cycle)


class _Drain:
    """Drain complete banks one after the other, the regions in turn."""

    def __init__(self, config: DriftConfig, events: _Events, planes: int) -> None:
        self._config, self._events, self._planes = config, events, planes
        self._full: list[deque[Run]] = [deque() for _ in range(4)]
        self._idle_at, self._latest = 0, 3
        self.freed: list[Event] = []  # what to tell each region
        self.last_word = 0

    def full(self, region: int, cycle: int, run: Run) -> None:
        """Note that a bank can be picked from ``cycle`` on."""

        def arrive(now: int) -> None:
            self._full[region].append(run)
            self._events.at(now, self._pick, late=True)

        self._events.at(cycle, arrive)

    def _pick(self, now: int) -> None:
        waiting = [(self._latest + step) % 4 for step in range(1, 5) if self._full[(self._latest + step) % 4]]
        if now < self._idle_at or not waiting:
            return
        region = self._latest = waiting[0]
        run = self._full[region].popleft()
        words = -(-run.granules // self._config.word_granules)
        end = self._idle_at = self.last_word = now + run.rows * words * self._planes
        self._events.at(end, self.freed[region])
        self._events.at(end, self._pick, late=True)


class _Region:
    """Run a region's tiles: a run of K tiles is timed at once, when its weights and its bank are there."""

    def __init__(
        self,
        config: DriftConfig,
        events: _Events,
        work: RegionWork,
        intervals: list[tuple[int, int]],
        consumed: Callable[[int, int], None],
        full: Callable[[int, Run], None],
    ) -> None:
        self._config, self._events, self._work = config, events, work
        self._intervals, self._consumed, self._full = intervals, consumed, full
        self._runs = [] if work.empty else _runs(config, work)
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
        self._full(last_row + r + c + TO_FULL + 1, run)


def _runs(config: DriftConfig, work: RegionWork) -> list[Run]:
    """Return a region's runs: N tiles, then chunks of rows."""
    tiles, depth = -(-work.granules // work.columns), config.acc_depth
    chunks = [min(depth, work.m - first) for first in range(0, work.m, depth)]
    return [
        Run(
            tile=tile,
            rows=rows,
            granules=min(work.columns, work.granules - tile * work.columns),
            ends_tile=number == len(chunks) - 1,
        )
        for tile in range(tiles)
        for number, rows in enumerate(chunks)
    ]


def merged_order(high: int, low: int) -> list[int]:
    """Return the half, 0 or 1, of every granule in the order in which they are sent."""
    order, i, j = [], 0, 0
    while i < high or j < low:
        if i < high and (j == low or (i + 1) * low <= (j + 1) * high):
            order.append(0)
            i += 1
        else:
            order.append(1)
            j += 1
    return order


class _Loader:
    """Bring granules, a word a cycle, as long as the slots of their half allow."""

    def __init__(
        self,
        config: DriftConfig,
        words: int,
        works: list[RegionWork],
        begin: int,
        ready: Callable[[int, int, int], None],
    ) -> None:
        self._words, self._ready = words, ready
        self._slots = min(config.weight_words // words, WEIGHT_SLOTS)
        self._order = merged_order(works[0].granules, works[1].granules)
        self._counts = [works[0].granules, works[1].granules]
        self._columns = [works[0].columns, works[1].columns]
        self._works = works
        self._sent = [0, 0]
        self._next = 0
        self._cycle = begin
        self._consumed: list[dict[int, int]] = [{}, {}, {}, {}]
        self.done = 0

    def consumed(self, region: int, tile: int, cycle: int) -> None:
        """Note that a region reads the last row of a tile's weights in ``cycle``."""
        self._consumed[region][tile] = cycle
        self.go()

    def go(self) -> None:
        while self._next < len(self._order):
            half = self._order[self._next]
            tile = self._sent[half] // self._columns[half]
            start = self._cycle
            if tile >= self._slots:
                for region in (half, half + 2):
                    if self._works[region].empty:
                        continue
                    freed = self._consumed[region].get(tile - self._slots)
                    if freed is None:
                        return
                    start = max(start, freed + 2)
            self._cycle = start + self._words
            self._next += 1
            self._sent[half] += 1
            if self._sent[half] % self._columns[half] == 0 or self._sent[half] == self._counts[half]:
                self._ready(half, tile, self._cycle)
        self.done = self._cycle


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
    events, times = _Events(), CoreTimes()
    drain = _Drain(config, events, PLANES if accumulators else 1)
    regions: list[_Region] = []

    def ready(half: int, tile: int, cycle: int) -> None:
        for region in (half, half + 2):
            if not works[region].empty:
                events.at(cycle, lambda now, region=region: regions[region].ready(tile, now))  # type: ignore[misc]

    loader = _Loader(config, -(-k // config.word_weights), works, begin, ready)
    for index, work in enumerate(works):
        regions.append(
            _Region(
                config,
                events,
                work,
                times.active[index],
                lambda tile, cycle, index=index: loader.consumed(index, tile, cycle),  # type: ignore[misc]
                lambda cycle, run, index=index: drain.full(index, cycle, run),  # type: ignore[misc]
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
