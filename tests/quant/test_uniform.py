"""Uniform quantization: against exact rational arithmetic, and every refusal with its text."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.uniform import Quantized, integer_range, quantize, quantize_with

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
REALS = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=1, max_dims=3, max_side=6),
    elements=st.floats(-1e6, 1e6, allow_subnormal=False).map(lambda v: 0.0 if abs(v) < 1e-200 else v),
)
BITS = st.integers(2, 16)


def assert_nearest(quantized: Quantized, x: np.ndarray, low: int, high: int) -> None:
    """Compare each integer with the exact quotient, rounded half to even by Python's Fraction."""
    scales = np.broadcast_to(quantized.scale, x.shape)
    points = np.broadcast_to(quantized.zero_point, x.shape)
    for value, real, scale, point in zip(
        quantized.values.flat, x.flat, scales.flat, points.flat, strict=True
    ):
        quotient = Fraction(float(real)) / Fraction(float(scale))
        exact = min(max(round(quotient) + int(point), low), high)
        # float64 division may land on a tie that the exact quotient only comes close to.
        near_tie = abs(abs(quotient - round(quotient)) - Fraction(1, 2)) < Fraction(1, 2**35)
        assert int(value) == exact or (near_tie and abs(int(value) - exact) == 1)


@DETERMINISTIC
@given(REALS, BITS)
def test_symmetric_is_the_nearest_integer_and_uses_the_whole_range(x: np.ndarray, bits: int) -> None:
    quantized = quantize(x, bits)
    top = 2 ** (bits - 1) - 1
    largest = max(abs(Fraction(float(v))) for v in x.flat)
    if largest:
        assert abs(Fraction(float(quantized.scale)) / (largest / top) - 1) < Fraction(1, 2**50)
        assert np.abs(quantized.values.astype(int)).max() == top
    else:
        assert quantized.scale == 1
    assert quantized.values.min() >= -top
    assert not quantized.zero_point.any()
    assert quantized.values.dtype == (np.int8 if bits <= 8 else np.int16)
    assert_nearest(quantized, x, -top, top)


@DETERMINISTIC
@given(REALS, BITS)
def test_asymmetric_is_the_nearest_integer_and_zero_is_exact(x: np.ndarray, bits: int) -> None:
    quantized = quantize(x, bits, symmetric=False)
    top = 2**bits - 1
    least, most = min(0, Fraction(float(x.min()))), max(0, Fraction(float(x.max())))
    if most > least:
        assert abs(Fraction(float(quantized.scale)) / ((most - least) / top) - 1) < Fraction(1, 2**50)
    else:
        assert quantized.scale == 1
    assert 0 <= quantized.zero_point <= top
    assert quantized.values.dtype == (np.uint8 if bits <= 8 else np.uint16)
    assert_nearest(quantized, x, 0, top)
    zero = quantize_with(np.zeros(1), quantized.scale, quantized.zero_point, bits, symmetric=False)
    assert zero.dequantize() == 0.0


@DETERMINISTIC
@given(REALS, BITS, st.booleans())
def test_round_trip_error(x: np.ndarray, bits: int, symmetric: bool) -> None:
    quantized = quantize(x, bits, symmetric)
    # Half an LSB; the rounding of an asymmetric zero point may clip another half at the ends.
    limit = (0.5 if symmetric else 1.0) * float(quantized.scale) * (1 + 1e-9)
    assert np.abs(quantized.dequantize() - x).max() <= limit


@DETERMINISTIC
@given(REALS, BITS, st.booleans(), st.data())
def test_per_axis_equals_each_part_by_itself(
    x: np.ndarray, bits: int, symmetric: bool, data: st.DataObject
) -> None:
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    whole = quantize(x, bits, symmetric, axis=axis)
    for i in range(x.shape[axis]):
        alone = quantize(np.take(x, i, axis), bits, symmetric)
        assert np.array_equal(np.take(whole.values, i, axis), alone.values)
        assert np.take(whole.scale, i, axis).item() == alone.scale
        assert np.take(whole.zero_point, i, axis).item() == alone.zero_point


def test_axes_kept_together() -> None:
    x = np.random.default_rng(1).normal(size=(2, 3, 4, 5))
    quantized = quantize(x, 8, axis=(0, -1))
    assert quantized.scale.shape == (2, 1, 1, 5)
    assert quantized.scale[1, 0, 0, 3] == np.abs(x[1, :, :, 3]).max() / 127
    assert quantize(x, axis=(0, 1, 2, 3)).scale.shape == x.shape
    assert quantize(x, axis=[]).scale.shape == ()


