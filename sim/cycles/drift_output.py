"""Cycle model of Drift's output side: the drain of complete banks and the read-out of results, when m_axis is ready."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.drain import PLANES, Drain
from bitfabric.hdl.drift.readout import Readout

# From the cycle in which a bank's last word is taken, which is also the one in which it is freed, to that in which
# its bytes are written and ``busy`` is low: the read-out may be started in it.
DRAIN_LATENCY = Drain.LATENCY
# From the last read for a beat to the cycle in which it is offered.
READOUT_LATENCY = Readout.LATENCY


@dataclass(frozen=True, kw_only=True)
class Bank:
    """Hold a complete bank of accumulators.

    Members
    -------
    full : int
        First cycle in which it could be picked.
    rows, granules : int
        Rows and columns of it that are used.
    """

    full: int
    rows: int
    granules: int


@dataclass(frozen=True, kw_only=True)
class Drained:
    """Hold when a bank was drained: the cycle in which it was picked, and in which it was freed."""

    region: int
    picked: int
    freed: int


def drain_word_cycles(rows: int, granules: int, config: DriftConfig, accumulators: bool) -> int:
    """Return the cycles in which the words of a bank are taken, from the one after it was picked on."""
    return rows * -(-granules // config.word_granules) * (PLANES if accumulators else 1)


def drain_times(
    config: DriftConfig, banks: Sequence[Sequence[Bank]], *, accumulators: bool = False
) -> list[Drained]:
    """Return when each bank is drained, in the order in which they are.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    banks : sequence of sequences of Bank
        Those of the regions hh, hl, lh, ll, each in the order in which they become full.
    accumulators : bool
        Results are 32-bit accumulators.
    """
    waiting = [list(region) for region in banks]
    shown = [0] * len(waiting)  # cycle from which a region shows its next bank
    idle, latest, times = 0, len(waiting) - 1, []
    while any(waiting):
        offered = {i: max(shown[i], banks[0].full) for i, banks in enumerate(waiting) if banks}
        picked = max(idle, min(offered.values()))
        turns = ((latest + step) % len(waiting) for step in range(1, len(waiting) + 1))
        latest = next(region for region in turns if offered.get(region, picked + 1) <= picked)
        bank = waiting[latest].pop(0)
        shown[latest] = picked + 1
        idle = picked + drain_word_cycles(bank.rows, bank.granules, config, accumulators)
        times.append(Drained(region=latest, picked=picked, freed=idle))
    return times


def readout_cycles(
    config: DriftConfig,
    rows: int,
    channels: int,
    *,
    accumulators: bool = False,
    kernel: tuple[int, int] = (1, 1),
) -> int:
    """Return the cycles from the read-out's start pulse to its last beat, the start's own not counted.

    Parameters
    ----------
    config : DriftConfig
        The machine.
    rows, channels : int
        Rows that leave, pooled ones with pooling, and N.
    accumulators : bool
        They are 32-bit accumulators.
    kernel : (int, int)
        Of the pooling; padding takes its cycles too.
    """
    beats = rows * -(-channels // config.beat_bytes) * (PLANES if accumulators else 1)
    return beats * kernel[0] * kernel[1] + READOUT_LATENCY
