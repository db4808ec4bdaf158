"""Simulated cycles per second: Python and C++ testbenches, bare arrays and AXI tops."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from bench.row import Progress, Row
from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.registry import entry
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.sim.array_vectors import array_vectors
from bitfabric.sim.case import random_case
from bitfabric.sim.cycles.systolic_ws import gemm_cycles
from bitfabric.sim.gemm_job import gemm_step
from bitfabric.sim.job import Job
from bitfabric.sim.native import run_native
from bitfabric.sim.runner import build, run
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

COCOTB_TARGET, ICARUS_RATIO, NATIVE_TARGET = 50_000, 10, 500_000


def _rate(figures: list[dict[str, Any]]) -> float:
    assert all(step["passed"] for figure in figures for step in figure["steps"]), figures
    return statistics.median(figure["cycles"] / figure["seconds"] for figure in figures)


def _vectors(config: SystolicWsConfig, m: int, tiles: int) -> VectorJob:
    case = random_case(
        config, np.random.default_rng(0), m, config.rows * tiles, config.columns, requantized=False
    )
    return array_vectors(config, case)


def _job(config: SystolicWsConfig, m: int, k: int, n: int) -> Job:
    case = random_case(config, np.random.default_rng(0), m, k, n, requantized=False)
    return Job(steps=[gemm_step(config, "systolic_ws", case, gemm_cycles(config, m, k, n))], timeout=10**8)


def _cocotb(emitted: Emitted, simulator: str, job: Job, progress: Progress) -> dict[str, Any]:
    """Run an AXI job under cocotb; its start-up counts, its build does not."""
    built = build(emitted, simulator, progress=progress)
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "job.npz")
        job.save(path)
        start = time.perf_counter()
        verdict = run(built, "bitfabric.sim.tb.machine", {"BITFABRIC_JOB": str(path)})
        taken = time.perf_counter() - start
    cycles = sum(step["registers"]["total_cycles"] for step in verdict["steps"])
    return {"steps": verdict["steps"], "cycles": cycles, "seconds": taken}


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    yield from _bare(quick, progress)
    yield from _tops(quick, progress)


def _bare(quick: bool, progress: Progress) -> Iterator[Row]:
    repeats = 3 if quick else 5
    make = entry("systolic_ws_array").make
    config = SystolicWsConfig(rows=16, columns=16, weight_buffering="double", acc_depth=256)
    emitted = emit(make(config), "systolic_ws_array")
    short, long = _vectors(config, 256, 8), _vectors(config, 1024, 100 if quick else 200)
    slow, fast = [], []
    for number in range(repeats):
        progress(f"bare 16x16 array under cocotb, {number + 1} of {repeats}")
        slow.append(run_vectors(emitted, short, "icarus", progress=progress))
        fast.append(run_vectors(emitted, long, "verilator", progress=progress))
    icarus, verilator = _rate(slow), _rate(fast)
    yield Row(
        what="bare 16x16, cocotb on Verilator",
        target=">= 50,000 cycles/s, >= 10x Icarus",
        reached=f"{verilator:,.0f} cycles/s, {verilator / icarus:.0f}x Icarus ({icarus:,.0f})",
        workload=f"every port driven and compared every cycle; {long.cycles} cycles (Icarus: {short.cycles})",
        met=verilator >= COCOTB_TARGET and verilator >= ICARUS_RATIO * icarus,
        figures={"verilator": verilator, "icarus": icarus},
    )
    config = SystolicWsConfig(rows=8, columns=8, weight_buffering="double", acc_depth=256)
    emitted = emit(make(config), "systolic_ws_array")
    job = _vectors(config, 4096, 200 if quick else 400)
    progress("bare 8x8 array, native")
    native = _rate([run_vectors(emitted, job, "native", progress=progress) for _ in range(repeats)])
    yield Row(
        what="bare 8x8, native",
        target="> 500,000 cycles/s",
        reached=f"{native:,.0f} cycles/s",
        workload=f"every port driven and compared every cycle, {job.cycles} cycles",
        met=native > NATIVE_TARGET,
        figures={"native": native},
    )


def _tops(quick: bool, progress: Progress) -> Iterator[Row]:
    make = entry("systolic_ws").make
    config = SystolicWsConfig.preset("small")
    emitted = emit(make(config), "systolic_ws")
    shape = (512, 512, 256)
    progress("8x8 AXI top, native")
    job = _job(config, *shape)
    native = _rate([run_native(emitted, job, progress=progress) for _ in range(3)])
    text = ",".join(map(str, shape))
    yield Row(
        what="8x8 AXI top, native",
        reached=f"{native:,.0f} cycles/s",
        workload=f"bitfabric simulate systolic_ws --sim verilator --native --gemm {text}",
        figures={"native": native},
    )
    if quick:
        return
    config = SystolicWsConfig.preset("medium")
    emitted = emit(make(config), "systolic_ws")
    progress("16x16 AXI top under cocotb")
    small, large = _job(config, 128, 128, 128), _job(config, 128, 512, 512)
    icarus = _rate([_cocotb(emitted, "icarus", small, progress)])
    verilator = _rate([_cocotb(emitted, "verilator", large, progress) for _ in range(3)])
    yield Row(
        what="16x16 AXI top, cocotb on Verilator",
        reached=f"{verilator:,.0f} cycles/s, {verilator / icarus:.0f}x Icarus ({icarus:,.0f})",
        workload="bitfabric simulate systolic_ws --sim verilator --preset medium --gemm 128,512,512 "
        "(Icarus: 128,128,128), start-up included",
        figures={"verilator": verilator, "icarus": icarus},
    )
