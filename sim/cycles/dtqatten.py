"""Cycle model of the DTQAtten machine: equal to the RTL's counters while no stream stalls."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.registers import COUNTERS, PE_COUNTERS
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.dtqatten_block import BlockEvents
from bitfabric.sim.cycles.dtqatten_fetch import FetchTimes
from bitfabric.sim.cycles.dtqatten_output import SenderTimes
from bitfabric.sim.cycles.dtqatten_selection import topk_cycles
from bitfabric.sim.cycles.dtqatten_tiles import HeadTiles
from bitfabric.sim.dtqatten_case import AttentionCase
from bitfabric.sim.dtqatten_random import shared_bits
from bitfabric.sim.job import MEMORY_LATENCY


@dataclass(frozen=True, kw_only=True)
class HeadTimes:
    """Hold the cycles of a head's products, each from its first deal until its last results have left their array."""

    qk: int
    pv: int


@dataclass(frozen=True, kw_only=True)
class BlockTimes:
    """Hold what a block takes.

    Members
    -------
    counters : dict
        The machine's counters by name, see ``hdl.dtqatten.registers``; those of PEs are always here.
    heads : list of HeadTimes
        Head by head.
    """

    counters: dict[str, int]
    heads: list[HeadTimes]

    @property
    def stall_ratio(self) -> float:
        """Mean of eq. (3) over the tiles of scores, weighted by their PE-cycles."""
        stalled = self.counters["qk_stalled_2"] + self.counters["qk_stalled_4"]
        return stalled / (stalled + self.counters["qk_working"])


def block_times(
    config: DtqattenConfig,
    *,
    high: ArrayLike,
    head_size: int,
    heads: int = 1,
    per_token: bool = False,
    entries: int | None = None,
    latency: int = MEMORY_LATENCY,
) -> BlockTimes:
    """Return a block's counters.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    high : bool array (m,)
        Whether the token at each position has 8 bits.
    head_size, heads : int
        d, H.
    per_token : bool
        Tokens have scales of their own, which are fetched.
    entries : int, optional
        Entries of the list that is fetched; None with ``carry``.
    latency : int
        Cycles of the memory from a descriptor to its first beat.

    Raises
    ------
    ParameterError
        If the machine does not take it.
    """
    flags = np.asarray(high, dtype=bool)
    if flags.ndim != 1 or not 1 <= flags.size <= config.tokens_max:
        raise ParameterError("high", flags.shape, f"flags of 1 to {config.tokens_max} tokens")
    check_range("head_size", head_size, 1, config.head_size_max)
    check_range("heads", heads, 1, config.heads_max)
    kept = flags.size
    fetch = FetchTimes(
        config,
        start=0,
        kept=kept,
        head_size=head_size,
        latency=latency,
        entries=entries,
        per_token=per_token,
    )
    scanned = (fetch.list_done or 0) + kept + 2
    head = HeadTiles(config, flags, head_size)
    sender = SenderTimes(config, head_size)
    events = BlockEvents(config, head, fetch, heads=heads, listed=scanned, per_token=per_token, sender=sender)
    select = max(events.scores_finished, events.last_importance + 1)
    known = select + topk_cycles(config, kept)
    done = sender.finish(max(events.results_finished, known + 1), kept)
    counters = {
        **_cycles(events, done + 1),
        "select": known - select,
        "pv_left": max(0, events.results_left - select - 1),
    }
    counters |= _pe_cycles(events, head)
    times = [
        HeadTimes(qk=scored - first, pv=left - dealt) for first, scored, dealt, left in events.heads_dealt
    ]
    return BlockTimes(counters={name: counters[name] for name in (*COUNTERS, *PE_COUNTERS)}, heads=times)


def _cycles(events: BlockEvents, total: int) -> dict[str, int]:
    spans: dict[str, list[tuple[int, int]]] = {"compute": [], "qk": [], "pv": []}
    sums = {"qk_array": 0, "pv_array": 0}
    for tile, first, last in events.runs:
        kind = "pv" if tile.pv else "qk"
        spans["compute"].append((first, last))
        spans[kind].append((first, last))
        sums[f"{kind}_array"] += last + 1 - first
    first = min(first for first, _ in spans["compute"])
    last = max(last for _, last in spans["compute"])
    busy = {name: _union(found) for name, found in spans.items()}
    load, drain = first - 1, total - last
    return {
        **busy,
        **sums,
        "load": load,
        "drain": drain,
        "stalled": total - load - drain - busy["compute"],
        "total": total,
    }


