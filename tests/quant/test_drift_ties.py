"""Drift's choice where both sides of eq. (6) meet, and its float form: against Python integers and fractions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitfabric.quant.drift import (
    critical_threshold,
    high_clips,
    saturate,
    select,
    select_float,
    statistics,
)

WIDTHS = [(hp, lp) for hp in range(2, 9) for lp in range(1, hp + 1)]
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
seeds = st.integers(0, 2**32 - 1)
scales = st.one_of(st.sampled_from([1.0, 0.5, 2.0**-7, 0.1]), st.floats(1e-6, 1e6))
# Denormals, the smallest normal, the largest of all.
EXTREMES = [5e-324, 1e-310, 2.0**-1022, 1e-30, 1e30, 1e300, 1.7976931348623157e308]


def draw(rng: np.random.Generator, m: int, k: int, hp: int) -> NDArray[np.int64]:
    """Give integers of all hp bits, each row of its own magnitude."""
    limit = 2 ** (hp - 1)
    reach = rng.integers(0, limit + 1, (m, 1))
    return np.clip(rng.integers(-limit, limit, (m, k)), -reach, reach)


@pytest.mark.parametrize(("hp", "lp"), WIDTHS)
def test_ties_are_low_and_the_next_threshold_is_not(hp: int, lp: int) -> None:
    rng = np.random.default_rng(hp * 8 + lp)
    q = draw(rng, 40, 8, hp)
    q[q.any(axis=1) == 0] = 1
    # With Δ = 1/2 and n = 8 both sides of eq. (6) are exact in floats.
    found = statistics(saturate(q, hp)[0])
    clip = high_clips(found.maximum, hp, lp)
    for row, total, hc in zip(q, found.total.tolist(), clip.tolist(), strict=True):
        tie = 2 * (total / 8) ** 2 * 0.5 / 2 ** (hp - lp - hc)
        for choose in (select, select_float):
            assert choose(row, 0.5, tie, -1, hp, lp).low
            assert not choose(row, 0.5, math.nextafter(tie, math.inf), -1, hp, lp).low
        assert critical_threshold(total, hc, 8, 0.5, hp, lp) == tie


@DETERMINISTIC
@given(seed=seeds, scale=scales, delta=st.floats(0, 1e3), widths=st.sampled_from(WIDTHS))
def test_the_paper_s_floats_agree_but_for_ties(
    seed: int, scale: float, delta: float, widths: tuple[int, int]
) -> None:
    q = draw(np.random.default_rng(seed), 20, 7, widths[0])
    exact, real = (choose(q, scale, delta, -1, *widths) for choose in (select, select_float))
    assert np.array_equal(exact.high_clip, real.high_clip)
    assert np.array_equal(exact.low_clip, real.low_clip)
    found = statistics(saturate(q, widths[0])[0])
    for row in np.flatnonzero(exact.low != real.low):
        tie = critical_threshold(int(found.total[row]), int(exact.high_clip[row]), 7, scale, *widths)
        assert delta == pytest.approx(tie, rel=1e-15 * 4)


def test_an_integer_tie_that_floats_miss() -> None:
    # Δ = 1/10 as a float: 2·(3/3)²·Δ/2^0 is 2Δ exactly, which is a tie; one float above is none.
    tie = 2 * 0.1
    q = np.full((1, 3), 1)
    assert select(q, 0.1, tie).low.all()
    assert not select(q, 0.1, math.nextafter(tie, 1)).low.any()


@pytest.mark.parametrize("scale", EXTREMES)
@pytest.mark.parametrize("delta", [0.0, *EXTREMES, math.inf])
def test_extreme_scales_and_thresholds(scale: float, delta: float) -> None:
    q = np.array([[1, 0, 0], [0, 0, 0], [3, -2, 1], [127, -128, 64], [-127, 127, 127]])
    sums = [1, 0, 6, 318, 381]
    lc = [0, 0, 0, 4, 4]
    expected = [
        total == 0
        or (
            math.isfinite(delta)
            and 2 * Fraction(total, 3) ** 2 * Fraction(scale) / 2**clip >= Fraction(delta)
        )
        for total, clip in zip(sums, lc, strict=True)
    ]
    for choose in (select, select_float):
        chosen = choose(q, scale, delta)
        assert chosen.low.tolist() == expected
        assert chosen.low_clip.tolist() == lc
