"""Cycle model of DTQAtten's selection: the same for any data."""

from __future__ import annotations

from collections.abc import Sequence

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.importance import ImportanceMemory
from bitfabric.hdl.dtqatten.lister import Lister
from bitfabric.hdl.dtqatten.topk import TopK, key_digits, topk_lanes
from bitfabric.quant.errors import check_range

TABLE = (1, 16, 32, 64, 128, 256, 512, 1024)


def topk_list_start(config: DtqattenConfig, m: int) -> int:
    """Return the cycles from ``start`` to the first listed position; the others follow one a cycle.

    Parameters
    ----------
    config : DtqattenConfig
        Gives L and the width of a key.
    m : int
        Tokens, 1 to ``tokens_max``.

    Raises
    ------
    ParameterError
        If ``m`` is out of range.
    """
    check_range("m", m, 1, config.tokens_max)
    words = -(-m // topk_lanes(config))
    last_read = ImportanceMemory.LATENCY + key_digits(config) * (words + TopK.GAP) - TopK.GAP - 1
    threshold = last_read + 2 + TopK.LATENCY  # the memory's latency and a register, then the engine's
    return threshold - Lister.COMPARE + Lister.LATENCY


def topk_cycles(config: DtqattenConfig, m: int) -> int:
    """Return the cycles from ``start`` to ``ids_done``: ``digits * (ceil(m/L) + 2) + m + 8``.

    Parameters
    ----------
    config : DtqattenConfig
        Gives L and the width of a key.
    m : int
        Tokens, 1 to ``tokens_max``.

    Raises
    ------
    ParameterError
        If ``m`` is out of range.
    """
    return topk_list_start(config, m) + m


def topk_table(config: DtqattenConfig, tokens: Sequence[int] = TABLE) -> list[tuple[int, int]]:
    """Return (m, cycles) for each m of ``tokens`` that the machine can hold."""
    return [(m, topk_cycles(config, m)) for m in tokens if m <= config.tokens_max]
