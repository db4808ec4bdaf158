"""Cycle model of ``panacea``: to the cycle from a case's patterns, or nearly from densities alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.panacea_fast import gemm_cycles
from bitfabric.sim.cycles.panacea_pea import Bools, Marks
from bitfabric.sim.cycles.panacea_tiles import Layer, Modes
from bitfabric.sim.cycles.panacea_traffic import traffic
from bitfabric.sim.cycles.panacea_walk import Walk, counters
from bitfabric.sim.panacea_case import PanaceaCase

__all__ = ["Losses", "case_cycles", "case_losses", "gemm_cycles"]


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Say where the cycles go, in cycles of the whole core: the four sum to the total.

    Members
    -------
    bound : float
        Products per operator: what a core without loss would need.
    rounding : float
        Operators without a product in a PEA that issues some: sub-tiles do not fill whole cycles.
    imbalance : float
        PEAs that issue none while another does.
    overhead : float
        No PEA issues any: loads, drains, waiting.
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
    return _run(config, case)[0]


def case_losses(config: PanaceaConfig, case: PanaceaCase) -> Losses:
    """Return where a case's cycles go.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    cycles, busy = _run(config, case)
    bound = case.result.outer_products / (config.peas * config.operators)
    issuing, working = float(busy.sum()) / config.peas, float(busy.any(axis=0).sum())
    return Losses(
        bound=bound, rounding=issuing - bound, imbalance=working - issuing, overhead=cycles.total - working
    )


def _run(config: PanaceaConfig, case: PanaceaCase) -> tuple[Cycles, Bools]:
    case.check(config)
    modes, marks = Modes.of(case), Marks(config.peas)
    layer = Layer.of(config, modes, case.result.weight_keep, case.result.act_keep.T)
    total, ppu_stall = Walk(config, modes, layer, marks).run()
    busy = marks.busy()
    works = np.flatnonzero(busy.any(axis=0))
    return counters(config, modes, works, total, ppu_stall, traffic(config, modes, layer)), busy
