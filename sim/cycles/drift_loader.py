"""The work of Drift's four arrays, and the loader that brings the weights they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bitfabric.hdl.drift.config import WEIGHT_SLOTS, DriftConfig
from bitfabric.sim.drift_records import merge_order


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
