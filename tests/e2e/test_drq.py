"""The emitted drq machine against its golden model and cycle model: random convolutions on random small machines, on Icarus."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.registers import COUNTERS, PE_COUNTERS
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_random import random_case, random_cases, random_convolution
from bitfabric.sim.simulate import SimulationReport, simulate

MACHINES: list[dict[str, Any]] = [
    {},
    {"rows": 1, "columns": 1, "line_elements": 1},
    {"rows": 5, "columns": 2, "line_elements": 4, "axis_data_bits": 64},
    {"rows": 2, "columns": 9, "line_elements": 8, "axis_data_bits": 128},
    {
        "rows": 4,
        "columns": 12,
        "line_elements": 2,
        "pe_counters": False,
    },  # results may leave more slowly than they come
]
CASES = 13
EFFORT = 1200  # cycles of a case, about


def machine(number: int) -> DrqConfig:
    return DrqConfig.preset("tiny", **MACHINES[number])


def cases_of(number: int) -> list[DrqCase]:
    """Return random convolutions, the last ones of shapes that chance rarely draws."""
    config, rng = machine(number), np.random.default_rng(number)
    share: dict[str, Any] = {"threshold": 0, "image": rng.integers(1, 128, (3, 4, 2))}
    return [
        *random_cases(config, number, CASES, effort=EFFORT),
        random_convolution(config, rng, (3, 4, 2), 2, **share),  # every region is sensitive
        random_convolution(config, rng, (4, 3, 5), 3, threshold=65535, stride=2, padding=1),  # none is
        random_case(config, rng, config.rows + 1, config.k_max, config.columns + 1),
    ]


@pytest.fixture
def run(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("BITFABRIC_BUILD", str(tmp_path_factory.getbasetemp() / "drq"))

    def on_machine(number: int, cases: list[DrqCase], **options: Any) -> SimulationReport:
        return simulate("drq", machine(number), cases, **options)

    return on_machine


def test_cases_have_every_kind() -> None:
    cases = [case for number in range(len(MACHINES)) for case in cases_of(number)]
    assert len({case.name for case in cases}) >= 60
    shares = [case.mixed.sensitive.mean() for case in cases]
    kinds = {
        "plain GEMM": lambda case: case.width == 1 and (case.kernel_height, case.kernel_width) == (1, 1),
        "1x1 kernel": lambda case: case.width > 1 and (case.kernel_height, case.kernel_width) == (1, 1),
        "stride": lambda case: case.stride == 2 and case.m > 1,
        "padding": lambda case: case.padding > 0,
        "windows in the padding": lambda case: case.padding >= case.kernel_height,
        "bytes": lambda case: case.requantized,
        "zero point": lambda case: case.zero_point != 0,
        "several channels": lambda case: case.channels > 4,
        "regions' tails": lambda case: case.height % case.region_height and case.height > case.region_height,
    }
    for kind, holds in kinds.items():
        assert sum(map(bool, map(holds, cases))) >= 2, kind
    assert sum(share == 0 for share in shares) >= 3
    assert sum(share == 1 for share in shares) >= 3
    assert sum(0 < share < 1 for share in shares) >= 20


@pytest.mark.parametrize("number", range(len(MACHINES)))
def test_equals_golden_and_cycle_model(run: Any, number: int) -> None:
    cases = cases_of(number)
    report = run(number, cases)
    assert [result.problem for result in report.results] == [None] * len(cases)
    assert report.passed
    # The verdict compared these; here it shows that they were compared with something.
    names = {*COUNTERS, *(PE_COUNTERS if machine(number).pe_counters else ())}
    for result, case in zip(report.results, cases, strict=True):
        counted, predicted = result.registers, result.predicted
        assert names <= counted.keys()
        assert counted["total_cycles"] == predicted.total == sum(predicted.breakdown.values())
        assert counted["compute_cycles"] == predicted.array_cycles
        assert counted["sensitive"] == case.mixed.sensitive.sum()
        assert 2 * counted["steps_2"] + 4 * counted["steps_4"] == counted["compute_cycles"]


@pytest.mark.parametrize("number", [0, 3, 4])
def test_equals_golden_under_stalls(run: Any, number: int) -> None:
    cases = cases_of(number)[::3]
    report = run(number, cases, stall=0.5, seed=number)
    assert [result.problem for result in report.results] == [None] * len(cases)
    assert report.passed
