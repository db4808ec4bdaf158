"""Run cases on a design's emitted RTL, compare them with the golden model, and report."""

from __future__ import annotations

import functools
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.registry import entry
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.designs import Case, simulated
from bitfabric.sim.job import Job
from bitfabric.sim.native import run_native
from bitfabric.sim.runner import Progress, build, check_waves, quiet, run
from bitfabric.sim.toolchain import FAST, QUICK, SIMULATORS

TESTBENCH = "bitfabric.sim.tb.machine"
# Below this many cycles a run in Verilator is over before a better optimized model would be compiled.
SHORT = 500_000


def plural(count: int, noun: str) -> str:
    """Return ``1 case`` or ``2 cases``."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """Hold the verdict on one case.

    Members
    -------
    name : str
        The case.
    m, k, n : int
        Its dimensions.
    outputs : int
        Numbers compared.
    passed : bool
        Every beat equal to the golden model's and, without stalls, every counter to the cycle model's.
    problem : str or None
        What was wrong.
    registers : dict
        What the machine's counters held.
    predicted : Cycles
        What the cycle model says.
    remarks : dict
        Figures that only this design has, by their names.
    """

    name: str
    m: int
    k: int
    n: int
    outputs: int
    passed: bool
    problem: str | None
    registers: dict[str, int]
    predicted: Cycles
    remarks: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SimulationReport:
    """Hold what ``bitfabric simulate`` found.

    Members
    -------
    design, simulator : str
        What ran where.
    config : dict
        The parameters.
    stall : float
        Probability of a pause per channel and cycle; the counters were compared if it is 0.
    results : list of CaseResult
        One per case; after a failed one there are none.
    cases : int
        Cases that were to run.
    build_seconds, run_seconds : float
        Time spent.
    """

    design: str
    simulator: str
    config: dict[str, Any]
    stall: float
    results: list[CaseResult]
    cases: int
    build_seconds: float
    run_seconds: float

    @property
    def passed(self) -> bool:
        """Every case ran and passed."""
        return len(self.results) == self.cases and all(result.passed for result in self.results)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return {**asdict(self), "passed": self.passed}


@functools.lru_cache(maxsize=16)
def _emitted(design: str, config: Any) -> Emitted:
    """Return the same object for equal configurations, of which emission makes the same bytes, but in seconds."""
    return emit(entry(design).make(config), design)


def simulate(
    design: str,
    config: Any,
    cases: Sequence[Case],
    *,
    simulator: str = "icarus",
    native: bool = False,
    stall: float = 0.0,
    seed: int = 0,
    timeout: int | None = None,
    waves_to: Path | None = None,
    optimize: str | None = None,
    progress: Progress = quiet,
) -> SimulationReport:
    """Run ``cases`` one after the other on the emitted RTL of ``design``.

    Parameters
    ----------
    design, config
        What to run.
    cases : sequence of cases
        The work.
    simulator : str
        ``icarus`` or ``verilator``.
    native : bool
        Drive Verilator from C++ instead of Python, for long runs.
    stall : float
        Probability, below 1, that each channel of each port pauses in a cycle.
    seed : int
        Of the stalls.
    timeout : int, optional
        Cycles for a case; by default many times what the cycle model says.
    waves_to : Path, optional
        Where the signal trace goes.
    optimize : str, optional
        How Verilator's C++ is compiled, one of ``toolchain.OPTIMIZE``; by default QUICK below SHORT cycles.
    progress : callable
        Told what is being done.

    Raises
    ------
    ParameterError
        If an argument or a case is not allowed.
    MissingToolError, SimulationError
        If the simulator is missing, or gives no verdict.
    """
    check_choice("simulator", simulator, SIMULATORS)
    if native and simulator != "verilator":
        raise ParameterError("simulator", simulator, "'verilator' with native")
    if not 0 <= stall < 1:
        raise ParameterError("stall", stall, "a probability in [0, 1)")
    if waves_to is not None:
        check_waves(waves_to, simulator)
    machine = simulated(design)
    machine.check_sequence(cases)
    for case in cases:
        case.check(config)
    predicted = [machine.case_cycles(config, case) for case in cases]
    steps = [machine.step(config, case, cycles) for case, cycles in zip(cases, predicted, strict=True)]
    if timeout is None:
        timeout = int(max(p.total for p in predicted) * 4 / (1 - stall) ** 2) + 10_000
    job = Job(steps=steps, seed=seed, stall=stall, timeout=timeout)
    progress(f"emitting {design}")
    emitted = _emitted(design, config)
    if optimize is None:
        optimize = QUICK if sum(p.total for p in predicted) < SHORT else FAST
    started = time.monotonic()
    if native:
        verdict = run_native(emitted, job, waves_to=waves_to, optimize=optimize, progress=progress)
        ended = time.monotonic()
        build_seconds, run_seconds = ended - started - verdict["seconds"], verdict["seconds"]
    else:
        built = build(emitted, simulator, waves=waves_to is not None, optimize=optimize, progress=progress)
        build_seconds, started = time.monotonic() - started, time.monotonic()
        progress(
            f"running {plural(len(cases), 'case')}, {sum(p.total for p in predicted)} cycles without stalls"
        )
        with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
            path = Path(scratch, "job.npz")
            job.save(path)
            verdict = run(
                built, TESTBENCH, {"BITFABRIC_JOB": str(path)}, waves_to=waves_to, progress=progress
            )
        run_seconds = time.monotonic() - started
    results = [
        CaseResult(
            name=case.name,
            m=case.m,
            k=case.k,
            n=case.n,
            outputs=machine.outputs(case),
            passed=step["passed"],
            problem=step["problem"],
            registers=step["registers"],
            predicted=cycles,
            remarks=machine.remarks(config, case, cycles),
        )
        for case, cycles, step in zip(cases, predicted, verdict["steps"], strict=False)
    ]
    return SimulationReport(
        design=design,
        simulator="native" if native else simulator,
        config=config.to_dict(),
        stall=stall,
        results=results,
        cases=len(cases),
        build_seconds=build_seconds,
        run_seconds=run_seconds,
    )
