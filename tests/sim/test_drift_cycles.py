"""Drift's cycle model of a GEMM: shares of low precision, parts that sum to the total, and the published formula."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drift.config import BUFFERINGS, SCHEDULERS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.drift import case_cycles, gemm_cycles
from bitfabric.sim.cycles.drift_array import Split
from bitfabric.sim.designs import simulated
from bitfabric.sim.drift_case import DriftCase

PARTS = ("load", "schedule", "compute", "stalled", "drain")
SHARES = (0.0, 0.3, 1.0)


def split_of(cycles: Cycles) -> Split:
    word = cycles.traffic["split"]
    return Split(word & 0xFF, word >> 8 & 0xFF, word >> 16)


def case_with(m: int, k: int, n: int, act_low: float, weight_low: float, **fields: Any) -> DriftCase:
    """Return a layer whose low rows, of larger elements, are spread evenly among the others."""
    low = np.diff((np.arange(m + 1) * round(act_low * m)) // m) > 0
    bits = np.where(np.arange(n) < round(weight_low * n), 4, 8)
    return DriftCase(
        acts=np.where(low, 7, 1)[:, None] * np.ones((m, k), np.int64),
        weights=np.ones((k, n), np.int64),
        weight_bits=bits,
        weight_clip=np.zeros(n, np.int64),
        threshold_int=400 * k * k,
        **fields,
    )


@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_parts_sum_to_the_total(buffering: str, scheduler: str) -> None:
    config = DriftConfig.preset("small", weight_buffering=buffering, scheduler=scheduler, out_words=2048)
    for shape, acts, weights in itertools.product(((40, 50, 60), (1, 9, 33), (33, 128, 7)), SHARES, SHARES):
        for requantize in (False, True):
            cycles = gemm_cycles(config, *shape, act_low=acts, weight_low=weights, requantize=requantize)
            assert set(cycles.breakdown) == set(PARTS)
            assert min(cycles.breakdown.values()) >= 0
            assert sum(cycles.breakdown.values()) == cycles.total
            arrays = [cycles.traffic[f"array_{region}_cycles"] for region in REGIONS]
            assert max(arrays) <= cycles.breakdown["compute"]
            assert 0 < cycles.machine_utilization < cycles.utilization <= 1


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_gemm_is_a_case_of_its_shares(scheduler: str) -> None:
    config = DriftConfig.preset("small", scheduler=scheduler, out_words=2048)
    ones = np.ones(21, np.int64)
    for acts, weights in itertools.product(SHARES, SHARES):
        for fields in ({}, {"bias": 0 * ones, "multiplier": ones, "shift": ones}):
            case = case_with(37, 40, 21, acts, weights, **fields)
            assert case.counts.m_low == round(acts * 37)
            assert case.counts.n_low == round(weights * 21)
            model = gemm_cycles(config, 37, 40, 21, act_low=acts, weight_low=weights, requantize=bool(fields))
            assert model == case_cycles(config, case)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_single_buffering_has_the_published_cycles(scheduler: str) -> None:
    """(2 R + C + M - 2) ceil(pa K / 4 R) ceil(pw N / 16 C) [paper, eq. 7], with results that leave in time."""
    config = DriftConfig.preset(
        "small", weight_buffering="single", scheduler=scheduler, axis_data_bits=256, lanes=32, out_words=4096
    )
    compared = 0
    for m, k, n, acts, weights in itertools.product((24, 32), (64, 90), (8, 40), SHARES, SHARES):
        cycles = gemm_cycles(config, m, k, n, act_low=acts, weight_low=weights, requantize=True)
        n_low, m_low = round(weights * n), round(acts * m)
        shapes = split_of(cycles).shapes(config)
        for region in REGIONS:
            rows, pa = (m - m_low, 8) if region[0] == "h" else (m_low, 4)
            channels, pw = (n - n_low, 8) if region[1] == "h" else (n_low, 4)
            r, c = shapes[region]
            found = cycles.traffic[f"array_{region}_cycles"]
            if not rows or not channels:
                assert found == 0
                continue
            tiles = -(-pw * channels // (16 * c))
            if tiles == 1:  # an N tile more may wait for its weights
                assert found == (2 * r + c + rows - 2) * -(-pa * k // (4 * r))
                compared += 1
    assert compared >= 30


def test_scan_is_never_slower() -> None:
    for buffering in BUFFERINGS:
        scan, greedy = (
            DriftConfig.preset("small", weight_buffering=buffering, scheduler=name, out_words=4096)
            for name in ("scan", "greedy")
        )
        for acts, weights in itertools.product((0.2, 0.5, 0.9), (0.1, 0.6, 0.8)):
            best, other = (
                gemm_cycles(config, 60, 70, 90, act_low=acts, weight_low=weights, requantize=True)
                for config in (scan, greedy)
            )
            assert best.array_cycles <= other.array_cycles


def test_low_precision_saves_cycles() -> None:
    config = DriftConfig.preset("small", out_words=4096)
    totals = [
        gemm_cycles(config, 64, 96, 96, act_low=share, weight_low=share, requantize=True).total
        for share in (0.0, 0.5, 0.9)
    ]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] > 1.8 * totals[-1]


def test_bad_shares_are_refused() -> None:
    config, machine = DriftConfig.preset("tiny"), simulated("drift")
    refused: list[tuple[dict[str, float], str]] = [
        ({"act_low": 1.5}, "act_low=1.5 is not allowed; it must be in [0, 1]"),
        ({"weight_low": -0.1}, "weight_low=-0.1 is not allowed; it must be in [0, 1]"),
        ({"act_sparsity": 0.5}, "act_sparsity=0.5 is not allowed; it must be left out: drift skips nothing"),
    ]
    for shares, message in refused:
        with pytest.raises(ParameterError) as error:
            machine.gemm_cycles(config, 8, 8, 8, **shares)
        assert str(error.value) == message
    other = simulated("systolic_ws")
    with pytest.raises(ParameterError, match="left out: systolic_ws has one precision"):
        other.gemm_cycles(None, 8, 8, 8, act_low=0.5)


@pytest.mark.parametrize("shape", [(0, 8, 8), (8, 0, 8), (8, 8, 0), (65536, 8, 8)])
def test_bad_dimensions_are_refused(shape: tuple[int, int, int]) -> None:
    with pytest.raises(ParameterError, match=r"^[MKN]=\d+ is not allowed"):
        simulated("drift").gemm_cycles(DriftConfig.preset("tiny"), *shape)


@pytest.mark.parametrize(
    ("name", "shares"),
    [("high_words", {}), ("low_words", {"act_low": 1.0}), ("weight_words", {"act_low": 0.5})],
)
def test_memories_that_do_not_hold_the_operands(name: str, shares: dict[str, float]) -> None:
    config = DriftConfig.preset("tiny", **{name: 4})
    with pytest.raises(ParameterError, match=rf"^{name}=4 is not allowed; it must be at least \d+ for "):
        gemm_cycles(config, 8, 80, 8, **shares)


def test_rows_that_do_not_fit_are_further_layers() -> None:
    config = DriftConfig.preset("tiny")  # an index buffer of 64 rows
    half, whole = (gemm_cycles(config, m, 8, 8, requantize=True, act_low=0.5) for m in (50, 100))
    assert (whole.total, whole.array_cycles) == (2 * half.total, 2 * half.array_cycles)
    assert whole.traffic["rows_low"] == 50


def test_channels_that_do_not_fit_are_further_layers() -> None:
    config = DriftConfig.preset("tiny")
    whole, parts = (gemm_cycles(config, 8, 16, n, weight_low=0.5) for n in (64, 128))
    assert sum(parts.breakdown.values()) == parts.total
    assert whole.total < parts.total < 2 * whole.total  # activations come once; later splits are there
