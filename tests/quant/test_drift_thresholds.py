"""Drift's integer thresholds, clips and saturation, against exact fractions and Python integers."""

from __future__ import annotations

import math
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bitfabric.quant.drift import (
    NEVER,
    critical_threshold,
    high_clips,
    integer_threshold,
    representation_density,
    representation_range,
    saturate,
    select_integer,
)

WIDTHS = [(hp, lp) for hp in range(2, 9) for lp in range(1, hp + 1)]
DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
scales = st.one_of(st.sampled_from([1.0, 0.5, 2.0**-7, 0.1]), st.floats(1e-6, 1e6))


@DETERMINISTIC
@given(total=st.integers(0, 10**6), n=st.integers(1, 10**5), scale=scales, hc=st.integers(0, 4))
def test_the_critical_threshold_is_the_largest_that_is_low(total: int, n: int, scale: float, hc: int) -> None:
    found = critical_threshold(total, hc, n, scale)
    for delta, low in ((found, True), (math.nextafter(found, math.inf), False)):
        limit = integer_threshold(n, scale, delta)
        assert (total**2 * 2**hc >= limit) == low or limit == NEVER


def test_the_critical_threshold_s_ends() -> None:
    # All zero: low whatever the threshold.
    assert critical_threshold(0, 4, 5, 1.0) == math.inf
    # Beyond the largest float: low at all but infinity.
    assert critical_threshold(12700, 0, 100, 1e308) == sys.float_info.max
    # A reach of 2^66 is above T but where that is "never".
    found = critical_threshold(2**33, 0, 2**26, 1.0)
    for delta, low in ((found, True), (math.nextafter(found, math.inf), False)):
        assert (integer_threshold(2**26, 1.0, delta) != NEVER) == low


@DETERMINISTIC
@given(n=st.integers(1, 2**20), scale=scales, delta=st.floats(0, 1e9), widths=st.sampled_from(WIDTHS))
@example(n=2**20, scale=1e-6, delta=1e300, widths=(8, 1))
def test_the_integer_threshold(n: int, scale: float, delta: float, widths: tuple[int, int]) -> None:
    limit = integer_threshold(n, scale, delta, *widths)
    exact = Fraction(delta) * n * n * 2 ** (widths[0] - widths[1]) / (2 * Fraction(scale))
    assert limit == min(-(-exact.numerator // exact.denominator), 2**64 - 1)


def test_the_threshold_saturates_to_never() -> None:
    assert integer_threshold(1, 1.0, math.inf) == NEVER == 2**64 - 1
    assert integer_threshold(2**16, 1e-9, 1e9) == NEVER
    # Even a sum that would reach it.
    low, _, _ = select_integer([127], [2**33], NEVER)
    assert not low.any()
    low, _, _ = select_integer([127, 127], [2**32, 2**32 - 1], NEVER - 1)
    assert low.tolist() == [True, False]


@pytest.mark.parametrize("total", [2**23, 127 * 2**16, 2**28 - 1, 2**28, 2**31, 2**32, 2**40])
@pytest.mark.parametrize("maximum", [1, 7, 8, 127])
def test_large_sums_are_compared_exactly(total: int, maximum: int) -> None:
    clip = {1: 4, 7: 4, 8: 3, 127: 0}[maximum]
    reach = total**2 << clip
    for limit in {max(reach - 1, 0), reach, reach + 1}:
        if limit < NEVER:
            low, found, _ = select_integer([maximum, maximum], [total, 0], [limit, limit])
            assert found.tolist() == [clip, clip]
            assert low.tolist() == [reach >= limit, True]


@pytest.mark.parametrize("dtype", [np.int8, np.int16, np.int64, np.uint8])
@pytest.mark.parametrize("hp", range(2, 9))
def test_saturation_on_entry(dtype: type[np.integer], hp: int) -> None:
    limit = 2 ** (hp - 1) - 1
    info = np.iinfo(dtype)
    q = np.array([info.min, info.max, -limit if info.min else 0, limit, 0], dtype)
    values, count = saturate(q, hp)
    assert values.dtype == np.int8
    assert values.tolist() == [max(info.min, -limit), limit, -limit if info.min else 0, limit, 0]
    # The most negative int8 is outside at 8 bits, its most positive is not.
    assert count == sum(abs(int(one)) > limit for one in q)


def test_range_and_density() -> None:
    assert representation_range([0, 1, 4], 0.5).tolist() == [63.5, 31.75, 127 / 32]
    assert representation_density([0, 1, 4], 0.5).tolist() == [0.5, 1.0, 8.0]
    for hp, lp in WIDTHS:
        for maximum in range(2 ** (hp - 1)):
            clip = int(high_clips([maximum], hp, lp)[0])
            assert maximum <= representation_range(clip, 1.0, hp)
            assert clip == hp - lp or maximum > representation_range(clip + 1, 1.0, hp)
