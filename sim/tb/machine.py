"""The testbench of every AXI top: run a job's steps, have packets and counters judged, write the verdict."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from bitfabric.sim.job import Job, Step
from bitfabric.sim.tb.drivers import Machine
from bitfabric.sim.verdict import judge


async def run_step(machine: Machine, step: Step, timeout: int, stalled: bool) -> dict[str, Any]:
    """Run one step and return its verdict."""
    if machine.dma is None or step.memory is None:
        await machine.send(step.stream)
    else:
        await machine.dma.idle()  # a block that was given up leaves packets on their way
        machine.dma.begin(step.memory.tobytes(), step.latency)
    for offset, word in step.writes:
        await machine.write(offset, word)
    if step.wait is None:
        received = await machine.receive(timeout)
    else:
        received = await machine.receive_until(*step.wait, timeout)
    registers = {name: await machine.read(offset) for name, offset in step.reads.items()}
    return judge(step, received, registers, stalled=stalled)


async def tell_cycles(dut: Any, path: Path, step: int = 2000) -> None:
    """Write the number of cycles run so far to ``path`` every ``step`` cycles."""
    cycles = 0
    while True:
        await ClockCycles(dut.aclk, step)
        cycles += step
        path.write_text(str(cycles))


@cocotb.test()
async def run_job(dut: Any) -> None:
    """Run the job named by ``BITFABRIC_JOB``."""
    job = Job.load(Path(os.environ["BITFABRIC_JOB"]))
    machine = Machine(dut, seed=job.seed, stall=job.stall)
    await machine.reset()
    cocotb.start_soon(tell_cycles(dut, Path(os.environ["BITFABRIC_PROGRESS"])))
    verdicts = []
    for step in job.steps:
        verdicts.append(await run_step(machine, step, job.timeout, job.stall > 0))
        if not verdicts[-1]["passed"]:
            break  # a machine that hangs would take every later step with it
    Path(os.environ["BITFABRIC_VERDICT"]).write_text(json.dumps({"steps": verdicts}))
