"""The registers of the Drift machine."""

from __future__ import annotations

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS

# Every cycle of a layer is one of the first five.
COUNTERS = {
    "load": "cycles from the start until activations are selected and stored and weights let an array start, without "
    "those in which only the scheduler was waited for",
    "schedule": "cycles in which everything but the split was there",
    "compute": "cycles in which an array loads weights or computes",
    "stalled": "cycles between those in which all arrays wait for weights or accumulators",
    "drain": "cycles from the last of them to the layer's end",
    "total": "cycles from the start to the last beat out, or to the last word written back: the sum of the five",
}
ARRAY_COUNTERS = {
    f"array_{region}": f"cycles in which array {region} loads weights or computes" for region in REGIONS
}
ERRORS = {
    "bad_dimension": "a start was refused: a dimension was 0 or beyond k_max, m_max or granules_max",
    "bad_counts": "a start was refused: n_high + n_low is not n, or the rows of a pooled layer are not `pooled_m`",
    "bad_format": "a start was refused: widths out of range, an option without what it needs, or `resident` without "
    "such activations in the global buffer",
    "busy_start": "a start came while a layer ran, which was given up",
    "bad_index": "a channel's precision or clip is out of range, or not that of its half",
    "framing": "tlast of s_axis came early or was missing",
    "staging_overflow": "a sub-tensor is larger than the staging memory",
    "act_overflow": "the activations do not fit the global buffer",
    "weight_overflow": "K is too long for the weight buffer",
    "bad_split": "a single row or column of groups cannot serve both precisions of activations or weights",
    "out_overflow": "the results do not fit the global buffer",
}


def _threshold(name: str, of: str) -> list[Register]:
    return [
        Register.value(f"{name}_{half}", "rw", f"{half.capitalize()} 32 bits of T of {of}.")
        for half in ("low", "high")
    ]


def _intake(prefix: str, of: str) -> list[Register]:
    return [
        Register(
            f"{prefix}act_format",
            f"Precisions of {of}.",
            [
                Field("high_bits", 4, "rw", "hp, 2 to 8", reset=8),
                Field("low_bits", 4, "rw", "lp, 1 to hp", lsb=8, reset=4),
                Field("truncate", 1, "rw", "1: low bits are dropped; 0: rounding half up", lsb=16),
            ],
        ),
        Register.value(
            f"{prefix}subtensor_rows", "rw", f"Rows of a sub-tensor of {of}.", width=DIMENSION_BITS
        ),
        *_threshold(f"{prefix}threshold", f"a sub-tensor of {of}"),
        *_threshold(f"{prefix}threshold_tail", f"the last sub-tensor of {of}, if it has fewer rows"),
    ]


