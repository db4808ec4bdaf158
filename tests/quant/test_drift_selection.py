"""Drift's choice of precisions: the vectorised integer form against Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitfabric.quant.drift import (
    Selection,
    block_statistics,
    saturate,
    select,
    select_blocks,
    select_float,
    select_rows,
    statistics,
)
from bitfabric.quant.uniform import quantize

WIDTHS = [(hp, lp) for hp in range(2, 9) for lp in range(1, hp + 1)]
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
seeds = st.integers(0, 2**32 - 1)
deltas = st.one_of(st.sampled_from([0.0, math.inf, 1.0, 0.5]), st.floats(1e-6, 1e6))
scales = st.one_of(st.sampled_from([1.0, 0.5, 2.0**-7, 0.1]), st.floats(1e-6, 1e6))


def oracle(elements: list[int], scale: float, delta: float, hp: int, lp: int) -> tuple[bool, int, int]:
    """Decide one sub-tensor by eqs. (5), (2), (6) on exact fractions, without T."""
    limit = 2 ** (hp - 1) - 1
    magnitudes = [min(abs(one), limit) for one in elements]
    hc = max(c for c in range(hp - lp + 1) if max(magnitudes) * 2**c <= limit)
    lc = hp - lp - hc
    if not any(magnitudes):
        return True, hc, lc
    if math.isinf(delta):
        return False, hc, lc
    step = Fraction(scale)
    mean = Fraction(sum(magnitudes), len(magnitudes)) * step
    return 2 * mean**2 / (2**lc * step) >= Fraction(delta), hc, lc


def check(selection: Selection, parts: list[list[int]], scale: float, delta: float) -> None:
    found = zip(selection.low.flat, selection.high_clip.flat, selection.low_clip.flat, strict=True)
    for got, elements in zip(found, parts, strict=True):
        expected = oracle(elements, scale, delta, selection.high_bits, selection.low_bits)
        assert tuple(int(one) for one in got) == tuple(int(one) for one in expected), elements


def draw(rng: np.random.Generator, shape: tuple[int, ...], hp: int) -> NDArray[np.int64]:
    """Give integers of all hp bits, each line of its own magnitude, some all 0."""
    limit = 2 ** (hp - 1)
    reach = rng.integers(0, limit + 1, shape[0]).reshape(-1, *(1,) * (len(shape) - 1))
    return np.clip(rng.integers(-limit, limit, shape), -reach, reach)


@DETERMINISTIC
@given(seed=seeds, scale=scales, delta=deltas, widths=st.sampled_from(WIDTHS), k=st.integers(1, 9))
def test_tokens(seed: int, scale: float, delta: float, widths: tuple[int, int], k: int) -> None:
    q = draw(np.random.default_rng(seed), (6, k), widths[0])
    selection = select(q, scale, delta, -1, *widths)
    assert selection.low.shape == (6,)
    check(selection, q.tolist(), scale, delta)


@DETERMINISTIC
@given(seed=seeds, scale=scales, delta=deltas, widths=st.sampled_from(WIDTHS))
def test_rows_sharing_a_precision(seed: int, scale: float, delta: float, widths: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    m, rows = int(rng.integers(1, 12)), int(rng.integers(1, 6))
    q = draw(rng, (m, 5), widths[0])
    selection = select_rows(q, scale, delta, rows, *widths)
    check(selection, [q[i : i + rows].ravel().tolist() for i in range(0, m, rows)], scale, delta)
    assert np.array_equal(selection.expand(selection.low, q.shape)[:, 0], np.repeat(selection.low, rows)[:m])


@DETERMINISTIC
@given(seed=seeds, scale=scales, delta=deltas)
def test_regions_of_an_image(seed: int, scale: float, delta: float) -> None:
    rng = np.random.default_rng(seed)
    height, width, bh, bw = rng.integers(1, 8, 4).tolist()
    q = draw(rng, (height, width, 3), 8)
    selection = select_blocks(q, (bh, bw), scale, delta)
    corners = list(product(range(0, height, bh), range(0, width, bw)))
    check(selection, [q[y : y + bh, x : x + bw].ravel().tolist() for y, x in corners], scale, delta)
    spread = np.broadcast_to(selection.expand(selection.low, q.shape), q.shape)
    for (y, x), low in zip(corners, selection.low.flat, strict=True):
        assert (spread[y : y + bh, x : x + bw] == low).all()


@pytest.mark.parametrize(("hp", "lp"), WIDTHS)
def test_every_pair_of_elements(hp: int, lp: int) -> None:
    values = np.arange(-(2 ** (hp - 1)), 2 ** (hp - 1))[:: 1 if hp < 6 else 5]
    q = np.stack(np.meshgrid(values, values, indexing="ij"), -1).reshape(-1, 2)
    for scale, delta in ((1.0, 0.75), (0.3, 2.0), (1.0, 0.0), (1.0, math.inf)):
        check(select(q, scale, delta, -1, hp, lp), q.tolist(), scale, delta)


def test_an_all_zero_sub_tensor_is_low_whatever_the_threshold() -> None:
    for choose in (select, select_float):
        selection = choose(np.array([[0, 0], [1, 0], [127, -127]]), 1.0, math.inf)
        assert selection.low.tolist() == [True, False, False]
        assert selection.high_clip.tolist() == [4, 4, 0]
        assert selection.low_clip.tolist() == [0, 0, 4]


def test_threshold_zero_takes_everything_low() -> None:
    assert select(np.array([[1, 0], [127, 127]]), 1.0, 0.0).low.all()


def test_the_most_negative_integer_counts_as_saturated_in_the_choice() -> None:
    assert saturate(np.array([-128, -127, 127]))[1] == 1
    # (127 + 5)²: 2·66²/16 = 544.5; with 128 it would be 553.
    assert select(np.array([[-128, 5]]), 1.0, 544.5).low.all()
    assert not select(np.array([[-128, 5]]), 1.0, 545.0).low.any()


def test_axes() -> None:
    q = draw(np.random.default_rng(1), (4, 5, 6), 8)
    per_image = select(q, 0.1, 0.5, axis=(1, 2))
    assert per_image.low.shape == (4,)
    check(per_image, q.reshape(4, -1).tolist(), 0.1, 0.5)
    columns = select(q[0], 0.1, 0.5, axis=0)
    check(columns, q[0].T.tolist(), 0.1, 0.5)
    whole = select(q, 0.1, 0.5, axis=(0, 1, 2))
    assert whole.low.shape == ()
    check(whole, [q.ravel().tolist()], 0.1, 0.5)


def test_a_scale_per_channel() -> None:
    rng = np.random.default_rng(2)
    real = rng.laplace(size=(16, 6)) * rng.uniform(0.01, 3, 6)
    weight = quantize(real, axis=1)
    chosen = select(weight.values, weight.scale, 0.01, axis=0)  # scale is (1, 6)
    again = select(weight.values, weight.scale.ravel(), 0.01, axis=0)
    assert np.array_equal(chosen.low, again.low)
    for column, scale in enumerate(weight.scale.ravel()):
        expected = oracle(weight.values[:, column].tolist(), float(scale), 0.01, 8, 4)
        assert bool(chosen.low[column]) == expected[0]


def test_a_threshold_relative_to_the_scale() -> None:
    # At powers of two the product δ = ratio·Δ is exact: both ways of saying it agree.
    q = draw(np.random.default_rng(3), (50, 9), 8)
    for scale in (0.25, 2.0):
        assert np.array_equal(select(q, scale, 3.0 * scale).low, select(q, 1.0, 3.0).low)


def test_a_whole_axis_and_tails_have_their_own_counts() -> None:
    found = block_statistics(np.ones((5, 7, 2), np.int8), (2, 3))
    assert found.elements.tolist() == [[12, 12, 4], [12, 12, 4], [6, 6, 2]]
    assert np.array_equal(found.total, found.elements)


def test_a_tail_s_own_threshold() -> None:
    # By the mean, 3 rows of ones decide as 2 rows do; with the T of 2 x 2 elements one row would stay high.
    chosen = select_rows(np.ones((3, 2), np.int8), 1.0, 2.0, 2)
    assert chosen.low.tolist() == [True, True]


def test_the_largest_sub_tensors_the_machine_has() -> None:
    for fill in (127, -127, 1):
        q = np.full((1, 2**16), fill, np.int8)
        found = statistics(q)
        assert (found.maximum, found.total, found.elements) == (abs(fill), abs(fill) * 2**16, 2**16)
        check(select(q, 0.01, 3.0), q.tolist(), 0.01, 3.0)
