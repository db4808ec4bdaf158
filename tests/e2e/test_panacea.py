"""The emitted panacea machine against its golden model and cycle model, in every form, width and mode."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.panacea import Slicing
from bitfabric.quant.panacea.post import activation_table
from bitfabric.quant.requant import requant_parameters
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_random import random_case, random_cases, random_chain
from bitfabric.sim.simulate import simulate
from bitfabric.sim.toolchain import MissingToolError, require_verilator

FLEXIBLE: dict[str, Any] = {"flexible": True, "dtp": False}
# Small machines, on Icarus: changes to `tiny`.
MACHINES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "4 dynamic, 8 static": {"dynamic_operators": 4, "static_operators": 8, "omem_words": 512},
    "8 dynamic, 4 static": {"dynamic_operators": 8, "static_operators": 4, "act_slots": 3},
    "no dtp": {"dtp": False, "axis_data_bits": 128, "act_slots": 4},
    "flexible": {**FLEXIBLE, "omem_words": 512},
    "flexible, 256 bits": {**FLEXIBLE, "dynamic_operators": 3, "axis_data_bits": 256, "act_slots": 8},
    "256 bits": {"peas": 4, "axis_data_bits": 256},
    "512 bits": {"peas": 3, "tile_k": 4, "tile_n": 12, "axis_data_bits": 512},
    "one PEA": {
        "peas": 1,
        "dynamic_operators": 1,
        "static_operators": 1,
        "tile_k": 4,
        "tile_n": 4,
        "max_weight_bits": 7,
        "max_act_bits": 8,
        "acc_bits": 20,
        "k_max": 32,
        "segments": 16,
    },
}
CASES = 25
# Larger ones, whose sub-tiles are long enough for runs that an index cannot count, under the C++ main.
LARGE: dict[str, dict[str, Any]] = {
    "small": {},
    "small, flexible": {**FLEXIBLE, "dynamic_operators": 2, "static_operators": 2},
}
LARGE_CASES = 70


def machine(name: str) -> PanaceaConfig:
    if name in MACHINES:
        return PanaceaConfig.preset("tiny", **MACHINES[name])
    return PanaceaConfig.preset("small", **LARGE[name])


@functools.cache
def campaign(name: str) -> list[PanaceaCase]:
    """Return a machine's random cases, and some that chance might leave out."""
    config = machine(name)
    cases = random_cases(config, 7, LARGE_CASES if name in LARGE else CASES)
    rng = np.random.default_rng(3)
    tall = 2 * config.m_step + 3
    for resident in (False, True):  # symmetric activations; three weight tiles
        fields = {"weight_bits": 7, "act_bits": 8, "zero_point": 128, "resident": resident}
        cases.append(
            random_case(config, rng, config.tile_n + 1, 5, tall, **fields, dtp=config.dtp, codes=resident)
        )
    if name in LARGE:
        formats = [(weight, *act) for weight in (7, 10) for act in ((8, 4), (8, 5), (8, 6), (12, 4))]
        cases += [long_runs(config, rng, number, *widths) for number, widths in enumerate(formats)]
    return cases


