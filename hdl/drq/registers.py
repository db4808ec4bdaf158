"""The registers of the DRQ machine."""

from __future__ import annotations

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.drq.config import DIMENSION_BITS, KERNEL_BITS, THRESHOLD_BITS, DrqConfig

# By register. Every cycle is one of the first four.
COUNTERS = {
    "load_cycles": "cycles from the start until the array computes: the map, the first weights, the first positions",
    "compute_cycles": "cycles in which the array computes",
    "stalled_cycles": "cycles between those in which it does not",
    "drain_cycles": "cycles from the last of them to the last beat out",
    "total_cycles": "cycles from the start to the last beat out: the sum of the four",
    "steps_2": "steps of 2 cycles",
    "steps_4": "steps of 4 cycles: two values of 8 bits met somewhere in the array",
    "sensitive": "regions, each of one channel, whose values have 8 bits",
}
PE_COUNTERS = {
    "pe_working": "cycles of PEs at work",
    "pe_stalled": "cycles of PEs that wait for slower ones",
}
ERRORS = {
    "bad_dimension": "a dimension was 0, the kernel larger than the padded map, or the contraction, the map or one of "
    "its rows too long",
    "overrun": "regions did not fit the predictor's sums or the flag memory",
    "framing": "tlast of s_axis came early or was missing",
    "busy_start": "a start came while a convolution ran, which was given up",
}


def drq_registers(config: DrqConfig, name: str = "drq") -> RegisterMap:
    """Return the register map of the machine ``name``."""

    def dimension(register: str, meaning: str) -> Register:
        return Register.value(register, "rw", meaning, width=DIMENSION_BITS)

    def size(register: str, meaning: str) -> Register:
        return Register.value(register, "ro", meaning)

    counters = {**COUNTERS, **(PE_COUNTERS if config.pe_counters else {})}
    return RegisterMap(
        name,
        [
            Register(
                "array",
                "What machine this is.",
                [
                    Field("rows", 8, "ro", "R"),
                    Field("columns", 8, "ro", "C"),
                    Field("line_elements", 8, "ro", "E"),
                    Field("pe_counters", 1, "ro", "PEs are counted"),
                ],
            ),
            Register(
                "control",
                "Starts a convolution with the registers as they are.",
                [
                    Field("start", 1, "pulse", "start"),
                    Field("requantize", 1, "rw", "1: bytes come out; 0: 32-bit accumulators"),
                    Field(
                        "stop",
                        1,
                        "pulse",
                        "give up: not done, a packet in m_axis may lack its end; while idle: wait for no `tlast` of a "
                        "packet that was begun",
                    ),
                ],
            ),
            Register(
                "status",
                "What the machine is doing and what went wrong. A convolution that meets an error stops, not done.",
                [
                    Field("busy", 1, "ro", "a convolution runs"),
                    Field("done", 1, "w1c", "a convolution has ended"),
                    *(Field(f"{name}_error", 1, "w1c", text) for name, text in ERRORS.items()),
                ],
            ),
            dimension("height", "Rows of the feature map, at most `height_max`."),
            dimension("width", "Pixels of a row; by `channels` at most 65535."),
            dimension("channels", "Channels of a pixel."),
            dimension("n", "Output channels."),
            Register(
                "kernel",
                "The kernel's pixels; by `channels` at most `k_max`.",
                [Field("height", KERNEL_BITS, "rw", "rows"), Field("width", KERNEL_BITS, "rw", "of a row")],
            ),
            Register.value(
                "stride", "rw", "Pixels between positions; by `channels` at most 65535.", width=KERNEL_BITS
            ),
            Register.value(
                "padding", "rw", "Zeros on all sides; by `channels` at most 65535.", width=KERNEL_BITS
            ),
            Register(
                "region",
                "Pixels of a region.",
                [
                    Field("height", DIMENSION_BITS, "rw", "rows", reset=4),
                    Field("width", DIMENSION_BITS, "rw", "of a row", reset=16),
                ],
            ),
            Register.value(
                "threshold",
                "rw",
                "Mean magnitude, with 8 fraction bits, above which a region is sensitive.",
                width=THRESHOLD_BITS,
            ),
            Register(
                "clip",
                "Bounds of a requantized output before the zero point, two's complement.",
                [Field("low", 9, "rw", "lower bound"), Field("high", 9, "rw", "upper bound", lsb=16)],
            ),
            Register.value("zero_point", "rw", "Added to a requantized output, two's complement.", width=9),
            size("k_max", "Longest contraction: kernel by channels."),
            size(
                "map_words", "Words of the feature memory: height by the beats of `width * channels` bytes."
            ),
            size("flag_words", "Words of the flag memory: regions one above the other by those beats."),
            size("sum_words", "Words of sums: regions side by side by the beats of a pixel's channels."),
            size("height_max", "Rows of a feature map."),
            *(Register.value(register, "ro", text) for register, text in counters.items()),
        ],
    )
