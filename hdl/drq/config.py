"""Parameters of the DRQ machine, and the widths that follow from them."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from bitfabric.hdl.arith.tree import signed_bits
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError, check_range

DIMENSION_BITS = 16  # of sizes of the map, of its regions, and of output channels
KERNEL_BITS = 8  # of kernel sides, stride and padding
THRESHOLD_BITS = 16
FRACTION_BITS = 8  # of a threshold, which is a mean magnitude
OPERAND_BITS = 8
ELEMENT_BITS = OPERAND_BITS + 1  # in the machine: a value, and that it has 8 bits
ROW_MAX = (1 << DIMENSION_BITS) - 1  # elements of a map row, a stride or a padding


@dataclasses.dataclass(frozen=True, kw_only=True)
class DrqConfig(DesignConfig):
    """Hold the parameters of a machine that computes a convolution of a feature map of two precisions."""

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {
            "rows": 3,
            "columns": 3,
            "line_elements": 2,
            "k_max": 128,
            "map_words": 512,
            "flag_words": 512,
            "sum_words": 64,
            "height_max": 64,
            "axis_data_bits": 32,
        },
        "small": {
            "rows": 8,
            "columns": 8,
            "k_max": 1152,
            "map_words": 4096,
            "flag_words": 1024,
            "sum_words": 256,
            "height_max": 256,
            "axis_data_bits": 64,
        },
        "medium": {
            "rows": 16,
            "columns": 16,
            "map_words": 16384,
            "flag_words": 4096,
            "axis_data_bits": 128,
        },
        "paper": {},
    }

    rows: int = param(44, "rows of PEs, R: output positions of a tile", unit="PEs", low=1, high=255)
    columns: int = param(72, "columns of PEs, C: output channels of a tile", unit="PEs", low=1, high=255)
    line_elements: int = param(
        4,
        "elements of the contraction in a word of the array's tile buffer, E",
        unit="elements",
        choices=(1, 2, 4, 8, 16),
    )
    k_max: int = param(4608, "longest contraction: kernel by channels", unit="elements", low=1, high=65535)
    map_words: int = param(
        32768, "words of the feature memory, a beat's bytes each", unit="words", low=1, high=1 << 20
    )
    flag_words: int = param(
        8192, "words of the flag memory, a flag a byte of a beat", unit="words", low=1, high=1 << 20
    )
    sum_words: int = param(
        512,
        "words of the predictor's sums: regions side by side by channels, a beat's bytes each",
        unit="words",
        low=1,
        high=1 << 16,
    )
    height_max: int = param(1024, "rows of a feature map, most", unit="pixels", low=1, high=65535)
    axis_data_bits: int = param(
        256, "width of s_axis and m_axis", unit="bits", tag="ours", choices=(32, 64, 128, 256, 512)
    )
    pe_counters: bool = param(True, "count working and stalled PEs")

    def validate(self) -> None:
        """Check that the words that im2col writes hold whole words of the array."""
        if self.line_elements > self.axis_bytes:
            raise ParameterError(
                "line_elements", self.line_elements, f"at most {self.axis_bytes}, the bytes of a beat"
            )

    @property
    def axis_bytes(self) -> int:
        """Bytes of a beat, S; as many elements are in a word of the feature memory."""
        return self.axis_data_bits // 8

    @property
    def drain_lanes(self) -> int:
        """Outputs that leave per cycle: one 32-bit word per lane fills a beat."""
        return self.axis_data_bits // 32

    @property
    def acc_bits(self) -> int:
        """Width of a PE's accumulator, which 8x8-bit products over the contraction do not overflow."""
        return max(17, (128 * 128 * self.k_max).bit_length() + 1)

    @property
    def tile_words(self) -> int:
        """Words of the array's tile buffer, and of a bank of weights."""
        return -(-self.k_max // self.line_elements)

    @property
    def lines(self) -> int:
        """Words of S elements of an output position's activations."""
        return -(-self.k_max // self.axis_bytes)

    @property
    def sum_bits(self) -> int:
        """Width of a region's sum of magnitudes less thresholds; a region may be as large as the map."""
        pixels = self.map_words * self.axis_bytes
        return signed_bits(-pixels * ((1 << THRESHOLD_BITS) - 1), pixels * (128 << FRACTION_BITS))

    @property
    def map_bits(self) -> int:
        """Width of an address of the feature memory."""
        return address_bits(self.map_words)

    @property
    def flag_bits(self) -> int:
        """Width of an address of the flag memory."""
        return address_bits(self.flag_words)

    def derived(self) -> dict[str, int]:
        """Return what a host has to know and no field says."""
        return {"axis_bytes": self.axis_bytes, "drain_lanes": self.drain_lanes, "acc_bits": self.acc_bits}

    def check_layer(
        self,
        *,
        height: int,
        width: int,
        channels: int,
        n: int,
        kernel_height: int,
        kernel_width: int,
        stride: int,
        padding: int,
        region_height: int,
        region_width: int,
    ) -> None:
        """Refuse a convolution that the machine's registers or memories do not hold.

        Raises
        ------
        ParameterError
            Naming what is out of range.
        """
        most, side = ROW_MAX, (1 << KERNEL_BITS) - 1
        check_range("height", height, 1, self.height_max)
        for name, value in (("width", width), ("channels", channels), ("n", n)):
            check_range(name, value, 1, most)
        for name, value in (("region_height", region_height), ("region_width", region_width)):
            check_range(name, value, 1, most)
        check_range("kernel_height", kernel_height, 1, min(side, height + 2 * padding))
        check_range("kernel_width", kernel_width, 1, min(side, width + 2 * padding))
        check_range("stride", stride, 1, side)
        check_range("padding", padding, 0, side)
        check_range("K", kernel_height * kernel_width * channels, 1, self.k_max)
        for name, value in (("width", width), ("stride", stride), ("padding", padding)):
            check_range(f"{name} * channels", value * channels, 0, most)
        row_words = -(-width * channels // self.axis_bytes)
        check_range("words of the map", height * row_words, 1, self.map_words)
        check_range("words of flags", -(-height // region_height) * row_words, 1, self.flag_words)
        sums = -(-width // region_width) * -(-channels // self.axis_bytes)
        check_range("words of sums", sums, 1, self.sum_words)
