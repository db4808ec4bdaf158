"""What a slice is worth: 8^i for weights, 16^j for activations."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def shift_weight(value: Value, index: Value, slices: int) -> Value:
    """Return ``value · 8^index`` for an index below ``slices``."""
    for bit in range(2):
        if slices > 1 << bit:
            value = Mux(index[bit], value << (3 << bit), value)
    return value


def shift_act(value: Value, index: Value, slices: int) -> Value:
    """Return ``value · 16^index`` for an index below ``slices``."""
    for bit in range(2):
        if slices > 1 << bit:
            value = Mux(index[bit], value << (4 << bit), value)
    return value
