"""What every block of the machine knows of a GEMM."""

from __future__ import annotations

from amaranth.hdl import signed
from amaranth.lib import data

from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS

# Activations as they enter the global buffer, from the host or written back.
INTAKE = data.StructLayout(
    {
        "m": DIMENSION_BITS,  # rows
        "k": DIMENSION_BITS,  # elements of a row
        "beats": DIMENSION_BITS,  # words of axis_data_bits of a row of bytes
        "subtensor_rows": DIMENSION_BITS,  # rows that share a precision; the last sub-tensor may have fewer
        "high_bits": 4,  # hp, 2 to 8
        "low_bits": 4,  # lp, 1 to hp
        "truncate": 1,  # drop the low bits as they are instead of rounding half up
        "threshold": 64,  # T of a whole sub-tensor; all ones: never low
        "threshold_tail": 64,  # T of the last one, where it has fewer rows
    }
)

POOLING = data.StructLayout(
    {
        "enabled": 1,
        "average": 1,  # instead of the maximum
        "height": DIMENSION_BITS,  # of an image of output positions; its rows are in raster order
        "width": DIMENSION_BITS,
        "out_height": DIMENSION_BITS,
        "out_width": DIMENSION_BITS,
        "kernel_height": 4,  # 1 to 8
        "kernel_width": 4,
        "stride": 4,  # 1 to 8
        "padding": 3,  # 0 to 7, below the kernel; 0 for averages
        "reciprocal": 18,  # for averages, see ``pooling.reciprocal``
    }
)

GEMM = data.StructLayout(
    {
        "m": DIMENSION_BITS,
        "k": DIMENSION_BITS,
        "n_high": DIMENSION_BITS,  # channels with 8-bit weights, which come first
        "n_low": DIMENSION_BITS,
        "granules_high": GRANULE_BITS,
        "granules_low": GRANULE_BITS,
        "nibbles_high": NIBBLES_BITS,  # of a high-precision row's string of activation bits
        "nibbles_low": NIBBLES_BITS,
        "bits_high": 4,  # stored width of high-precision activations
        "bits_low": 4,
        "stride_high": DIMENSION_BITS,  # words of axis_data_bits of a stored row
        "stride_low": DIMENSION_BITS,
        "accumulators": 1,  # results are 32-bit accumulators, as four planes of bytes per row
        "function": 1,  # results pass the piecewise-linear unit
        "low": signed(9),  # requantizer's bounds
        "high": signed(9),
        "zero_point": signed(9),
    }
)

# Regions in the order of their indices: first the activations' precision, then the weights'.
REGIONS = ("hh", "hl", "lh", "ll")
