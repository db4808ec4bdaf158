"""What every block of the machine knows of a layer."""

from __future__ import annotations

from amaranth.hdl import Signal
from amaranth.lib import data

from bitfabric.hdl.panacea.config import CODE_BITS, DIMENSION_BITS

JOB = data.StructLayout(
    {
        "m": DIMENSION_BITS,
        "k": DIMENSION_BITS,
        "n": DIMENSION_BITS,
        "weight_slices": 2,  # n+1: 1, 2, 3
        "act_slices": 2,  # k+1: 1, 2, 3
        "drop": 2,  # l - 4: the low bits that DBS drops, 0, 1, 2
        "skipped": 4,  # r
        "dtp": 1,
        "resident": 1,  # activations come once and stay in AMEM, not again for every M step
        "stream_weights": 1,  # weights come again for every N tile: those of an M step do not fit WMEM
        "from_omem": 1,  # activations are the outputs that OMEM kept
        "codes": 1,  # outputs are the next layer's slices, not accumulators
        "keep": 1,  # outputs stay in OMEM
        "next_slices": 2,
        "next_drop": 2,
        "next_skipped": 4,
    }
)


def skipped_slice(slices: Signal, drop: Signal, zero_point: Signal) -> list[tuple[object, object]]:
    """Return (slices, drop) patterns with r = zp >> l, or zp >> 8 for three slices; r is 0 for one slice."""
    assert len(zero_point) == CODE_BITS
    return [
        (slices == 3, zero_point[8:12]),
        ((slices == 2) & (drop == 2), zero_point[6:8]),
        ((slices == 2) & (drop == 1), zero_point[5:8]),
        ((slices == 2) & (drop == 0), zero_point[4:8]),
    ]
