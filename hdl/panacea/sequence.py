"""A place in a sub-tile's products of two dense slices: slice by slice, within them along K."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data

from bitfabric.hdl.panacea.config import PanaceaConfig


def sequence_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a place: ``done`` (past the last product), slices, ``position`` along K."""
    return data.StructLayout(
        {"done": 1, "weight_slice": 1, "act_slice": 1, "position": (config.tile_k - 1).bit_length()}
    )


def chunk(m: Module, name: str, place: Any, k_valid: Value, width: Value | int, most: int) -> Signal:
    """Return how many products, at most ``width``, can be taken at a place: they have their slices in common."""
    left = Signal(len(k_valid), name=f"{name}_left")
    count = Signal(range(most + 1), name=f"{name}_count")
    m.d.comb += [left.eq(k_valid - place.position), count.eq(Mux(left > width, width, left))]
    return count


def behind(
    m: Module,
    name: str,
    config: PanaceaConfig,
    place: Any,
    count: Value,
    k_valid: Value,
    weight_dense: Value,
    act_dense: Value,
) -> Any:
    """Return the place ``count`` products further on."""
    result = Signal(sequence_layout(config), name=name)
    after = Signal(len(k_valid) + 1, name=f"{name}_after")
    ends = Signal(name=f"{name}_ends")
    act_ends, weight_ends = place.act_slice == act_dense - 1, place.weight_slice == weight_dense - 1
    m.d.comb += [
        after.eq(place.position + count),
        ends.eq((count != 0) & (after == k_valid)),  # an empty slot's k_valid may be 0
        result.position.eq(Mux(ends, 0, after)),
        result.act_slice.eq(Mux(ends, ~act_ends & ~place.act_slice, place.act_slice)),
        result.weight_slice.eq(Mux(ends & act_ends, ~weight_ends & ~place.weight_slice, place.weight_slice)),
        result.done.eq(place.done | (ends & act_ends & weight_ends)),
    ]
    return result
