"""The driver's side of Drift: register writes, and what the registers must hold at the end."""

import dataclasses

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.registers import ARRAY_COUNTERS, COUNTERS, ERRORS, drift_registers
from bitfabric.quant.drift import NEVER, Pooling
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.drift_job import drift_step
from bitfabric.sim.drift_random import random_case, random_chain, random_shared
from bitfabric.sim.drift_records import output_of, stream_of

TINY = DriftConfig.preset("tiny")
SMALL = DriftConfig.preset("small")
REGISTERS = drift_registers(TINY)
ARRAYS = {f"array_{region}_cycles": 50 + index for index, region in enumerate(("hh", "hl", "lh", "ll"))}
CYCLES = Cycles(
    array_cycles=7,
    total=150,
    utilization=0.5,
    machine_utilization=0.1,
    breakdown={"load": 10, "schedule": 20, "compute": 30, "stalled": 40, "drain": 50},
    traffic={"split": 0x30201, **ARRAYS},
)


def written(step):
    """Return the written words by register and field; nothing but the table is written twice."""
    names = {offset: register for register, offset in REGISTERS.placed()}
    found = {}
    for offset, word in step.writes:
        register = names[offset]
        values = {field.name: word >> lsb & (1 << field.width) - 1 for field, lsb in register.placed()}
        if register.name.startswith("pwl"):
            found.setdefault(register.name, []).append(values)
            continue
        assert register.name not in found
        found[register.name] = values["value"] if list(values) == ["value"] else values
    return found


def case_of(m=6, k=9, n=7, **fields):
    return random_case(TINY, np.random.default_rng(1), m, k, n, **fields)


def step_of(case):
    return drift_step(TINY, "drift", case, CYCLES)


def test_accumulators():
    options = {"subtensor_rows": 4, "act_high_bits": 7, "act_low_bits": 3, "truncate": True}
    limits = {"threshold_int": 0x123456789ABC, "threshold_tail_int": NEVER}
    bits = np.array([8, 4, 5, 1, 3, 7, 4])
    case = case_of(requantized=False, weight_bits=bits, **options, **limits)
    writes = written(step_of(case))
    status = writes.pop("status")
    assert all(status[f"{name}_error"] for name in ERRORS)
    assert status["done"]
    control = writes.pop("control")
    assert {name for name, value in control.items() if value} == {"start", "accumulators"}
    # Neither pooling nor bytes nor what is kept: their registers are left alone.
    assert writes == {
        "m": 6,
        "k": 9,
        "n": 7,
        "n_high": 3,
        "n_low": 4,
        "act_format": {"high_bits": 7, "low_bits": 3, "truncate": 1},
        "subtensor_rows": 4,
        "threshold_low": 0x56789ABC,
        "threshold_high": 0x1234,
        "threshold_tail_low": 0xFFFFFFFF,
        "threshold_tail_high": 0xFFFFFFFF,
    }


def test_bytes_with_everything():
    pool = Pooling(height=3, width=2, kernel=(3, 2), stride=2, padding=1)
    bounds = {"low": -100, "high": 27, "zero_point": -3}
    case = case_of(pool=pool, keep=True, **bounds)
    case = dataclasses.replace(case, next_high_bits=6, next_low_bits=2, next_truncate=True)
    case = dataclasses.replace(case, next_subtensor_rows=3, next_threshold_int=None, next_scale=0.5)
    case = dataclasses.replace(case, next_threshold=2.0, next_threshold_tail_int=5)
    writes = written(step_of(case))
    assert writes["control"] | {"function": 0} == {
        "start": 1,
        "resident": 0,
        "keep": 1,
        "accumulators": 0,
        "function": 0,
        "pool": 1,
        "prepare": 0,
        "stop": 0,
    }
    assert writes["bounds"] == {"low": -100 & 511, "high": 27}
    assert writes["zero_point"] == -3 & 511
    assert writes["pooling"] == {
        "kernel_height": 3,
        "kernel_width": 2,
        "stride": 2,
        "padding": 1,
        "average": 0,
    }
    assert writes["image"] == {"height": 3, "width": 2}
    assert writes["pooled"] == {"height": 2, "width": 2}
    assert writes["pooled_m"] == 4
    assert "reciprocal" not in writes
    assert writes["next_act_format"] == {"high_bits": 6, "low_bits": 2, "truncate": 1}
    assert writes["next_subtensor_rows"] == 3
    # n² δ 2^(hp-lp) / 2Δ of three rows of the result's seven channels.
    assert writes["next_threshold_low"] == 21**2 * 2 * 16
    assert writes["next_threshold_high"] == writes["next_threshold_tail_high"] == 0
    assert writes["next_threshold_tail_low"] == 5


