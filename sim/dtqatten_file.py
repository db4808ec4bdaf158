"""The files that hold DTQAtten's cases."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bitfabric.quant.errors import check_range
from bitfabric.sim.case_file import load_arrays, save_case

if TYPE_CHECKING:  # a case loads itself with this module
    from bitfabric.sim.dtqatten_case import AttentionCase

_NEEDED = ("queries", "keys", "values", "bits")
_ARRAYS = ("order", "sq", "sk", "sv", "carried")
_NEEDED_SCALARS = ("next_kept", "next_high", "score_shift", "out_multiplier", "out_shift")
_SCALARS = ("score_multiplier", "base", "gap", "out_base")
_FLAGS = ("reorder", "causal", "accumulate", "carry")
HOLDS = "queries, keys and values (heads, n, d), bits (n,), " + ", ".join(_NEEDED_SCALARS)


def save_attention(path: Path, case: AttentionCase) -> None:
    """Write a case as an ``.npz`` file."""
    names = (*_NEEDED, *_ARRAYS, *_NEEDED_SCALARS, *_SCALARS)
    values: dict[str, Any] = {name: getattr(case, name) for name in names}
    save_case(path, values | {name: int(getattr(case, name)) for name in _FLAGS})


def load_attention(path: Path) -> dict[str, Any]:
    """Return the fields of a case, some of them optional.

    Raises
    ------
    BitfabricError
        If the file cannot be read or an array is missing.
    ParameterError
        If an array does not fit.
    """
    values = load_arrays(
        path,
        (*_NEEDED, *_NEEDED_SCALARS),
        _ARRAYS,
        (*_NEEDED_SCALARS, *_SCALARS),
        _FLAGS,
        holds=HOLDS,
    )
    for name in _FLAGS:
        if name in values:
            values[name] = bool(check_range(name, values[name], 0, 1))
    return values
