"""What Drift's four arrays share, event by event: the loader that brings weights, the drain that empties banks."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from bitfabric.hdl.drift.config import WEIGHT_SLOTS, DriftConfig
from bitfabric.sim.cycles.drift_output import drain_word_cycles
from bitfabric.sim.drift_records import merge_order

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


def runs_of(config: DriftConfig, work: RegionWork) -> list[Run]:
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


class Events:
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


class Drain:
    """Drain complete banks one after the other, the regions in turn."""

    def __init__(self, config: DriftConfig, events: Events, accumulators: bool) -> None:
        self._config, self._events, self._accumulators = config, events, accumulators
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
        words = drain_word_cycles(run.rows, run.granules, self._config, self._accumulators)
        end = self._idle_at = self.last_word = now + words
        self._events.at(end, self.freed[region])
        self._events.at(end, self._pick, late=True)


class Loader:
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
        high = works[0].granules
        self._order = [int(number >= high) for number in merge_order(high, works[1].granules)]
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