def drift_registers(config: DriftConfig, name: str = "drift") -> RegisterMap:
    """Return the register map of the machine ``name``."""

    def dimension(letter: str, meaning: str) -> Register:
        return Register.value(letter, "rw", meaning, width=DIMENSION_BITS)

    return RegisterMap(
        name,
        [
            Register(
                "array",
                "What machine this is.",
                [
                    Field("rows", 8, "ro", "R"),
                    Field("columns", 8, "ro", "C"),
                    Field("bit_aligned", 1, "ro", "activations of any width without gaps"),
                    Field("buffering", 2, "ro", "weight registers of a group less one"),
                    Field("greedy", 1, "ro", "the paper's scheduler instead of the scan"),
                ],
            ),
            Register(
                "control",
                "Starts a layer with the registers as they are. A start also clears what an error left behind.",
                [
                    Field("start", 1, "pulse", "start"),
                    Field("resident", 1, "rw", "1: the activations are those in the global buffer"),
                    Field("keep", 1, "rw", "1: results are written back as activations; needs bytes"),
                    Field("accumulators", 1, "rw", "1: results are 32-bit accumulators; 0: bytes"),
                    Field("function", 1, "rw", "1: bytes pass the piecewise-linear unit"),
                    Field("pool", 1, "rw", "1: bytes pass the pooling unit"),
                    Field(
                        "prepare",
                        1,
                        "pulse",
                        "choose the split for k, n_high and n_low on the activations in the global buffer, now or once "
                        "they are there; allowed while busy",
                    ),
                    Field(
                        "stop", 1, "pulse", "give the layer up: not done, a packet in m_axis may lack its end"
                    ),
                ],
            ),
            Register(
                "status",
                "What the machine is doing and what went wrong. A layer that meets an error stops and is not done.",
                [
                    Field("busy", 1, "ro", "a layer runs"),
                    Field("done", 1, "w1c", "a layer has ended"),
                    Field("prepared", 1, "ro", "a split has been chosen beforehand"),
                    *(Field(f"{name}_error", 1, "w1c", text) for name, text in ERRORS.items()),
                ],
            ),
            dimension("m", "M: activation rows."),
            dimension("k", "K: contraction."),
            dimension("n", "N: output channels."),
            dimension("n_high", "Channels with 8-bit weights, which come first."),
            dimension("n_low", "Channels with 4-bit weights."),
            *_intake("", "the activations that the stream brings"),
            *_intake("next_", "the activations that are written back"),
            Register(
                "bounds",
                "Clip of the requantizer, before the zero point is added.",
                [
                    Field("low", 9, "rw", "lower bound, two's complement", reset=0x180),
                    Field("high", 9, "rw", "upper bound", lsb=16, reset=127),
                ],
            ),
            Register.value("zero_point", "rw", "Added after the clip, two's complement.", width=9),
            Register(
                "pooling",
                "Kernel of the pooling unit.",
                [
                    Field("kernel_height", 4, "rw", "1 to 8", reset=1),
                    Field("kernel_width", 4, "rw", "1 to 8", reset=1),
                    Field("stride", 4, "rw", "1 to 8", reset=1),
                    Field("padding", 3, "rw", "below the kernel; 0 for averages"),
                    Field("average", 1, "rw", "1: average; 0: maximum", lsb=16),
                ],
            ),
            Register(
                "image",
                "Output positions of an image, whose rows are in raster order.",
                [
                    Field("height", DIMENSION_BITS, "rw", "rows of positions", reset=1),
                    Field("width", DIMENSION_BITS, "rw", "positions of a row", reset=1),
                ],
            ),
            Register(
                "pooled",
                "Positions of an image that leave the pooling unit.",
                [
                    Field("height", DIMENSION_BITS, "rw", "rows of positions", reset=1),
                    Field("width", DIMENSION_BITS, "rw", "positions of a row", reset=1),
                ],
            ),
            Register.value("reciprocal", "rw", "Of the kernel's elements, for averages.", width=18),
            dimension("pooled_m", "Rows that leave the pooling unit: images x height x width."),
            Register.value("pwl_low", "rw", "Lower 32 bits of a word of the piecewise-linear table."),
            Register(
                "pwl_write",
                "Writes a word of the table.",
                [
                    Field("high", 16, "rw", "the word's upper bits"),
                    Field("segment", 8, "rw", "its address, the most negative inputs at 0", lsb=16),
                    Field("write", 1, "pulse", "write it", lsb=31),
                ],
            ),
            Register.value(
                "selection_index", "rw", "Sub-tensor that `selection` tells of.", width=DIMENSION_BITS
            ),
            Register(
                "selection",
                "What the precision selector chose for it.",
                [
                    Field("low", 1, "ro", "low precision"),
                    Field("clip", 4, "ro", "bits dropped at the low end, lc", lsb=8),
                ],
            ),
            Register.value(
                "rows_high", "ro", "Rows in the global buffer at high precision.", width=DIMENSION_BITS
            ),
            Register.value(
                "rows_low", "ro", "Rows in the global buffer at low precision.", width=DIMENSION_BITS
            ),
            Register.value("saturated", "ro", "Activations that were beyond the symmetric range of hp bits."),
            Register(
                "split",
                "The split of the last layer.",
                [
                    Field("columns_left", 8, "ro", "columns of the left half"),
                    Field("rows_left", 8, "ro", "upper rows of the left half"),
                    Field("rows_right", 8, "ro", "upper rows of the right half"),
                ],
            ),
            *(Register.value(f"{name}_cycles", "ro", text) for name, text in COUNTERS.items()),
            *(Register.value(f"{name}_cycles", "ro", text) for name, text in ARRAY_COUNTERS.items()),
        ],
    )
