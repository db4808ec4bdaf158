"""The same job on Icarus, on Verilator and under the C++ main: the same verdict."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.registry import DESIGNS
from bitfabric.sim.designs import SIMULATED
from bitfabric.sim.panacea_random import random_chain
from bitfabric.sim.simulate import simulate

SHAPES = [(1, 1, 1), (9, 7, 5), (17, 13, 4), (3, 30, 2)]


def outcome(design: str, **options: Any) -> list[Any]:
    """Return what a simulator says of the same cases."""
    config: Any = DESIGNS[design].config.preset("tiny")
    rng = np.random.default_rng(7)
    machine = SIMULATED[design]
    option = "codes" if design == "panacea" else "requantized"
    if design == "dtqatten":  # blocks of attention are no GEMMs; some go on with the tokens of the one before
        cases = machine.random_cases(config, 7, 6)
    else:
        cases = [
            machine.random_case(config, rng, *shape, **{option: number % 2 == 1})
            for number, shape in enumerate(SHAPES)
        ]
    if design == "panacea":  # layers whose end is seen in a register
        cases += random_chain(config, rng, 5, [9, 12, 6], keep_last=True)
    report = simulate(design, config, cases, **options)
    assert report.passed, [result.problem for result in report.results]
    return [(result.name, result.registers) for result in report.results]


@pytest.mark.parametrize("design", DESIGNS)
def test_simulators_agree_to_the_cycle(design: str) -> None:
    icarus = outcome(design)
    assert outcome(design, simulator="verilator") == icarus
    assert outcome(design, simulator="verilator", native=True) == icarus
    # Stalled channels pause differently in each testbench, the packets must not differ.
    outcome(design, simulator="verilator", stall=0.5)
    outcome(design, simulator="verilator", native=True, stall=0.5)
