"""Panacea's calibration: zero points, DBS types, ranges, sparsities and biases."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import (
    act_sparsity,
    calibrate_acts,
    calibrate_weights,
    distribution_type,
    integer_bias,
    manipulate_zero_point,
    weight_sparsity,
)

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)


@pytest.mark.parametrize(("low_bits", "bits"), [(4, 8), (5, 8), (6, 8), (8, 12)])
def test_every_zero_point_moves_to_the_middle_of_its_skip_range(low_bits: int, bits: int) -> None:
    points = np.arange(2**bits)
    moved = manipulate_zero_point(points, low_bits)
    assert moved.dtype == np.int64
    for zp, new in zip(points.tolist(), moved.tolist(), strict=True):
        skip_range = [
            q for q in range(zp // 2**low_bits * 2**low_bits, 2**bits) if q >> low_bits == zp >> low_bits
        ]
        # As many values below the zero point as from it on.
        assert new == skip_range[len(skip_range) // 2]
        assert manipulate_zero_point(zp, low_bits) == new
    assert np.array_equal(manipulate_zero_point(moved, low_bits), moved)
    assert isinstance(manipulate_zero_point(17), int)


def test_the_type_by_an_integral_of_the_normal_distribution() -> None:
    # The share of a normal distribution within the half skip range, by erf instead of a quantile.
    def within(low_bits: int, std: float) -> float:
        return math.erf(2 ** (low_bits - 1) / std / math.sqrt(2))

    for target in (0.1, 0.5, 0.9, 0.99):
        for std in np.geomspace(0.3, 300, 97):
            low_bits = distribution_type(std, target)
            assert all(within(less, std) < target for less in range(4, low_bits))
            assert low_bits == 6 or within(low_bits, std) >= target


def test_the_type_at_its_ends() -> None:
    assert distribution_type(0.0) == 4
    assert distribution_type(1e300) == 6
    # A target of nothing is met by the basic slices however wide the distribution.
    assert distribution_type(1e300, 0) == 4
    # A half skip range that is just as wide as the quantile is wide enough.
    quantile = NormalDist().inv_cdf(0.95)
    assert quantile * (8 / quantile) == 8
    assert distribution_type(8 / quantile) == 4
    # z = 1.6449 for 90 %.
    assert [distribution_type(std) for std in (4.86, 4.87, 9.72, 9.73, 19.45, 19.46)] == [4, 5, 5, 6, 6, 6]


@DETERMINISTIC
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([4, 8, 12]),
    st.sampled_from(["off", "on", "auto"]),
    st.booleans(),
    st.sampled_from([None, 99.0, 100.0]),
    st.sampled_from([None, 0.3, 0.9]),
)
def test_what_a_calibration_says_of_its_tensor(
    seed: int, bits: int, zpm: str, symmetric: bool, percentile: float | None, target: float | None
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(rng.normal(0, 2), rng.uniform(0.01, 3), (rng.integers(1, 30), rng.integers(1, 30)))
    target = target if bits == 8 else None
    given_ = {"symmetric": symmetric, "percentile": percentile, "zpm": zpm, "target_sparsity": target}
    found = calibrate_acts(x, bits, **given_)
    ceiling, floor = max(x.max(), 0), min(x.min(), 0)
    if percentile == 99.0:
        ceiling, floor = max(np.percentile(x, 99), 0), min(np.percentile(x, 1), 0)
    scale = (ceiling - floor) / (2**bits - 1)
    point = int(np.clip(np.rint(-floor / scale), 0, 2**bits - 1))
    if symmetric:
        size = np.abs(x)
        scale = (np.percentile(size, 99) if percentile == 99.0 else size.max()) / (2 ** (bits - 1) - 1)
        point = 2 ** (bits - 1)
    assert found.scale == pytest.approx(scale, rel=1e-12)
    before = np.clip(np.rint(x / found.scale) + point, 0, 2**bits - 1)
    assert found.std == pytest.approx(before.std())
    assert found.low_bits == (4 if target is None else distribution_type(found.std, target))
    assert found.dbs_type == found.low_bits - 3
    shift = {4: 0, 8: found.low_bits, 12: 8}[bits]
    centred = point // 2**shift * 2**shift + 2**shift // 2 if bits > 4 else point
    assert found.zero_point == (centred if found.manipulated else point)
    assert found.manipulated == (bits > 4 and zpm == "on") or zpm == "auto"
    values = found.quantize(x).values
    assert found.clipped == np.mean(np.abs(found.quantize(x).dequantize() - x) > found.scale * 0.5000001)
    assert found.sparsity == act_sparsity(values, found.zero_point, bits, found.low_bits)
    assert found.skipped == (found.zero_point >> shift if bits > 4 else 0)


def test_auto_takes_the_zero_point_that_skips_more() -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for seed in range(40):
        # Both bell shapes, which ZPM serves, and one-sided ones with the zero point at the edge, which it hurts.
        x = rng.normal(0, 1, (32, 40)) if seed % 2 else np.maximum(rng.normal(-1, 1, (32, 40)), -0.02)
        x[0, 0] = rng.uniform(8, 12)
        off, on, auto = (calibrate_acts(x, zpm=zpm) for zpm in ("off", "on", "auto"))
        assert auto.sparsity.vector == max(off.sparsity.vector, on.sparsity.vector)
        assert auto == (on if on.sparsity.vector > off.sparsity.vector else off)
        outcomes.add(auto.manipulated)
    assert outcomes == {False, True}


def test_the_zero_point_that_stays_on_a_tie_clips_nothing() -> None:
    x = np.array([[-1.0, 0.0, 0.0, 254.0]])
    auto, on = calibrate_acts(x, zpm="auto"), calibrate_acts(x, zpm="on")
    assert (auto.zero_point, auto.manipulated, auto.clipped) == (1, False, 0.0)
    assert (on.zero_point, on.manipulated, on.clipped) == (8, True, 0.25)
    assert on.sparsity == auto.sparsity == (0.75, 0.0)


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_constant_tensors(bits: int) -> None:
    zero = calibrate_acts(np.zeros((3, 5)), bits, zpm="off")
    assert (zero.scale, zero.zero_point, zero.clipped, zero.std) == (1.0, 0, 0.0, 0.0)
    assert zero.sparsity == ((1.0, 1.0) if bits > 4 else (0.0, 0.0))
    assert calibrate_acts(np.full((3, 5), 2.5), bits, zpm="off").zero_point == 0
    assert calibrate_acts(np.full((3, 5), -2.5), bits, zpm="off").zero_point == 2**bits - 1
    assert not calibrate_weights(np.zeros((3, 5))).values.any()


@pytest.mark.parametrize("bits", [4, 7, 10])
def test_weight_ranges(bits: int) -> None:
    w = np.random.default_rng(bits).normal(0, [[1.0], [10.0], [0.1]], (3, 400))
    top = 2 ** (bits - 1) - 1
    tensor, channel = calibrate_weights(w, bits), calibrate_weights(w, bits, per_channel=True)
    assert tensor.scale == np.abs(w).max() / top
    assert np.array_equal(channel.scale.reshape(-1), np.abs(w).max(axis=1) / top)
    assert (np.abs(channel.values).max(axis=1) == top).all()
    assert np.array_equal(channel.values, np.rint(w / channel.scale))
    clipped = calibrate_weights(w, bits, per_channel=True, percentile=90)
    assert np.array_equal(clipped.scale.reshape(-1), np.percentile(np.abs(w), 90, axis=1) / top)
    assert np.abs(clipped.values).max() == top


def test_sparsities_by_hand() -> None:
    # Groups of four tokens: all r, one different, a lone token whose absent neighbours count as r.
    x = np.array([[0x70, 0x7F, 0x71, 0x78, 0x70, 0x80, 0x70, 0x70, 0x70], [0x60] * 9])
    assert act_sparsity(x, 0x75) == (8 / 18, 2 / 6)
    assert act_sparsity(x, 0x75, low_bits=5) == (17 / 18, 5 / 6)
    assert act_sparsity(x, 0x75, vector=1) == (8 / 18, 8 / 18)
    # -8 and 7 have no HO slice, -9 and 8 have.
    w = np.array([[-8, 7, -9], [0, 0, 0], [0, 8, 0], [0, 0, 0], [0, 0, 1]])
    assert weight_sparsity(w) == (13 / 15, 4 / 6)
    assert weight_sparsity(w, vector=1) == (13 / 15, 13 / 15)
    assert weight_sparsity(w * 9, 10, vector=8) == (13 / 15, 1 / 3)
    assert weight_sparsity(np.clip(w, -8, 7), 4) == act_sparsity(np.zeros((4, 4), int), 0, 4) == (0, 0)
    assert act_sparsity(np.zeros((0, 4), int), 0) == weight_sparsity(np.zeros((4, 0), int)) == (0, 0)


def test_biases_in_units_of_acc() -> None:
    assert integer_bias([1.0, -1.0, 0.25], 0.5, 0.25).tolist() == [8, -8, 2]
    assert integer_bias([0.5, 1.5, -2.5], [[1.0], [1.0], [1.0]], 1.0).tolist() == [0, 2, -2]


X = np.ones((2, 2))
REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: manipulate_zero_point(256), "zp=256 is not allowed; it must be in [0, 255]"),
    (lambda: manipulate_zero_point(-1), "zp=-1 is not allowed; it must be in [0, 255]"),
    (lambda: manipulate_zero_point(4096, 8), "zp=4096 is not allowed; it must be in [0, 4095]"),
    (lambda: manipulate_zero_point(0, 7), "low_bits=7 is not allowed; it must be one of 4, 5, 6, 8"),
    (lambda: distribution_type(-1.0), "std=-1.0 is not allowed; it must be finite and at least 0"),
    (lambda: distribution_type(math.nan), "std=nan is not allowed; it must be finite and at least 0"),
    (
        lambda: distribution_type(1.0, 1.0),
        "target_sparsity=1.0 is not allowed; it must be at least 0 and less than 1",
    ),
    (lambda: calibrate_weights(X, 8), "bits=8 is not allowed; it must be one of 4, 7, 10"),
    (lambda: calibrate_weights(X[0]), "w=(2,) is not allowed; it must be a matrix"),
    (lambda: calibrate_acts(X, 7), "bits=7 is not allowed; it must be one of 4, 8, 12"),
    (lambda: calibrate_acts(X[0]), "x=(2,) is not allowed; it must be a matrix"),
    (lambda: calibrate_acts(X, zpm="yes"), "zpm='yes' is not allowed; it must be one of 'off', 'on', 'auto'"),
    (
        lambda: calibrate_acts(X, 12, target_sparsity=0.9),
        "target_sparsity=0.9 is not allowed; it must be None with 12-bit activations",
    ),
    (
        lambda: calibrate_acts(X, percentile=50),
        "percentile=50 is not allowed; it must be greater than 50 and at most 100",
    ),
    (lambda: calibrate_acts(X * math.nan), "x='4 NaN or infinite values' is not allowed; it must be finite"),
    (
        lambda: integer_bias([1.0], 0.0, 1.0),
        "bias=inf is not allowed; it must be finite and below 2^62 in units of acc",
    ),
    (
        lambda: integer_bias([1.0], [1.0, 1.0], 1.0),
        "weight_scale=(2,) is not allowed; it must be of a shape that broadcasts to (1,)",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
