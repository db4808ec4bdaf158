"""Check what describes tokens: their bits, their ids, their importance."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError

Ints = NDArray[np.int64]
# More than any machine holds: keeps ceil(share * tokens) exact.
TOKENS_MAX = 2**20


def check_bits(name: str, bits: ArrayLike, size: int | None = None) -> Ints:
    """Return ``bits`` as an int64 array when each is 8, 4 or 0, and there are ``size`` of them.

    Raises
    ------
    ParameterError
        If not.
    """
    array = check_integers(name, bits).astype(np.int64)
    if array.ndim != 1 or (size is not None and array.size != size):
        raise ParameterError(name, array.shape, f"of shape ({'tokens' if size is None else size},)")
    wrong = array[(array != 8) & (array != 4) & (array != 0)]
    if wrong.size:
        raise ParameterError(name, int(wrong[0]), "8, 4 or 0 for each token")
    return array


def check_ids(ids: ArrayLike, size: int, tokens: int | None = None) -> Ints:
    """Return ``ids`` as an int64 array of ``size`` different token ids below ``tokens``.

    Raises
    ------
    ParameterError
        If one is out of range or there twice.
    """
    array = check_integers("ids", ids, 0, (TOKENS_MAX if tokens is None else tokens) - 1).astype(np.int64)
    if array.shape != (size,):
        raise ParameterError("ids", array.shape, f"of shape ({size},)")
    if np.unique(array).size != size:
        values, times = np.unique(array, return_counts=True)
        raise ParameterError("ids", int(values[times > 1][0]), "there once only")
    return array


def check_numbers(name: str, values: NDArray) -> NDArray[np.int64] | NDArray[np.float64]:
    """Return ``values`` as int64 or float64 when all are finite and at least 0.

    Raises
    ------
    ParameterError
        If not.
    """
    if values.dtype.kind not in "fiu":
        raise ParameterError(name, values.dtype.name, "an array of numbers")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ParameterError(name, "values that are negative or not finite", "finite and at least 0")
    if values.dtype.kind == "f":
        return values.astype(np.float64)
    if int(values.max()) >= 2**62:
        raise ParameterError(name, int(values.max()), "below 2^62")
    return values.astype(np.int64)
