"""The errors that bitfabric raises on purpose: one line, meant for the user."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


class BitfabricError(Exception):
    """Report a condition the user can act on; the CLI prints it as one line and exits with 1."""


class ParameterError(BitfabricError, ValueError):
    """Report a parameter outside its range.

    Parameters
    ----------
    name : str
        The parameter, by the name the user knows it.
    value : object
        What was given.
    allowed : str
        What would have been accepted.
    """

    def __init__(self, name: str, value: object, allowed: str):
        self.name = name
        self.value = value
        self.allowed = allowed
        super().__init__(f"{name}={value!r} is not allowed; it must be {allowed}")


def check_range(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int when it is an integer in ``[low, high]``.

    Raises
    ------
    ParameterError
        If it is not an integer (bool included) or lies outside the range.
    """
    allowed = f"an integer in [{low}, {high}]" if high is not None else f"an integer of at least {low}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ParameterError(name, value, allowed)
    number = value.__index__()
    if number < low or (high is not None and number > high):
        raise ParameterError(name, value, allowed)
    return number


def check_choice(name: str, value: T, choices: tuple[T, ...]) -> T:
    """Return ``value`` when it is one of ``choices``.

    Raises
    ------
    ParameterError
        If it is none of them.
    """
    if value not in choices:
        raise ParameterError(name, value, "one of " + ", ".join(repr(c) for c in choices))
    return value
