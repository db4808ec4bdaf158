"""What a DTQAtten machine can compute and hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from bitfabric.hdl.dtqatten.config import ADDRESS_BITS, LENGTH_BITS, DtqattenConfig
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.sim.dtqatten_memory import layout_of

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.dtqatten_case import AttentionCase

_ADDRESSES = 1 << ADDRESS_BITS
_WORD = (1 << LENGTH_BITS) - 1


def check_dimensions(config: DtqattenConfig, m: int, k: int, n: int) -> None:
    """Refuse a head that no machine of this configuration computes: M tokens, K channels, N tokens again.

    Raises
    ------
    ParameterError
        Naming M, K or N.
    """
    check_range("M (tokens)", m, 1, config.tokens_max)
    check_range("K (channels of a head)", k, 1, config.head_size_max)
    if n != m:
        raise ParameterError("N", n, f"M={m}: a head's scores are of all tokens by all tokens")


def check_case(config: DtqattenConfig, case: AttentionCase) -> None:
    """Refuse a case that a machine cannot compute.

    Raises
    ------
    ParameterError
        If a dimension or an address does not allow it.
    """
    check_range("tokens", case.tokens, 1, config.tokens_max)
    check_range("head_size", case.head_size, 1, config.head_size_max)
    check_range("heads", case.heads, 1, config.heads_max)
    check_range("base", case.base, 0, _ADDRESSES - 1)
    check_range("gap", case.gap, 0, _WORD - case.heads * case.head_size)
    layout = layout_of(case)
    if case.out_base is not None:
        check_range("out_base", case.out_base, layout.size, _ADDRESSES - 1)
    if layout.end > _ADDRESSES:
        name = "base" if case.out_base is None else "out_base"
        value = getattr(case, name)
        allowed = f"at most {value - (layout.end - _ADDRESSES)}: byte addresses have {ADDRESS_BITS} bits"
        raise ParameterError(name, value, allowed)


def check_sequence(cases: Sequence[AttentionCase]) -> None:
    """Refuse a case that carries other tokens than the case before it leaves in the machine.

    Raises
    ------
    ParameterError
        Naming ``carry``.
    """
    before: AttentionCase | None = None
    for case in cases:
        if case.carry:
            if before is None:
                raise ParameterError("carry", True, "false: no case before this one leaves tokens")
            left = before.next_fields()
            carried = np.zeros(case.tokens, np.int64) if case.carried is None else case.carried
            if (
                not np.array_equal(case.positions, left["order"])
                or not np.array_equal(case.bits, left["bits"])
                or not np.array_equal(carried, left["carried"])
            ):
                raise ParameterError("carry", True, "false: the case before this one leaves other tokens")
        before = case
