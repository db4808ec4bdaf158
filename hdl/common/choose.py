"""One of many values by a variable index."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Mux, Value


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
