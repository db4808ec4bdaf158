"""Drift's packets as beats: activations, channel parameters, weights and results."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import CHANNEL_BITS, CHANNELS, DriftConfig
from bitfabric.sim.job import Beats

if TYPE_CHECKING:  # a job joins what this module makes of a case
    from bitfabric.sim.drift_case import DriftCase

HIGH_CHANNELS, LOW_CHANNELS = 2, 4  # of a granule


def row_beats(config: DriftConfig, rows: NDArray[np.uint8]) -> Beats:
    """Return rows of bytes (rows, bytes), each filled up with zeros to whole beats: (beats, beat_bytes)."""
    padding = -rows.shape[1] % config.beat_bytes
    return np.ascontiguousarray(np.pad(rows, ((0, 0), (0, padding)))).reshape(-1, config.beat_bytes)


def act_beats(config: DriftConfig, acts: NDArray[np.integer[Any]]) -> Beats:
    """Return activations (M, K) as beats: ceil(K / beat_bytes) for each row."""
    return row_beats(config, acts.astype(np.int8).view(np.uint8))


def granule_channels(case: DriftCase) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the channels of high granules (granules, 2) and of low ones (granules, 4), -1 where there is none."""
    counts, halves = case.counts, []
    ends = (slice(None, counts.n_high), slice(counts.n_high, None))
    for end, size in zip(ends, (HIGH_CHANNELS, LOW_CHANNELS), strict=True):
        own = case.channels[end]
        halves.append(np.pad(own, (0, -len(own) % size), constant_values=-1).reshape(-1, size))
    return halves[0], halves[1]


def channel_beats(config: DriftConfig, case: DriftCase) -> Beats:
    """Return the channel parameters: for each granule, high ones first, ``params_beats`` beats of four records."""
    size = CHANNEL_BITS // 8
    records = np.zeros((case.n + 1, size), np.uint8)  # the last one is that of an absent channel, -1
    own = records[:-1]
    if case.bias is not None and case.multiplier is not None and case.shift is not None:
        own[:, :4] = case.bias.astype("<i4")[:, None].view(np.uint8)
        own[:, 4:8] = case.multiplier.astype("<u4")[:, None].view(np.uint8)
        own[:, 8] = case.shift
    own[:, 9] = case.weight_clip | case.weight_bits << 4
    halves = [
        np.pad(channels, ((0, 0), (0, CHANNELS - channels.shape[1])), constant_values=-1)
        for channels in granule_channels(case)
    ]
    words = records[np.concatenate(halves)].reshape(-1, CHANNELS * size)
    padding = config.params_beats * config.beat_bytes - words.shape[1]
    return np.pad(words, ((0, 0), (0, padding))).reshape(-1, config.beat_bytes)


def merge_order(high: int, low: int) -> NDArray[np.int64]:
    """Return the order in which granules are sent: numbers below ``high`` are high ones, low ones follow.

    The next one is high where, i high and j low ones being sent, ``(i + 1) * low <= (j + 1) * high``: at every
    moment the two halves have come in proportion to their numbers.
    """
    due = np.concatenate([np.arange(1, high + 1) * low, np.arange(1, low + 1) * high])
    return np.argsort(due, kind="stable")


def weight_beats(config: DriftConfig, case: DriftCase) -> Beats:
    """Return the weights: granules merged as ``merge_order`` says, each ceil(K / word_weights) beats."""
    padded = np.pad(case.weights.astype(np.int8), ((0, 0), (0, 1))).view(np.uint8)  # -1 is an absent channel
    high, low = (padded[:, channels] for channels in granule_channels(case))  # (K, granules, channels)
    nibbles = low & np.uint8(15)
    packed = nibbles[..., 0::2] | nibbles[..., 1::2] << np.uint8(4)
    words = np.concatenate([high, packed], axis=1).transpose(1, 0, 2)  # (granules, K, 2 bytes)
    counts = case.counts
    ordered = words[merge_order(counts.granules_high, counts.granules_low)]
    return row_beats(config, ordered.reshape(len(ordered), -1))


def stream_of(config: DriftConfig, case: DriftCase) -> Beats:
    """Return the packet that the machine takes: activations unless it has them, parameters, weights."""
    parts = [] if case.resident else [act_beats(config, case.acts)]
    return np.concatenate([*parts, channel_beats(config, case), weight_beats(config, case)])


def output_of(config: DriftConfig, case: DriftCase) -> Beats:
    """Return the packet that the machine sends: rows of bytes or four planes of bytes; nothing that is kept.

    A row, and a plane of one, is ceil(N / beat_bytes) beats, channels in their stored order, then zeros.
    """
    if case.keep:
        return np.zeros((0, config.beat_bytes), np.uint8)
    stored = case.stored()
    if case.requantized:
        return row_beats(config, stored.astype(np.int8).view(np.uint8))
    planes = stored.astype("<i4")[..., None].view(np.uint8).transpose(0, 2, 1)
    return row_beats(config, planes.reshape(-1, case.n))
