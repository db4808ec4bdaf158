"""Cycle model of ``drq``: when the map, weights and activations are there, and when tiles are computed and drained.

Times are cycles after the start strobe.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.dealer import Dealer
from bitfabric.hdl.drq.im2col import Im2col
from bitfabric.hdl.drq.planner import Planner
from bitfabric.hdl.gemm.drain import OUT_LATENCY
from bitfabric.hdl.gemm.words import PARAM_BEATS
from bitfabric.quant.drq import REGION
from bitfabric.sim.cycles import Cycles, vssa
from bitfabric.sim.cycles.drq_tiles import Layer, TileCost, fill_cycles, row_cycles, tile_costs
from bitfabric.sim.drq_limits import check_dimensions, rows_max

if TYPE_CHECKING:
    from bitfabric.sim.drq_case import DrqCase

FLAGS_BEHIND = 3  # cycles from a band's last word to the first read of its flags
SEED = 0  # of the regions that ``gemm_cycles`` draws
_BANKS = 2
_NEVER = -(1 << 40)


@dataclass
class Times:
    """Hold the state that later tiles depend on; lists hold the cycles in which banks were freed, oldest first."""

    loader: int  # the first cycle of an N tile's planning
    fill: int  # im2col's next piece
    dealt: int = _NEVER  # last word read
    released: int = _NEVER
    taken: int = _NEVER
    drained: int = _NEVER
    weights: list[int] = field(default_factory=lambda: [_NEVER] * _BANKS)
    params: list[int] = field(default_factory=lambda: [_NEVER] * _BANKS)
    acts: list[int] = field(default_factory=lambda: [_NEVER] * _BANKS)
    results: list[int] = field(default_factory=lambda: [_NEVER] * _BANKS)
    opened: int | None = None
    closed: int = 0


def _load_n_tile(config: DrqConfig, layer: Layer, times: Times, n_valid: int) -> int:
    """Load an N tile's parameters and weights; return when the weights can be read."""
    plan = times.loader
    if layer.requantized:
        plan = max(plan, times.params[0] + 1) + PARAM_BEATS * -(-n_valid // config.drain_lanes)
    plan = max(plan + 1, times.weights[0] + 1)
    times.loader = plan + layer.k * -(-n_valid // config.axis_bytes) + 1
    return times.loader


def _tile(
    config: DrqConfig,
    layer: Layer,
    times: Times,
    fill: int,
    cost: TileCost,
    weights: int,
    sizes: tuple[int, int],
    last_m: bool,
) -> None:
    """Fill, deal, compute, unload and drain a tile of ``sizes`` (rows, columns)."""
    times.fill = max(times.fill, times.acts[0] + 1) + fill
    acts = times.fill + Im2col.LATENCY
    begin = max(acts, weights, times.dealt + 1, times.released + 1)
    times.dealt = begin + -(-layer.k // config.line_elements) - 1
    times.acts = [times.acts[1], times.dealt]
    if last_m:
        times.weights = [times.weights[1], times.dealt]
    first = vssa.start(begin + Dealer.LATENCY, times.taken)
    times.released = first + cost.released
    times.opened = first if times.opened is None else times.opened
    full = times.closed = first + cost.full
    times.taken = max(full, times.taken + config.rows, times.results[0] + 1)
    drain = max(times.taken + config.rows, times.drained + 1)
    times.drained = drain + sizes[0] * -(-sizes[1] // config.drain_lanes)
    times.results = [times.results[1], times.drained]
    if last_m and layer.requantized:
        times.params = [times.params[1], times.drained]


def layer_cycles(config: DrqConfig, layer: Layer, high_rows: NDArray[np.bool_], sensitive: int) -> Cycles:
    """Return what the machine counts for a convolution whose streams do not stall.

    Parameters
    ----------
    config : DrqConfig
        The machine, which holds it.
    layer : Layer
        Its sizes.
    high_rows : bool array (M, K)
        Activations of 8 bits.
    sensitive : int
        Sensitive regions, for ``traffic``.
    """
    row, late = row_cycles(layer, config.axis_bytes)
    loaded = Planner.LATENCY + layer.height * row + (layer.height - 1) * late  # the map's last beat
    times = Times(loader=loaded + 1, fill=loaded + FLAGS_BEHIND + row + late + 1)
    fills, starts = fill_cycles(config, layer)
    rows = np.diff(starts, append=layer.m)
    costs: dict[int, list[TileCost]] = {}
    sums = dict.fromkeys(("full", "steps", "slow", "working", "stalled"), 0)
    for n_start in range(0, layer.n, config.columns):
        n_valid = min(config.columns, layer.n - n_start)
        if n_valid not in costs:
            costs[n_valid] = list(tile_costs(config, layer, high_rows, n_valid))
        weights = _load_n_tile(config, layer, times, n_valid)
        for index, cost in enumerate(costs[n_valid]):
            sizes = int(rows[index]), n_valid
            _tile(config, layer, times, int(fills[index]), cost, weights, sizes, index == len(rows) - 1)
            for name in sums:
                sums[name] += getattr(cost, name)
    # One more to see that the last beat has gone.
    total = times.drained + OUT_LATENCY + (Requantizer.LATENCY if layer.requantized else 0) + 1
    assert times.opened is not None
    compute = sums["full"]
    traffic = {"steps_2": sums["steps"] - sums["slow"], "steps_4": sums["slow"], "sensitive": sensitive}
    if config.pe_counters:
        traffic |= {"pe_working": sums["working"], "pe_stalled": sums["stalled"]}
    return _cycles(
        config,
        {
            "load": times.opened - 1,
            "compute": compute,
            "stalled": times.closed - times.opened - compute,
            "drain": total + 1 - times.closed,
        },
        traffic,
        sums["working"],
    )


def _cycles(config: DrqConfig, breakdown: dict[str, int], traffic: dict[str, int], working: int) -> Cycles:
    """Return counters as every design tells them; utilization is that of the 4-bit MACs."""
    macs, total = config.rows * config.columns, sum(breakdown.values())
    return Cycles(
        array_cycles=breakdown["compute"],
        total=total,
        utilization=working / (macs * breakdown["compute"]),
        machine_utilization=working / (macs * total),
        breakdown=breakdown,
        traffic=traffic,
    )


def case_cycles(config: DrqConfig, case: DrqCase) -> Cycles:
    """Return what the machine counts for a case; ``traffic`` holds the counters of steps, PEs and regions.

    Raises
    ------
    ParameterError
        If the machine does not take it.
    """
    case.check(config)
    names = (item.name for item in fields(Layer))
    layer = Layer(**{name: getattr(case, name) for name in names})
    return layer_cycles(config, layer, case.high_rows, int(case.mixed.sensitive.sum()))


def gemm_cycles(
    config: DrqConfig, m: int, k: int, n: int, *, requantize: bool = False, act_low: float = 0.0
) -> Cycles:
    """Return the cycles of a GEMM: 1x1 convolutions on maps of rows x 1 pixels, as many rows as the machine holds.

    Parameters
    ----------
    config : DrqConfig
        The machine.
    m, k, n : int
        Dimensions.
    requantize : bool
        Bytes come out, not accumulators.
    act_low : float
        Share of regions, ``REGION`` rows by one channel, that are not sensitive; which ones is drawn.

    Raises
    ------
    ParameterError
        If a dimension is not allowed.
    """
    cycles = _gemm_cycles(config, m, k, n, requantize, act_low)
    return replace(cycles, breakdown=dict(cycles.breakdown), traffic=dict(cycles.traffic))


@lru_cache(maxsize=1024)
def _gemm_cycles(config: DrqConfig, m: int, k: int, n: int, requantize: bool, act_low: float) -> Cycles:
    check_dimensions(config, m, k, n)
    rng = np.random.default_rng(SEED)
    most = rows_max(config, k)
    runs = []
    for start in range(0, m, most):
        rows = min(most, m - start)
        sensitive = np.ones(-(-rows // REGION[0]) * k, dtype=bool)
        sensitive[rng.permutation(sensitive.size)[: round(act_low * sensitive.size)]] = False
        high = sensitive.reshape(-1, k).repeat(REGION[0], axis=0)[:rows]
        layer = Layer(height=rows, width=1, channels=k, n=n, requantized=requantize)
        runs.append(layer_cycles(config, layer, high, int(sensitive.sum())))
    if len(runs) == 1:
        return runs[0]
    breakdown = {name: sum(run.breakdown[name] for run in runs) for name in runs[0].breakdown}
    traffic = {name: sum(run.traffic[name] for run in runs) for name in runs[0].traffic}
    busy = sum(run.utilization * run.array_cycles for run in runs)
    return _cycles(config, breakdown, traffic, round(busy * config.rows * config.columns))
