"""What a start makes of the registers: a block's job."""

from __future__ import annotations

from amaranth.lib import data

from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, SCALE_BITS, DtqattenConfig

OPTIONS = ("carry", "per_token", "reorder", "causal", "accumulate")
COUNTS = ("tokens", "entries", "kept", "kept_high", "next_kept", "next_high")
ADDRESSES = ("list_base", "scale_base", "q_base", "k_base", "v_base", "out_base", "next_base")


def job_layout(config: DtqattenConfig) -> data.StructLayout:
    """Return a block's job; its fields are called as the registers or their fields, and are in their ranges."""
    return data.StructLayout(
        {
            **dict.fromkeys(OPTIONS, 1),
            **dict.fromkeys(COUNTS, config.count_bits),
            "head_size": config.head_size_max.bit_length(),
            "heads": config.heads_max.bit_length(),
            "score_multiplier": SCALE_BITS,
            "score_shift": 6,
            "result_multiplier": SCALE_BITS,
            "result_shift": 6,
            **dict.fromkeys(ADDRESSES, ADDRESS_BITS),
            "stride_input": 16,
            "stride_output": 16,
        }
    )
