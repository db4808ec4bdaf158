"""Table I: its closed forms against the paper's, and against the mean of counted patterns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import (
    TableOne,
    act_keep,
    aqs_gemm,
    count_operations,
    expected_operations,
    outer_products,
    weight_keep,
)
from bitfabric.quant.slicing import signed_slices

SPARSITIES = [(0.0, 0.0), (0.3, 0.8), (0.95, 0.95), (0.9, 0.1), (1.0, 0.5), (1.0, 1.0)]


@pytest.mark.parametrize(("rho_w", "rho_x"), SPARSITIES)
def test_closed_forms_of_two_slices(rho_w: float, rho_x: float) -> None:
    k = 1000
    table = expected_operations(4, k, 4, rho_w, rho_x)
    work = 16 * k * (2 - rho_w) * (2 - rho_x)
    assert table.panacea == pytest.approx((work, work, 4 * k * (4 - rho_w - rho_x)))
    taken = 4 * k * (2 - rho_w)
    assert table.compensation_5 == pytest.approx((16, taken * rho_x, taken * rho_x))
    assert table.compensation_6 == pytest.approx((16, taken * (1 - rho_x), 0))
    assert table.compensation_rtl == pytest.approx((4, taken * (1 - rho_x), 0))
    sibia = 32 * k * (2 - max(rho_w, rho_x))
    assert table.sibia == pytest.approx((sibia, sibia, 16 * k))
    assert table.dense == (64 * k, 64 * k, 16 * k)


@pytest.mark.parametrize("slices", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 2), (3, 3)])
@pytest.mark.parametrize(("rho_w", "rho_x"), SPARSITIES)
def test_the_counts_mean(slices: tuple[int, int], rho_w: float, rho_x: float) -> None:
    rng = np.random.default_rng(0)
    (m, k, n), draws = (30, 61, 17), 200
    counted = [
        count_operations(rng.random((8, k)) >= rho_w, rng.random((k, 5)) >= rho_x, *slices)
        for _ in range(draws)
    ]
    expected = expected_operations(m, k, n, rho_w, rho_x, *slices)
    for column in TableOne._fields:
        samples = np.array([getattr(table, column) for table in counted], float)
        # Sibia takes the lesser of two sums after the draw, which biases it where their means are close.
        if column == "sibia" and rho_w == rho_x not in {0.0, 1.0} and min(slices) > 1:
            assert (samples.mean(axis=0) <= np.array(getattr(expected, column)) * 1.001).all()
            continue
        slack = 5 * samples.std(axis=0) / np.sqrt(draws) + 1e-6
        assert (np.abs(samples.mean(axis=0) - getattr(expected, column)) <= slack).all(), column


def test_slices_of_random_operands_count_like_independent_sparsities() -> None:
    # Operands rather than patterns: the share of zero HO slices is known, 16 of 128 and 16 of 256 values.
    rng = np.random.default_rng(0)
    w, x = rng.integers(-64, 64, (400, 300)), rng.integers(0, 256, (300, 400))
    result = aqs_gemm(w, x, 99, vector=1)
    expected = expected_operations(400, 300, 400, 1 / 8, 1 / 16, vector=1)
    for column in TableOne._fields:
        assert getattr(result.operations, column) == pytest.approx(getattr(expected, column), rel=0.01)


def test_sibia_skips_one_side_only() -> None:
    weights, acts = np.zeros((2, 10), bool), np.ones((10, 3), bool)
    weights[:, :4] = True
    assert outer_products(weights, acts).tolist() == [[60, 60], [24, 24]]
    # 6 of 10 weight vectors skipped, of the activations' none, then 9 of 10.
    assert count_operations(weights, acts).sibia.multiplications == 16 * 6 * 28
    acts[1:] = False
    assert count_operations(weights, acts).sibia.multiplications == 16 * 6 * 22
    assert count_operations(weights, acts).panacea.multiplications == 16 * (60 + 6 + 24 + 6)


def test_sibia_with_its_own_operands() -> None:
    # SBR on both sides and r = 0: the patterns come from signed slices.
    rng = np.random.default_rng(0)
    w, x = (np.clip(np.rint(rng.normal(0, 6, (32, 32))), -63, 63).astype(int) for _ in range(2))
    keep = weight_keep(signed_slices(w)[-1]), act_keep(signed_slices(x)[-1], 0)
    assert 0.1 < keep[0].mean() < 0.9
    table = count_operations(*keep)
    sides = [256 * 2 * (part.size + part.sum()) // 2 for part in keep]
    assert table.sibia.multiplications == min(sides)
    assert table.sibia.memory_words == 4 * 32 * 32


def test_empty_patterns() -> None:
    table = count_operations(np.zeros((0, 5), bool), np.zeros((5, 0), bool))
    assert all(column == (0, 0, 0) for column in table)
    assert all(column == (0, 0, 0) for column in expected_operations(0, 5, 0, 0.5, 0.5))


KEEP = np.ones((2, 3), bool)
REFUSALS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: outer_products(KEEP.astype(int), KEEP.T),
        "weight_keep=((2, 3), 'int64') is not allowed; it must be a matrix of bool",
    ),
    (
        lambda: outer_products(KEEP, KEEP),
        "act_keep=(2, 3) is not allowed; it must be of shape (3, groups), to follow weight_keep of shape (2, 3)",
    ),
    (
        lambda: outer_products(KEEP, KEEP.T, 0),
        "weight_slices=0 is not allowed; it must be an integer of at least 1",
    ),
    (
        lambda: count_operations(KEEP, KEEP.T, vector=3),
        "vector=3 is not allowed; it must be one of 1, 2, 4, 8",
    ),
    (
        lambda: expected_operations(1, 1, 1, -0.1, 0),
        "weight_sparsity=-0.1 is not allowed; it must be in [0, 1]",
    ),
    (lambda: expected_operations(1, 1, 1, 0, 1.5), "act_sparsity=1.5 is not allowed; it must be in [0, 1]"),
    (
        lambda: expected_operations(-1, 1, 1, 0, 0),
        "m=-1 is not allowed; it must be an integer of at least 0",
    ),
    (
        lambda: expected_operations(1, 1, 1, 0, 0, act_slices=0),
        "act_slices=0 is not allowed; it must be an integer of at least 1",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
