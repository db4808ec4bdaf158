"""The registers of the DTQAtten machine."""

from __future__ import annotations

from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, DtqattenConfig

DIMENSION_BITS = 16

# Every cycle of a block is one of the first four.
COUNTERS = {
    "load": "cycles from the start until an array computes: list, scales, and the first head's queries and keys",
    "compute": "cycles in which an array computes",
    "stalled": "cycles between those in which none does",
    "drain": "cycles from the last of them to the block's end",
    "total": "cycles from the start to the last beat out: the sum of the four",
    "qk": "cycles in which an array computes scores",
    "pv": "cycles in which an array computes results",
    "qk_array": "cycles of all arrays in which they compute scores",
    "pv_array": "cycles of all arrays in which they compute results",
    "select": "cycles from the last importance to the token ids of both stages",
    "pv_left": "cycles from the last importance until the last results have left their array",
}
# What `stall ratios` are made of: eq. (3) of a tile is its stalled PE-cycles by all of its PE-cycles.
PE_COUNTERS = {
    "qk_tiles_1": "tiles of scores with steps of 1 cycle",
    "qk_tiles_2": "tiles of scores with steps of 2 cycles",
    "qk_tiles_4": "tiles of scores with steps of 4 cycles",
    "qk_working": "cycles of PEs at work on scores",
    "qk_stalled_2": "cycles of PEs that wait for slower ones, in tiles with steps of 2 cycles",
    "qk_stalled_4": "cycles of PEs that wait for slower ones, in tiles with steps of 4 cycles",
    "pv_working": "cycles of PEs at work on results",
    "pv_stalled": "cycles of PEs that wait for slower ones, in tiles of results",
}
ERRORS = {
    "bad_dimension": "a start was refused: a dimension was 0 or beyond tokens_max, head_size_max or heads_max",
    "bad_counts": "a start was refused: no token kept, more kept than there are, more of 8 bits than are kept; with "
    "`carry`, other numbers than the last block's list has. Or a list whose numbers of tokens are not `kept` and "
    "`kept_high`",
    "bad_format": "a start was refused: a multiplier or shift of 0, or `carry` without a list in the machine",
    "busy_start": "a start came while a block ran, which was given up",
    "bad_index": "a list has an id beyond `tokens`, or one twice",
    "bad_precision": "a list has a precision that is not 0, 4 or 8",
    "framing": "tlast of s_axis came early or was missing",
}
# Those that a running block may meet.
RUNNING_ERRORS = ("bad_counts", "bad_index", "bad_precision", "framing")


def counter_register(name: str) -> str:
    """Return the register of a counter: ``_cycles`` tells those of cycles."""
    return name if "tiles" in name else f"{name}_cycles"


def dtqatten_registers(config: DtqattenConfig, name: str = "dtqatten") -> RegisterMap:
    """Return the register map of the machine ``name``."""

    def dimension(register: str, meaning: str) -> Register:
        return Register.value(register, "rw", meaning, width=DIMENSION_BITS)

    def address(register: str, meaning: str) -> Register:
        return Register.value(register, "rw", f"Byte address of {meaning}.", width=ADDRESS_BITS)

    counters = {**COUNTERS, **(PE_COUNTERS if config.pe_counters else {})}
    return RegisterMap(
        name,
        [
            Register(
                "array",
                "What machine this is.",
                [
                    Field("count", 8, "ro", "arrays"),
                    Field("rows", 8, "ro", "R"),
                    Field("columns", 8, "ro", "C"),
                    Field("ports", 4, "ro", "unload ports"),
                    Field("pe_counters", 1, "ro", "PEs are counted"),
                ],
            ),
            Register(
                "control",
                "Starts a block with the registers as they are. A start also clears what an error left behind.",
                [
                    Field("start", 1, "pulse", "start"),
                    Field("carry", 1, "rw", "1: the tokens are those that the last block chose"),
                    Field("per_token", 1, "rw", "1: each token has scales of its own; 0: the layer has"),
                    Field("reorder", 1, "rw", "1: lists are clustered by precision, low first", reset=1),
                    Field("causal", 1, "rw", "1: a query sees no key of a greater id"),
                    Field("accumulate", 1, "rw", "1: the next block's importance goes on from this one's"),
                    Field(
                        "stop", 1, "pulse", "give the block up: not done, a packet in m_axis may lack its end"
                    ),
                ],
            ),
            Register(
                "status",
                "What the machine is doing and what went wrong. A block that meets an error stops and is not done.",
                [
                    Field("busy", 1, "ro", "a block runs"),
                    Field("done", 1, "w1c", "a block has ended"),
                    Field("listed", 1, "ro", "the next block's tokens are in the machine"),
                    *(Field(f"{name}_error", 1, "w1c", text) for name, text in ERRORS.items()),
                ],
            ),
            dimension("tokens", "n: tokens of the sequence, pruned ones too; ids are below it."),
            dimension("entries", "Entries of the list at `list_base`; not used with `carry`."),
            dimension("kept", "m: tokens that the list keeps."),
            dimension("kept_high", "Those of 8 bits."),
            dimension("next_kept", "k0: tokens that the next block keeps, at most m."),
            dimension("next_high", "k1: those of 8 bits."),
            dimension("head_size", "d: channels of a head."),
            dimension("heads", "H: heads."),
            Register(
                "score",
                "From an accumulator to log2 units with 12 fraction bits.",
                [
                    Field("multiplier", 16, "rw", "factor; not used with `per_token`", reset=1),
                    Field("shift", 6, "rw", "places, 1 to 47", reset=12),
                ],
            ),
            Register(
                "result",
                "From an accumulator by its row sum to a byte.",
                [
                    Field("multiplier", 16, "rw", "factor", reset=1),
                    Field("shift", 6, "rw", "places, 1 to 63", reset=1),
                ],
            ),
            address("list_base", "the list: 4 bytes a token, id (16 bits) and precision (0, 4 or 8)"),
            address(
                "scale_base", "the scales: 8 bytes a token in the order of ids, of Q, K and V (16 bits each)"
            ),
            address("q_base", "token 0's queries"),
            address("k_base", "token 0's keys"),
            address("v_base", "token 0's values"),
            Register(
                "stride",
                "Bytes from a token to the next one.",
                [
                    Field("input", 16, "rw", "of queries, keys and values"),
                    Field("output", 16, "rw", "of results"),
                ],
            ),
            address("out_base", "token 0's results: a byte a channel, a head after the other"),
            address(
                "next_base",
                "the next list: 8 bytes a kept token: id (16 bits), precision (8 bits), importance (from bit 32)",
            ),
            *(Register.value(counter_register(name), "ro", text) for name, text in counters.items()),
        ],
    )