def test_known_values() -> None:
    # Ties go to the even neighbour, on both sides of zero.
    ties = quantize_with([0.5, 1.5, 2.5, -0.5, -1.5, -2.5, 500, -500], 1.0)
    assert ties.values.tolist() == [0, 2, 2, 0, -2, -2, 127, -127]
    asymmetric = quantize([-1.0, 0.0, 4.1], symmetric=False)
    assert (float(asymmetric.scale), int(asymmetric.zero_point)) == (pytest.approx(5.1 / 255), 50)
    assert asymmetric.values.tolist() == [0, 50, 255]
    # Constant tensors: the range is stretched to 0, so only the zero tensor has none.
    assert quantize([3.0, 3.0], symmetric=False).values.tolist() == [255, 255]
    assert quantize([-3.0, -3.0], symmetric=False).values.tolist() == [0, 0]
    assert quantize([0.0, 0.0], symmetric=False).scale == 1
    # Integers and 0-dimensional input; the smallest and largest float64.
    assert quantize(np.array(-7), bits=4).values == -7
    assert quantize([5e-324]).values.tolist() == [0]
    huge = np.finfo(np.float64).max
    # 127.5 steps to either side of 0, no overflow on the way.
    assert quantize([-huge, huge], symmetric=False).values.tolist() == [0, 254]
    assert quantize_with([huge], 1e-300).values.tolist() == [127]


def test_percentile_clips_the_outliers() -> None:
    x = np.concatenate([np.linspace(-1, 1, 1001), [50.0]])
    clipped = quantize(x, percentile=99.0)
    # 99 % of the way from the first to the last of the sorted magnitudes, interpolated.
    below, above = np.sort(np.abs(x))[990:992]
    assert float(clipped.scale) == pytest.approx((below + 0.99 * (above - below)) / 127)
    assert clipped.values[-1] == 127
    asymmetric = quantize(x, symmetric=False, percentile=99.0)
    assert float(asymmetric.scale) == pytest.approx(1.96 / 255, rel=5e-3)
    assert np.array_equal(quantize(x, percentile=100).values, quantize(x).values)
    # A percentile cannot move the range off 0.
    assert quantize(x + 100, symmetric=False, percentile=90).zero_point == 0


def test_static_scale_per_channel() -> None:
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    quantized = quantize_with(x, [[0.5], [1.0]], [[10], [255]], symmetric=False)
    assert quantized.values.tolist() == [[12, 14], [255, 255]]
    assert quantized.dequantize().tolist() == [[1.0, 2.0], [0.0, 0.0]]


REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: quantize([]), "x=(0,) is not allowed; it must be an array with at least one element"),
    (
        lambda: quantize([1.0, np.nan, np.inf]),
        "x='2 NaN or infinite values' is not allowed; it must be finite",
    ),
    (lambda: quantize(["a"]), "x='str32' is not allowed; it must be an array of real numbers"),
    (lambda: quantize([1j]), "x='complex128' is not allowed; it must be an array of real numbers"),
    (lambda: quantize([1.0], bits=1), "bits=1 is not allowed; it must be an integer in [2, 16]"),
    (lambda: quantize([1.0], bits=17), "bits=17 is not allowed; it must be an integer in [2, 16]"),
    (lambda: quantize([1.0], axis=1), "axis=1 is not allowed; it must be an integer in [-1, 0]"),
    (
        lambda: quantize([[1.0]], axis=(0, -2)),
        "axis=(0, -2) is not allowed; it must be a sequence of different axes",
    ),
    (
        lambda: quantize([1.0], percentile=50),
        "percentile=50 is not allowed; it must be greater than 50 and at most 100",
    ),
    (
        lambda: quantize([1.0], percentile=float("nan")),
        "percentile=nan is not allowed; it must be greater than 50 and at most 100",
    ),
    (
        lambda: quantize_with([1.0], 0.0),
        "scale=0.0 is not allowed; it must be finite and greater than 0",
    ),
    (
        lambda: quantize_with([1.0], np.inf),
        "scale=inf is not allowed; it must be finite and greater than 0",
    ),
    (
        lambda: quantize_with([1.0], [1.0, 2.0]),
        "scale=(2,) is not allowed; it must be of a shape that broadcasts to (1,)",
    ),
    (
        lambda: quantize_with([1.0, 2.0], 1.0, [1, 2, 3], symmetric=False),
        "zero_point=(3,) is not allowed; it must be of a shape that broadcasts to (2,)",
    ),
    (lambda: quantize_with([1.0], 1.0, 3), "zero_point=3 is not allowed; it must be in [0, 0]"),
    (
        lambda: quantize_with([1.0], 1.0, 256, symmetric=False),
        "zero_point=256 is not allowed; it must be in [0, 255]",
    ),
    (
        lambda: quantize_with([1.0], 1.0, 1.5, symmetric=False),
        "zero_point='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (lambda: integer_range(0, True), "bits=0 is not allowed; it must be an integer in [2, 16]"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
