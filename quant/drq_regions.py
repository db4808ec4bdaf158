"""Predict which regions of a feature map are sensitive, as DRQ does: by the mean magnitude of their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift.convolution import pair
from bitfabric.quant.errors import ParameterError, check_range

REGION = (4, 16)  # pixels, height and width [ours]
FRACTION_BITS = 8  # of a threshold
NEVER = (1 << 16) - 1  # a threshold that no mean magnitude exceeds: they are at most 128

Sides = int | Sequence[int]


def region_sums(image: ArrayLike, region: Sides = REGION) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sum of magnitudes of each region, and its pixels.

    Parameters
    ----------
    image : integer array (height, width, channels)
        In [-128, 127].
    region : int or (height, width)
        Pixels of a region; the last ones may be smaller.

    Returns
    -------
    sums : int64 array (region rows, region columns, channels)
    pixels : int64 array (region rows, region columns)

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    pixels, sides = feature_map(image), pair("region", region, 1)
    sums = np.abs(pixels.astype(np.int16)).astype(np.int64)
    counts = []
    for axis, side in enumerate(sides):
        starts = np.arange(0, pixels.shape[axis], side)
        sums = np.add.reduceat(sums, starts, axis=axis)
        counts.append(np.diff(starts, append=pixels.shape[axis]))
    return sums, np.multiply.outer(*counts)


def sensitive_regions(image: ArrayLike, threshold: int, region: Sides = REGION) -> NDArray[np.bool_]:
    """Return which regions are sensitive: those with ``(sum << 8) > threshold * pixels`` [ours].

    Parameters
    ----------
    image, region
        As in ``region_sums``.
    threshold : int
        Mean magnitude with 8 fraction bits, 0 to 65535. At 0 every region is sensitive that is not all zero.

    Returns
    -------
    bool array (region rows, region columns, channels)

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    threshold = check_range("threshold", threshold, 0, NEVER)
    sums, pixels = region_sums(image, region)
    return np.asarray(sums << FRACTION_BITS > threshold * pixels[..., np.newaxis])


def threshold_for_share(image: ArrayLike, share: float, region: Sides = REGION) -> int:
    """Return the largest threshold at which ``round(share * regions)`` regions, or more by ties, are sensitive.

    Regions that are all zero are never sensitive, whatever the share.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    if not 0 <= share <= 1:
        raise ParameterError("share", share, "in [0, 1]")
    sums, pixels = region_sums(image, region)
    # The largest threshold that leaves a region sensitive; -1 where none does.
    most = -(-(sums << FRACTION_BITS) // pixels[..., np.newaxis]) - 1
    count = round(share * most.size)
    if count == 0:
        return NEVER
    return max(int(np.partition(most, most.size - count, axis=None)[most.size - count]), 0)


def threshold_of_mean(mean: float, scale: float = 1.0) -> int:
    """Return the threshold of a real mean magnitude, rounded half to even and at most ``NEVER``.

    Parameters
    ----------
    mean : float
        At least 0; infinity leaves no region sensitive.
    scale : float
        Real value of an LSB of the feature map.

    Raises
    ------
    ParameterError
        If one is out of range.
    """
    if not mean >= 0:
        raise ParameterError("mean", mean, "at least 0")
    if not 0 < scale < np.inf:
        raise ParameterError("scale", scale, "positive and finite")
    return int(np.rint(min(mean / scale * (1 << FRACTION_BITS), float(NEVER))))


def feature_map(image: ArrayLike) -> NDArray[np.integer[Any]]:
    """Return an image as the feature map it is: (height, width, channels) of 8-bit integers.

    Raises
    ------
    ParameterError
        If it is none.
    """
    pixels = check_integers("image", image, -128, 127)
    if pixels.ndim != 3 or pixels.size == 0:
        raise ParameterError("image", pixels.shape, "of shape (height, width, channels), not empty")
    return pixels
