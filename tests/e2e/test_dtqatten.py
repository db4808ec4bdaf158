"""Random blocks on the DTQAtten machine: every byte that leaves it, every descriptor and every counter."""

import functools

import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.top import DtqattenTop
from bitfabric.hdl.emit import emit
from bitfabric.sim.cycles.dtqatten import case_cycles
from bitfabric.sim.dtqatten_job import attention_step
from bitfabric.sim.dtqatten_limits import check_sequence
from bitfabric.sim.dtqatten_random import random_cases
from bitfabric.sim.job import Job
from bitfabric.sim.runner import build, run

NAME = "dtqatten"
MACHINES = {
    "tiny": {},
    "one array of one PE": {"arrays": 1, "rows": 1, "columns": 1, "tokens_max": 9, "head_size_max": 9},
    "primes": {"rows": 5, "columns": 2, "arrays": 3, "unload_ports": 1, "line_elements": 1, "topk_lanes": 3},
    "wide": {
        "rows": 2,
        "columns": 7,
        "arrays": 5,
        "axis_data_bits": 128,
        "line_elements": 8,
        "outstanding": 1,
    },
    "long": {"tokens_max": 128, "head_size_max": 64, "rows": 4, "columns": 6, "arrays": 4, "topk_lanes": 16},
    "longest": {"tokens_max": 128, "head_size_max": 64, "rows": 8, "columns": 9, "arrays": 3, "heads_max": 1},
    "without PE counters": {"pe_counters": False, "head_size_max": 5},
}
COUNTS = {
    "tiny": 86,
    "one array of one PE": 40,
    "primes": 60,
    "wide": 60,
    "long": 16,
    "longest": 2,
    "without PE counters": 40,
}
EFFORT = {"long": 4_000, "longest": 24_000}  # cycles of a case, about


@functools.cache
def machine(name):
    """Return configuration, program and cases of a machine."""
    config = DtqattenConfig.preset("tiny", **MACHINES[name])
    cases = random_cases(config, 1 + list(MACHINES).index(name), COUNTS[name], effort=EFFORT.get(name, 3_000))
    check_sequence(cases)
    return config, build(emit(DtqattenTop(config), NAME), "icarus"), cases


def run_cases(name, tmp_path, cases, stall=0.0):
    """Run cases one after the other without a reset between them; return the verdicts."""
    config, built, _ = machine(name)
    steps = [attention_step(config, NAME, case, case_cycles(config, case)) for case in cases]
    timeout = 20_000 + 8 * max(case_cycles(config, case).total for case in cases)
    path = tmp_path / "job.npz"
    Job(steps=steps, seed=1, stall=stall, timeout=timeout).save(path)
    verdicts = run(built, "bitfabric.sim.tb.machine", {"BITFABRIC_JOB": str(path)})["steps"]
    assert [step["problem"] for step in verdicts] == [None] * len(cases)
    return verdicts


def test_campaign_is_large_enough():
    assert sum(COUNTS.values()) >= 300


@pytest.mark.parametrize("name", MACHINES)
def test_blocks(name, tmp_path):
    _, _, cases = machine(name)
    run_cases(name, tmp_path, cases)


@pytest.mark.parametrize("name", ["tiny", "wide"])
def test_stalled_streams(name, tmp_path):
    _, _, cases = machine(name)
    run_cases(name, tmp_path, cases[:20], stall=0.5)


def test_what_the_blocks_are():
    """The campaign has what the machine must be shown on."""
    cases = [case for name in MACHINES for case in machine(name)[2]]
    mixes = {frozenset(case.bits.tolist()) for case in cases}
    assert {frozenset({8}), frozenset({4}), frozenset({0, 4, 8})} <= mixes
    assert any(case.kept == 1 and case.tokens > 1 for case in cases)
    for option in ("carry", "per_token", "reorder", "causal", "accumulate"):
        assert {True, False} <= {bool(getattr(case, option)) for case in cases}
    assert {1, 128} & {case.tokens for case in cases}
    assert max(case.tokens for case in cases) > 64
    assert max(case.head_size for case in cases) > 32
    assert min(case.next_high for case in cases) == 0
    assert any(case.next_high == case.next_kept == case.kept for case in cases)
