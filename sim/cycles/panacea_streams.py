"""When Panacea's loader writes its words, and when its fetchers read a tile."""

from __future__ import annotations

from collections.abc import Iterator

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.sim.cycles.panacea_tiles import Layer, Modes, groups_of


class Ring:
    """Follow the room in a ``SliceMemory``."""

    def __init__(self, words: int):
        self._room = words
        self._freed: list[tuple[int, int]] = []  # cycle of ``tile_done``, words, not yet looked at
        self._next = 0

    def free(self, cycle: int, words: int) -> None:
        """Say that a tile's words are given up in ``cycle``."""
        self._freed.append((cycle, words))

    def write(self, cycle: int, words: int) -> int:
        """Return the cycle of the last of ``words`` writes, of which the first may be in ``cycle``."""
        while words:
            while self._next < len(self._freed) and self._freed[self._next][0] < cycle:
                self._room += self._freed[self._next][1]
                self._next += 1
            if not self._room:
                cycle = self._freed[self._next][0] + 1
                continue
            count = min(words, self._room)
            self._room -= count
            words -= count
            cycle += count
        return cycle - 1


class LoaderTimes:
    """Follow the loader; its records are asked for in their order."""

    def __init__(self, config: PanaceaConfig, modes: Modes, layer: Layer, steps: list[list[int]]):
        self.wmem, self.amem = Ring(config.wmem_words), Ring(config.amem_words)
        self.params_free: list[int] = [0, 0]  # by M step
        self._records = self._run(config, modes, layer, steps)
        self.weights: dict[
            tuple[int, int, int], int
        ] = {}  # (weight tile, N tile, K tile): its last word's cycle
        self.acts: dict[tuple[int, int, int], int] = {}  # (M step, N tile, K tile)

    def weight_tile(self, tile: int, n_tile: int, k_tile: int) -> int:
        """Return the cycle in which the record's last word is written."""
        while (tile, n_tile, k_tile) not in self.weights:
            next(self._records)
        return self.weights[tile, n_tile, k_tile]

    def act_tile(self, step: int, n_tile: int, k_tile: int) -> int:
        """Return the cycle in which the record's last word is written."""
        while (step, n_tile, k_tile) not in self.acts:
            next(self._records)
        return self.acts[step, n_tile, k_tile]

    def _run(
        self, config: PanaceaConfig, modes: Modes, layer: Layer, steps: list[list[int]]
    ) -> Iterator[None]:
        cycle = 1  # the next in which the loader does something; it plans in the first
        for step, tiles in enumerate(steps):
            for n_tile in range(len(layer.columns)):
                for k_tile in range(len(layer.depths)):
                    if n_tile == k_tile == 0:
                        cycle = max(cycle, self.params_free[step])
                        peas = sum(groups_of(layer.rows[tile]) for tile in tiles)
                        cycle += peas * config.params_beats
                    cycle += 1
                    if n_tile == 0 or modes.stream_weights:
                        for tile in tiles:
                            last = self.wmem.write(cycle, int(layer.weights.words[tile, k_tile]))
                            self.weights[tile, n_tile, k_tile] = last
                            cycle = last + 1
                            yield
                    if step == 0 or not modes.resident:
                        last = self.amem.write(cycle, int(layer.acts.words[n_tile, k_tile]))
                        self.acts[step, n_tile, k_tile] = last
                        cycle = last + 1
                        yield
