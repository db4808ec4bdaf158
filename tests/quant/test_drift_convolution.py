"""Convolutions as GEMM rows, statistics of blocks of output positions, pooling: against loops."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bitfabric.quant.drift import (
    Pooling,
    conv_statistics,
    convert,
    im2col,
    mixed_acts,
    pool,
    select_blocks,
    select_conv,
    select_rows,
)
from bitfabric.quant.errors import ParameterError

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)
seeds = st.integers(0, 2**32 - 1)


def geometry(seed: int) -> tuple[NDArray[np.int8], tuple[int, int], tuple[int, int], tuple[int, int]]:
    rng = np.random.default_rng(seed)
    kernel, stride, padding = (tuple(rng.integers(low, 4, 2).tolist()) for low in (1, 1, 0))
    height, width = rng.integers(3, 9, 2)
    image = (rng.integers(-128, 128, (height, width, 2)) >> rng.integers(0, 8, (height, width, 1))).astype(
        np.int8
    )
    return image, kernel, stride, padding


def windows(image: NDArray[np.int8], kernel, stride, padding):
    """Give each output position with the pixel positions it reads, padding included."""
    (height, width, _), (kh, kw) = image.shape, kernel
    for i, y in enumerate(range(-padding[0], height + padding[0] - kh + 1, stride[0])):
        for j, x in enumerate(range(-padding[1], width + padding[1] - kw + 1, stride[1])):
            yield (i, j), [(y + dy, x + dx) for dy in range(kh) for dx in range(kw)]


def inside(image: NDArray[np.int8], pixel: tuple[int, int]) -> bool:
    return 0 <= pixel[0] < image.shape[0] and 0 <= pixel[1] < image.shape[1]


@DETERMINISTIC
@given(seed=seeds)
def test_rows_of_a_convolution(seed: int) -> None:
    image, *shape = geometry(seed)
    rows = im2col(image, *shape)
    expected = [
        [int(c) for pixel in pixels for c in (image[pixel] if inside(image, pixel) else (0, 0))]
        for _, pixels in windows(image, *shape)
    ]
    assert rows.dtype == image.dtype
    assert rows.tolist() == expected
    assert np.array_equal(im2col(np.stack([image, -(image >> 1)]), *shape)[: len(rows)], rows)


def test_rows_times_weights_are_the_convolution() -> None:
    rng = np.random.default_rng(1)
    image, weight = rng.integers(-9, 9, (5, 6, 3)), rng.integers(-9, 9, (3, 2, 3, 4))
    result = (im2col(image, (3, 2), 2, 1) @ weight.reshape(-1, 4)).reshape(3, 4, 4)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    for i, j, n in np.ndindex(result.shape):
        part = padded[2 * i : 2 * i + 3, 2 * j : 2 * j + 2]
        assert result[i, j, n] == (part * weight[..., n]).sum()


@DETERMINISTIC
@given(seed=seeds, bh=st.integers(1, 4), bw=st.integers(1, 4))
def test_statistics_of_blocks_of_positions(seed: int, bh: int, bw: int) -> None:
    image, *shape = geometry(seed)
    kernel, stride, padding = shape
    read: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for (i, j), pixels in windows(image, *shape):
        read.setdefault((i // bh, j // bw), []).extend(pixels)
    magnitude = np.abs(image.astype(int)).sum(axis=-1)
    largest = np.abs(image.astype(int)).max(axis=-1)
    rows, pixels = (
        conv_statistics(image, kernel, (bh, bw), stride, padding, counting) for counting in ("rows", "pixels")
    )
    assert rows.maximum.shape == tuple(1 + one for one in max(read))
    for block, every in read.items():
        real = [pixel for pixel in every if inside(image, pixel)]
        assert rows.elements[block] == 2 * len(every)
        assert rows.total[block] == sum(magnitude[pixel] for pixel in real)
        assert pixels.elements[block] == max(2 * len(set(real)), 1)
        assert pixels.total[block] == sum(magnitude[pixel] for pixel in set(real))
        assert rows.maximum[block] == pixels.maximum[block] == max((largest[one] for one in real), default=0)


@DETERMINISTIC
@given(seed=seeds)
def test_a_convolution_s_blocks_are_what_the_machine_finds_in_its_rows(seed: int) -> None:
    image, kernel, stride, padding = geometry(seed)
    rows = im2col(image, kernel, stride, padding)
    width = (image.shape[1] + 2 * padding[1] - kernel[1]) // stride[1] + 1
    # Blocks of one line of positions are consecutive rows.
    by_block = select_conv(image, kernel, (1, width), 1.0, 3.0, stride=stride, padding=padding)
    by_rows = select_rows(rows, 1.0, 3.0, width)
    for name in ("low", "high_clip", "low_clip"):
        assert np.array_equal(getattr(by_block, name).ravel(), getattr(by_rows, name))
    height = len(rows) // width
    y = convert(rows.reshape(height, width, -1), by_block)
    assert np.array_equal(y.reshape(rows.shape), mixed_acts(rows, by_rows).values)


def test_patches_of_a_vision_transformer() -> None:
    # Patches that do not overlap: block and convolution see the same pixels, each once.
    image = np.random.default_rng(2).integers(-127, 128, (8, 12, 3)) >> 2
    patches = select_blocks(image, (4, 4), 1.0, 10.0)
    rows = select_conv(image, 4, (1, 1), 1.0, 10.0, stride=4)
    pixels = select_conv(image, 4, (1, 1), 1.0, 10.0, stride=4, counting="pixels")
    assert patches.low.shape == (2, 3)
    assert np.array_equal(patches.low, rows.low)
    assert np.array_equal(patches.low, pixels.low)


@DETERMINISTIC
@given(seed=seeds, images=st.integers(1, 2), kind=st.sampled_from(["max", "average"]))
def test_pooling(seed: int, images: int, kind: str) -> None:
    image, kernel, stride, padding = geometry(seed)
    padding = tuple(min(p, k - 1) for p, k in zip(padding, kernel, strict=True)) if kind == "max" else (0, 0)
    height, width, channels = image.shape
    every = [image, np.roll(image, 1) >> 1][:images]
    y = np.concatenate([one.reshape(-1, channels) for one in every])
    expected = []
    for one in every:
        for _, pixels in windows(one, kernel, stride, padding):
            values = np.array([one[pixel] for pixel in pixels if inside(one, pixel)], int)
            if kind == "max":
                expected.append(values.max(axis=0).tolist())
            else:
                sums = values.sum(axis=0).tolist()
                expected.append([floor(Fraction(s, len(values)) + Fraction(1, 2)) for s in sums])
    layer = Pooling(height=height, width=width, kernel=kernel, stride=stride, padding=padding, kind=kind)
    assert layer(y).tolist() == expected
    assert layer(y).dtype == np.int8


def test_averages_round_half_up() -> None:
    y = np.array([[1, -1, 127, -128], [2, -2, 127, -128]], np.int8)
    assert pool(y, 1, 2, (1, 2), kind="average").tolist() == [[2, -1, 127, -128]]


def test_a_maximum_ignores_its_padding() -> None:
    y = np.full((4, 1), -128, np.int8)
    assert (pool(y, 2, 2, 3, 1, 1) == -128).all()
    assert pool(np.arange(4).reshape(-1, 1), 2, 2, 2, 1, 1).ravel().tolist() == [0, 1, 1, 2, 3, 3, 2, 3, 3]


Y = np.zeros((8, 2), np.int8)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: im2col(Y, 1), "image"),
        (lambda: im2col(Y.reshape(2, 2, 4), 3), "kernel"),
        (lambda: im2col(Y.reshape(2, 2, 4), (1, 1, 1)), "kernel"),
        (lambda: im2col(Y.reshape(2, 2, 4), 1, 0), "stride"),
        (lambda: im2col(Y.reshape(2, 2, 4), 1, 1, -1), "padding"),
        (lambda: conv_statistics(Y, 1, (1, 1)), "image"),
        (lambda: conv_statistics(Y.reshape(2, 2, 4), 1, (1, 1), counting="all"), "counting"),
        (lambda: conv_statistics(Y.reshape(2, 2, 4), 1, (0, 1)), "block"),
        (lambda: pool(Y, 3, 3, 2), "y"),
        (lambda: pool(Y * 0.5, 2, 4, 2), "y"),
        (lambda: pool(Y, 2, 4, 3), "kernel"),
        (lambda: pool(Y, 2, 4, 2, 0), "stride"),
        (lambda: pool(Y, 2, 4, 2, 1, 2), "padding"),
        (lambda: pool(Y, 2, 4, 2, 1, 1, "average"), "padding"),
        (lambda: pool(Y, 2, 4, 2, kind="min"), "kind"),
    ],
)
def test_refused(call: object, named: str) -> None:
    assert callable(call)
    with pytest.raises(ParameterError, match=f"^{named}="):
        call()