def _union(spans: list[tuple[int, int]]) -> int:
    """Return the cycles that any of the spans covers."""
    covered, until = 0, -1
    for first, last in sorted(spans):
        if last > until:
            covered += last - max(first - 1, until)
            until = last
    return covered


def _pe_cycles(events: BlockEvents, head: HeadTiles) -> dict[str, int]:
    counts: dict[str, Any] = dict.fromkeys(PE_COUNTERS, 0)
    for tile, _, _ in events.runs:
        _, pes = head.times(tile)
        if tile.pv:
            counts["pv_working"] += pes.working
            counts["pv_stalled"] += pes.stalled
            continue
        counts[f"qk_tiles_{1 << tile.floor}"] += 1
        counts["qk_working"] += pes.working
        if tile.floor:
            counts[f"qk_stalled_{1 << tile.floor}"] += pes.stalled
    return counts


def case_cycles(config: DtqattenConfig, case: AttentionCase) -> Cycles:
    """Return what the machine counts for a case; ``traffic`` holds all counters.

    Raises
    ------
    ParameterError
        If the machine does not take it.
    """
    times = block_times(
        config,
        high=case.high,
        head_size=case.head_size,
        heads=case.heads,
        per_token=case.per_token,
        entries=None if case.carry else case.listed.size,
    )
    return _cycles_of(config, times)


def _cycles_of(config: DtqattenConfig, times: BlockTimes) -> Cycles:
    """Return a block's counters as every design tells them."""
    counters = times.counters
    macs = config.arrays * config.rows * config.columns
    working = counters["qk_working"] + counters["pv_working"]
    return Cycles(
        array_cycles=counters["compute"],
        total=counters["total"],
        utilization=working / (macs * counters["compute"]),
        machine_utilization=working / (macs * counters["total"]),
        breakdown={name: counters[name] for name in ("load", "compute", "stalled", "drain")},
        traffic=counters,
    )


def gemm_cycles(
    config: DtqattenConfig,
    m: int,
    k: int,
    n: int,
    *,
    requantize: bool = False,
    token_low: float = 0.0,
    token_pruned: float = 0.0,
) -> Cycles:
    """Return what a head of ``m`` tokens and ``k`` channels takes; ``n`` is ``m``.

    The list is fetched, the tokens' precisions are drawn at random with a seed of 0 and clustered. ``requantize``
    changes nothing: results always are bytes.

    Parameters
    ----------
    config : DtqattenConfig
        The machine.
    m, k, n : int
        Tokens, channels of a head, tokens.
    requantize : bool
        As for other designs.
    token_low, token_pruned : float
        Shares of tokens of 4 and of 0 bits.
    """
    bits = shared_bits(np.random.default_rng(0), m, token_low, token_pruned)
    high = np.sort(bits[bits > 0] == 8)
    return _cycles_of(config, block_times(config, high=high, head_size=k, entries=m))


def remarks(config: DtqattenConfig, case: AttentionCase, cycles: Cycles) -> dict[str, float | str]:
    """Return a block's tokens, its cycles of either product and how long PEs wait for others."""
    counters = cycles.traffic
    stalled = counters["qk_stalled_2"] + counters["qk_stalled_4"]
    return {
        "tokens of 8, 4, 0 bits": f"{int(case.high.sum())}, {int((~case.high).sum())}, {case.tokens - case.kept}",
        "cycles of scores": str(counters["qk"]),
        "cycles of results": str(counters["pv"]),
        "stalled PEs in scores": stalled / (stalled + counters["qk_working"]),
        "stalled PEs in results": counters["pv_stalled"] / (counters["pv_stalled"] + counters["pv_working"]),
        "top-k": str(counters["select"]),
        "results after importance": str(counters["pv_left"]),
    }
