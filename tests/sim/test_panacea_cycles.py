"""Panacea's cycle model: figures worked out by hand, losses that add up, and the model of densities beside the exact one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.panacea import case_cycles, case_losses, gemm_cycles
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_random import random_cases

FLEXIBLE: dict[str, Any] = {"flexible": True, "dtp": False}


def dense_case(m: int, k: int, n: int, **fields: Any) -> PanaceaCase:
    """Return a layer of which no HO vector is skipped; accumulators come out."""
    bits = {"weight_bits": 7, "act_bits": 8, **fields}
    acts = np.full((m, k), 2 ** bits["act_bits"] - 1)
    return PanaceaCase(acts=acts, weights=np.full((k, n), 2 ** (bits["weight_bits"] - 1) - 1), **bits)


def skipped_case(m: int, k: int, n: int, **fields: Any) -> PanaceaCase:
    """Return a layer of which every HO vector is skipped."""
    return PanaceaCase(acts=np.zeros((m, k), int), weights=np.zeros((k, n), int), **fields)


@pytest.mark.parametrize(
    ("weight_bits", "act_bits", "parts"), [(4, 4, 1), (7, 8, 1), (10, 8, 2), (10, 12, 4)]
)
def test_static_class_by_hand(weight_bits: int, act_bits: int, parts: int) -> None:
    """Pairs of dense slices times ceil(K positions / S) for every sub-tile of the only PEA at work."""
    config = PanaceaConfig.preset("tiny", dtp=False)  # D = 2, S = 4, 8 positions, 8 tokens
    for m, k in ((1, 8), (8, 8), (5, 13), (17, 20)):
        case = skipped_case(m, k, 4, weight_bits=weight_bits, act_bits=act_bits)
        depths = [min(8, k - start) for start in range(0, k, 8)]
        cycles = case_cycles(config, case)
        assert cycles.array_cycles == -(-m // 4) * sum(parts * -(-depth // 4) for depth in depths)
        assert cycles.array_cycles == cycles.breakdown["compute"]
        slices = case.slicing.weight_slices * case.slicing.act_slices
        assert cycles.utilization == m * k * 4 * slices / (config.multipliers * cycles.array_cycles)


def test_dynamic_class_by_hand() -> None:
    """Three products with an HO slice for every position, two a cycle; the static class is long done by then."""
    config = PanaceaConfig.preset("tiny", dtp=False)
    for m, k in ((1, 8), (8, 8), (5, 13), (17, 20)):
        depths = [min(8, k - start) for start in range(0, k, 8)]
        cycles = case_cycles(config, dense_case(m, k, 4))
        assert cycles.array_cycles == -(-m // 4) * sum(-(-3 * depth // 2) for depth in depths)


def test_flexible_by_hand() -> None:
    """Four products for every position by six operators, of which none waits for its kind of work."""
    config = PanaceaConfig.preset("tiny", **FLEXIBLE)
    for k in range(1, 9):
        assert case_cycles(config, dense_case(1, k, 4)).array_cycles == -(-4 * k // 6)
    # What is left of a sub-tile's last cycle begins the next one's dense products: 2 x 32 in 11 cycles, not 12.
    assert case_cycles(config, dense_case(8, 8, 4)).array_cycles == 11


def test_losses_by_hand() -> None:
    """One of two PEAs, 8 products by 4 of its 6 operators: two cycles."""
    config = PanaceaConfig.preset("tiny")
    case = skipped_case(1, 8, 4, weight_bits=4, act_bits=4)
    losses, total = case_losses(config, case), case_cycles(config, case).total
    assert losses.bound == pytest.approx(8 / 12)
    assert losses.rounding == pytest.approx(1 - 8 / 12)
    assert losses.imbalance == pytest.approx(1)
    assert losses.overhead == pytest.approx(total - 2)


@pytest.mark.parametrize("options", [{}, FLEXIBLE], ids=["classes", "flexible"])
def test_losses_sum_to_the_total(options: dict[str, Any]) -> None:
    config = PanaceaConfig.preset("small", **options)
    for case in random_cases(config, 3, 20):
        cycles, losses = case_cycles(config, case), case_losses(config, case)
        parts = (losses.bound, losses.rounding, losses.imbalance, losses.overhead)
        assert min(parts) > -1e-9
        assert sum(parts) == pytest.approx(cycles.total)
        breakdown = cycles.breakdown
        assert sum(breakdown[name] for name in ("load", "compute", "stalled", "drain")) == cycles.total
        assert min(breakdown.values()) >= 0
        assert losses.bound * config.peas * config.operators == pytest.approx(case.result.outer_products)


def test_double_tiles_never_lose_products() -> None:
    """Sparse layers of two weight tiles: DTP gives the idle dynamic operators the second tile's dense products."""
    config = PanaceaConfig.preset("tiny", peas=1, tile_k=4, tile_n=4, dynamic_operators=1, static_operators=2)
    one, two = (case_cycles(config, skipped_case(16, 64, 8, dtp=dtp)) for dtp in (False, True))
    # 16 x 4 sub-tiles of 4 positions, two weight tiles: by 2 operators, and by all 3.
    assert one.array_cycles == 16 * 4 * 2 * 4 // 2
    assert 16 * 4 * 8 / 3 <= two.array_cycles < 0.8 * one.array_cycles


