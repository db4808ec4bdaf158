"""Cycle model of Drift's output side: the drain of complete banks and the read-out of results, when m_axis is ready."""

from __future__ import annotations

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.drain import PLANES, Drain
from bitfabric.hdl.drift.readout import Readout

# From the cycle in which a bank's last word is taken, which is also the one in which it is freed, to that in which
# its bytes are written and ``busy`` is low: the read-out may be started in it.
DRAIN_LATENCY = Drain.LATENCY
# From the last read for a beat to the cycle in which it is offered.
READOUT_LATENCY = Readout.LATENCY


def drain_word_cycles(rows: int, granules: int, config: DriftConfig, accumulators: bool) -> int:
    """Return the cycles in which the words of a bank are taken, from the one after it was picked on."""
    return rows * -(-granules // config.word_granules) * (PLANES if accumulators else 1)


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
