"""Real weights and activations through the emitted 16x16 machine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.errors import BitfabricError
from bitfabric.sim.models import model_case
from bitfabric.sim.simulate import simulate
from bitfabric.sim.workloads.minilm import minilm_case


@pytest.fixture
def real_case() -> Any:
    try:
        return model_case("minilm:0.q")
    except BitfabricError as error:
        pytest.skip(str(error))


def test_query_projection_on_16x16(real_case: Any) -> None:
    config = DESIGNS["systolic_ws"].config.preset("medium")
    # The C++ main, since Icarus needs minutes for these 100,892 cycles.
    report = simulate("systolic_ws", config, [real_case], simulator="verilator", native=True)
    assert report.passed, report.results[0].problem
    result = report.results[0]
    assert (result.m, result.k, result.n) == (128, 384, 384)
    assert result.registers["total_cycles"] == result.predicted.total
    assert result.predicted.array_cycles == (2 * 16 + 128 + 16 - 2) * 24 * 24


def test_case_is_the_models_golden(real_case: Any) -> None:
    np.testing.assert_array_equal(real_case.golden(), minilm_case("0.q").output())
