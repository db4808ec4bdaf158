"""Run vector jobs on bare blocks, in any simulator."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from bitfabric.hdl.emit import Emitted
from bitfabric.quant.errors import check_choice
from bitfabric.sim.native import cpp_name, execute, native_build, render
from bitfabric.sim.runner import Progress, build, quiet, run
from bitfabric.sim.toolchain import SIMULATORS
from bitfabric.sim.vectors import CLOCKS, RESETS, PackedJob, VectorJob

TESTBENCH = "bitfabric.sim.tb.vectors"


def run_vectors(
    emitted: Emitted,
    job: VectorJob,
    simulator: str = "icarus",
    *,
    waves_to: Path | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Drive a block with ``job`` and compare its outputs in every cycle.

    Parameters
    ----------
    emitted : Emitted
        The block.
    job : VectorJob
        What to drive and to expect.
    simulator : str
        ``icarus`` or ``verilator``, driven from Python, or ``native``: Verilator driven from C++.
    waves_to : Path, optional
        Where the signal trace goes.
    progress : callable
        Told what is being done.

    Returns
    -------
    dict
        ``steps`` with one verdict as in ``runner.run``, ``cycles``, and ``seconds`` that the loop over them took.

    Raises
    ------
    ParameterError
        If the job does not fit the block's ports.
    MissingToolError, SimulationError
        If a tool is missing, or the run comes to no verdict.
    """
    check_choice("simulator", simulator, (*SIMULATORS, "native"))
    packed = job.packed(emitted.ports)
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
        if simulator == "native":
            return _run_native(emitted, packed, Path(scratch), waves_to, progress)
        built = build(emitted, simulator, waves=waves_to is not None, progress=progress)
        path = Path(scratch, "job.npz")
        packed.save(path)
        progress(f"running {packed.cycles} cycles")
        return run(built, TESTBENCH, {"BITFABRIC_JOB": str(path)}, waves_to=waves_to)


def native_vectors_main(emitted: Emitted, *, waves: bool = False) -> str:
    """Return the C++ text that runs vector jobs on a block."""
    names = [port["name"] for port in emitted.ports]
    reset = next((name for name in RESETS if name in names), None)

    def ports(direction: str) -> list[dict[str, Any]]:
        return [
            {"name": p["name"], "cpp": cpp_name(p["name"]), "words": -(-p["width"] // 32)}
            for p in _data_ports(emitted, direction)
        ]

    return render(
        "native_vectors.cpp.j2",
        emitted,
        waves=waves,
        clock=next((name for name in CLOCKS if name in names), None),
        reset=reset,
        reset_level=RESETS.get(reset or "", 0),
        inputs=ports("input"),
        outputs=ports("output"),
    )


def _data_ports(emitted: Emitted, direction: str) -> list[dict[str, Any]]:
    # As sorted as the job's: which output differed first is then the same everywhere.
    ports = [p for p in emitted.ports if p["direction"] == direction and p["name"] not in (*CLOCKS, *RESETS)]
    return sorted(ports, key=lambda port: str(port["name"]))


def _run_native(
    emitted: Emitted, packed: PackedJob, scratch: Path, waves_to: Path | None, progress: Progress
) -> dict[str, Any]:
    main = native_vectors_main(emitted, waves=waves_to is not None)
    program = native_build(emitted, main, waves=waves_to is not None, progress=progress)
    path, result = scratch / "job.bin", scratch / "result.json"
    inputs, outputs = ([p["name"] for p in _data_ports(emitted, d)] for d in ("input", "output"))
    packed.save_binary(path, inputs, outputs)
    progress(f"running {packed.cycles} cycles")
    execute(program, path, result, waves_to)
    found = json.loads(result.read_text())
    verdict = packed.judge(found["wrong"], found["first"], found["port"], int(found["got"] or "0", 16))
    return {"steps": [verdict], "cycles": found["cycles"], "seconds": found["seconds"]}
