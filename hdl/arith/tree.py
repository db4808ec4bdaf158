"""Adder trees and exact widths: the two things that keep a datapath as narrow as its numbers."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Const, Value, ValueLike


def balanced_sum(values: Sequence[ValueLike]) -> Value:
    """Return the exact sum of ``values`` as a balanced binary tree of adders.

    Amaranth widens every ``+`` by a bit, so that Python's ``sum`` makes a chain of n adders that is n bits
    wider than its operands (eight 8-bit values: 16 bits); a tree makes ceil(log2 n) of it (11 bits).

    Parameters
    ----------
    values : sequence of value-like
        Of any widths and signs; neighbours are added first, so put operands of similar width side by side.

    Returns
    -------
    Value
        The sum, ``max(width) + ceil(log2 n)`` bits where all signs agree; never overflows. 0 if empty.
    """
    terms = [Value.cast(value) for value in values]
    if not terms:
        return Const(0, 1)
    while len(terms) > 1:
        pairs = [terms[i] + terms[i + 1] for i in range(0, len(terms) - 1, 2)]
        terms = pairs + terms[2 * len(pairs) :]
    return terms[0]


def signed_bits(low: int, high: int) -> int:
    """Return the width of the narrowest two's complement number that holds ``[low, high]``.

    Parameters
    ----------
    low, high : int
        The range's ends, both included.
    """
    return 1 + max(high.bit_length() if high > 0 else 0, (~low).bit_length() if low < 0 else 0)
