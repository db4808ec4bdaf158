"""Cycle model of a layer on Drift: selection, scheduling, four arrays, drain, read-out or write-back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import WEIGHT_SLOTS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.drift_array import Split, bound_cycles, check_split, gemm_work
from bitfabric.sim.cycles.drift_core import CoreTimes, core_times
from bitfabric.sim.cycles.drift_intake import intake_cycles
from bitfabric.sim.cycles.drift_loader import RegionWork
from bitfabric.sim.cycles.drift_output import DRAIN_LATENCY, READOUT_LATENCY, readout_cycles
from bitfabric.sim.cycles.drift_schedule import schedule, search_cycles, table_cycles

# The start is cycle 0. The streams' registers take their first beat in cycle 1 and offer it in the next.
FIRST_BEAT = 2


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Hold what is known of activations that get their precision.

    Members
    -------
    low : (sub-tensors,) bool
        Those of low precision.
    subtensor_rows : int
        Rows of one.
    bits : (int, int)
        hp and lp.
    """

    low: NDArray[np.bool_]
    subtensor_rows: int
    bits: tuple[int, int]

    def rows_low(self, m: int) -> int:
        """Return the rows of low precision of ``m``."""
        return int(np.repeat(self.low, self.subtensor_rows)[:m].sum())


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Hold what a layer's cycles depend on.

    Members
    -------
    m, k, n_high, n_low : int
        Rows, contraction, channels of either precision.
    acts : Intake
        Its activations; where they are ``resident`` the precisions at which they are held.
    resident, prepared, accumulators : bool
        Activations are there; so is the split; results are accumulators.
    pooled : (int, int, int), optional
        Rows that leave the pooling unit, and its kernel.
    kept : Intake, optional
        Results that are written back.
    """

    m: int
    k: int
    n_high: int
    n_low: int
    acts: Intake
    resident: bool = False
    prepared: bool = False
    accumulators: bool = False
    pooled: tuple[int, int, int] | None = None
    kept: Intake | None = None


def layer_cycles(config: DriftConfig, layer: Layer) -> Cycles:
    """Return the cycles of a layer when the streams do not stall.

    ``traffic`` has the arrays' counters and the split, as the machine's registers do.

    Raises
    ------
    ParameterError
        If no split serves the layer.
    """
    m_low = layer.acts.rows_low(layer.m)
    m_high = layer.m - m_low
    counts = (m_high, m_low, layer.k, layer.n_high, layer.n_low)
    work = gemm_work(config, *counts, bits=layer.acts.bits)
    chosen = schedule(config, work)
    check_split(config, work, chosen.split)

    # Activations, channel parameters behind them in the stream, and the split.
    beats = -(-layer.k // config.beat_bytes)
    passed, counted = 0, 1
    if not layer.resident:
        offered = np.full(layer.m * beats, FIRST_BEAT)
        intake = intake_cycles(
            config, beats, layer.m, layer.acts.subtensor_rows, layer.acts.low, *layer.acts.bits, offered
        )
        passed, counted = intake.taken, intake.done + 1
    params = max(passed + 1, FIRST_BEAT) + (work.g_high + work.g_low) * config.params_beats
    split = 1
    if not layer.prepared:
        split = max(counted, 2, 1 + table_cycles(config)) + search_cycles(config, work) + 1
    words = -(-layer.k // config.word_weights)
    sized = min(config.weight_words // words, WEIGHT_SLOTS) + 2
    run = max(split, counted, sized) + 1
    begin = max(run + 1, params) + 1

    shapes = chosen.split.shapes(config)
    works = []
    for region in REGIONS:
        m, nibbles, granules = work.of_region(region)
        rows, columns = shapes[region]
        works.append(RegionWork(rows=rows, columns=columns, m=m, nibbles=nibbles, granules=granules))
    times = core_times(config, works, k=layer.k, begin=begin, accumulators=layer.accumulators)
    finish = max(times.done, times.weights_done, times.last_word + DRAIN_LATENCY)
    total = _end(config, layer, finish)

    first, last, busy = _union(times)
    waited = max(0, split - max(counted, params))
    arrays = {region: _length(times.active[index]) for index, region in enumerate(REGIONS)}
    bound = bound_cycles(config, *counts, bits=layer.acts.bits)
    return Cycles(
        array_cycles=chosen.cycles,
        total=total,
        utilization=bound / chosen.cycles,
        machine_utilization=bound / total,
        breakdown={
            "load": first - 1 - waited,
            "schedule": waited,
            "compute": busy,
            "stalled": last - first + 1 - busy,
            "drain": total - last,
        },
        traffic={
            **{f"array_{region}_cycles": count for region, count in arrays.items()},
            "split": _word(chosen.split),
            "rows_low": m_low,
            "bound": bound,
        },
    )


def _end(config: DriftConfig, layer: Layer, finish: int) -> int:
    """Return the layer's last cycle; the read-out is started in ``finish``."""
    n = layer.n_high + layer.n_low
    rows, height, width = layer.pooled or (layer.m, 1, 1)
    if layer.kept is None:
        out = readout_cycles(config, rows, n, accumulators=layer.accumulators, kernel=(height, width))
        return finish + out + 1
    beats = -(-n // config.beat_bytes)
    offered = (np.arange(rows * beats) + 1) * height * width + READOUT_LATENCY
    kept = layer.kept
    return (
        finish + intake_cycles(config, beats, rows, kept.subtensor_rows, kept.low, *kept.bits, offered).done
    )


def _word(split: Split) -> int:
    """Return the register's word."""
    return split.columns | split.left_rows << 8 | split.right_rows << 16


def _length(intervals: list[tuple[int, int]]) -> int:
    """Return the cycles in any of the intervals."""
    total, end = 0, -1
    for first, last in sorted(intervals):
        total += max(0, last - max(first, end + 1) + 1)
        end = max(end, last)
    return total


def _union(times: CoreTimes) -> tuple[int, int, int]:
    """Return the first and the last cycle in which an array is active, and how many there are."""
    every = [interval for intervals in times.active for interval in intervals]
    return min(first for first, _ in every), max(last for _, last in every), _length(every)