def test_averages():
    case = case_of(pool=Pooling(height=3, width=2, kernel=(3, 1), kind="average"))
    writes = written(step_of(case))
    assert writes["pooling"]["average"] == 1
    assert writes["reciprocal"] == round(2**18 / 3) - 1
    assert writes["pooled_m"] == 2


def test_table():
    rng = np.random.default_rng(3)
    case = random_case(TINY, rng, 2, 3, 4, requantized=True)
    while case.table is None:
        case = random_case(TINY, rng, 2, 3, 4, requantized=True)
    writes = written(step_of(case))
    assert writes["control"]["function"] == 1
    pairs = zip(writes["pwl_low"], writes["pwl_write"], strict=True)
    for segment, (low, write) in enumerate(pairs):
        assert low["value"] | write["high"] << 32 == case.table.words()[segment]
        assert (write["segment"], write["write"]) == (segment, 1)
    assert len(writes["pwl_low"]) == TINY.segments
    assert step_of(case).writes[-1][0] == REGISTERS.offset("control")
    plain = written(step_of(dataclasses.replace(case, table=None)))
    assert not plain.keys() & {"pwl_low", "pwl_write"}
    assert plain["control"]["function"] == 0


def test_counters():
    case = case_of(m=20, requantized=False)
    step = step_of(case)
    done = 1 << 1
    assert step.counters == {
        "status": done,
        "rows_high": case.counts.m_high,
        "rows_low": case.counts.m_low,
        "saturated": case.rows.saturated,
        "split": 0x30201,
        "load_cycles": 10,
        "schedule_cycles": 20,
        "compute_cycles": 30,
        "stalled_cycles": 40,
        "drain_cycles": 50,
        "total_cycles": 150,
        **ARRAYS,
    }
    assert step.reads == {name: REGISTERS.offset(name) for name in step.counters}
    assert {f"{name}_cycles" for name in (*COUNTERS, *ARRAY_COUNTERS)} <= step.reads.keys()
    assert step.name == case.name
    assert step.stream.tobytes() == stream_of(TINY, case).tobytes()
    assert step.expected.tobytes() == output_of(TINY, case).tobytes()
    assert step.wait is None


def test_chain():
    cases = random_chain(TINY, np.random.default_rng(2), 8, [9, 12, 5])
    first, second = (step_of(case) for case in cases)
    assert first.wait == (REGISTERS.offset("status"), 1 << 1)
    assert second.wait is None
    # Kept rows are those that the next layer finds.
    for name in ("rows_high", "rows_low", "saturated"):
        assert first.counters[name] == second.counters[name]
    writes = written(second)
    assert writes["control"]["resident"] == 1
    assert "subtensor_rows" not in writes
    kept = written(first)
    whole, tail = (
        kept[f"next_{name}_low"] | kept[f"next_{name}_high"] << 32 for name in ("threshold", "threshold_tail")
    )
    assert (whole, tail) == cases[1].precision.limits(cases[1].m, cases[1].k)


def test_the_same_activations():
    cases = random_shared(TINY, np.random.default_rng(2), 5, 9, [3, 4])
    steps = [step_of(case) for case in cases]
    assert [written(step)["control"]["resident"] for step in steps] == [0, 1]
    for name in ("rows_high", "rows_low", "saturated"):
        assert steps[0].counters[name] == steps[1].counters[name]
    # Five rows of two beats less.
    plain = step_of(dataclasses.replace(cases[1], resident=False))
    assert len(plain.stream) == len(steps[1].stream) + 10


def test_a_case_that_does_not_fit():
    with pytest.raises(ParameterError, match=r"^M=65 is not allowed; it must be an integer in \[1, 64\]$"):
        step_of(random_case(SMALL, np.random.default_rng(0), 65, 1, 1))
