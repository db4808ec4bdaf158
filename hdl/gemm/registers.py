"""The registers of a GEMM machine."""

from __future__ import annotations

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.gemm.config import DIMENSION_BITS, GemmConfig

COUNTERS = {
    "load": "cycles from the start to the array's first",
    "compute": "cycles of the array, without those stalled",
    "stalled": "cycles by which a buffer delayed the array",
    "drain": "cycles from the array's last to the last beat out",
    "total": "cycles from the start to the last beat out: the sum of the four",
}


def gemm_registers(config: GemmConfig, name: str) -> RegisterMap:
    """Return the register map of the machine ``name``."""

    def dimension(letter: str, meaning: str) -> Register:
        return Register.value(letter, "rw", f"{letter.upper()}: {meaning}", width=DIMENSION_BITS)

    return RegisterMap(
        name,
        [
            Register(
                "array",
                "What machine this is.",
                [Field("rows", 16, "ro", "rows of PEs"), Field("columns", 16, "ro", "columns of PEs")],
            ),
            Register(
                "control",
                "Starts a GEMM with the registers as they are and says how its data come and go.",
                [
                    Field("start", 1, "pulse", "start; ignored while busy"),
                    Field("requantize", 1, "rw", "1: bytes come out; 0: 32-bit accumulators"),
                    Field("resident", 1, "rw", "1: the stream brings activations once per M step"),
                ],
            ),
            Register(
                "status",
                "What the machine is doing and what went wrong.",
                [
                    Field("busy", 1, "ro", "a GEMM runs"),
                    Field("done", 1, "w1c", "a GEMM has ended"),
                    Field("framing_error", 1, "w1c", "tlast of s_axis came early or was missing"),
                    Field(
                        "bad_dimension", 1, "w1c", "a start was refused: m, k or n was 0, or k above k_max"
                    ),
                    Field("overrun", 1, "w1c", "activations did not fit the act buffer: resident was wrong"),
                ],
            ),
            dimension("m", "activation rows"),
            dimension("k", "contraction"),
            dimension("n", "output channels"),
            Register(
                "clip",
                "Bounds of a requantized output before the zero point, two's complement.",
                [Field("low", 9, "rw", "lower bound"), Field("high", 9, "rw", "upper bound", lsb=16)],
            ),
            Register.value("zero_point", "rw", "Added to a requantized output, two's complement.", width=9),
            Register.value("m_step", "ro", "Activation rows of a tile."),
            Register.value("k_step", "ro", "Elements of K of a tile."),
            Register.value("k_max", "ro", "Largest k that is accepted."),
            Register.value(
                "act_depth",
                "ro",
                "Words of a bank of the act buffer. Set `resident` if an M step's activations fit: rows of the step times "
                "tiles of K (systolic_ws), or k (systolic_os).",
            ),
            *(Register.value(f"{name}_cycles", "ro", text) for name, text in COUNTERS.items()),
        ],
    )
