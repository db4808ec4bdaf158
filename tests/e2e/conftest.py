"""Random campaigns: emitted RTL against the golden model and the cycle model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.gemm import acc_bits_needed
from bitfabric.sim.case import GemmCase, random_case
from bitfabric.sim.simulate import SimulationReport, simulate

Campaign = Callable[..., SimulationReport]


def random_dimension(rng: np.random.Generator, step: int) -> int:
    """Return a dimension around a tile size: one element, exact tiles, tails and several tiles."""
    return int(rng.choice([1, step, 2 * step, rng.integers(1, step + 1), rng.integers(1, 3 * step + 2)]))


def random_array(design: str, rng: np.random.Generator, seed: int, **options: Any) -> Any:
    """Return the configuration of a random array; the first seeds give the extreme shapes."""
    extremes = [(1, 1), (1, 5), (5, 1), (12, 9), (9, 16)]
    rows, columns = extremes[seed] if seed < len(extremes) else (int(size) for size in rng.integers(1, 8, 2))
    depth = int(rng.integers(1, 24))
    if design == "systolic_ws":
        options["acc_depth"] = depth
    else:
        options["weight_depth"] = depth = depth + rows
    if seed % 3 == 2:  # narrow operands, and an accumulator with not a bit to spare
        act_bits, weight_bits = (int(bits) for bits in rng.integers(2, 9, 2))
        acc_bits = max(acc_bits_needed(64, act_bits, weight_bits), 8)
        options |= {"act_bits": act_bits, "weight_bits": weight_bits, "k_max": 64, "acc_bits": acc_bits}
    return DESIGNS[design].config.preset(
        "tiny",
        rows=rows,
        columns=columns,
        # From too small for two tiles to large enough for everything.
        act_depth=int(depth * rng.integers(1, 6)),
        axis_data_bits=int(rng.choice([32, 64, 128])),
        **options,
    )


def campaign_cases(
    design: str, seed: int, mode: int, count: int, **options: Any
) -> tuple[Any, list[GemmCase]]:
    """Return a random array and ``count`` GEMMs of different dimensions for it."""
    rng = np.random.default_rng([seed, mode])
    config = random_array(design, rng, seed, **options)
    shapes: dict[tuple[int, int, int], None] = {}
    while len(shapes) < count:
        shape = (
            random_dimension(rng, min(config.m_step, 12)),
            random_dimension(rng, min(config.k_step, 12)),
            random_dimension(rng, config.columns),
        )
        # Small arrays run out of small shapes.
        if shape in shapes:
            shape = tuple(int(size) for size in rng.integers(1, 12, 3))
        shapes[shape] = None
    return config, [random_case(config, rng, *shape) for shape in shapes]


@pytest.fixture
def campaign(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Return a function that runs random cases on a random array and gives the report."""
    monkeypatch.setenv("BITFABRIC_BUILD", str(tmp_path_factory.mktemp("builds")))

    def run(
        design: str, seed: int, mode: int, count: int, *, stall: float = 0.0, **options: Any
    ) -> SimulationReport:
        config, cases = campaign_cases(design, seed, mode, count, **options)
        return simulate(design, config, cases, stall=stall, seed=seed)

    return run


@pytest.fixture
def distinct_cases() -> Callable[..., int]:
    """Return a function that counts the different (M, K, N, R, C) of a mode's campaign."""

    def count(design: str, arrays: int, mode: int, cases: int, **options: Any) -> int:
        found = set()
        for seed in range(arrays):
            config, chosen = campaign_cases(design, seed, mode, cases, **options)
            found |= {(case.m, case.k, case.n, config.rows, config.columns) for case in chosen}
        return len(found)

    return count
