"""What a DRQ machine can compute and hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bitfabric.hdl.drq.config import ROW_MAX, DrqConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.drq import REGION
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, MAX_MULTIPLIER, MAX_SHIFT

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.drq_case import DrqCase

_LAYER = (
    "height",
    "width",
    "channels",
    "n",
    "kernel_height",
    "kernel_width",
    "stride",
    "padding",
    "region_height",
    "region_width",
)


def check_dimensions(config: DrqConfig, m: int, k: int, n: int) -> None:
    """Refuse a GEMM that no number of runs computes; rows beyond ``rows_max`` are a matter of several.

    Raises
    ------
    ParameterError
        Naming M, K, N or a memory.
    """
    check_range("M", m, 1, ROW_MAX)
    check_range("K", k, 1, config.k_max)
    check_range("N", n, 1, ROW_MAX)
    _check_gemm(config, 1, k, n)


def rows_max(config: DrqConfig, k: int) -> int:
    """Return the rows of a GEMM of contraction ``k`` that a machine holds at once, as a map of rows x 1 pixels.

    Regions are of ``REGION``, 4 rows by one channel.

    Raises
    ------
    ParameterError
        If it does not hold one.
    """
    _check_gemm(config, 1, k, 1)
    row_words = -(-k // config.axis_bytes)
    return min(config.height_max, config.map_words // row_words, config.flag_words // row_words * REGION[0])


def _check_gemm(config: DrqConfig, m: int, k: int, n: int) -> None:
    config.check_layer(
        height=m,
        width=1,
        channels=k,
        n=n,
        kernel_height=1,
        kernel_width=1,
        stride=1,
        padding=0,
        region_height=REGION[0],
        region_width=REGION[1],
    )


def check_case(config: DrqConfig, case: DrqCase) -> None:
    """Refuse a case that a machine cannot compute.

    Raises
    ------
    ParameterError
        If a dimension, an option or a memory does not allow it.
    """
    config.check_layer(**{name: getattr(case, name) for name in _LAYER})
    if case.requantized:
        _check_requantization(case)


def fits(config: DrqConfig, case: DrqCase) -> bool:
    """Return whether a machine can compute a case."""
    try:
        check_case(config, case)
    except ParameterError:
        return False
    return True


def _check_requantization(case: DrqCase) -> None:
    limits = {"bias": (ACC_MIN, ACC_MAX), "multiplier": (1, MAX_MULTIPLIER), "shift": (1, MAX_SHIFT)}
    for name, (low, high) in limits.items():
        check_integers(name, getattr(case, name), low, high)
    for name in ("low", "high", "zero_point"):
        check_range(name, getattr(case, name), -256, 255)  # the registers have 9 bits
    if case.low > case.high:
        raise ParameterError("low", case.low, f"at most high={case.high}")
    ends = case.low + case.zero_point, case.high + case.zero_point
    if not any(first <= ends[0] and ends[1] <= first + 255 for first in (-128, 0)):
        raise ParameterError("low + zero_point, high + zero_point", ends, "in [-128, 127] or in [0, 255]")
