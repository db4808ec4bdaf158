"""Panacea's machine followed through a layer, from the stream to the drain."""

from __future__ import annotations

import numpy as np

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.pea import PIPELINE
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.panacea_drain import DrainTimes
from bitfabric.sim.cycles.panacea_pea import ClassTimes, FlexibleTimes, Marks, SubTile
from bitfabric.sim.cycles.panacea_streams import LoaderTimes
from bitfabric.sim.cycles.panacea_tiles import Ints, Layer, Modes, groups_of

COUNTED = 2  # cycles from the scheduler's decision to the counter of working cycles


def counters(
    config: PanaceaConfig,
    modes: Modes,
    works: Ints,
    total: int,
    ppu_stall: int,
    moved: dict[str, int] | None = None,
) -> Cycles:
    """Return the machine's counters, given the cycles in which some PEA issues products.

    Utilization counts the products of the dense GEMM, so that it exceeds 1 where enough of them are skipped. ``moved``
    is the traffic.
    """
    load, drain = int(works[0]) + COUNTED - 1, total - int(works[-1]) - COUNTED
    slices = modes.slicing.weight_slices * modes.slicing.act_slices
    products = modes.m * modes.k * modes.n * slices
    return Cycles(
        array_cycles=len(works),
        total=total,
        utilization=products / (config.multipliers * len(works)),
        machine_utilization=products / (config.multipliers * total),
        breakdown={
            "load": load,
            "compute": len(works),
            "stalled": total - load - len(works) - drain,
            "drain": drain,
            "ppu_stall": ppu_stall,
        },
        traffic=moved or {},
    )


class Walk:
    """Follow the machine through a layer, sub-tile by sub-tile: each depends on earlier ones only."""

    def __init__(self, config: PanaceaConfig, modes: Modes, layer: Layer, marks: Marks):
        self._config, self._modes, self._layer = config, modes, layer
        together = 2 if modes.dtp else 1
        tiles = range(len(self._layer.rows))
        self._steps = [list(tiles[start : start + together]) for start in tiles[::together]]
        self._loader = LoaderTimes(config, modes, layer, self._steps)
        self._drain = DrainTimes(config, modes)
        self._peas = (FlexibleTimes if config.flexible else ClassTimes)(config, marks)
        self._weight_done, self._act_done = 0, 0  # last issue of each fetcher
        # The first cycles in which a fetch may claim: weight banks by tile and age, sub-tiles in order.
        self._bank_free = [[np.zeros(config.peas, np.int64) for _ in range(2)] for _ in range(2)]
        self._slot_free = [0] * config.act_slots
        self._drained: list[int] = [0, 0]

    def run(self) -> tuple[int, int]:
        """Return the layer's cycles and those in which the post-processing unit keeps blocks waiting."""
        layer = self._layer
        read = 0
        finished = np.zeros(self._config.peas, np.int64)
        for step, tiles in enumerate(self._steps):
            for n_tile, columns in enumerate(layer.columns):
                for k_tile in range(len(layer.depths)):
                    finished = self._tile(step, tiles, n_tile, k_tile)
                # A PEA's last sum is in memory, its output counted, the drain's turn.
                complete = int(finished.max()) + PIPELINE + 1
                rows = [layer.rows[tile] for tile in tiles]
                offset = tiles[0] * self._config.m_step
                drained, read = self._drain.output(complete, offset, rows, n_tile, columns)
                self._drained.append(drained)
            self._loader.params_free.append(read + 1)
        return self._drain.total(), self._drain.stalled

    def _tile(self, step: int, tiles: list[int], n_tile: int, k_tile: int) -> Ints:
        """Fetch a tile and multiply it; return the cycle in which each PEA is done."""
        config, layer = self._config, self._layer
        active = [np.arange(config.peas) < groups_of(layer.rows[tile]) for tile in tiles]
        weights = np.zeros(config.peas, np.int64)
        for index, tile in enumerate(tiles):
            landed = self._fetch_weights(index, tile, n_tile, k_tile)
            weights = np.where(active[index], np.maximum(weights, landed + 1), weights)
        ready = weights
        if k_tile == 0:
            ready = np.maximum(ready, self._drained[-2] + 1)
        resident = self._modes.resident
        loaded = self._loader.act_tile(0 if resident else step, n_tile, k_tile)
        cycle = max(self._act_done + 1, loaded + 1, 1) + 2
        groups = groups_of(layer.columns[n_tile])
        finished = ready
        for group in range(groups):
            cycle = max(cycle, self._slot_free[0])
            cycle += int(layer.acts.cycles[n_tile, k_tile, group])
            dynamic = layer.dynamic[k_tile, :, n_tile * config.groups + group]
            finished = self._peas.run(
                SubTile(
                    k_valid=layer.depths[k_tile],
                    parts=layer.parts,
                    active=active,
                    dynamic=[self._of_peas(dynamic, tile) for tile in tiles],
                    ready=np.maximum(ready, cycle + 1),
                    filled=cycle,
                    same_tile=group > 0,
                )
            )
            self._slot_free = [*self._slot_free[1:], int(finished.max()) + 2]
        self._act_done = cycle - 1
        if not resident or step == len(self._steps) - 1:
            self._loader.amem.free(self._act_done, int(layer.acts.words[n_tile, k_tile]))
        for index in range(len(tiles)):
            free = self._bank_free[index]
            self._bank_free[index] = [free[1], finished + 2]
        return finished

    def _fetch_weights(self, index: int, tile: int, n_tile: int, k_tile: int) -> Ints:
        """Return the cycle in which each PEA's weights have landed."""
        layer = self._layer
        streams = self._modes.stream_weights
        loaded = self._loader.weight_tile(tile, n_tile if streams else 0, k_tile)
        cycle = max(self._weight_done + 1, loaded + 1, 1) + 2
        landed = np.zeros(self._config.peas, np.int64)
        free, needed = self._bank_free[index][0], layer.weights.cycles[tile, k_tile]
        for pea in range(groups_of(layer.rows[tile])):
            cycle = max(cycle, int(free[pea])) + int(needed[pea])
            landed[pea] = cycle
        self._weight_done = cycle - 1
        if streams or n_tile == len(layer.columns) - 1:
            self._loader.wmem.free(self._weight_done, int(layer.weights.words[tile, k_tile]))
        return landed

    def _of_peas(self, values: Ints, tile: int) -> Ints:
        peas = self._config.peas
        own = values[tile * peas : (tile + 1) * peas]
        return np.pad(own, (0, peas - len(own)))
