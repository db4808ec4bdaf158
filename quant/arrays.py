"""Check array arguments: integers in a range, shapes that broadcast."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.errors import ParameterError


def check_integers(
    name: str, values: ArrayLike, low: int | None = None, high: int | None = None
) -> NDArray[np.integer[Any]]:
    """Return ``values`` as the integer array it is, its dtype kept, when all lie in ``[low, high]``.

    Raises
    ------
    ParameterError
        If the dtype is not an integer one (bool included) or a value lies outside; the value is named.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "iu":
        raise ParameterError(name, array.dtype.name, "an integer or an array of integers")
    if array.size == 0 or low is None or high is None:
        return array
    least, most = int(array.min()), int(array.max())
    if least < low or most > high:
        raise ParameterError(name, most if most > high else least, f"in [{low}, {high}]")
    return array


def check_broadcast(name: str, shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    """Accept a shape that broadcasts to ``target`` without changing it.

    Raises
    ------
    ParameterError
        If it does not.
    """
    try:
        fits = np.broadcast_shapes(shape, target) == target
    except ValueError:
        fits = False
    if not fits:
        raise ParameterError(name, shape, f"of a shape that broadcasts to {target}")


def largest_magnitude(values: NDArray[np.integer[Any]]) -> int:
    """Return max|values| as a Python int, so that the most negative integer has one; 0 when empty."""
    return max(int(values.max()), -int(values.min())) if values.size else 0
