"""What each design needs to be simulated: its cases, its cycle model, and how a case becomes a step of a job."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.sim import case as gemm_case
from bitfabric.sim import (
    drift_limits,
    drift_random,
    drq_limits,
    drq_model,
    drq_random,
    dtqatten_limits,
    dtqatten_random,
    models,
    panacea_limits,
    panacea_random,
)
from bitfabric.sim.cycles import Cycles, systolic_os, systolic_ws
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_job import drift_step
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_job import drq_step
from bitfabric.sim.dtqatten_case import AttentionCase
from bitfabric.sim.dtqatten_job import attention_step
from bitfabric.sim.gemm_job import gemm_step
from bitfabric.sim.job import Step
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_job import panacea_step


class Case(Protocol):
    """Know a GEMM of M activation rows, contraction K and N output channels."""

    @property
    def name(self) -> str:
        """What a report calls it."""

    @property
    def m(self) -> int:
        """Activation rows."""

    @property
    def k(self) -> int:
        """Contraction."""

    @property
    def n(self) -> int:
        """Output channels."""

    def check(self, config: Any) -> None:
        """Refuse what ``config`` cannot compute."""


@dataclass(frozen=True, kw_only=True)
class SimulatedDesign:
    """Join a design to its cases, its cycle model and its driver.

    Members
    -------
    name : str
        As in ``hdl.registry.DESIGNS``.
    model : callable
        ``model(config, m, k, n, requantize=False) -> Cycles``, with the keywords in ``shares``.
    case_cycles : callable
        ``case_cycles(config, case) -> Cycles``.
    make_step : callable
        ``make_step(config, name, case, cycles) -> Step``.
    load_case : callable
        ``load_case(path) -> case``.
    model_case : callable
        ``model_case(spec, config) -> case``: a layer of a real model.
    random_case, random_cases : callable
        ``random_case(config, rng, m, k, n) -> case``; ``random_cases(config, seed, count) -> list of cases``.
    check_gemm : callable
        ``check_gemm(config, m, k, n)`` refuses dimensions that a machine does not take.
    describe : callable
        ``describe(config) -> str``: the size of the array.
    shares : tuple of str
        What else cycles depend on: shares of the operands, as ``weight_sparsity``.
    model_preset : str
        The preset for real models, unless another is named.
    check_sequence : callable
        ``check_sequence(cases)`` refuses a case that takes what none before it leaves in the machine.
    outputs : callable
        ``outputs(case) -> int``: the results of a case.
    remarks : callable
        ``remarks(config, case, cycles) -> dict`` of figures, by their names, that only this design has.
    """

    name: str
    model: Callable[..., Cycles]
    case_cycles: Callable[[Any, Any], Cycles]
    make_step: Callable[[Any, str, Any, Cycles], Step]
    load_case: Callable[[Path], Case]
    model_case: Callable[[str, Any], Case]
    random_case: Callable[..., Case]
    random_cases: Callable[[Any, int, int], list[Any]]
    check_gemm: Callable[[Any, int, int, int], None]
    describe: Callable[[Any], str]
    shares: tuple[str, ...] = ()
    model_preset: str = "medium"
    check_sequence: Callable[[Sequence[Any]], None] = lambda cases: None
    outputs: Callable[[Any], int] = lambda case: case.m * case.n
    remarks: Callable[[Any, Any, Cycles], dict[str, Any]] = lambda config, case, cycles: {}

    def gemm_cycles(
        self, config: Any, m: int, k: int, n: int, *, requantize: bool = False, **shares: float | None
    ) -> Cycles:
        """Return what the cycle model says of a GEMM.

        Raises
        ------
        ParameterError
            If a dimension is not allowed, or a share is given on which the design's cycles do not depend.
        """
        given = {name: value for name, value in shares.items() if value is not None}
        for name, value in given.items():
            if name not in self.shares:
                kind = "skips nothing" if name.endswith("sparsity") else "has one precision"
                if self.shares and not name.endswith("sparsity"):
                    kind = f"takes {' and '.join(self.shares)}"
                raise ParameterError(name, value, f"left out: {self.name} {kind}")
            if not 0 <= value <= 1:
                raise ParameterError(name, value, "in [0, 1]")
        self.check_gemm(config, m, k, n)
        return self.model(config, m, k, n, requantize=requantize, **given)

    def step(self, config: Any, case: Case, cycles: Cycles | None = None) -> Step:
        """Return the run of ``case``; ``cycles`` is what the cycle model says of it, if that is known.

        Raises
        ------
        ParameterError
            If the machine cannot compute it.
        """
        case.check(config)
        return self.make_step(config, self.name, case, cycles or self.case_cycles(config, case))


def _systolic(name: str, gemm_cycles: Callable[..., Cycles]) -> SimulatedDesign:
    return SimulatedDesign(
        name=name,
        model=gemm_cycles,
        case_cycles=lambda config, case: gemm_cycles(
            config, case.m, case.k, case.n, requantize=case.requantized
        ),
        make_step=gemm_step,
        load_case=gemm_case.GemmCase.load,
        model_case=models.model_case,
        random_case=gemm_case.random_case,
        random_cases=gemm_case.random_cases,
        check_gemm=lambda config, m, k, n: config.check_gemm(m, k, n),
        describe=lambda config: f"{config.rows}x{config.columns} PEs",
    )


def _model(design: str, function: str) -> Callable[..., Any]:
    """Return a function of a design's cycle model, which is loaded when it is called."""

    def call(*args: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(f"bitfabric.sim.cycles.{design}"), function)(*args, **options)

    return call


