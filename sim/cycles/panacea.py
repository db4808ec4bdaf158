"""Cycle model of ``panacea``: to the cycle from a case's patterns, or nearly from densities alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.pea import PIPELINE
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.panacea_drain import DrainTimes
from bitfabric.sim.cycles.panacea_pea import Bools, ClassTimes, FlexibleTimes, Ints, Marks, SubTile
from bitfabric.sim.cycles.panacea_streams import LoaderTimes
from bitfabric.sim.cycles.panacea_tiles import Layer, groups_of
from bitfabric.sim.panacea_case import PanaceaCase

COUNTED = 2  # cycles from the scheduler's decision to the counter of working cycles


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Say where operator cycles go that a core without loss would not need.

    Members
    -------
    rounding, imbalance, overhead : float
        Operators without a product in a PEA that issues some; PEAs that issue none while another does; cycles in
        which none does. In operator cycles per operator: ``bound + rounding + imbalance + overhead == total``.
    bound : float
        Products per operator.
    """

    bound: float
    rounding: float
    imbalance: float
    overhead: float


def case_cycles(config: PanaceaConfig, case: PanaceaCase) -> Cycles:
    """Return the cycles of a case, equal to the RTL's counters when the streams do not stall.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    return simulate(config, case)[0]


def case_losses(config: PanaceaConfig, case: PanaceaCase) -> Losses:
    """Return where a case's cycles go.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    cycles, busy = simulate(config, case)
    operators = config.peas * config.operators
    bound = case.result.outer_products / operators
    issuing = float(busy.sum()) / config.peas
    return Losses(
        bound=bound,
        rounding=issuing - bound,
        imbalance=float(busy.any(axis=0).sum()) - issuing,
        overhead=cycles.total - float(busy.any(axis=0).sum()),
    )


def simulate(config: PanaceaConfig, case: PanaceaCase) -> tuple[Cycles, Bools]:
    """Return the cycles of a case, and in which of them each PEA issues products: (peas, cycles)."""
    marks = Marks(config.peas)
    total, ppu_stall = _Walk(config, case, marks).run()
    busy = marks.busy()
    works = np.flatnonzero(busy.any(axis=0))
    load, compute = int(works[0]) + COUNTED - 1, len(works)
    drain = total - int(works[-1]) - COUNTED
    return cycles_of(config, case, load, compute, drain, total, ppu_stall), busy


def cycles_of(
    config: PanaceaConfig, case: Any, load: int, compute: int, drain: int, total: int, ppu_stall: int
) -> Cycles:
    """Return the counters, with the products of the dense GEMM per multiplier and cycle as utilization."""
    slicing = case.slicing
    dense = case.m * case.k * case.n * slicing.weight_slices * slicing.act_slices
    return Cycles(
        array_cycles=compute,
        total=total,
        utilization=dense / (config.multipliers * compute),
        machine_utilization=dense / (config.multipliers * total),
        breakdown={
            "load": load,
            "compute": compute,
            "stalled": total - load - compute - drain,
            "drain": drain,
            "ppu_stall": ppu_stall,
        },
    )


class _Walk:
    """Follow the machine through a layer, sub-tile by sub-tile: each depends on earlier ones only."""

    def __init__(self, config: PanaceaConfig, case: PanaceaCase, marks: Marks):
        self._config, self._case = config, case
        self._layer = Layer.of(config, case)
        together = 2 if case.dtp else 1
        tiles = range(len(self._layer.rows))
        self._steps = [list(tiles[start : start + together]) for start in tiles[::together]]
        self._loader = LoaderTimes(config, case, self._layer, self._steps)
        self._drain = DrainTimes(config, case)
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
        last_n = n_tile == len(layer.columns) - 1
        active = [np.arange(config.peas) < groups_of(layer.rows[tile]) for tile in tiles]
        weights = np.zeros(config.peas, np.int64)
        for index, tile in enumerate(tiles):
            landed = self._fetch_weights(index, tile, k_tile, last_n)
            weights = np.where(active[index], np.maximum(weights, landed + 1), weights)
        ready = weights
        if k_tile == 0:
            ready = np.maximum(ready, self._drained[-2] + 1)
        resident = self._case.resident
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

    def _fetch_weights(self, index: int, tile: int, k_tile: int, last_n: bool) -> Ints:
        """Return the cycle in which each PEA's weights have landed."""
        layer = self._layer
        loaded = self._loader.weight_tile(tile, k_tile)
        cycle = max(self._weight_done + 1, loaded + 1, 1) + 2
        landed = np.zeros(self._config.peas, np.int64)
        free, needed = self._bank_free[index][0], layer.weights.cycles[tile, k_tile]
        for pea in range(groups_of(layer.rows[tile])):
            cycle = max(cycle, int(free[pea])) + int(needed[pea])
            landed[pea] = cycle
        self._weight_done = cycle - 1
        if last_n:
            self._loader.wmem.free(self._weight_done, int(layer.weights.words[tile, k_tile]))
        return landed

    def _of_peas(self, values: Ints, tile: int) -> Ints:
        peas = self._config.peas
        own = values[tile * peas : (tile + 1) * peas]
        return np.pad(own, (0, peas - len(own)))
