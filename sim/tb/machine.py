"""The testbench of every AXI top: run a job's steps, compare packets and counters, write the verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb

from bitfabric.sim.job import Job, Step
from bitfabric.sim.tb.drivers import Machine, compare


async def run_step(machine: Machine, step: Step, timeout: int, check_counters: bool) -> dict[str, Any]:
    """Run one step and return its verdict."""
    await machine.send(step.stream)
    for offset, word in step.writes:
        await machine.write(offset, word)
    problem = compare(await machine.receive(timeout), step.expected)
    registers = {name: await machine.read(offset) for name, offset in step.reads.items()}
    if problem is None:
        for name, value in step.counters.items():
            # The status does not depend on stalls, the cycle counters do.
            if (check_counters or not name.endswith("_cycles")) and registers[name] != value:
                problem = f"register {name} holds {registers[name]}, expected {value}"
                break
    return {"name": step.name, "passed": problem is None, "problem": problem, "registers": registers}


@cocotb.test()
async def run_job(dut: Any) -> None:
    """Run the job named by ``BITFABRIC_JOB``."""
    job = Job.load(Path(os.environ["BITFABRIC_JOB"]))
    machine = Machine(dut, seed=job.seed, stall=job.stall)
    await machine.reset()
    verdicts = []
    for step in job.steps:
        verdicts.append(await run_step(machine, step, job.timeout, job.stall == 0))
        if not verdicts[-1]["passed"]:
            break  # a machine that hangs would take every later step with it
    Path(os.environ["BITFABRIC_VERDICT"]).write_text(json.dumps({"steps": verdicts}))
