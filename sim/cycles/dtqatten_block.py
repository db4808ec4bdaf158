"""When what happens in a DTQAtten block: tiles, bands and heads through the machine, event by event."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.dealer import TO_ARRAY
from bitfabric.hdl.dtqatten.score_port import ScorePort
from bitfabric.hdl.dtqatten.tile import TILE_DEPTH
from bitfabric.sim.cycles.dtqatten_fetch import FetchTimes
from bitfabric.sim.cycles.dtqatten_output import TILE_DONE_LATENCY, SenderTimes
from bitfabric.sim.cycles.dtqatten_softmax import SoftmaxTimer
from bitfabric.sim.cycles.dtqatten_tiles import HeadTiles, Tile
from bitfabric.sim.cycles.vssa import start as tile_start

NEVER = 1 << 60
# From a StreamFifo's input to its output.
FIFO_LATENCY = 2


@dataclass
class ArrayState:
    """Hold what an array does: the tile inside with its end, and the one in its buffer."""

    free: int = 0  # from when on it may be dealt a tile
    full: int = NEVER
    inside: Tile | None = None
    waiting: tuple[Tile, int] | None = None
    taken: int | None = None
    head: int = 0


@dataclass
class BandWalk:
    """Follow a ``BandOrder``: the index of the next band of all heads, and the cycle in which it is looked at."""

    at: int
    index: int = 0
    counts: dict[tuple[int, int], int] = field(default_factory=dict)
    complete: dict[tuple[int, int], int] = field(default_factory=dict)

    def count(self, head: int, band: int, needed: int, seen: int) -> None:
        """Note a tile that counts from cycle ``seen`` on."""
        key = (head, band)
        self.counts[key] = self.counts.get(key, 0) + 1
        if self.counts[key] == needed:
            self.complete[key] = seen


class BlockEvents:
    """Run a block.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    head : HeadTiles
        What a head consists of.
    fetch : FetchTimes
        When its data comes.
    heads : int
        H.
    listed : int
        Cycle from which on the tiles are listed.
    per_token : bool
        Tokens have scales of their own.

    Members
    -------
    runs : list of (Tile, int, int)
        Tiles in the order of their starts: with first and last cycle.
    qk_loaded, v_loaded : list of int
        Cycles of the fetcher's strobes.
    heads_dealt : list of (int, int, int, int)
        For each head the cycles of its first deal, of the last scores that left an array, of its first result
        tile's deal and of the last results that left.
    last_importance : int
        Cycle of the last addition.
    scores_finished, results_finished : int
        From when on no band will follow.
    results_left : int
        From when on no tile of results is in an array.
    """

    def __init__(
        self,
        config: DtqattenConfig,
        head: HeadTiles,
        fetch: FetchTimes,
        *,
        heads: int,
        listed: int,
        per_token: bool,
        sender: SenderTimes,
    ):
        self._config, self._head, self._fetch, self._heads = config, head, fetch, heads
        self._softmax = SoftmaxTimer(config, head.kept, per_token)
        self._sender = sender
        self._arrays = [ArrayState() for _ in range(config.arrays)]
        self._ports = [0] * config.unload_ports
        self._score_tiles = -(-head.kept // config.rows)
        self._channel_tiles = -(-head.head_size // config.rows)
        first = head.bands[0].gap - 1
        self._scores, self._results = BandWalk(listed + first), BandWalk(listed + first)
        self._wakes: list[int] = []
        self._scheduled: set[int] = set()
        # The list is ahead of the dealer by the tiles that fit between them.
        self._pushed = listed - 1
        self._available = NEVER
        self._popped: list[int] = []
        self._next, self._deal_free = 0, 0
        self._numerators: dict[tuple[int, int], int] = {}
        self._factors: dict[tuple[int, int], int] = {}
        self._sent: dict[tuple[int, int], int] = {}
        self._inside_head: dict[int, int] = {}
        self.runs: list[tuple[Tile, int, int]] = []
        self.qk_loaded: list[int] = []
        self.v_loaded: list[int] = []
        self.heads_dealt = [[NEVER, 0, NEVER, 0] for _ in range(heads)]
        self._results_open = [0] * (heads + 1)
        self._results_left = [0] * heads
        self.last_importance = 0
        self.results_left = 0
        self._load(-1)
        self._load(-1)
        self._list()
        self._run()

    def _wake(self, cycle: int) -> None:
        if cycle < NEVER and cycle not in self._scheduled:
            self._scheduled.add(cycle)
            heapq.heappush(self._wakes, cycle)

    def _run(self) -> None:
        self._wake(self._scores.at)
        self._wake(self._results.at)
        while self._wakes:
            now = heapq.heappop(self._wakes)
            self._unload(now)
            self._deal(now)
            self._soften(now)
            self._send(now)
        tail = self._head.after
        self.scores_finished = self._scores.at + tail
        self.results_finished = self._results.at + tail
        assert self._next == self._total, "every tile is dealt"

    @property
    def _total(self) -> int:
        return self._heads * len(self._head.tiles)

    def _load(self, retired: int) -> None:
        """Fetch another head, if there is one."""
        if len(self.qk_loaded) < self._heads:
            qk, v = self._fetch.head(retired)
            self.qk_loaded.append(qk)
            self.v_loaded.append(v)
            self._wake(qk + 1)
            self._wake(v + 1)

    def _list(self) -> None:
        """List the next tile."""
        if self._next == self._total:
            self._available = NEVER
            return
        tile = self._head.tiles[self._next % len(self._head.tiles)]
        gap = tile.gap
        if self._next and self._next % len(self._head.tiles) == 0:
            gap += self._head.after
        self._pushed += gap
        if len(self._popped) >= TILE_DEPTH:
            self._pushed = max(self._pushed, self._popped[-TILE_DEPTH] + 1)
        after = self._popped[-1] + 1 if self._popped else 0
        self._available = max(self._pushed + FIFO_LATENCY, after)
        self._wake(self._available)

    def _ready(self, tile: Tile, head: int) -> int:
        """Return from when on a tile's operands are there."""
        if not tile.pv:
            return self.qk_loaded[head] + 1 if head < len(self.qk_loaded) else NEVER
        ready = max(self._numerators.get((head, tile.band), NEVER), self.v_loaded[head] + 1)
        if tile.band_first and head:
            ready = max(ready, self._sent.get((head - 1, tile.band), NEVER))
        return ready

    def _deal(self, now: int) -> None:
        """Deal the next tile if everything is there in this cycle."""
        if self._next == self._total or now < max(self._available, self._deal_free):
            return
        head, index = divmod(self._next, len(self._head.tiles))
        tile = self._head.tiles[index]
        free = [array for array in self._arrays if array.free <= now]
        if now < self._ready(tile, head) or not free:
            return
        array = free[0]
        array.free = NEVER
        words = self._head.words(tile)
        self._deal_free = now + words
        self._wake(self._deal_free)
        array.waiting = (tile, now + TO_ARRAY)
        self._inside_head[id(array)] = head
        if array.inside is None:
            self._start(array, head)
        dealt = self.heads_dealt[head]
        dealt[2 if tile.pv else 0] = min(dealt[2 if tile.pv else 0], now)
        self._popped.append(now)
        self._next += 1
        if tile.head_last:
            self._load(now + words)
        self._list()

    def _start(self, array: ArrayState, head: int) -> None:
        """Begin with the tile in an array's buffer."""
        assert array.waiting is not None
        tile, written = array.waiting
        first = tile_start(written, array.taken)
        times, _ = self._head.times(tile)
        array.inside, array.waiting = tile, None
        array.full = first + times.full
        array.free = first + times.released + 1
        array.head = head
        self.runs.append((tile, first, array.full - 1))
        self._wake(array.full)
        self._wake(array.free)

    def _unload(self, now: int) -> None:
        """Grant each port to the first array whose results wait for it."""
        config = self._config
        for port in range(config.unload_ports):
            if now < self._ports[port]:
                continue
            for array in self._arrays:
                tile = array.inside
                if tile is None or now < array.full or tile.tile % config.unload_ports != port:
                    continue
                head = array.head
                if tile.pv and now < self._factors.get((head, tile.band), NEVER):
                    continue
                self._take(now, port, array, tile, head)
                break

    def _take(self, now: int, port: int, array: ArrayState, tile: Tile, head: int) -> None:
        rows = self._config.rows
        self._ports[port] = now + rows + 1
        self._wake(self._ports[port])
        array.taken, array.inside, array.full = now, None, NEVER
        if array.waiting is not None:
            self._start(array, self._inside_head[id(array)])
        dealt = self.heads_dealt[head]
        if tile.pv:
            seen = now + rows + TILE_DONE_LATENCY + 1
            self._results.count(head, tile.band, self._channel_tiles, seen)
            self._results_left[head] += 1
            self.results_left = max(self.results_left, seen)
            if self._results_left[head] == self._channel_tiles * len(self._head.bands):
                self._results_open[head + 1] = self.results_left
            dealt[3] = max(dealt[3], now + rows)
        else:
            seen = now + rows + ScorePort.LATENCY + 2
            self._scores.count(head, tile.band, self._score_tiles, seen)
            dealt[1] = max(dealt[1], now + rows)
        self._wake(seen)

    def _soften(self, now: int) -> None:
        """Pass the next band to the softmax unit once its scores are complete."""
        walk, bands = self._scores, self._head.bands
        head, index = divmod(walk.index, len(bands))
        if head == self._heads or now < walk.at:
            return
        band = bands[index]
        if now < walk.complete.get((head, band.number), NEVER) or (index == 0 and now < self._open(head)):
            return
        times = self._softmax.take(now, band.columns)
        self._numerators[head, band.number] = times.numerators_done + 1
        self._factors[head, band.number] = times.factors_done + 1
        self._wake(times.numerators_done + 1)
        self._wake(times.factors_done + 1)
        self.last_importance = times.importance_done
        self._advance(walk, times.taken)

    def _open(self, head: int) -> int:
        """Return from when on the results of the head before have left the arrays."""
        if head == 0:
            return 0
        return self._results_open[head] or NEVER

    def _send(self, now: int) -> None:
        """Send the next band once its results are complete."""
        walk, bands = self._results, self._head.bands
        head, index = divmod(walk.index, len(bands))
        if head == self._heads or now < walk.at:
            return
        band = bands[index]
        if now < walk.complete.get((head, band.number), NEVER):
            return
        sent = self._sender.band(now, band.columns)
        self._sent[head, band.number] = sent.sent + 1
        self._wake(sent.sent + 1)
        self._advance(walk, sent.accepted)

    def _advance(self, walk: BandWalk, taken: int) -> None:
        walk.index += 1
        walk.at = taken + 1
        bands = self._head.bands
        if walk.index < self._heads * len(bands):
            index = walk.index % len(bands)
            walk.at += bands[index].gap - 1 + (self._head.after if index == 0 else 0)
        self._wake(walk.at)
