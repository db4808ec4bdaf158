"""DRQ's cases: a convolution's feature map and weights, its options and the golden result."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drq import NEVER, REGION, Convolution, DrqMap, convert, convolve
from bitfabric.quant.errors import BitfabricError, ParameterError, check_range
from bitfabric.quant.requant import requantize
from bitfabric.sim.case_file import check_channels
from bitfabric.sim.drq_file import REQUANT_KEYS, load_drq, save_drq
from bitfabric.sim.drq_limits import check_case


@dataclass(frozen=True, eq=False, kw_only=True)
class DrqCase:
    """Hold a convolution: a feature map, and weights (K, N) of N output channels.

    Members
    -------
    name : str
        What a report calls it.
    image : integer array (height, width, channels)
        Activations of 8 bits. A plain GEMM of (M, K) activations is a map of M x 1 pixels and K channels.
    weights : integer array (K, N)
        8 bits; K is kernel height x kernel width x channels, channels fastest.
    kernel_height, kernel_width, stride, padding : int
        The kernel's pixels, its step along height and width, and the zeros on all sides.
    threshold : int
        Regions are sensitive whose mean magnitude, times 256, is above it; 0 to 65535.
    region_height, region_width : int
        Pixels of a region.
    bias, multiplier, shift : integer arrays (N,), optional
        Requantization; all or none. Without it accumulators come out.
    low, high, zero_point : int
        Bounds before the zero point, and the zero point.

    Raises
    ------
    ParameterError, BitfabricError
        If shapes or options do not fit together.
    """

    name: str = "case"
    image: NDArray[np.integer[Any]]
    weights: NDArray[np.integer[Any]]
    kernel_height: int = 1
    kernel_width: int = 1
    stride: int = 1
    padding: int = 0
    threshold: int = 0
    region_height: int = REGION[0]
    region_width: int = REGION[1]
    bias: NDArray[np.integer[Any]] | None = None
    multiplier: NDArray[np.integer[Any]] | None = None
    shift: NDArray[np.integer[Any]] | None = None
    low: int = -128
    high: int = 127
    zero_point: int = 0

    def __post_init__(self) -> None:
        for name, sides in (("image", 3), ("weights", 2)):
            array = getattr(self, name)
            if array.ndim != sides or array.dtype.kind not in "iu" or not array.size:
                shape = "(height, width, channels)" if sides == 3 else "(K, N)"
                raise ParameterError(name, f"{array.dtype}{array.shape}", f"integers {shape}, not empty")
            check_integers(name, array, -128, 127)
        for name, least in (("kernel_height", 1), ("kernel_width", 1), ("stride", 1), ("padding", 0)):
            check_range(name, getattr(self, name), least)
        for name in ("region_height", "region_width"):
            check_range(name, getattr(self, name), 1)
        check_range("threshold", self.threshold, 0, NEVER)
        self.convolution.outputs(self.height, self.width)  # refuses a kernel larger than the padded map
        depth = self.kernel_height * self.kernel_width * self.channels
        if self.weights.shape[0] != depth:
            allowed = f"of shape ({depth}, N): kernel height x kernel width x channels"
            raise ParameterError("weights", self.weights.shape, allowed)
        missing = [name for name in REQUANT_KEYS if getattr(self, name) is None]
        if 0 < len(missing) < len(REQUANT_KEYS):
            raise BitfabricError(
                f"{', '.join(missing)} missing: requantization takes bias, multiplier and shift"
            )
        for name in REQUANT_KEYS:
            check_channels(name, getattr(self, name), self.n)

    @property
    def height(self) -> int:
        """Pixels of the map, from top to bottom."""
        return self.image.shape[0]

    @property
    def width(self) -> int:
        """Pixels of the map, from left to right."""
        return self.image.shape[1]

    @property
    def channels(self) -> int:
        """Input channels."""
        return self.image.shape[2]

    @cached_property
    def convolution(self) -> Convolution:
        """How the kernel slides."""
        return Convolution(
            kernel=(self.kernel_height, self.kernel_width),
            stride=(self.stride, self.stride),
            padding=(self.padding, self.padding),
        )

    @cached_property
    def out_size(self) -> tuple[int, int]:
        """Output positions, height and width."""
        return self.convolution.outputs(self.height, self.width)

    @property
    def m(self) -> int:
        """Output positions, in raster order."""
        return self.out_size[0] * self.out_size[1]

    @property
    def k(self) -> int:
        """Contraction."""
        return self.weights.shape[0]

    @property
    def n(self) -> int:
        """Output channels."""
        return self.weights.shape[1]

    @property
    def region(self) -> tuple[int, int]:
        """Pixels of a region, height and width."""
        return self.region_height, self.region_width

    @property
    def requantized(self) -> bool:
        """Bytes come out, not accumulators."""
        return self.multiplier is not None

    @cached_property
    def mixed(self) -> DrqMap:
        """The feature map at its precisions."""
        return convert(self.image, self.threshold, self.region)

    @cached_property
    def high_rows(self) -> NDArray[np.bool_]:
        """Which activations of the GEMM are 8-bit, (M, K); padding is not."""
        return self.convolution.rows(self.mixed.high)

    @cached_property
    def acc(self) -> NDArray[np.int64]:
        """The accumulators, (M, N)."""
        return convolve(self.mixed, self.weights, self.convolution)

    @cached_property
    def result(self) -> NDArray[np.int64]:
        """What the machine must compute, (M, N)."""
        if self.bias is None or self.multiplier is None or self.shift is None:
            return self.acc
        bounds = (self.zero_point, self.low, self.high)
        return requantize(self.acc, self.multiplier, self.shift, *bounds, self.bias).astype(np.int64)

    def golden(self) -> NDArray[np.int64]:
        """Return what the machine must compute, (M, N): bytes or accumulators.

        Raises
        ------
        ParameterError
            If an accumulator with its bias leaves 32 bits.
        """
        return self.result

    def check(self, config: DrqConfig) -> None:
        """Refuse what ``config`` cannot compute or hold.

        Raises
        ------
        ParameterError
            If a dimension, an option or a memory does not allow it.
        """
        check_case(config, self)

    def save(self, path: Path) -> None:
        """Write the case as an ``.npz`` file."""
        save_drq(path, self)

    @classmethod
    def load(cls, path: Path) -> DrqCase:
        """Read a case: ``weights``, and ``image`` or the ``acts`` (M, K) of a plain GEMM; the rest optional.

        Raises
        ------
        BitfabricError
            If the file cannot be read or an array is missing.
        ParameterError
            If an array does not fit.
        """
        return cls(name=path.stem, **load_drq(path))