def drawn_case(
    rng: np.random.Generator, m: int, k: int, n: int, shares: tuple[float, float], bits: tuple[int, int]
) -> PanaceaCase:
    """Return a layer whose HO vectors are skipped with the shares given, each by itself."""
    keep_w, keep_x = rng.random((k, -(-n // 4))) >= shares[0], rng.random((-(-m // 4), k)) >= shares[1]
    high_w, high_x = 2 ** (bits[0] - 1) - 1, 2 ** bits[1] - 1
    weights = np.repeat(keep_w, 4, axis=1)[:, :n] * high_w
    acts = np.repeat(keep_x, 4, axis=0)[:m] * high_x
    return PanaceaCase(acts=acts, weights=weights, weight_bits=bits[0], act_bits=bits[1])


@pytest.mark.parametrize("options", [{}, FLEXIBLE], ids=["classes", "flexible"])
def test_fast_model(options: dict[str, Any]) -> None:
    """From shape and densities alone within 3 % in the mean, 10 % at most; layers that are extrapolated among them."""
    config = PanaceaConfig.preset("small", wmem_words=1 << 14, **options)
    rng = np.random.default_rng(1)
    errors: dict[str, list[float]] = {"total": [], "array_cycles": []}
    for number in range(20):
        large = number % 7 == 6
        m, k, n = (int(size) for size in rng.integers(40, 220, 3) * (2 if large else 1))
        shares = (float(rng.random()), float(rng.random()))
        bits = (int(rng.choice([7, 10])), int(rng.choice([8, 12])))
        exact = case_cycles(config, drawn_case(rng, m, k, n, shares, bits))
        fast = gemm_cycles(
            config,
            m,
            k,
            n,
            weight_sparsity=shares[0],
            act_sparsity=shares[1],
            weight_bits=bits[0],
            act_bits=bits[1],
            dtp=False,
            resident=False,
        )
        assert sum(fast.breakdown[name] for name in ("load", "compute", "stalled", "drain")) == fast.total
        for name, found in errors.items():
            found.append(abs(getattr(fast, name) / getattr(exact, name) - 1))
    for name, found in errors.items():
        assert np.mean(found) <= 0.03, name
        assert max(found) <= 0.10, name


def test_fast_model_refuses_what_is_no_layer() -> None:
    config = PanaceaConfig.preset("tiny", dtp=False)
    for options, message in (
        ({"weight_sparsity": 1.5}, "weight_sparsity=1.5 is not allowed; it must be in"),
        ({"act_sparsity": -0.1}, "act_sparsity=-0.1 is not allowed; it must be in"),
        ({"weight_bits": 8}, "weight_bits=8 is not allowed; it must be one of 4, 7, 10"),
        ({"dtp": True}, "dtp=True is not allowed; it must be false in this configuration"),
    ):
        with pytest.raises(ParameterError) as error:
            gemm_cycles(config, 8, 8, 8, **options)
        assert str(error.value).startswith(message)


@pytest.mark.parametrize(
    ("memory", "options"), [("amem_words", {}), ("wmem_words", {}), ("omem_words", {"requantize": True})]
)
def test_fast_model_refuses_memories_that_hold_no_tile(memory: str, options: dict[str, Any]) -> None:
    config = PanaceaConfig.preset("tiny", **{memory: 8})
    with pytest.raises(
        ParameterError, match=rf"^{memory}=8 is not allowed; it must be at least \d+ for a tile"
    ):
        gemm_cycles(config, 16, 64, 64, **options)


def test_weights_that_do_not_fit_are_streamed() -> None:
    config = PanaceaConfig.preset("paper")
    small, large = (gemm_cycles(config, 128, k, 64).traffic for k in (512, 4096))
    assert small["wmem_words_read"] == 2 * small["wmem_words_written"]
    assert large["wmem_words_read"] == large["wmem_words_written"]
