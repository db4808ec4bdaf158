"""DRQ's golden model against loops over pixels in Python's integers, and cases worked by hand."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.drq import (
    NEVER,
    Convolution,
    convert,
    convolve,
    drq_layer,
    low_values,
    quantize_map,
    region_sums,
    sensitive_regions,
    threshold_for_share,
    threshold_of_mean,
)
from bitfabric.quant.errors import ParameterError

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=100, database=None)
seeds = st.integers(0, 2**32 - 1)
RNG = np.random.default_rng(5)
IMAGE = RNG.integers(-128, 128, (5, 7, 3)) >> RNG.integers(0, 8, (5, 7, 1))


def draw(seed: int):
    """Return a map whose regions differ in magnitude, its regions, a threshold and a kernel."""
    rng = np.random.default_rng(seed)
    height, width, channels = (int(n) for n in rng.integers(1, [9, 12, 4]))
    image = rng.integers(-128, 128, (height, width, channels)) >> rng.integers(0, 8, (height, width, 1))
    corners = rng.random(image.shape) < 0.2
    image = np.where(corners, rng.choice([-128, 127, 0, -8, 7, 8, 119, 120], image.shape), image)
    region = tuple(rng.integers(1, 6, 2).tolist())
    threshold = int(rng.choice([0, NEVER, 128 << 8, *rng.integers(0, 100 << 8, 4)]))
    padding = tuple(rng.integers(0, 3, 2).tolist())
    kernel = tuple(
        int(rng.integers(1, min(4, side + 2 * p) + 1))
        for side, p in zip((height, width), padding, strict=True)
    )
    stride = tuple(rng.integers(1, 4, 2).tolist())
    return image, region, threshold, Convolution(kernel=kernel, stride=stride, padding=padding)


def precise(image, region, threshold):
    """Give (machine value, high) of each pixel, by the definition."""
    height, width, channels = image.shape
    found = {}
    for c in range(channels):
        for top in range(0, height, region[0]):
            for left in range(0, width, region[1]):
                inside = [
                    (y, x)
                    for y in range(top, min(top + region[0], height))
                    for x in range(left, min(left + region[1], width))
                ]
                mean = Fraction(sum(abs(int(image[y, x, c])) for y, x in inside), len(inside))
                high = mean > Fraction(threshold, 256)
                for y, x in inside:
                    value = int(image[y, x, c])
                    nibble = min(max(floor(Fraction(value, 16) + Fraction(1, 2)), -8), 7)
                    found[y, x, c] = (value, True) if high else (16 * nibble, False)
    return found


@DETERMINISTIC
@given(seed=seeds)
def test_precision_of_every_pixel(seed: int) -> None:
    image, region, threshold, _ = draw(seed)
    found, expected = convert(image, threshold, region), precise(image, region, threshold)
    assert {at: (int(found.values[at]), bool(found.high[at])) for at in expected} == expected
    assert found.values.dtype == np.int8
    assert found.sensitive.shape == (
        -(-image.shape[0] // region[0]),
        -(-image.shape[1] // region[1]),
        image.shape[2],
    )


@DETERMINISTIC
@given(seed=seeds)
def test_convolution_and_its_flags(seed: int) -> None:
    image, region, threshold, shape = draw(seed)
    rng = np.random.default_rng(seed + 1)
    channels, outputs = image.shape[2], int(rng.integers(1, 4))
    weights = rng.choice([-128, 127, *range(-9, 9)], (*shape.kernel, channels, outputs))
    pixels = precise(image, region, threshold)
    low_height, low_width = shape.outputs(*image.shape[:2])
    acc, high = [], []
    for i in range(low_height):
        for j in range(low_width):
            row = []
            for ky in range(shape.kernel[0]):
                for kx in range(shape.kernel[1]):
                    y, x = (
                        i * shape.stride[0] + ky - shape.padding[0],
                        j * shape.stride[1] + kx - shape.padding[1],
                    )
                    row += [(pixels.get((y, x, c), (0, False)), weights[ky, kx, c]) for c in range(channels)]
            acc.append([sum(value * int(w[n]) for (value, _), w in row) for n in range(outputs)])
            high.append([flag for (_, flag), _ in row])
    mixed = convert(image, threshold, region)
    assert convolve(mixed, weights, shape).tolist() == acc
    assert convolve(mixed, weights.reshape(-1, outputs), shape).tolist() == acc
    rows = shape.rows(mixed.high)
    assert rows.dtype == np.bool_
    assert rows.tolist() == high


def test_bytes_are_requantized_per_channel() -> None:
    weights = RNG.integers(-128, 128, (2 * 2 * 3, 4))
    options = {"shape": Convolution(kernel=(2, 2), stride=(1, 2)), "region": (2, 3)}
    acc = drq_layer(IMAGE, weights, 2000, **options)
    post = {
        "bias": np.array([0, 5, -900, 7]),
        "multiplier": np.array([1, 3, 5, 2]),
        "shift": np.array([6, 8, 9, 7]),
    }
    found = drq_layer(IMAGE, weights, 2000, **options, **post, zero_point=3, low=-100, high=90)
    for n in range(4):
        exact = [
            Fraction((int(a) + int(post["bias"][n])) * int(post["multiplier"][n]), 1 << int(post["shift"][n]))
            for a in acc[:, n]
        ]
        assert found[:, n].tolist() == [min(max(floor(e + Fraction(1, 2)), -100), 90) + 3 for e in exact]
    assert len(np.unique(found)) > 20
    for missing in ({"bias": post["bias"]}, {"shift": post["shift"]}, {"multiplier": post["multiplier"]}):
        with pytest.raises(ParameterError, match=r"multiplier, shift=.* must be given with"):
            drq_layer(IMAGE, weights, 2000, **options, **missing)


def test_every_4_bit_value() -> None:
    every = np.arange(-128, 128)
    found = low_values(every)
    assert np.abs(found - every)[every < 120].max() == 8
    assert found[[0, 7, 8, 120, 127, 128, 135, 136, 247, 248, 255]].tolist() == [
        -128,
        -128,
        -112,
        0,
        0,
        0,
        0,
        16,
        112,
        112,
        112,
    ]
    assert set(found.tolist()) == set(range(-128, 128, 16))


def test_a_mean_on_the_threshold_is_not_above_it() -> None:
    image = np.array([[[1], [2]], [[-128], [-128]], [[0], [0]]])
    for threshold, expected in (
        (383, [1, 1, 0]),
        (384, [0, 1, 0]),
        (0, [1, 1, 0]),
        (32767, [0, 1, 0]),
        (32768, [0, 0, 0]),
    ):
        assert sensitive_regions(image, threshold, (1, 2))[:, 0, 0].tolist() == expected


def test_a_tail_has_the_mean_of_its_own_pixels() -> None:
    image = np.full((5, 18, 2), 10)
    sums, pixels = region_sums(image)
    assert pixels.tolist() == [[64, 8], [16, 2]]
    assert sums[..., 1].tolist() == [[640, 80], [160, 20]]
    assert sensitive_regions(image, 10 * 256 - 1).all()
    assert not sensitive_regions(image, 10 * 256).any()


def test_a_gemm_is_a_map_one_pixel_wide() -> None:
    acts, weights = RNG.integers(-128, 128, (9, 6)), RNG.integers(-128, 128, (6, 3))
    acts[:4, 2:] //= 16
    threshold = 20 << 8
    found = drq_layer(acts.reshape(9, 1, 6), weights, threshold)
    # Regions of 4 pixels are 4 rows of one column of the GEMM's activations.
    mixed = np.array(acts)
    for top in (0, 4, 8):
        block = acts[top : top + 4]
        low = np.abs(block).sum(axis=0) * 256 <= threshold * len(block)
        mixed[top : top + 4, low] = np.clip((block[:, low] + 8) >> 4, -8, 7) * 16
    assert not np.array_equal(mixed, acts)
    np.testing.assert_array_equal(found, mixed @ weights)


@DETERMINISTIC
@given(seed=seeds, share=st.floats(0, 1))
def test_threshold_of_a_share(seed: int, share: float) -> None:
    image, region, *_ = draw(seed)
    threshold, count = (
        threshold_for_share(image, share, region),
        round(share * region_sums(image, region)[0].size),
    )
    sensitive = sensitive_regions(image, threshold, region).sum()
    if count == 0:
        assert threshold == NEVER
        assert sensitive == 0
    elif threshold == 0:  # what is zero stays out
        assert sensitive <= (region_sums(image, region)[0] > 0).sum()
    else:
        assert sensitive >= count
        assert sensitive_regions(image, threshold + 1, region).sum() < count


def test_a_real_map_and_a_real_threshold() -> None:
    real = RNG.normal(size=(8, 16, 4)) * np.exp(RNG.normal(size=(2, 1, 4))).repeat(4, axis=0)
    found = quantize_map(real)
    threshold = threshold_of_mean(0.8, float(found.scale))
    mean = (np.abs(found.values.astype(int)) * found.scale).reshape(2, 4, 16, 4).mean(axis=(1, 2))
    sensitive = sensitive_regions(found.values, threshold)[:, 0]
    np.testing.assert_array_equal(sensitive, mean > 0.8)
    assert 0 < sensitive.sum() < sensitive.size
    assert threshold_of_mean(float("inf")) == threshold_of_mean(1e300, 1e-300) == NEVER
    assert [threshold_of_mean(mean / 256) for mean in (0.5, 1.5, 2.5)] == [0, 2, 2]
    # The error of 4 bits is at most half a step, where nothing saturates.
    error = np.abs(convert(found.values, NEVER).values * found.scale - real)
    assert error[found.values < 120].max() <= (8 + 0.5) * found.scale * (1 + 1e-12)


def test_long_sums_are_exact() -> None:
    image, weights = np.full((3, 3, 512), -128), np.full((4608, 2), -128)
    weights[:, 1] = 127
    shape = Convolution(kernel=(3, 3))
    assert drq_layer(image, weights, 0, shape=shape).tolist() == [[128 * 128 * 4608, -128 * 127 * 4608]]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: convert(np.full((1, 1, 1), 128), 0), "image=128 is not allowed; it must be in [-128, 127]"),
        (lambda: convert(IMAGE[0], 0), "image=(7, 3) is not allowed; it must be of shape (height, width, channels)"),
        (lambda: convert(IMAGE[:0], 0), "image=(0, 7, 3) is not allowed; it must be of shape"),
        (lambda: convert(IMAGE * 1.0, 0), "image='float64' is not allowed; it must be an integer"),
        (lambda: convert(IMAGE, NEVER + 1), "threshold=65536 is not allowed; it must be an integer in [0, 65535]"),
        (lambda: convert(IMAGE, 0, (0, 4)), "region=0 is not allowed; it must be an integer of at least 1"),
        (lambda: convert(IMAGE, 0, (1, 2, 3)), "region=(1, 2, 3) is not allowed; it must be an integer, or two"),
        (lambda: threshold_for_share(IMAGE, 1.1), "share=1.1 is not allowed; it must be in [0, 1]"),
        (lambda: threshold_of_mean(-1), "mean=-1 is not allowed; it must be at least 0"),
        (lambda: threshold_of_mean(float("nan")), "mean=nan is not allowed; it must be at least 0"),
        (lambda: threshold_of_mean(1, 0), "scale=0 is not allowed; it must be positive and finite"),
        (lambda: Convolution(kernel=(0, 1)), "kernel=0 is not allowed; it must be an integer of at least 1"),
        (lambda: Convolution(stride=(1, 0)), "stride=0 is not allowed; it must be an integer of at least 1"),
        (lambda: Convolution(padding=(-1, 0)), "padding=-1 is not allowed; it must be an integer of at least 0"),
        (lambda: Convolution(kernel=(6, 1)).outputs(5, 7), "kernel=(6, 1) is not allowed; it must be at most the padded"),
        (lambda: drq_layer(IMAGE, np.ones((4, 2), int), 0), "weights=(4, 2) is not allowed; it must be of shape (3, N) or (1, 1, 3, N)"),
        (lambda: drq_layer(IMAGE, np.full((3, 2), 128), 0), "weights=128 is not allowed; it must be in [-128, 127]"),
    ],
)  # fmt: skip
def test_what_is_refused(call, text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value).startswith(text)
