import dataclasses
import tempfile
from pathlib import Path

import numpy as np
import pytest

from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.top import SystolicWsTop
from bitfabric.quant.errors import ParameterError
from bitfabric.sim import native, runner, toolchain
from bitfabric.sim.case import random_case
from bitfabric.sim.cycles.systolic_ws import gemm_cycles
from bitfabric.sim.gemm_job import gemm_step
from bitfabric.sim.job import Job, Step

CONFIG = SystolicWsConfig.preset("tiny")


@pytest.fixture(scope="module")
def emitted() -> Emitted:
    return emit(SystolicWsTop(CONFIG), "systolic_ws")


@pytest.fixture(scope="module")
def steps() -> list[Step]:
    rng = np.random.default_rng(5)
    cases = [
        random_case(CONFIG, rng, 5, 7, 3, requantized=False),
        random_case(CONFIG, rng, 9, 4, 6, requantized=True),
    ]
    return [
        gemm_step(
            CONFIG,
            "systolic_ws",
            case,
            gemm_cycles(CONFIG, case.m, case.k, case.n, requantize=case.requantized),
        )
        for case in cases
    ]


def run_cocotb(emitted: Emitted, job: Job) -> dict:
    built = runner.build(emitted, "icarus")
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch, "job.npz")
        job.save(path)
        return runner.run(built, "bitfabric.sim.tb.machine", {"BITFABRIC_JOB": str(path)})


def flipped(step: Step) -> Step:
    expected = step.expected.copy()
    expected[2, 1] ^= 4
    return dataclasses.replace(step, expected=expected)


def essence(verdict: dict) -> list[tuple]:
    return [(step["name"], step["passed"], step["problem"]) for step in verdict["steps"]]


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_gives_the_verdict_of_the_python_testbench_on_a_passing_job(emitted, steps, stall):
    job = Job(steps=steps, stall=stall, seed=3, timeout=20_000)
    ours, theirs = native.run_native(emitted, job), run_cocotb(emitted, job)
    assert essence(ours) == essence(theirs) == [(step.name, True, None) for step in steps]
    if stall == 0:
        assert ours["steps"] == theirs["steps"]  # every counter too
    else:
        assert ours["steps"][0]["registers"]["total_cycles"] > steps[0].counters["total_cycles"]
    assert ours["cycles"] > sum(step.counters["total_cycles"] for step in steps)
    assert ours["seconds"] > 0


WRONG = {
    "a flipped bit": (lambda a, b: [a, flipped(b)], [None, "1 of 27 beats differ, first beat 2: got"]),
    "a wrong counter": (
        lambda a, b: [dataclasses.replace(a, counters={**a.counters, "total_cycles": 3}), b],
        ["register total_cycles holds"],
    ),
    "a stream one beat short": (
        lambda a, b: [dataclasses.replace(a, stream=a.stream[:-1]), b],
        ["no complete packet came before the timeout"],
    ),
    "a packet shorter than expected": (
        lambda a, b: [a, dataclasses.replace(b, expected=np.concatenate([b.expected, b.expected[:1]]))],
        [None, "108 bytes came, 112 were expected"],
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_finds_what_the_python_testbench_finds(emitted, steps, what):
    change, problems = WRONG[what]
    job = Job(steps=change(*steps), timeout=3000)
    ours, theirs = native.run_native(emitted, job), run_cocotb(emitted, job)
    assert essence(ours) == essence(theirs)
    assert len(ours["steps"]) == len(problems)
    for step, problem in zip(ours["steps"], problems, strict=True):
        assert step["passed"] is (problem is None)
        assert problem is None or step["problem"].startswith(problem)


def waiting(step: Step, mask: int, expected: int | None = None) -> Step:
    """Wait for bits of the status instead of a packet; take as many beats of it as expected."""
    return dataclasses.replace(step, wait=(step.reads["status"], mask), expected=step.expected[:expected])


WAITS = {
    "until it is done": (lambda a, b: [waiting(a, 2), b], [None, None]),
    "for what never comes": (
        lambda a, b: [waiting(a, 3), b],
        ["the machine was not done before the timeout"],
    ),
    "and gets a packet in place of nothing": (
        lambda a, b: [waiting(a, 2, 0), b],
        ["60 bytes came, 0 were expected"],
    ),
}


@pytest.mark.parametrize("what", WAITS)
def test_waits(emitted, steps, what):
    change, problems = WAITS[what]
    job = Job(steps=change(*steps), timeout=3000)
    ours, theirs = native.run_native(emitted, job), run_cocotb(emitted, job)
    assert essence(ours) == essence(theirs)
    assert [step["problem"] for step in ours["steps"]] == problems


def test_counters_are_not_compared_when_streams_stall_but_the_status_is(emitted, steps):
    first = steps[0]
    loose = dataclasses.replace(first, counters={**first.counters, "total_cycles": 3})
    assert native.run_native(emitted, Job(steps=[loose], stall=0.3))["steps"][0]["passed"]
    strict = dataclasses.replace(first, counters={"status": 0})
    verdict = native.run_native(emitted, Job(steps=[strict], stall=0.3))["steps"][0]
    assert verdict["problem"].startswith("register status holds")


def test_stalls_follow_the_seed(emitted, steps):
    cycles = [
        native.run_native(emitted, Job(steps=steps, stall=0.3, seed=seed))["cycles"] for seed in (1, 1, 2)
    ]
    assert cycles[0] == cycles[1] != cycles[2]


def test_builds_once(emitted, steps):
    told: list[str] = []
    job = Job(steps=steps[:1])
    native.run_native(emitted, job)
    native.run_native(emitted, job, progress=told.append)
    assert told == ["running 1 step"]


def test_a_register_that_does_not_answer_is_an_error(emitted, steps):
    with pytest.raises(runner.SimulationError, match="was not answered before the timeout"):
        native.run_native(emitted, Job(steps=steps, timeout=1))


def test_a_missing_compiler_is_named(emitted, steps, monkeypatch):
    toolchain.require_verilator.cache_clear()
    monkeypatch.setattr(toolchain.shutil, "which", lambda tool: None)
    with pytest.raises(toolchain.MissingToolError, match=r"g\+\+ is not on the PATH; install it"):
        native.run_native(emitted, Job(steps=steps))
    toolchain.require_verilator.cache_clear()


def test_what_is_no_axi_top_is_refused():
    bare = Emitted(name="bare", verilog="", modules=[], ports=[{"name": "clk", "width": 1}])
    with pytest.raises(ParameterError, match="it has no aclk"):
        native.native_main(bare)


def test_a_failing_build_gives_the_end_of_its_log_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setenv("BITFABRIC_BUILD", str(tmp_path))
    broken = Emitted(name="broken", verilog="module broken(; endmodule", modules=[], ports=[])
    for _ in range(2):
        with pytest.raises(runner.SimulationError, match="syntax error"):
            native.native_build(broken, "int main() {}")
