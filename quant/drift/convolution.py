"""Write convolutions as GEMMs, and choose precisions for blocks of their output positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift.decision import Selection, select_statistics
from bitfabric.quant.drift.statistics import Statistics, block_statistics, saturate
from bitfabric.quant.drift.thresholds import check_widths
from bitfabric.quant.errors import ParameterError, check_choice, check_range

Counting = Literal["rows", "pixels"]


def pair(name: str, value: int | Sequence[int], low: int) -> tuple[int, int]:
    """Return an integer, or one for each of height and width, as a pair of at least ``low``.

    Raises
    ------
    ParameterError
        If it is neither.
    """
    given = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(given) != 2:
        raise ParameterError(name, value, "an integer, or two: (height, width)")
    return check_range(name, given[0], low), check_range(name, given[1], low)


def window_counts(
    size: tuple[int, int], kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int]
) -> tuple[int, int]:
    """Return the output positions of a window sliding over an image: ``floor((size + 2p - kernel)/stride) + 1``.

    Raises
    ------
    ParameterError
        If the kernel is larger than the padded image.
    """
    padded = tuple(one + 2 * pad for one, pad in zip(size, padding, strict=True))
    if kernel[0] > padded[0] or kernel[1] > padded[1]:
        raise ParameterError("kernel", kernel, f"at most the padded image, {padded}")
    counts = [(one - k) // step + 1 for one, k, step in zip(padded, kernel, stride, strict=True)]
    return counts[0], counts[1]


def im2col(
    image: ArrayLike,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
) -> NDArray[np.integer]:
    """Return the GEMM rows of a convolution: ``im2col(x) @ w.reshape(-1, N)`` for w (kh, kw, C, N).

    Parameters
    ----------
    image : integer array, (H, W, C) or (images, H, W, C)
    kernel, stride, padding : int or (height, width)
        Padding is of zeros, on all sides.

    Returns
    -------
    array of the image's dtype, (images·out_height·out_width, kh·kw·C)
        Rows in raster order of output positions, image after image; K by kernel row, kernel column, channel.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    pixels = _pixels(image)
    size, step, pad = pair("kernel", kernel, 1), pair("stride", stride, 1), pair("padding", padding, 0)
    window_counts(pixels.shape[1:3], size, step, pad)
    padded = np.pad(pixels, ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    windows = windows[:, :: step[0], :: step[1]]  # (images, out_height, out_width, C, kh, kw)
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size[0] * size[1] * pixels.shape[3])


def conv_statistics(
    image: ArrayLike,
    kernel: int | Sequence[int],
    block: Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    counting: Counting = "rows",
) -> Statistics:
    """Return the statistics of blocks of output positions over the input pixels they read, halo included [ours].

    Parameters
    ----------
    image : integer array, (H, W, C)
    kernel, stride, padding : int or (height, width)
    block : (int, int)
        Output positions of a block, height and width; the last ones may be smaller.
    counting : {"rows", "pixels"}
        "rows": a pixel counts as often as the block's im2col rows read it, and padding counts as elements of
        value 0: what the machine finds when it is sent these rows as one sub-tensor. "pixels": each pixel that is
        read counts once, padding not at all. The maxima are the same.

    Returns
    -------
    Statistics
        (ceil(out_height/bh), ceil(out_width/bw)). A block that reads nothing but padding has 1 element by
        "pixels" and is all zero.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    check_choice("counting", counting, ("rows", "pixels"))
    if np.ndim(image) != 3:
        raise ParameterError("image", np.shape(image), "of shape (H, W, C)")
    pixels = _pixels(image)[0]
    size, step, pad = pair("kernel", kernel, 1), pair("stride", stride, 1), pair("padding", padding, 0)
    regions = pair("block", block, 1)
    out = window_counts(pixels.shape[:2], size, step, pad)
    if counting == "rows":
        rows = im2col(pixels, size, step, pad).reshape(*out, -1)
        return block_statistics(rows, regions)
    read = [
        [
            _positions(
                first, min(first + regions[axis], out[axis]), size[axis], step[axis], pad[axis], length
            )
            for first in range(0, out[axis], regions[axis])
        ]
        for axis, length in enumerate(pixels.shape[:2])
    ]
    magnitude = np.abs(pixels.astype(np.int64))
    found = [[magnitude[np.ix_(ys, xs)] for xs in read[1]] for ys in read[0]]
    return Statistics(
        np.array([[one.max(initial=0) for one in line] for line in found], np.int64),
        np.array([[one.sum() for one in line] for line in found], np.int64),
        np.array([[max(one.size, 1) for one in line] for line in found], np.int64),
    )


def select_conv(
    image: ArrayLike,
    kernel: int | Sequence[int],
    block: Sequence[int],
    scale: float,
    threshold: float,
    *,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    counting: Counting = "rows",
    high_bits: int = 8,
    low_bits: int = 4,
) -> Selection:
    """Choose the precision of each block of a convolution's output positions [ours].

    Parameters
    ----------
    As in ``conv_statistics`` and ``select``.

    Returns
    -------
    Selection
        For a tensor (out_height, out_width, K): the im2col rows, reshaped.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    values, _ = saturate(image, check_widths(high_bits, low_bits)[0])
    found = conv_statistics(values, kernel, block, stride, padding, counting)
    regions = pair("block", block, 1)
    return select_statistics(found, (*regions, None), scale, threshold, high_bits, low_bits)


def _pixels(image: ArrayLike) -> NDArray[np.integer]:
    pixels = check_integers("image", image)
    if pixels.ndim not in (3, 4) or pixels.size == 0:
        raise ParameterError("image", pixels.shape, "of shape (H, W, C) or (images, H, W, C), not empty")
    return pixels if pixels.ndim == 4 else pixels[np.newaxis]


def _positions(
    first: int, end: int, kernel: int, stride: int, padding: int, length: int
) -> NDArray[np.int64]:
    """Return the input rows (or columns) that output rows ``first`` to ``end - 1`` read, padding left out."""
    read = np.arange(first, end)[:, np.newaxis] * stride - padding + np.arange(kernel)
    inside = np.unique(read)
    return inside[(inside >= 0) & (inside < length)]
