"""The emitted systolic_os machine against its golden model and cycle model, on Icarus."""

from __future__ import annotations

from typing import Any

import pytest

ARRAYS = 20  # random arrays per mode ...
CASES = 10  # ... and GEMMs on each: 200 (M, K, N, R, C)


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("seed", range(ARRAYS))
def test_equals_golden_and_cycle_model(campaign: Any, seed: int, mode: Any) -> None:
    report = campaign("systolic_os", seed, CASES, tile_overlap=mode)
    assert [result.problem for result in report.results] == [None] * CASES
    assert report.passed
    # The verdict compared these; here it shows that they were compared with something.
    for result in report.results:
        counted = {name.removesuffix("_cycles"): value for name, value in result.registers.items()}
        assert counted["compute"] == result.predicted.array_cycles
        assert counted["total"] == result.predicted.total
        assert {name: counted[name] for name in result.predicted.breakdown} == result.predicted.breakdown


@pytest.mark.parametrize("mode", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_equals_golden_under_stalls(campaign: Any, seed: int, mode: Any) -> None:
    report = campaign("systolic_os", seed, 5, stall=0.5, tile_overlap=mode)
    assert [result.problem for result in report.results] == [None] * 5
    assert report.passed