def long_runs(
    config: PanaceaConfig,
    rng: np.random.Generator,
    number: int,
    weight_bits: int,
    act_bits: int,
    low_bits: int,
) -> PanaceaCase:
    """Return a case in which both operands have runs that need forced vectors; the number says which modes it has."""
    m, k, n = config.tile_n + 3, 2 * config.tile_k + 9, 2 * config.m_step + 5
    slicing = Slicing(weight_bits=weight_bits, act_bits=act_bits, low_bits=low_bits)
    point = int(rng.integers(2**act_bits))
    low = slicing.skipped(point) << slicing.ho_shift
    near = 8 ** (slicing.weight_slices - 1)
    acts = rng.integers(low, low + (1 << slicing.ho_shift), (m, k))
    weights = rng.integers(-near // 2, near // 2, (k, n))
    # In one sub-tile a run of 16 to 31, in the other one of 15, which an index still counts, in the tail none.
    for at in (int(rng.integers(16, 32)), config.tile_k + 15, 2 * config.tile_k):
        acts[:, at], weights[at] = (
            rng.integers(0, 2**act_bits, m),
            rng.integers(-(2 ** (weight_bits - 1)), -near, n),
        )
    fields: dict[str, Any] = {
        "resident": bool(number & 1),
        "dtp": config.dtp and bool(number & 2),
        "codes": bool(number & 4) ^ bool(number & 1),
    }
    return random_case(
        config,
        rng,
        m,
        k,
        n,
        acts=acts,
        weights=weights,
        weight_bits=weight_bits,
        act_bits=act_bits,
        low_bits=low_bits,
        zero_point=point,
        **fields,
    )


def run(name: str, cases: Sequence[PanaceaCase], **options: Any) -> None:
    """Run cases on a machine; each has to equal golden, and without stalls every counter the cycle model."""
    if name in LARGE:
        try:
            require_verilator()
        except MissingToolError as error:
            pytest.skip(str(error))
        options |= {"simulator": "verilator", "native": True}
    report = simulate("panacea", machine(name), cases, **options)
    assert [(r.name, r.m, r.k, r.n, r.problem) for r in report.results if r.problem] == []
    assert report.passed
    assert len(report.results) == len(cases)
    for result, case in zip(report.results, cases, strict=True):
        # The verdict compared these; here it shows that they were compared with something.
        counts = case.counts(machine(name))
        assert {event: result.registers[event] for event in counts} == counts
        if not options.get("stall"):
            assert result.registers["total_cycles"] == result.predicted.total
            assert result.registers["compute_cycles"] == result.predicted.array_cycles


@pytest.mark.parametrize("name", [*MACHINES, *LARGE])
def test_equals_golden_and_cycle_model(name: str) -> None:
    run(name, campaign(name))


@pytest.mark.parametrize("name", ["tiny", "flexible, 256 bits", *LARGE])
def test_equals_golden_under_stalls(name: str) -> None:
    run(name, campaign(name)[-12:], stall=0.5, seed=1)


def test_what_the_campaign_covers() -> None:
    cases = [(machine(name), case) for name in (*MACHINES, *LARGE) for case in campaign(name)]
    assert len(cases) >= 350
    for name, values in (
        ("weight_bits", {4, 7, 10}),
        ("act_bits", {4, 8, 12}),
        ("low_bits", {4, 5, 6}),
        ("next_bits", {4, 8, 12}),
        ("next_low_bits", {4, 5, 6}),
        *((flag, {False, True}) for flag in ("codes", "dtp", "resident", "stream_weights")),
    ):
        assert {getattr(case, name) for _, case in cases} == values, name
    pairs = {(case.weight_bits, case.act_bits) for _, case in cases}
    assert pairs == {(weight, act) for weight in (4, 7, 10) for act in (4, 8, 12)}
    assert {case.low_bits for _, case in cases if case.zero_point == 128} == {4, 5, 6}
    # Nothing, everything and all between is skipped, on both sides.
    two = [(c, case) for c, case in cases if case.weight_bits > 4 and case.act_bits > 4]
    for what in ("weight", "act"):
        shares = [1 - getattr(case.result, f"{what}_keep").mean() for _, case in two]
        assert min(shares) == 0
        assert max(shares) == 1
        assert np.histogram(shares, 5, (0, 1))[0].min() >= 10
    # Runs over 15 leave forced vectors in both operands, in all widths and modes.
    forced = [
        case
        for c, case in two
        if case.result.weight_storage(c.tile_k).forced and case.result.act_storage(c.tile_k).forced
    ]
    assert {(case.weight_bits, case.act_bits, case.low_bits) for case in forced} >= {
        (weight, *act) for weight in (7, 10) for act in ((8, 4), (8, 5), (8, 6), (12, 4))
    }
    assert {(case.codes, case.resident) for case in forced} == {
        (a, b) for a in (False, True) for b in (False, True)
    }
    odd = 3 * machine("small").m_step
    assert {case.dtp for case in forced if odd - machine("small").m_step < case.n <= odd} == {False, True}
    # Tails in every dimension; with DTP an even and an odd number of weight tiles, and a single one.
    for size, step in (("m", "tile_n"), ("k", "tile_k"), ("n", "m_step")):
        rests = [getattr(case, size) % getattr(c, step) for c, case in cases]
        assert 0 < rests.count(0) < len(rests)
    tiles = [-(-case.n // c.m_step) for c, case in cases if case.dtp]
    assert {1, 2, 3} <= set(tiles)
    assert {case.resident for c, case in cases if case.n > 2 * c.m_step} == {False, True}


def perceptron(config: PanaceaConfig, tokens: int, sizes: list[int], *, bits: int = 8) -> list[PanaceaCase]:
    """Return layers of one network, GELU between them, whose activations stay on the chip."""
    rng = np.random.default_rng([tokens, *sizes])
    cases: list[PanaceaCase] = []
    acts = np.clip(np.rint(rng.normal(100, 25, (tokens, sizes[0]))), 0, 255).astype(np.int64)
    point = 100
    for number, (k, n) in enumerate(pairwise(sizes)):
        fields: dict[str, Any] = {"from_omem": number > 0}
        weights = np.clip(np.rint(rng.normal(0, 6, (k, n))), -64, 63).astype(np.int64)
        if number < len(sizes) - 2:
            # Inputs of ±4 where GELU bends, which leaves most outputs near the next zero point.
            spread = np.abs((acts - point) @ weights).max() + 1
            multiplier, shift = requant_parameters(np.full(n, 2047 / spread))
            fields |= {"multiplier": multiplier, "shift": shift, "keep": True}
            fields["table"] = activation_table("gelu", 4 / 2048, 8 / 2**bits, 20, bits, config.segments)
            fields |= {"next_bits": bits, "next_zero_point": 20}
            fields["bias"] = -point * weights.sum(axis=0)
        act_bits = 8 if number == 0 else bits
        case = PanaceaCase(
            name=f"layer {number}", acts=acts, weights=weights, act_bits=act_bits, zero_point=point, **fields
        )
        cases.append(case)
        acts, point = case.golden(), 20
    return cases


@pytest.mark.parametrize("name", ["4 dynamic, 8 static", "flexible"])
def test_a_network_stays_on_the_chip(name: str) -> None:
    """Two layers, three layers; M steps and N tiles of each, M other than N throughout."""
    config = machine(name)
    networks = [
        perceptron(config, 5, [12, 24, 6]),
        perceptron(config, 17, [9, 20, 13]),
        perceptron(config, 11, [8, 19, 24, 9]),
        perceptron(config, 3, [10, 16, 5], bits=12),
        random_chain(config, np.random.default_rng(5), 9, [7, 18, 10, 3]),
        random_chain(config, np.random.default_rng(6), 10, [20, 9, 17, 30]),
    ]
    for layers in networks:
        for before, case in pairwise(layers):
            np.testing.assert_array_equal(before.golden(), case.acts)
            assert before.keep
            assert case.from_omem
    run(name, [case for layers in networks for case in layers])
    run(name, [case for layers in networks[2:3] for case in layers], stall=0.5)


def test_inside_m_and_n_change_places() -> None:
    """The paper's M, 24 output channels here, is our N; 5 tokens are our M."""
    rng = np.random.default_rng(2)
    acts, weights = rng.integers(0, 256, (5, 10)), rng.integers(-64, 64, (10, 24))
    case = PanaceaCase(acts=acts, weights=weights, zero_point=30)
    assert (case.m, case.n, case.golden().shape) == (5, 24, (5, 24))
    np.testing.assert_array_equal(case.golden(), acts @ weights)
    run("tiny", [case])
