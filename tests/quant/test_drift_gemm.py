"""Drift's mixed GEMM and whole layer against integers and real numbers computed the plain way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitfabric.quant.drift import (
    MixedOperand,
    Pooling,
    PostProcess,
    convert,
    dequantize,
    drift_layer,
    gemm,
    high_operand,
    low_share,
    mixed_acts,
    mixed_weights,
    pool,
    select,
    select_blocks,
    select_rows,
    select_weights,
    sub_gemms,
)
from bitfabric.quant.drift.conversion import ROUNDINGS, Rounding
from bitfabric.quant.drift.operands import REGIONS
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.pwl import evaluate, fit
from bitfabric.quant.requant import requant_parameters, requantize

WIDTHS = [(8, 4), (8, 8), (8, 1), (8, 3), (6, 5), (5, 2), (2, 1), (4, 4)]
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
seeds = st.integers(0, 2**32 - 1)


def draw(seed: int, m: int, k: int, n: int, hp: int = 8) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    limit = 2 ** (hp - 1)
    acts, weights = rng.integers(-limit, limit, (m, k)), rng.integers(-128, 128, (k, n))
    return acts >> rng.integers(0, hp, (m, 1)), weights >> rng.integers(0, 8, n)


@DETERMINISTIC
@given(seed=seeds, widths=st.sampled_from(WIDTHS), rounding=st.sampled_from(ROUNDINGS))
def test_equals_the_matmul_of_dequantized_values(
    seed: int, widths: tuple[int, int], rounding: Rounding
) -> None:
    m, k, n = np.random.default_rng(seed).integers(1, 20, 3).tolist()
    acts, weights = draw(seed, m, k, n, widths[0])
    rows = select_rows(acts, 0.25, 1.0, 3, *widths)
    columns = select(weights, 0.5, 2.0, axis=0)
    left, right = mixed_acts(acts, rows, rounding), mixed_weights(weights, columns, rounding)
    acc = gemm(left, right)
    assert acc.dtype == np.int64
    # Both scales are powers of two, so that floats are exact.
    a = dequantize(convert(acts, rows, rounding), rows, 0.25)
    w = dequantize(convert(weights, columns, rounding), columns, 0.5)
    assert np.array_equal(acc * 0.125, a @ w)
    assert np.array_equal(acc, left.integers(0) @ right.integers(1))
    # Every value fits the precision that its line claims.
    for line, bits in zip([*left.values, *right.values.T], [*left.bits, *right.bits], strict=True):
        assert -(2 ** (bits - 1)) <= line.min()
        assert line.max() < 2 ** (bits - 1)


@DETERMINISTIC
@given(seed=seeds)
def test_the_four_arrays_cover_the_result_once(seed: int) -> None:
    acts, weights = draw(seed, 9, 6, 7)
    left = mixed_acts(acts, select(acts, 1.0, 20.0))
    right = select_weights(weights, 1.0, 20.0)
    acc = gemm(left, right)
    seen = np.zeros(acc.shape, np.int64)
    share = low_share(left, right)
    for name, (rows, columns) in sub_gemms(left, right).items():
        assert (left.low[rows] == (name[0] == "l")).all()
        assert (right.low[columns] == (name[1] == "l")).all()
        seen[np.ix_(rows, columns)] += 1
        plain = left.values[rows].astype(np.int64) @ right.values[:, columns].astype(np.int64)
        shifted = plain << (left.shift[rows, np.newaxis] + right.shift[columns])
        assert np.array_equal(acc[np.ix_(rows, columns)], shifted)
        assert share.regions[name] == rows.size * columns.size / acc.size
    assert (seen == 1).all()
    assert sum(share.regions.values()) == pytest.approx(1)
    assert (share.acts, share.weights) == (left.low.mean(), right.low.mean())


def test_arrays_may_be_empty() -> None:
    acts, weights = draw(0, 4, 3, 5)
    every = mixed_acts(acts, select(acts, 1.0, 0.0)), high_operand(weights, 1)
    parts = sub_gemms(*every)
    assert tuple(parts) == REGIONS
    assert [parts[name].rows.size * parts[name].columns.size for name in REGIONS] == [0, 0, 20, 0]
    assert low_share(*every).regions == {"hh": 0, "hl": 0, "lh": 1, "ll": 0}


def test_square_operands_keep_rows_and_columns_apart() -> None:
    acts, weights = np.array([[127, 100], [3, 2]]), np.array([[4, 120], [1, -128]])
    left, right = mixed_acts(acts, select(acts, 1.0, 100.0)), select_weights(weights, 1.0, 100.0)
    assert (left.low.tolist(), left.shift.tolist()) == ([True, False], [4, 0])
    assert (right.low.tolist(), right.shift.tolist()) == ([False, True], [0, 4])
    assert (left.saturated, right.saturated) == (0, 1)
    # (7, 6)·16 and (3, 2) by (4, 1) and (7, -8)·16 (127 + 8 rounds to 8, saturated to 7; -127 to -8).
    assert left.values.tolist() == [[7, 6], [3, 2]]
    assert right.values.tolist() == [[4, 7], [1, -8]]
    assert gemm(left, right).tolist() == [[34 * 16, 1 * 256], [14, 5 * 16]]


def test_the_largest_sums_are_exact() -> None:
    k = 2**16
    acts, weights = np.full((2, k), 127, np.int8), np.full((k, 2), -127, np.int8)
    acts[1] = 120
    assert gemm(high_operand(acts, 0), high_operand(weights, 1))[0, 0] == -(127**2) * k
    low = mixed_acts(acts, select(acts, 1.0, 0.0)), select_weights(weights, 1.0, 0.0)
    assert gemm(*low)[0, 0] == (7 * -8 * k) << 8


def test_sub_tensors_along_k_are_refused() -> None:
    acts, weights = draw(1, 4, 6, 4)
    along = select_blocks(acts, (1, 3), 1.0, 1.0)
    with pytest.raises(ParameterError, match=r"^selection\.block="):
        mixed_acts(acts, along)
    with pytest.raises(ParameterError, match=r"^selection\.block="):
        mixed_weights(weights, select(weights, 1.0, 1.0, axis=1))
    with pytest.raises(ParameterError, match=r"^shape="):
        mixed_acts(acts[:3], select(acts, 1.0, 1.0))
    with pytest.raises(ParameterError, match=r"^q="):
        select_weights(weights[0], 1.0, 1.0)
    with pytest.raises(ParameterError, match=r"^q="):
        high_operand(weights[0], 0)
    with pytest.raises(ParameterError, match=r"^b="):
        gemm(high_operand(acts, 0), high_operand(weights[:5], 1))
    with pytest.raises(ParameterError, match=r"^weights\.low="):
        gemm(high_operand(acts, 0), high_operand(weights, 0))
    short = MixedOperand(np.ones((2, 2), np.int8), np.zeros(2, bool), np.full(2, 8), np.full(2, 8))
    with pytest.raises(ParameterError, match=r"^acts\.shift="):
        gemm(short, short)


@pytest.mark.parametrize("rows_per_subtensor", [1, 4, 5, 100])
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_a_layer(rows_per_subtensor: int, rounding: Rounding) -> None:
    rng = np.random.default_rng(5)
    real = rng.laplace(size=(18, 10)) * rng.uniform(0.05, 1, (18, 1))
    scale = float(np.abs(real).max() / 127)
    acts = np.rint(real / scale).astype(np.int64)
    acts[0, 0] = -128
    weights = select_weights(rng.integers(-127, 128, (10, 6)) >> rng.integers(0, 4, 6), 0.01, 0.3)
    bias = rng.integers(-1000, 1000, 6)
    multiplier, shift = requant_parameters(np.full(6, 0.002))
    table = fit("gelu", 0.05, 0.05)
    pooling = Pooling(height=3, width=3, kernel=2, kind="average")
    plain = drift_layer(
        acts, weights, scale=scale, threshold=0.4, rows_per_subtensor=rows_per_subtensor, rounding=rounding
    )
    assert plain.acts.saturated == 1
    assert np.array_equal(plain.output, plain.acc)
    # Row by row, as the machine sees it.
    for row in range(18):
        group = row // rows_per_subtensor
        low, lc = plain.selection.low[group], int(plain.selection.low_clip[group])
        values = np.clip(acts[row], -127, 127)
        if low:
            half = 1 << lc >> 1 if rounding == "half_up" else 0
            values = np.clip((values + half) >> lc, -8, 7) << lc
        assert np.array_equal(plain.acc[row], values @ weights.integers(1))
    post = PostProcess(multiplier=multiplier, shift=shift, bias=bias, table=table, pooling=pooling)
    full = drift_layer(
        acts,
        weights,
        scale=scale,
        threshold=0.4,
        rows_per_subtensor=rows_per_subtensor,
        rounding=rounding,
        post=post,
    )
    codes = evaluate(table, requantize(plain.acc, multiplier, shift, bias=bias))
    assert np.array_equal(full.output, pool(codes, 3, 3, 2, kind="average"))
    assert full.output.shape == (2 * 4, 6)
    bare = PostProcess(multiplier=multiplier, shift=shift, zero_point=3, low=-5, high=9)
    assert np.array_equal(bare(plain.acc), requantize(plain.acc, multiplier, shift, 3, -5, 9))


def test_a_layer_of_one_precision_is_a_plain_gemm() -> None:
    acts, weights = draw(3, 7, 5, 4)
    acts = np.maximum(acts, -127)
    acts[acts.any(axis=1) == 0] = 1
    found = drift_layer(acts, high_operand(weights, 1), scale=1.0, threshold=math.inf)
    assert not found.selection.low.any()
    assert np.array_equal(found.acc, acts @ np.maximum(weights, -127))
