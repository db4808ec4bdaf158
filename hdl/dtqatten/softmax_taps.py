"""What the stages of the softmax unit share: a value at each of the next cycles, and the widths of its sums."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value

from bitfabric.hdl.dtqatten.config import NUMERATOR_MAX, DtqattenConfig
from bitfabric.quant.softmax import ONE, PROBABILITY_MAX


def taps(m: Module, name: str, value: Value, stages: int, *, reset_less: bool = True) -> list[Value]:
    """Return ``value`` as it was 0, 1, ... ``stages`` cycles ago."""
    found = [value]
    for stage in range(1, stages + 1):
        register = Signal(len(value), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(found[-1])
        found.append(register)
    return found


def exponent_sum_bits(config: DtqattenConfig) -> int:
    """Return the width of a row's sum of exponents, S."""
    return (ONE * config.tokens_max).bit_length()


def sum_octave_bits(config: DtqattenConfig) -> int:
    """Return the width of ``floor(log2 S) - 22``: S is at least 2^22."""
    return max(1, (exponent_sum_bits(config) - ONE.bit_length()).bit_length())


def numerator_sum_bits(config: DtqattenConfig) -> int:
    """Return the width of a row's sum of numerators, A."""
    return (NUMERATOR_MAX * config.tokens_max).bit_length()


def importance_bits(config: DtqattenConfig) -> int:
    """Return the width of a key's sum of probabilities over the queries of a band."""
    return (PROBABILITY_MAX * config.columns).bit_length()