PANACEA = SimulatedDesign(
    name="panacea",
    model=_model("panacea", "gemm_cycles"),
    case_cycles=_model("panacea", "case_cycles"),
    make_step=panacea_step,
    load_case=PanaceaCase.load,
    model_case=models.panacea_model_case,
    random_case=panacea_random.random_case,
    random_cases=panacea_random.random_cases,
    check_gemm=panacea_limits.check_dimensions,
    describe=lambda config: (
        f"{config.peas} PEAs of "
        + (
            f"{config.operators} flexible operators"
            if config.flexible
            else f"{config.dynamic_operators} dynamic and {config.static_operators} static operators"
        )
    ),
    shares=("weight_sparsity", "act_sparsity"),
    model_preset="paper",
    check_sequence=panacea_limits.check_sequence,
)

DRIFT = SimulatedDesign(
    name="drift",
    model=_model("drift", "gemm_cycles"),
    case_cycles=_model("drift", "case_cycles"),
    make_step=drift_step,
    load_case=DriftCase.load,
    model_case=models.drift_model_case,
    random_case=drift_random.random_case,
    random_cases=drift_random.random_cases,
    check_gemm=drift_limits.check_dimensions,
    describe=lambda config: f"{config.rows}x{config.columns} BitGroups",
    shares=("weight_low", "act_low"),
    model_preset="paper",
    check_sequence=drift_limits.check_sequence,
    outputs=lambda case: case.m_out * case.n,
    remarks=_model("drift", "remarks"),
)

DTQATTEN = SimulatedDesign(
    name="dtqatten",
    model=_model("dtqatten", "gemm_cycles"),
    case_cycles=_model("dtqatten", "case_cycles"),
    make_step=attention_step,
    load_case=AttentionCase.load,
    model_case=models.dtqatten_model_case,
    random_case=dtqatten_random.random_case,
    random_cases=dtqatten_random.random_cases,
    check_gemm=dtqatten_limits.check_dimensions,
    describe=lambda config: f"{config.arrays} arrays of {config.rows}x{config.columns} 4-bit PEs",
    shares=("token_low", "token_pruned"),
    model_preset="paper",
    check_sequence=dtqatten_limits.check_sequence,
    outputs=lambda case: case.heads * case.kept * case.head_size,
    remarks=_model("dtqatten", "remarks"),
)

DRQ = SimulatedDesign(
    name="drq",
    model=_model("drq", "gemm_cycles"),
    case_cycles=_model("drq", "case_cycles"),
    make_step=drq_step,
    load_case=DrqCase.load,
    model_case=drq_model.drq_model_case,
    random_case=drq_random.random_case,
    random_cases=drq_random.random_cases,
    check_gemm=drq_limits.check_dimensions,
    describe=lambda config: f"{config.rows}x{config.columns} 4-bit PEs",
    shares=("act_low",),
    model_preset="paper",
)

SIMULATED = {
    design.name: design
    for design in (
        _systolic("systolic_ws", systolic_ws.gemm_cycles),
        _systolic("systolic_os", systolic_os.gemm_cycles),
        PANACEA,
        DRIFT,
        DTQATTEN,
        DRQ,
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
