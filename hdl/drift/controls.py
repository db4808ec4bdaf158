"""Layouts of what travels with weights, activations and psums between the sequencers and the fabric."""

from __future__ import annotations

from amaranth.hdl import unsigned
from amaranth.lib import data

from bitfabric.hdl.arith.bitgroup import ROWS
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, DriftConfig


def weight_control(config: DriftConfig) -> data.StructLayout:
    """Return what tells a column to load a row of weights.

    Fields: ``load`` (the chain moves and takes the row), ``copy`` (transit buffering: what the chain holds becomes
    next), ``address`` (word of the column's weight buffer) and ``position`` (k within it). With nibble alignment
    ``valid`` (the row is within the activations' string; weights are 0 otherwise), ``high`` (it is an element's
    upper nibble), ``sign`` (its top bit is the sign). With bit alignment these are given for each of the four
    bits: ``valid``, ``sign``, ``significance`` and ``offset``, k less ``position``, which may reach into the next word.
    """
    fields: dict[str, object] = {
        "load": 1,
        "copy": 1,
        "address": config.weight_address_bits,
        "position": address_bits(config.word_weights),
    }
    if config.alignment == "nibble":
        fields |= {"valid": 1, "high": 1, "sign": 1}
    else:
        fields |= {
            "valid": ROWS,
            "sign": ROWS,
            "significance": data.ArrayLayout(unsigned(3), ROWS),
            "offset": data.ArrayLayout(unsigned(2), ROWS),
        }
    return data.StructLayout(fields)


# What passes from group to group along a row: four activation bits, and the swap, a cycle ahead of a tile's first
# activation, that makes the loaded weights the stationary ones.
LINK = data.StructLayout({"act": ROWS, "swap": 1})


def read_layout(words: int, nibbles: int) -> data.StructLayout:
    """Return a request for a window of a stored row: ``address`` of ``words`` and the first ``nibble`` within it."""
    return data.StructLayout(
        {"en": 1, "swap": 1, "address": address_bits(words), "nibble": address_bits(nibbles)}
    )


def drain_layout(config: DriftConfig) -> data.StructLayout:
    """Return what the drain has to know of a region's bank.

    Fields: ``rows`` (of it that are used, from 1), ``rank`` (of row 0 among the rows of its precision), ``granules``
    (columns that are used, from 1), ``granule`` (that of column 0 of the region, among those of its precision).
    """
    return data.StructLayout(
        {
            "rows": config.acc_depth.bit_length(),
            "rank": DIMENSION_BITS,
            "granules": config.columns.bit_length(),
            "granule": GRANULE_BITS,
        }
    )
