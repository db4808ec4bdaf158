"""Drift's schedulers: the split they choose, the best one there is, and how long choosing takes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.drift.config import GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.hdl.drift.schedule_split import SplitCycles
from bitfabric.quant.errors import check_choice
from bitfabric.sim.cycles.drift_array import ArrayWork, Split, gemm_work, region_cycles
from bitfabric.sim.workloads.bert import GemmShape

METHODS = ("scan", "greedy", "exhaustive")
# Lines that a greedy step may move, in the order in which equal gains are preferred.
MOVES = ((0, 0, 0), (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1))
SHARES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


@dataclass(frozen=True)
class Schedule:
    """Hold a choice.

    Members
    -------
    split : Split
        The three lines.
    regions : dict of str to int
        Cycles of each region, ``hh`` to ``ll``.
    steps : int
        Splits from which greedy looked around; 0 for the others.
    """

    split: Split
    regions: dict[str, int]
    steps: int = 0

    @property
    def cycles(self) -> int:
        """Return the maximum [paper, eq. 8]; ``INFINITE`` if no split gives groups to all work."""
        return max(self.regions.values())


class _Halves:
    """Tabulate ``left[r, c]`` and ``right[r, c]``: the maximum of a half's two regions with r upper rows."""

    def __init__(self, config: DriftConfig, work: ArrayWork) -> None:
        r, c = np.arange(config.rows + 1)[:, None], np.arange(config.columns + 1)
        rows, columns = {"h": r, "l": config.rows - r}, {"h": c, "l": config.columns - c}
        self.regions: dict[str, NDArray[np.int64]] = {}
        for region in REGIONS:
            size = (rows[region[0]], columns[region[1]])
            self.regions[region] = region_cycles(
                config.weight_buffering, config.acc_depth, *work.of_region(region), *size
            )
        self.left = np.maximum(self.regions["hh"], self.regions["lh"])
        self.right = np.maximum(self.regions["hl"], self.regions["ll"])

    def cycles(self, split: Split) -> int:
        left, right = self.left[split.left_rows, split.columns], self.right[split.right_rows, split.columns]
        return int(max(left, right))

    def result(self, split: Split, steps: int = 0) -> Schedule:
        rows = {"h": split.left_rows, "l": split.right_rows}
        regions = {name: int(table[rows[name[1]], split.columns]) for name, table in self.regions.items()}
        return Schedule(split, regions, steps)


def schedule(config: DriftConfig, work: ArrayWork, method: str | None = None) -> Schedule:
    """Choose a split that makes the maximum of the regions' cycles small [paper, eq. 8].

    - ``scan`` **[ours]**: for c = 0 ... C either half takes its first best r = 0 ... R, since the halves do not
      depend on each other; the first best c wins. It is the exhaustive optimum.
    - ``greedy`` **[paper]**: start in proportion to the work, ``c = share(C, g)``, both ``r = share(R, M * q)``, see
      ``share``; then take the first best of ``MOVES`` until that is to stay, so that only strict gains move a line.
    - ``exhaustive``: the first best of all (c, rl, rr).

    Parameters
    ----------
    config : DriftConfig
        Gives the fabric, its buffering and, by default, the method.
    work : ArrayWork
        The GEMM.
    method : str, optional
        One of ``METHODS``.

    Raises
    ------
    ParameterError
        If there is no such method.
    """
    method = check_choice("method", method or config.scheduler, METHODS)
    halves = _Halves(config, work)
    if method == "greedy":
        return _greedy(config, work, halves)
    if method == "scan":
        left, right = halves.left.argmin(axis=0), halves.right.argmin(axis=0)
        c = int(np.maximum(halves.left.min(axis=0), halves.right.min(axis=0)).argmin())
        return halves.result(Split(c, int(left[c]), int(right[c])))
    every = np.maximum(halves.left.T[:, :, None], halves.right.T[:, None, :])
    return halves.result(Split(*(int(index) for index in np.unravel_index(every.argmin(), every.shape))))


