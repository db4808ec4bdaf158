"""What every kind of case shares: its file, and the shapes of its arrays."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.quant.errors import BitfabricError, ParameterError

OPERANDS = ("acts", "weights")
# What zipfile and numpy raise on damaged files, encryption and huge shapes among the damage.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    AttributeError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)


def check_operands(acts: NDArray[Any], weights: NDArray[Any]) -> None:
    """Refuse operands that are not integer matrices (M, K) and (K, N).

    Raises
    ------
    ParameterError
        Naming the operand.
    """
    for name, array in zip(OPERANDS, (acts, weights), strict=True):
        if array.ndim != 2 or array.dtype.kind not in "iu":
            raise ParameterError(name, f"{array.dtype}{array.shape}", "a matrix of integers")
    if acts.shape[1] != weights.shape[0]:
        raise ParameterError("weights", weights.shape, f"of shape (K, N) with K={acts.shape[1]} as in acts")


def check_channels(name: str, array: NDArray[Any] | None, count: int) -> None:
    """Refuse an array, if there is one, that is not of one integer per output channel.

    Raises
    ------
    ParameterError
        Naming the array.
    """
    if array is not None and (array.shape != (count,) or array.dtype.kind not in "iu"):
        raise ParameterError(name, f"{array.dtype}{array.shape}", f"integers of shape ({count},)")


def save_case(path: Path, values: dict[str, Any]) -> None:
    """Write what is not None as an ``.npz`` file."""
    np.savez(path, **{name: value for name, value in values.items() if value is not None})


def load_case(
    path: Path, arrays: Iterable[str], scalars: Iterable[str], flags: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the operands, and those of ``arrays``, ``scalars`` (as int) and ``flags`` (0, 1) that a case file has.

    Raises
    ------
    BitfabricError
        If the file cannot be read, an operand is missing or there is something else in it.
    ParameterError
        If a scalar is none.
    """
    return load_arrays(path, OPERANDS, arrays, scalars, flags, holds="acts (M, K) and weights (K, N)")


def load_arrays(
    path: Path,
    needed: Iterable[str],
    arrays: Iterable[str],
    scalars: Iterable[str],
    flags: Iterable[str],
    *,
    holds: str,
) -> dict[str, Any]:
    """Return what a case file has: ``needed`` ones, and those of the others that are there.

    Parameters
    ----------
    path : Path
        The file.
    needed : iterable of str
        Arrays, or some of the scalars.
    arrays, scalars, flags : iterables of str
        Whatever may be there: arrays, integers, and 0 or 1.
    holds : str
        What ``needed`` is, for a message.

    Raises
    ------
    BitfabricError
        If the file cannot be read, lacks what it needs or has something else in it.
    ParameterError
        If a scalar is none.
    """
    flags, needed = tuple(flags), tuple(needed)
    scalars = (*scalars, *flags)
    arrays = tuple(dict.fromkeys((*(name for name in needed if name not in scalars), *arrays)))
    try:
        found = np.load(path, allow_pickle=False)
        if not isinstance(found, np.lib.npyio.NpzFile):
            raise ValueError("it holds one array without a name")
        with found as members:
            data = {name: members[name] for name in members.files}
        for name, array in data.items():
            if not isinstance(array, np.ndarray):
                raise ValueError(f"{name} is not an array")
    except _UNREADABLE as error:
        # numpy takes any other file for a pickle and advises to trust it.
        reason = "it is no .npz file" if "contains pickled" in str(error) else str(error)
        raise BitfabricError(f"{path} cannot be read as a case file (.npz): {reason}") from error
    missing = [name for name in needed if name not in data]
    unknown = sorted(set(data) - {*arrays, *scalars})
    if missing or unknown:
        what = f"lacks {', '.join(missing)}" if missing else f"has unknown arrays {', '.join(unknown)}"
        optional = ", ".join(name for name in (*arrays, *scalars) if name not in needed)
        raise BitfabricError(f"{path} {what}; a case file holds {holds}, and optionally {optional}")
    values: dict[str, Any] = {name: data[name] for name in arrays if name in data}
    for name in scalars:
        if name in data:
            if data[name].size != 1 or data[name].dtype.kind not in ("iub" if name in flags else "iu"):
                raise ParameterError(name, data[name].tolist(), "one integer")
            values[name] = int(data[name].item())
    return values
