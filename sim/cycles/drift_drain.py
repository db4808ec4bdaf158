"""Cycle model of Drift's drain, which the four arrays share: banks one after the other, the regions in turn."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.sim.cycles.drift_output import drain_word_cycles

Event = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Hold a complete bank of accumulators.

    Members
    -------
    full : int
        First cycle in which it could be picked.
    rows, granules : int
        Rows and columns of it that are used.
    """

    full: int
    rows: int
    granules: int


@dataclass(frozen=True, kw_only=True)
class Drained:
    """Hold when a bank was drained: the cycle in which it was picked, and in which it was freed."""

    region: int
    picked: int
    freed: int


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
        self._full: list[deque[tuple[int, int]]] = [deque() for _ in range(4)]  # rows, granules
        self._idle_at, self._latest = 0, 3
        self.freed: list[Event] = []  # what to tell each region
        self.last_word = 0
        self.times: list[Drained] = []

    def full(self, region: int, cycle: int, rows: int, granules: int) -> None:
        """Note that a bank can be picked from ``cycle`` on."""

        def arrive(now: int) -> None:
            self._full[region].append((rows, granules))
            self._events.at(now, self._pick, late=True)

        self._events.at(cycle, arrive)

    def _pick(self, now: int) -> None:
        waiting = [(self._latest + step) % 4 for step in range(1, 5) if self._full[(self._latest + step) % 4]]
        if now < self._idle_at or not waiting:
            return
        region = self._latest = waiting[0]
        rows, granules = self._full[region].popleft()
        words = drain_word_cycles(rows, granules, self._config, self._accumulators)
        end = self._idle_at = self.last_word = now + words
        self.times.append(Drained(region=region, picked=now, freed=end))
        self._events.at(end, self.freed[region])
        self._events.at(end, self._pick, late=True)


def drain_times(
    config: DriftConfig, banks: Sequence[Sequence[Bank]], *, accumulators: bool = False
) -> list[Drained]:
    """Return when each bank is drained, in the order in which they are.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    banks : sequence of sequences of Bank
        Those of the regions hh, hl, lh, ll, each in the order in which they become full.
    accumulators : bool
        Results are 32-bit accumulators.
    """
    events = Events()
    drain = Drain(config, events, accumulators)
    drain.freed = [lambda now: None] * len(banks)
    for region, full in enumerate(banks):
        for bank in full:
            drain.full(region, bank.full, bank.rows, bank.granules)
    events.run()
    return drain.times
