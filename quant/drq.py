"""Golden model of DRQ: a convolution whose activations are 8-bit in sensitive regions of the feature map, else 4-bit.

A feature map is (height, width, channels) of 8-bit integers. A region is a window of one channel; the mean magnitude of
its pixels (a mean filter) against a threshold says whether it is sensitive. Weights always have 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift.convolution import im2col, pair, window_counts
from bitfabric.quant.drq_regions import (
    FRACTION_BITS,
    NEVER,
    REGION,
    Sides,
    feature_map,
    region_sums,
    sensitive_regions,
    threshold_for_share,
    threshold_of_mean,
)
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import gemm
from bitfabric.quant.requant import requantize
from bitfabric.quant.uniform import Quantized, quantize

__all__ = [
    "FRACTION_BITS",
    "NEVER",
    "REGION",
    "Convolution",
    "DrqMap",
    "convert",
    "convolve",
    "drq_layer",
    "low_values",
    "quantize_map",
    "region_sums",
    "sensitive_regions",
    "threshold_for_share",
    "threshold_of_mean",
]

LOW_SHIFT = 4  # bits that a 4-bit activation lacks at the low end


@dataclass(frozen=True, eq=False)
class DrqMap:
    """Hold a feature map at two precisions.

    Members
    -------
    values : int8 array (height, width, channels)
        What the machine multiplies: 8-bit values, or 4-bit values times 16.
    high : bool array (height, width, channels)
        8-bit ones; the others have 4 bits, which stand in the HO nibble.
    sensitive : bool array (region rows, region columns, channels)
        Regions of 8-bit values.
    """

    values: NDArray[np.int8]
    high: NDArray[np.bool_]
    sensitive: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Convolution:
    """Describe how a kernel slides over a feature map.

    Members
    -------
    kernel : (int, int)
        Height and width, at least 1.
    stride : (int, int)
        Pixels between windows, at least 1.
    padding : (int, int)
        Zeros on all sides; they are no high values.

    Raises
    ------
    ParameterError
        If one is out of range.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        for name, least in (("kernel", 1), ("stride", 1), ("padding", 0)):
            object.__setattr__(self, name, pair(name, getattr(self, name), least))

    def outputs(self, height: int, width: int) -> tuple[int, int]:
        """Return the positions of the kernel along height and width, ``floor((size + 2p - kernel)/stride) + 1``.

        Raises
        ------
        ParameterError
            If the kernel is larger than the padded map.
        """
        return window_counts((height, width), self.kernel, self.stride, self.padding)

    def rows(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the rows that the kernel reads, (positions, kernel height * kernel width * channels).

        Positions in raster order; K by kernel row, kernel column, channel. Bool stays bool, padding is 0.
        """
        kind = values.dtype
        image = values.view(np.uint8) if kind == np.bool_ else values
        return im2col(image, self.kernel, self.stride, self.padding).view(kind)


def quantize_map(image: ArrayLike, percentile: float | None = None) -> Quantized:
    """Return a real feature map as 8-bit symmetric integers with one scale; see ``uniform.quantize``."""
    return quantize(image, 8, percentile=percentile)


def convert(image: ArrayLike, threshold: int, region: Sides = REGION) -> DrqMap:
    """Give each region of a feature map its precision.

    A value of a region that is not sensitive becomes ``clip((x + 8) >> 4, -8, 7)``, times 16: rounded to nearest, halves
    up, saturated [ours].

    Parameters
    ----------
    As in ``sensitive_regions``.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    pixels = feature_map(image)
    sensitive = sensitive_regions(pixels, threshold, region)
    height, width = pair("region", region, 1)
    high = sensitive.repeat(height, axis=0)[: pixels.shape[0]].repeat(width, axis=1)[:, : pixels.shape[1]]
    return DrqMap(np.where(high, pixels, low_values(pixels)).astype(np.int8), high, sensitive)


def low_values(values: NDArray[np.integer[Any]]) -> NDArray[np.int16]:
    """Return 8-bit values as 4-bit ones, times 16."""
    half = 1 << (LOW_SHIFT - 1)
    rounded = (values.astype(np.int16) + half) >> LOW_SHIFT
    return np.asarray(np.clip(rounded, -8, 7) << LOW_SHIFT, np.int16)


def convolve(image: DrqMap, weights: ArrayLike, shape: Convolution | None = None) -> NDArray[np.int64]:
    """Return the accumulators of a convolution, exactly.

    Parameters
    ----------
    image : DrqMap
        What ``convert`` returns.
    weights : integer array (K, N) or (kernel height, kernel width, channels, N)
        In [-128, 127]; K by kernel row, kernel column, channel.
    shape : Convolution, optional
        1x1 without it.

    Returns
    -------
    int64 array (M, N)
        M output positions in raster order, in 32-bit range.

    Raises
    ------
    ParameterError
        If the weights do not fit, or a sum does not fit 32 bits.
    """
    shape = shape or Convolution()
    depth = shape.kernel[0] * shape.kernel[1] * image.values.shape[2]
    kernel = check_integers("weights", weights, -128, 127)
    expected = (*shape.kernel, image.values.shape[2])
    if not (kernel.ndim == 2 and kernel.shape[0] == depth) and kernel.shape[:-1] != expected:
        allowed = f"of shape ({depth}, N) or {(*expected, 'N')}"
        raise ParameterError("weights", kernel.shape, allowed.replace("'", ""))
    return gemm(shape.rows(image.values), kernel.reshape(depth, -1)).astype(np.int64)


def drq_layer(
    image: ArrayLike,
    weights: ArrayLike,
    threshold: int,
    *,
    shape: Convolution | None = None,
    region: Sides = REGION,
    bias: ArrayLike | None = None,
    multiplier: ArrayLike | None = None,
    shift: ArrayLike | None = None,
    zero_point: int = 0,
    low: int = -128,
    high: int = 127,
) -> NDArray[np.int64]:
    """Return what a convolution gives: accumulators, or bytes where there is a multiplier; (M, N).

    Parameters
    ----------
    image, threshold, region
        As in ``sensitive_regions``.
    weights, shape
        As in ``convolve``.
    bias, multiplier, shift, zero_point, low, high
        As in ``requantize``, per output channel (N,).

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    acc = convolve(convert(image, threshold, region), weights, shape)
    if multiplier is None or shift is None:
        if not (multiplier is None and shift is None and bias is None):
            raise ParameterError(
                "multiplier, shift", (multiplier, shift), "given with one another and a bias"
            )
        return acc
    return requantize(acc, multiplier, shift, zero_point, low, high, bias).astype(np.int64)
