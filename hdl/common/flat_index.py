"""The address of an element of an array of several dimensions."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Mux, Value

from bitfabric.hdl.arith.tree import balanced_sum


def flat_index(*axes: tuple[Value, int]) -> Value:
    """Return the place of an element, the last axis running fastest: ``(i * J + j) * K + k`` for three axes.

    Axes that run over a power of two are only put beside each other; what is left is a tree of adders of shifted
    indices, without a multiplier. The result may have bits above those of an address, which are 0.

    Parameters
    ----------
    *axes : (Value, int)
        Index, which is within its size, and size; the outermost size does not matter.
    """
    indices = [index for index, _ in axes]
    sizes = [size for _, size in axes]
    terms: list[Value] = []
    beside: list[Value] = []  # from the fastest axis up
    stride, plain = 1, True
    for index, size in zip(reversed(indices), reversed(sizes), strict=True):
        power = size & (size - 1) == 0
        if plain:
            beside.append(index[: size.bit_length() - 1] if power and index is not indices[0] else index)
        else:
            terms += _scaled(index, stride)
        plain, stride = plain and power, stride * size
    return balanced_sum([Cat(beside), *terms])


def _scaled(index: Value, factor: int) -> Sequence[Value]:
    if len(index) == 1:
        return [Mux(index, Const(factor), Const(0))]
    return [Cat(Const(0, bit), index) for bit in range(factor.bit_length()) if factor >> bit & 1]
