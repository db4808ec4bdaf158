"""What a slice is worth, 8^i for weights and 16^j for activations; and one of many slices or vectors."""

from __future__ import annotations

from collections.abc import Sequence

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


def choose(parts: Sequence[Value], index: Value) -> Value:
    """Return ``parts[index]``, of the same shape, by a tree of multiplexers; the index is within them.

    A variable part of a vector would be written as a shift whose result is cut off.
    """
    level = list(parts)
    for bit in range((len(level) - 1).bit_length()):
        last = level[-1:] if len(level) % 2 else []
        level = [
            Mux(index[bit], odd, even) for even, odd in zip(level[::2], level[1::2], strict=False)
        ] + last
    return level[0]
