"""Evaluate the boolean functions of Liberty pins, to recognise cells by what they compute."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence

_SYMBOL = re.compile(r"[A-Za-z_][\w\[\]]*|[01]|[!'&*|+^()]")
# Liberty's operators from the loosest to the tightest; a blank between two operands is an "and".
_LEVELS = ("|+", "&*", "^")


def evaluate(function: str, values: Mapping[str, bool]) -> bool | None:
    """Return the value of a Liberty ``function``, or None where it is malformed or names another pin.

    Parameters
    ----------
    function : str
        Operators ``!a``, ``a'``, ``a^b``, ``a&b``, ``a*b``, ``a b``, ``a|b``, ``a+b`` and parentheses.
    values : mapping
        The pins' values.
    """
    symbols = _SYMBOL.findall(function)
    try:
        value, rest = _binary(symbols, 0, values)
    except (IndexError, KeyError):
        return None
    return None if rest else value


def _binary(symbols: Sequence[str], level: int, values: Mapping[str, bool]) -> tuple[bool, Sequence[str]]:
    if level == len(_LEVELS):
        return _operand(symbols, values)
    value, symbols = _binary(symbols, level + 1, values)
    while symbols:
        if symbols[0] in _LEVELS[level]:
            symbols = symbols[1:]
        elif level != 1 or symbols[0] in "|+&*^)'":
            break
        other, symbols = _binary(symbols, level + 1, values)
        value = (value | other, value & other, value ^ other)[level]
    return value, symbols


def _operand(symbols: Sequence[str], values: Mapping[str, bool]) -> tuple[bool, Sequence[str]]:
    symbol, symbols = symbols[0], symbols[1:]
    if symbol == "!":
        value, symbols = _operand(symbols, values)
        return not value, symbols
    if symbol == "(":
        value, symbols = _binary(symbols, 0, values)
        if symbols[0] != ")":
            raise IndexError(symbols[0])
        symbols = symbols[1:]
    else:
        value = values[symbol] if symbol in values else {"0": False, "1": True}[symbol]
    while symbols and symbols[0] == "'":
        value, symbols = not value, symbols[1:]
    return value, symbols


def computes(function: str, pins: Sequence[str], truth: Callable[[tuple[bool, ...]], bool]) -> bool:
    """Tell whether ``function`` of ``pins`` equals ``truth`` for all their values."""
    return all(
        evaluate(function, dict(zip(pins, values, strict=True))) == truth(values)
        for values in itertools.product((False, True), repeat=len(pins))
    )
