"""The registers of the Panacea machine."""

from __future__ import annotations

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.panacea.config import CODE_BITS, DIMENSION_BITS, PanaceaConfig

# Every cycle of a layer is one of the first four.
COUNTERS = {
    "load": "cycles from the start to the first outer product",
    "compute": "cycles from the first outer product to the last in which a PEA issues some",
    "stalled": "cycles between them in which none does",
    "drain": "cycles from the last outer product to the layer's end",
    "total": "cycles from the start to the last beat out, or to the last word kept: the sum of the four",
    "ppu_stall": "cycles in which a block of psums waits for the post-processing unit",
}
EVENTS = {
    "static_products": "outer products of two dense slices",
    "dynamic_products": "outer products with an HO slice",
    "wmem_reads": "slice-vectors read from WMEM, forced ones included",
    "amem_reads": "slice-vectors read from AMEM, forced ones included",
}
ERRORS = {
    "bad_dimension": "a start was refused: m, k or n was 0, or k too long for k_max or the psums",
    "bad_format": "a start was refused: widths, DBS type or zero point out of range, an option this machine lacks, or "
    "from_omem where OMEM keeps no such activations",
    "framing": "tlast of s_axis came early or was missing",
    "rle": "a compressed tile counts or skips beyond its sub-tile",
    "wmem_overflow": "the weights of an M step do not fit WMEM and `stream_weights` was not set, or a tile of them does not",
    "amem_overflow": "a tile of activations does not fit AMEM, or all of them do not and `resident` was set",
    "omem_overflow": "the outputs do not fit OMEM",
}


def panacea_registers(config: PanaceaConfig, name: str = "panacea") -> RegisterMap:
    """Return the register map of the machine ``name``."""

    def dimension(letter: str, meaning: str) -> Register:
        return Register.value(letter, "rw", f"{letter.upper()}: {meaning}", width=DIMENSION_BITS)

    return RegisterMap(
        name,
        [
            Register(
                "array",
                "What machine this is.",
                [
                    Field("peas", 8, "ro", "PEAs"),
                    Field("dynamic_operators", 8, "ro", "D"),
                    Field("static_operators", 8, "ro", "S"),
                    Field("dtp", 1, "ro", "double-tile processing is there"),
                    Field("flexible", 1, "ro", "operators take either kind of work"),
                ],
            ),
            Register(
                "control",
                "Starts a layer with the registers as they are. A start also clears what an error left behind.",
                [
                    Field("start", 1, "pulse", "start; ignored while busy"),
                    Field("dtp", 1, "rw", "1: two weight tiles at a time"),
                    Field("resident", 1, "rw", "1: the stream brings the activations once"),
                    Field("stream_weights", 1, "rw", "1: the stream brings the weights for every N tile"),
                    Field("from_omem", 1, "rw", "1: the activations are the outputs kept last"),
                    Field("codes", 1, "rw", "1: outputs are the next layer's slices; 0: 32-bit accumulators"),
                    Field("keep", 1, "rw", "1: outputs stay in OMEM; needs codes"),
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
                    *(Field(f"{name}_error", 1, "w1c", text) for name, text in ERRORS.items()),
                ],
            ),
            dimension("m", "output channels"),
            dimension("k", "contraction"),
            dimension("n", "tokens"),
            Register(
                "format",
                "The layer's operands.",
                [
                    Field("weight_slices", 2, "rw", "1, 2, 3: weights of 4, 7, 10 bits", reset=2),
                    Field("act_slices", 2, "rw", "1, 2, 3: activations of 4, 8, 12 bits", reset=2),
                    Field("drop", 2, "rw", "l - 4 of DBS: 0, 1, 2; above 0 with 2 slices only"),
                    Field("zero_point", CODE_BITS, "rw", "of the activations; 128 is symmetric", lsb=8),
                ],
            ),
            Register(
                "next_format",
                "The next layer's activations, for outputs as slices.",
                [
                    Field("slices", 2, "rw", "1, 2, 3", reset=2),
                    Field("drop", 2, "rw", "l - 4 of DBS"),
                    Field("zero_point", CODE_BITS, "rw", "of the next layer's activations", lsb=8),
                ],
            ),
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
            *(Register.value(f"{name}_cycles", "ro", text) for name, text in COUNTERS.items()),
            *(Register.value(name, "ro", f"Counts {text}.") for name, text in EVENTS.items()),
        ],
    )
