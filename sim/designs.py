"""What each design needs to be simulated: its cycle model, and how a case becomes a step of a job."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.errors import check_choice
from bitfabric.sim.case import GemmCase
from bitfabric.sim.cycles import Cycles, systolic_os, systolic_ws
from bitfabric.sim.gemm_job import gemm_step
from bitfabric.sim.job import Step


@dataclass(frozen=True)
class SimulatedDesign:
    """Join a design to its cycle model and its driver.

    Members
    -------
    name : str
        As in ``hdl.registry.DESIGNS``.
    gemm_cycles : callable
        ``gemm_cycles(config, m, k, n, requantize=False) -> Cycles``.
    make_step : callable
        ``make_step(config, name, case, cycles) -> Step``.
    """

    name: str
    gemm_cycles: Callable[..., Cycles]
    make_step: Callable[[Any, str, GemmCase, Cycles], Step]

    def cycles(self, config: Any, case: GemmCase) -> Cycles:
        """Return what the cycle model says of ``case``."""
        return self.gemm_cycles(config, case.m, case.k, case.n, requantize=case.requantized)

    def step(self, config: Any, case: GemmCase) -> Step:
        """Return the run of ``case``.

        Raises
        ------
        ParameterError
            If the machine cannot compute it.
        """
        case.check(config)
        return self.make_step(config, self.name, case, self.cycles(config, case))


SIMULATED = {
    design.name: design
    for design in (
        SimulatedDesign("systolic_ws", systolic_ws.gemm_cycles, gemm_step),
        SimulatedDesign("systolic_os", systolic_os.gemm_cycles, gemm_step),
    )
}
assert SIMULATED.keys() == DESIGNS.keys(), "every design is emitted, modelled and simulated"


def simulated(name: str) -> SimulatedDesign:
    """Return the design ``name``.

    Raises
    ------
    ParameterError
        If there is none.
    """
    return SIMULATED[check_choice("design", name, tuple(SIMULATED))]
