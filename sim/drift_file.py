"""The files that hold Drift's cases."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drift import Pooling
from bitfabric.quant.errors import BitfabricError, ParameterError, check_range
from bitfabric.quant.pwl import PwlFormat, PwlTable
from bitfabric.sim.case_file import OPERANDS, load_case, save_case
from bitfabric.sim.drift_options import pool_size

if TYPE_CHECKING:  # a case loads itself with this module
    from bitfabric.sim.drift_case import DriftCase

_CHANNEL_KEYS = ("weight_bits", "weight_clip", "bias", "multiplier", "shift")
_REAL_KEYS = ("scale", "threshold", "next_scale", "next_threshold")
_TABLE_KEYS = ("table_slopes", "table_offsets")
_SCALAR_KEYS = (
    "subtensor_rows",
    "act_high_bits",
    "act_low_bits",
    "threshold_int",
    "threshold_tail_int",
    "low",
    "high",
    "zero_point",
    "next_subtensor_rows",
    "next_high_bits",
    "next_low_bits",
    "next_threshold_int",
    "next_threshold_tail_int",
)
_POOL_KEYS = (
    "pool_height",
    "pool_width",
    "pool_kernel_height",
    "pool_kernel_width",
    "pool_stride",
    "pool_padding",
)
_FLAG_KEYS = ("truncate", "keep", "next_truncate", "resident", "pool_average")


def save_drift(path: Path, case: DriftCase) -> None:
    """Write a case as an ``.npz`` file."""
    flags = [name for name in _FLAG_KEYS if not name.startswith("pool")]
    values: dict[str, Any] = {
        name: getattr(case, name) for name in (*OPERANDS, *_CHANNEL_KEYS, *_REAL_KEYS, *_SCALAR_KEYS)
    }
    values |= {name: int(getattr(case, name)) for name in flags}
    if case.table is not None:
        values |= {"table_slopes": case.table.slopes, "table_offsets": case.table.offsets}
    if case.pool is not None:
        size = pool_size(case.pool, case.m)
        values |= {name: getattr(size, name.removeprefix("pool_")) for name in _POOL_KEYS}
        values["pool_average"] = int(size.average)
    save_case(path, values)


def load_drift(path: Path) -> dict[str, Any]:
    """Return the fields of a case: ``acts`` and ``weights``, the rest optional; weights have 8 bits by default.

    Raises
    ------
    BitfabricError
        If the file cannot be read or an array is missing.
    ParameterError
        If an array does not fit.
    """
    values = load_case(
        path, (*_CHANNEL_KEYS, *_REAL_KEYS, *_TABLE_KEYS), (*_SCALAR_KEYS, *_POOL_KEYS), _FLAG_KEYS
    )
    for name in _FLAG_KEYS:
        if name in values:
            values[name] = bool(check_range(name, values[name], 0, 1))
    for name in _REAL_KEYS:
        if name in values:
            values[name] = _real(name, values[name])
    channels = values["weights"].shape[-1:]
    for name, value in (("weight_bits", 8), ("weight_clip", 0)):
        values.setdefault(name, np.full(channels, value, np.int64))
    if _together(values, _TABLE_KEYS, "a table"):
        slopes, offsets = (tuple(check_integers(n, values.pop(n)).tolist()) for n in _TABLE_KEYS)
        form = PwlFormat(segments=len(slopes))
        values["table"] = PwlTable(**dataclasses.asdict(form), slopes=slopes, offsets=offsets)
    average = values.pop("pool_average", None)
    if average is not None and _POOL_KEYS[0] not in values:
        raise BitfabricError(f"pool_average alone: pooling takes {' and '.join(_POOL_KEYS)}")
    if _together(values, _POOL_KEYS, "pooling"):
        height, width, kernel_height, kernel_width, stride, padding = (
            values.pop(name) for name in _POOL_KEYS
        )
        values["pool"] = Pooling(
            kind="average" if average else "max",
            height=height,
            width=width,
            kernel=(kernel_height, kernel_width),
            stride=stride,
            padding=padding,
        )
    return values


def _real(name: str, array: Any) -> float:
    if array.size != 1 or array.dtype.kind not in "fiu":
        raise ParameterError(name, array.tolist(), "one real number")
    return float(array.item())


def _together(values: dict[str, Any], names: tuple[str, ...], what: str) -> bool:
    """Return whether all are there; refuse some without the others."""
    given = [name for name in names if name in values]
    if given and len(given) < len(names):
        raise BitfabricError(f"{', '.join(given)} alone: {what} takes {' and '.join(names)}")
    return bool(given)
