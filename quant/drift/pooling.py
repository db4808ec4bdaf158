"""Pool results whose rows are the output positions of images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift.convolution import pair, window_counts
from bitfabric.quant.errors import ParameterError, check_choice, check_range

Kind = Literal["max", "average"]


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """Hold the parameters of a pooling layer, see ``pool``."""

    height: int
    width: int
    kernel: int | tuple[int, int]
    stride: int | tuple[int, int] = 1
    padding: int | tuple[int, int] = 0
    kind: Kind = "max"

    def __call__(self, y: ArrayLike) -> NDArray[np.integer]:
        """Return the pooled rows."""
        return pool(y, self.height, self.width, self.kernel, self.stride, self.padding, self.kind)


def pool(
    y: ArrayLike,
    height: int,
    width: int,
    kernel: int | Sequence[int],
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    kind: Kind = "max",
) -> NDArray[np.integer]:
    """Return maxima or averages of windows over each channel.

    Parameters
    ----------
    y : integer array, (M, N)
        Rows are positions in raster order, ``M = images·height·width`` with any number of images. Of at most
        32 bits two's complement.
    height, width : int
        Of an image.
    kernel, stride : int or (height, width)
        At least 1; windows that would reach over the padded image's end are left out.
    padding : int or (height, width)
        Positions around the image that a maximum ignores, fewer than the kernel's; 0 for averages.
    kind : {"max", "average"}
        An average is ``floor(Σ/n + 1/2)``, exact: halves are rounded up.

    Returns
    -------
    array of the dtype of ``y``, (images·out_height·out_width, N)
        In raster order, image after image.

    Raises
    ------
    ParameterError
        If a parameter is out of range.
    """
    values = check_integers("y", y, -(2**31), 2**31 - 1)
    height, width = check_range("height", height, 1), check_range("width", width, 1)
    check_choice("kind", kind, ("max", "average"))
    if values.ndim != 2 or values.shape[0] % (height * width) or values.size == 0:
        raise ParameterError("y", values.shape, f"of shape (images·{height * width}, N), not empty")
    size, step, pad = pair("kernel", kernel, 1), pair("stride", stride, 1), pair("padding", padding, 0)
    if kind == "average" and pad != (0, 0):
        raise ParameterError("padding", padding, "0 for averages")
    if pad[0] >= size[0] or pad[1] >= size[1]:
        # Otherwise a window could lie in the padding whole, and have no maximum.
        raise ParameterError("padding", padding, f"less than the kernel, {size}")
    window_counts((height, width), size, step, pad)
    images = values.reshape(-1, height, width, values.shape[1])
    around = ((0, 0), (pad[0], pad[0]), (pad[1], pad[1]), (0, 0))
    padded = np.pad(images, around, constant_values=np.iinfo(values.dtype).min)
    windows = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))
    windows = windows[:, :: step[0], :: step[1]]  # (images, out_height, out_width, N, kh, kw)
    if kind == "max":
        pooled = windows.max(axis=(-2, -1))
    else:
        n = size[0] * size[1]
        pooled = ((2 * windows.sum(axis=(-2, -1), dtype=np.int64) + n) // (2 * n)).astype(values.dtype)
    return pooled.reshape(-1, values.shape[1])
