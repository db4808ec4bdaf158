"""What a start makes of the registers: a layer, and what its sizes are in elements and words."""

from __future__ import annotations

from amaranth.lib import data

from bitfabric.hdl.drq.config import DIMENSION_BITS, KERNEL_BITS, THRESHOLD_BITS, DrqConfig

SIZES = ("height", "width", "channels", "n", "region_height", "region_width")
KERNEL = ("kernel_height", "kernel_width", "stride", "padding")


def layer_layout() -> data.StructLayout:
    """Return a layer; its fields are called as the registers or their fields."""
    return data.StructLayout(
        {
            **dict.fromkeys(SIZES, DIMENSION_BITS),
            **dict.fromkeys(KERNEL, KERNEL_BITS),
            "threshold": THRESHOLD_BITS,
        }
    )


def plan_layout(config: DrqConfig) -> data.StructLayout:
    """Return what is computed once for a layer.

    Fields: ``segment`` (elements of a kernel row), ``row`` (of a map row), ``step`` (of a stride), ``border`` (of the
    padding), ``depth`` (of the contraction).
    """
    return data.StructLayout(
        {
            "segment": DIMENSION_BITS,
            "row": DIMENSION_BITS,
            "step": DIMENSION_BITS,
            "border": DIMENSION_BITS,
            "depth": config.k_max.bit_length(),
        }
    )
