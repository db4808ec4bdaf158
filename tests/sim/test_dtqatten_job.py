"""The driver's side of DTQAtten: register writes, and what must be there at the end."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.registers import ERRORS, counter_register, dtqatten_registers
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.dtqatten import case_cycles
from bitfabric.sim.dtqatten_case import AttentionCase
from bitfabric.sim.dtqatten_job import attention_step, counter_names, list_error_step, refused_step
from bitfabric.sim.dtqatten_memory import image_of, layout_of, output_of, reads_of, writes_of
from bitfabric.sim.dtqatten_random import next_case, random_case
from bitfabric.sim.job import Job, Step, descriptor_rows

TINY = DtqattenConfig.preset("tiny")
REGISTERS = dtqatten_registers(TINY)
MASKS = REGISTERS.constants()
NOTHING = np.zeros((0, 2), np.int64)


def case_of(**fields: Any) -> AttentionCase:
    defaults: dict[str, Any] = {
        "bits": np.array([8, 4, 0, 4, 8, 8, 0]),
        "order": np.array([4, 1, 2, 3, 5, 0]),
        "heads": 3,
        **dict.fromkeys(("reorder", "causal", "accumulate"), False),
        **dict.fromkeys(("sq", "sk", "sv")),
        "base": 100,
        "gap": 5,
        "out_base": 0xFFFF_0000,
    }
    return random_case(TINY, np.random.default_rng(1), 7, 9, **{**defaults, **fields})


def written(step: Step) -> dict[str, dict[str, int]]:
    """Return the written words by register and field; nothing is written twice."""
    names = {offset: register for register, offset in REGISTERS.placed()}
    found: dict[str, dict[str, int]] = {}
    for offset, word in step.writes:
        register = names[offset]
        assert register.name not in found
        found[register.name] = {f.name: word >> lsb & (1 << f.width) - 1 for f, lsb in register.placed()}
    return found


def test_registers() -> None:
    case = case_of(next_kept=4, next_high=1, score_multiplier=65535, score_shift=47, out_shift=63)
    case = dataclasses.replace(case, out_multiplier=77)
    step = attention_step(TINY, "dtqatten", case)
    writes, layout = written(step), layout_of(case)
    assert step.writes[-1][0] == REGISTERS.offset("control")
    control = writes.pop("control")
    assert {name for name, value in control.items() if value} == {"start"}
    status = writes.pop("status")
    assert status["done"]
    assert all(status[f"{name}_error"] for name in ERRORS)
    assert writes.pop("score") == {"multiplier": 65535, "shift": 47}
    assert writes.pop("result") == {"multiplier": 77, "shift": 63}
    assert writes.pop("stride") == {"input": 32, "output": 32}
    assert {name: fields["value"] for name, fields in writes.items()} == {
        "tokens": 7,
        "entries": 6,
        "kept": 5,
        "kept_high": 3,
        "next_kept": 4,
        "next_high": 1,
        "head_size": 9,
        "heads": 3,
        "list_base": 100,
        "scale_base": 124,
        "q_base": 180,
        "k_base": layout.k_base,
        "v_base": layout.v_base,
        "out_base": 0xFFFF_0000,
        "next_base": 0xFFFF_0000 + 7 * 32,
    }


@pytest.mark.parametrize("option", ["reorder", "causal", "accumulate"])
def test_options(option: str) -> None:
    control = written(attention_step(TINY, "dtqatten", case_of(**{option: True})))["control"]
    assert {name for name, value in control.items() if value} == {"start", option}


def test_scales() -> None:
    scales = {name: np.full(7, 9) for name in ("sq", "sk", "sv")}
    control = written(attention_step(TINY, "dtqatten", case_of(**scales)))["control"]
    assert {name for name, value in control.items() if value} == {"start", "per_token"}


def test_a_carried_list_is_not_fetched() -> None:
    before = case_of(next_kept=4, next_high=1)
    case = next_case(TINY, np.random.default_rng(2), before, next_kept=3)
    step = attention_step(TINY, "dtqatten", case)
    writes = written(step)
    assert writes["control"]["carry"] == 1
    assert not {"entries", "list_base"} & writes.keys()
    assert (writes["tokens"]["value"], writes["kept"]["value"], writes["kept_high"]["value"]) == (7, 4, 1)
    assert reads_of(case).shape[0] == 3 * 3 * 4 + (4 if case.per_token else 0)


def test_what_must_come_out() -> None:
    case = case_of()
    step = attention_step(TINY, "dtqatten", case)
    output, rows = output_of(TINY, case), descriptor_rows(reads_of(case), writes_of(TINY, case), 8)
    assert np.array_equal(step.expected, np.concatenate([output, rows]))
    assert len(output) == 3 * 5 * 2 + 5
    assert len(rows) == 1 + 3 * 3 * 5 + 3 * 5 + 1
    assert step.stream.shape == (0, 8)
    assert step.memory is not None
    assert np.array_equal(step.memory, image_of(case))
    assert step.wait == (REGISTERS.offset("status"), MASKS["STATUS_DONE_MASK"])


@pytest.mark.parametrize("pe_counters", [True, False])
def test_counters(pe_counters: bool) -> None:
    config = DtqattenConfig.preset("tiny", pe_counters=pe_counters)
    registers, case = dtqatten_registers(config), case_of()
    cycles = case_cycles(config, case)
    step = attention_step(config, "dtqatten", case, cycles)
    names = [counter_register(name) for name in counter_names(config)]
    readable = {register.name for register, _ in registers.placed() if register.name in names}
    assert readable == set(names)
    assert ("qk_tiles_4" in names) == pe_counters
    assert step.reads == {name: registers.offset(name) for name in ("status", *names)}
    finished = MASKS["STATUS_DONE_MASK"] | MASKS["STATUS_LISTED_MASK"]
    assert step.counters["status"] == finished
    assert step.counters["total_cycles"] == cycles.total
    assert step.counters.keys() == step.reads.keys()
    blind = attention_step(config, "dtqatten", case)
    assert (blind.reads, blind.counters) == (step.reads, {"status": finished})


def test_what_a_machine_cannot_hold() -> None:
    with pytest.raises(ParameterError, match="heads=5"):
        attention_step(TINY, "dtqatten", case_of(heads=5))


def test_a_refused_start() -> None:
    step = attention_step(TINY, "dtqatten", case_of())
    refused = refused_step(TINY, "dtqatten", step, "bad_counts", "bad_format")
    wanted = MASKS["STATUS_BAD_COUNTS_ERROR_MASK"] | MASKS["STATUS_BAD_FORMAT_ERROR_MASK"]
    assert refused.wait == (REGISTERS.offset("status"), wanted)
    assert refused.counters == {"status": wanted}
    assert refused.expected.shape == (0, 8)
    assert refused.writes == step.writes
    left = refused_step(TINY, "dtqatten", step, "bad_counts", listed=True)
    assert left.counters == {"status": MASKS["STATUS_BAD_COUNTS_ERROR_MASK"] | MASKS["STATUS_LISTED_MASK"]}


def test_an_error_in_the_list() -> None:
    case = case_of()
    step = attention_step(TINY, "dtqatten", case)
    failed = list_error_step(TINY, "dtqatten", case, step, "bad_index")
    assert np.array_equal(failed.expected, descriptor_rows(np.array([[100, 24]]), NOTHING, 8))
    assert failed.counters == {"status": MASKS["STATUS_BAD_INDEX_ERROR_MASK"]}


def test_a_job_keeps_its_memory(tmp_path: Any) -> None:
    step = attention_step(TINY, "dtqatten", case_of())
    Job(steps=[step]).save(tmp_path / "job.npz")
    found = Job.load(tmp_path / "job.npz").steps[0]
    assert found.memory is not None
    assert step.memory is not None
    assert np.array_equal(found.memory, step.memory)
    assert np.array_equal(found.expected, step.expected)
    assert (found.writes, found.wait, found.latency) == (step.writes, step.wait, step.latency)
