"""The emitted systolic_ws machine against its golden model and cycle model, on Icarus."""

from __future__ import annotations

from typing import Any

import pytest

ARRAYS = 21  # random arrays per mode ...
CASES = 10  # ... and GEMMs on each
MODES = ("single", "double")


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_at_least_200_different_cases(distinct_cases: Any, mode: int) -> None:
    assert distinct_cases("systolic_ws", ARRAYS, mode, CASES, weight_buffering=MODES[mode]) >= 200


@pytest.mark.parametrize("mode", range(len(MODES)))
@pytest.mark.parametrize("seed", range(ARRAYS))
def test_equals_golden_and_cycle_model(campaign: Any, seed: int, mode: int) -> None:
    report = campaign("systolic_ws", seed, mode, CASES, weight_buffering=MODES[mode])
    assert [result.problem for result in report.results] == [None] * CASES
    assert report.passed
    # The verdict compared these; here it shows that they were compared with something.
    for result in report.results:
        counted = {name.removesuffix("_cycles"): value for name, value in result.registers.items()}
        assert counted["compute"] == result.predicted.array_cycles
        assert counted["total"] == result.predicted.total
        assert {name: counted[name] for name in result.predicted.breakdown} == result.predicted.breakdown


@pytest.mark.parametrize("mode", range(len(MODES)))
@pytest.mark.parametrize("seed", range(6))
def test_equals_golden_under_stalls(campaign: Any, seed: int, mode: int) -> None:
    report = campaign("systolic_ws", seed, mode, 5, stall=0.5, weight_buffering=MODES[mode])
    assert [result.problem for result in report.results] == [None] * 5
    assert report.passed