def share(length: int, high: int, low: int) -> int:
    """Return the lines of ``length`` that the high-precision part gets by its share, halves rounded up [ours].

    All or none where only one part has work (none where neither has), otherwise at least 1 and at most
    ``length - 1``; of a single line, 1.
    """
    if high == 0 or low == 0:
        return length if high else 0
    rounded = (2 * length * high + high + low) // (2 * (high + low))
    return max(1, min(length - 1, rounded))


def _greedy(config: DriftConfig, work: ArrayWork, halves: _Halves) -> Schedule:
    r = share(config.rows, work.m_high * work.q_high, work.m_low * work.q_low)
    split = Split(share(config.columns, work.g_high, work.g_low), r, r)
    limits = Split(config.columns, config.rows, config.rows)
    steps = 0
    while True:
        steps += 1
        options = (Split(*(a + b for a, b in zip(split, move, strict=True))) for move in MOVES)
        legal = (s for s in options if all(0 <= a <= b for a, b in zip(s, limits, strict=True)))
        best = min(legal, key=halves.cycles)
        if best == split:
            return halves.result(split, steps)
        split = best


def table_cycles(config: DriftConfig) -> int:
    """Return the cycles from ``tabulate`` to ``ready``: two bits of a quotient per cycle, R + 1 or C + 1 of them."""
    rows = (NIBBLES_BITS + 1) // 2 * (config.rows + 1)
    columns = (GRANULE_BITS + 1) // 2 * (config.columns + 1)
    return max(rows, columns) + 2


def search_cycles(config: DriftConfig, work: ArrayWork) -> int:
    """Return the cycles from ``start``, or from ``ready`` if that is later, to ``done``."""
    if config.scheduler == "scan":
        return (config.rows + 1) * (config.columns + 1) + SplitCycles.LATENCY + 3
    prepare = 3 + max(config.rows, config.columns).bit_length()
    look = len(MOVES) + SplitCycles.LATENCY + 2
    return prepare + look * schedule(config, work).steps


@dataclass(frozen=True)
class Losses:
    """Hold how much longer a method's splits take than the best ones.

    Members
    -------
    mean, worst : float
        ``cycles / optimum - 1`` over all works that have an optimum.
    total : float
        The same of the sums of cycles.
    steps : float
        Mean number of steps.
    count : int
        Works.
    where : str
        The worst one.
    """

    mean: float
    worst: float
    total: float
    steps: float
    count: int
    where: str


def schedule_losses(
    config: DriftConfig,
    shapes: Sequence[GemmShape],
    shares: Iterable[float] = SHARES,
    method: str = "greedy",
) -> Losses:
    """Compare a method with the exhaustive optimum over GEMMs at all pairs of low-precision shares.

    Parameters
    ----------
    config : DriftConfig
        The fabric.
    shapes : sequence of GemmShape
        GEMMs; how often each occurs does not count.
    shares : iterable of float
        Shares of low-precision activation rows and of channels, each with each.
    method : str
        One of ``METHODS``.
    """
    shares = tuple(shares)
    losses, steps, names = [], [], []
    chosen = best = 0
    for shape in shapes:
        for acts in shares:
            for weights in shares:
                m_low, n_low = round(acts * shape.m), round(weights * shape.n)
                work = gemm_work(config, shape.m - m_low, m_low, shape.k, shape.n - n_low, n_low)
                result, optimum = (schedule(config, work, name) for name in (method, "exhaustive"))
                chosen, best = chosen + result.cycles, best + optimum.cycles
                losses.append(result.cycles / optimum.cycles - 1)
                steps.append(result.steps)
                names.append(f"{shape.name} acts {acts:.0%} weights {weights:.0%}")
    worst = int(np.argmax(losses))
    return Losses(
        mean=float(np.mean(losses)),
        worst=losses[worst],
        total=chosen / best - 1,
        steps=float(np.mean(steps)),
        count=len(losses),
        where=names[worst],
    )
