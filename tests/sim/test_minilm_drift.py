"""Drift on MiniLM's real tensors: how many tokens go to 4 bits, and what that does to the embeddings."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.workloads.minilm import embeddings
from bitfabric.sim.workloads.minilm_drift import DriftPoint, measure, table

pytestmark = pytest.mark.minilm


@pytest.fixture(scope="module")
def points() -> tuple[list[DriftPoint], list[DriftPoint]]:
    every = table()
    return [one for one in every if not one.relative], [one for one in every if one.relative]


def test_no_threshold_reached_is_int8() -> None:
    point = measure(math.inf)
    assert (point.row_share, point.act_share, point.weight_share) == (0, 0, 0)
    assert point.cosine_int8 == pytest.approx(1.0, abs=1e-6)
    # Both are of length 1.
    cosine = float((embeddings() * embeddings(int8=True)).sum(axis=1).mean())
    assert point.cosine == pytest.approx(cosine, abs=1e-6)


def test_every_token_at_equal_widths_is_int8_too() -> None:
    point = measure(0.0, weight_threshold=0.0, low_bits=8)
    assert (point.row_share, point.act_share, point.weight_share) == (1, 1, 1)
    assert point.cosine_int8 == pytest.approx(1.0, abs=1e-6)


def test_shares_and_cosines(points: tuple[list[DriftPoint], list[DriftPoint]]) -> None:
    for line in points:
        shares = [one.row_share for one in line]
        assert shares == sorted(shares, reverse=True)
        # Rounding that another order of float sums brings about moves them by up to 0.01.
        assert all(after.cosine > before.cosine - 0.01 for before, after in pairwise(line))
        assert all(0 < one.act_share < one.row_share for one in line)
    found = {one.threshold: one for one in points[1]}
    assert (found[2.1].row_share, found[2.1].cosine) == pytest.approx((0.70, 0.85), abs=0.02)
    assert (found[12.0].row_share, found[12.0].cosine) == pytest.approx((0.22, 0.974), abs=0.02)


def test_a_threshold_relative_to_the_scale_does_better_at_the_same_share(
    points: tuple[list[DriftPoint], list[DriftPoint]],
) -> None:
    absolute, relative = (line[::-1] for line in points)
    for share_of in (lambda one: one.row_share, lambda one: one.act_share):
        shares, cosines = [share_of(one) for one in relative], [one.cosine for one in relative]
        # Where both lines have points, and 4-bit activations cost something.
        common = [one for one in absolute if 0.2 < share_of(one) < 0.7]
        assert len(common) >= 2
        for one in common:
            assert float(np.interp(share_of(one), shares, cosines)) > one.cosine


def test_truncation_costs_more_than_rounding() -> None:
    rounded, truncated = (
        measure(8.0, relative=True, rounding=rounding) for rounding in ("half_up", "truncate")
    )
    assert rounded.cosine > truncated.cosine + 0.02


def test_weights_too() -> None:
    point = measure(8.0, relative=True, weight_threshold=8.0, rows_per_subtensor=4)
    assert 0 < point.weight_share <= 1
    assert point.cosine > 0.7


def test_refused() -> None:
    with pytest.raises(ParameterError, match=r"^threshold="):
        measure(-1.0)
    with pytest.raises(ParameterError, match=r"^rows_per_subtensor="):
        measure(1.0, rows_per_subtensor=0)
