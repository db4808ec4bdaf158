"""The two checks that every argument goes through, and the checks of arrays."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum

import numpy as np
import pytest

from bitfabric.quant.arrays import check_broadcast, check_integers, largest_magnitude
from bitfabric.quant.errors import BitfabricError, ParameterError, check_choice, check_range


class Level(IntEnum):
    """An integer that is not an int by name."""

    HIGH = 3


def test_a_parameter_error_is_a_bitfabric_error_and_a_value_error() -> None:
    error = ParameterError("rows", 0, "an integer in [1, 9]")
    assert isinstance(error, BitfabricError)
    assert isinstance(error, ValueError)
    assert (error.name, error.value, error.allowed) == ("rows", 0, "an integer in [1, 9]")
    assert str(error) == "rows=0 is not allowed; it must be an integer in [1, 9]"


def test_a_range_accepts_its_ends_and_any_integer_type() -> None:
    for value in (1, 9, np.int8(9), np.uint64(1), Level.HIGH):
        result = check_range("rows", value, 1, 9)
        assert result == value
        assert isinstance(result, int)
    assert type(check_range("rows", np.int16(5), 1)) is int
    assert check_range("rows", 10**30, 1) == 10**30


def test_a_choice_comes_back() -> None:
    assert check_choice("flow", "ws", ("ws", "os")) == "ws"


def test_arrays_keep_their_dtype_and_extremes() -> None:
    assert check_integers("a", np.int8([-128, 127]), -128, 127).dtype == np.int8
    assert check_integers("a", np.zeros(0, np.uint8), 5, 6).size == 0
    assert largest_magnitude(np.int8([-128, 127])) == 128
    assert largest_magnitude(np.int64([-(2**63)])) == 2**63
    assert largest_magnitude(np.uint64([2**64 - 1])) == 2**64 - 1
    assert largest_magnitude(np.zeros((0, 3), np.int8)) == 0
    check_broadcast("bias", (4,), (3, 4))


REFUSALS: list[tuple[Callable[[], object], str]] = [
    *(
        (
            lambda value=value: check_range("rows", value, 1, 9),
            f"rows={value!r} is not allowed; it must be an integer in [1, 9]",
        )
        for value in (0, 10, True, 2.0, "2", None, np.float32(2), np.True_)
    ),
    (lambda: check_range("rows", 0, 1), "rows=0 is not allowed; it must be an integer of at least 1"),
    (
        lambda: check_range("rows", False, 0),
        "rows=False is not allowed; it must be an integer of at least 0",
    ),
    (
        lambda: check_choice("flow", "is", ("ws", "os")),
        "flow='is' is not allowed; it must be one of 'ws', 'os'",
    ),
    (lambda: check_choice("bits", 5, (4, 8)), "bits=5 is not allowed; it must be one of 4, 8"),
    (
        lambda: check_integers("a", np.int8([1, -128]), -127, 127),
        "a=-128 is not allowed; it must be in [-127, 127]",
    ),
    (lambda: check_integers("a", [300], 0, 255), "a=300 is not allowed; it must be in [0, 255]"),
    (
        lambda: check_integers("a", [False]),
        "a='bool' is not allowed; it must be an integer or an array of integers",
    ),
    (
        lambda: check_broadcast("bias", (3,), (3, 4)),
        "bias=(3,) is not allowed; it must be of a shape that broadcasts to (3, 4)",
    ),
    (
        lambda: check_broadcast("bias", (2, 3, 4), (3, 4)),
        "bias=(2, 3, 4) is not allowed; it must be of a shape that broadcasts to (3, 4)",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
