"""What a slice is worth: 8^i for weights and 16^j for activations."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def shift_weight(value: Value, index: Value, slices: int) -> Value:
    """Return ``value · 8^index`` for an index below ``slices``."""
    return _shift(value, index, slices, 3)


def shift_act(value: Value, index: Value, slices: int) -> Value:
    """Return ``value · 16^index`` for an index below ``slices``."""
    return _shift(value, index, slices, 4)


def _shift(value: Value, index: Value, slices: int, step: int) -> Value:
    # No shift of what was shifted: three slices have no index 3.
    shifted = value
    for bit in range(2):
        if slices > 1 << bit:
            shifted = Mux(index[bit], value << (step << bit), shifted)
    return shifted
