"""The form of a compressed tile, in memories and on streams: a header, dense words, words of HO vectors.

All of a tile's words are ``axis_data_bits`` wide. A group is a PEA's v output channels, or v tokens.

header
    For every group, from bit 0 up, the number of stored HO vectors (``count_bits`` each): kept and forced ones. 0
    where the operand has one slice.
dense words
    For every group, for every dense slice (least significant first), ``ceil(k_valid / lanes)`` words of ``lanes``
    vectors each along K; a vector has row (or column) 0 in its lowest nibble; positions past ``k_valid`` are 0.
HO words
    The groups' stored vectors one after the other, each group's filled up with zeros to whole quads; a word
    holds ``quads`` quads from bit 0 up, a quad ``quad`` entries: value below, run-length index above.
"""

from __future__ import annotations

from amaranth.hdl import Mux, Value

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.panacea.config import PanaceaConfig


def quads_of(config: PanaceaConfig, count: Value) -> Value:
    """Return the quads that hold ``count`` stored vectors."""
    size = config.quad
    if size & (size - 1) == 0:
        return (count + size - 1) >> (size.bit_length() - 1)
    assert size == 3, size  # 64-bit words
    return balanced_sum([count > 3 * index for index in range(-(-config.tile_k // 3))])


def words_of(config: PanaceaConfig, quads: Value) -> Value:
    """Return the words that hold ``quads`` quads: ceil(quads / 1, 3 or 6)."""
    size = config.quads
    if size & (size - 1) == 0:
        return (quads + size - 1) >> (size.bit_length() - 1)
    # ceil(q/3) by a reciprocal, exact for q < 2^12; six quads (512 bits) are two threes.
    three = ((quads + 2) * 683) >> 11
    assert size in (3, 6), size
    return three if size == 3 else (three + 1) >> 1


def dense_words(config: PanaceaConfig, k_valid: Value) -> Value:
    """Return the words of one group's dense slice: ceil(k_valid / lanes), at most tile_k / lanes."""
    return (k_valid + config.lanes - 1) >> (config.lanes.bit_length() - 1)


def dense_slices(slices: Value) -> Value:
    """Return the slices that are not compressed: all but the top one, or the only one."""
    return Mux(slices == 1, 1, slices - 1)[:2]
