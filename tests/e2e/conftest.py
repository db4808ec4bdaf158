"""Random campaigns: emitted RTL against the golden model and the cycle model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.gemm import acc_bits_needed
from bitfabric.sim.case import random_case
from bitfabric.sim.simulate import SimulationReport, simulate

Campaign = Callable[..., SimulationReport]


def random_dimension(rng: np.random.Generator, step: int) -> int:
    """Return a dimension around a tile size: one element, exact tiles, tails and several tiles."""
    return int(rng.choice([1, step, 2 * step, rng.integers(1, step + 1), rng.integers(1, 3 * step + 2)]))


@pytest.fixture
def campaign(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Return a function that runs random cases on a random array and gives the report."""
    monkeypatch.setenv("BITFABRIC_BUILD", str(tmp_path_factory.mktemp("builds")))

    def run(design: str, seed: int, cases: int, *, stall: float = 0.0, **options: Any) -> SimulationReport:
        rng = np.random.default_rng(seed)
        shape = [(1, 1), (1, 5), (5, 1)][seed] if seed < 3 else rng.integers(1, 8, 2)
        rows, columns = (int(size) for size in shape)
        depth = int(rng.integers(1, 24))
        if design == "systolic_ws":
            options["acc_depth"] = depth
        else:
            options["weight_depth"] = depth = depth + rows
        if seed % 3 == 2:  # narrow operands, and an accumulator with not a bit to spare
            act_bits, weight_bits = (int(bits) for bits in rng.integers(2, 9, 2))
            acc_bits = acc_bits_needed(64, act_bits, weight_bits)
            options |= {
                "act_bits": act_bits,
                "weight_bits": weight_bits,
                "k_max": 64,
                "acc_bits": max(acc_bits, 8),
            }
        config: Any = DESIGNS[design].config.preset(
            "tiny",
            rows=rows,
            columns=columns,
            # From too small for two tiles to large enough for everything.
            act_depth=int(depth * rng.integers(1, 6)),
            axis_data_bits=int(rng.choice([32, 64, 128])),
            **options,
        )
        chosen = [
            random_case(
                config,
                rng,
                random_dimension(rng, min(config.m_step, 12)),
                random_dimension(rng, min(config.k_step, 12)),
                random_dimension(rng, columns),
            )
            for _ in range(cases)
        ]
        return simulate(design, config, chosen, stall=stall, seed=seed)

    return run
