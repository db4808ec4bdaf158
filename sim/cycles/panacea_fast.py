"""Panacea's cycles from densities alone: patterns are drawn, and large layers extrapolated from small ones."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import Slicing
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.panacea_pea import Marks
from bitfabric.sim.cycles.panacea_tiles import Bools, Ints, Layer, Modes, groups_of, record_words
from bitfabric.sim.cycles.panacea_traffic import MOVED, traffic
from bitfabric.sim.cycles.panacea_walk import Walk, counters

# Steps of M, of N and of K that are followed one by one; beyond them the cycles are taken to be linear.
SAMPLES = {"steps": (3, 5), "columns": (2, 4), "depths": (6, 14)}
# Layers of so few sub-tiles are followed whole.
WHOLE = 4000


def gemm_cycles(
    config: PanaceaConfig,
    m: int,
    k: int,
    n: int,
    *,
    requantize: bool = False,
    weight_sparsity: float = 0.0,
    act_sparsity: float = 0.0,
    weight_bits: int = 7,
    act_bits: int = 8,
    dtp: bool | None = None,
    resident: bool | None = None,
    seed: int = 0,
) -> Cycles:
    """Return nearly the cycles of ``acts (M, K) x weights (K, N)`` whose HO vectors are skipped independently.

    Parameters
    ----------
    config : PanaceaConfig
        The machine.
    m, k, n : int
        Tokens, contraction, output channels.
    requantize : bool
        The next layer's 8-bit slices come out, not accumulators; half of their HO vectors are taken to be stored.
    weight_sparsity, act_sparsity : float
        Shares of HO vectors that are skipped, in [0, 1].
    weight_bits, act_bits : int
        4, 7, 10; 4, 8, 12.
    dtp : bool, optional
        Two weight tiles at a time; by default if the machine has it and the weights of two fit WMEM [paper].
    resident : bool, optional
        Activations come once; by default if they fit AMEM. Weights come once per M step if they fit WMEM.
    seed : int
        Of the patterns drawn.

    Raises
    ------
    ParameterError
        If an argument is not allowed.
    """
    slicing = Slicing(weight_bits=weight_bits, act_bits=act_bits)
    config.check_layer(n, k, m, slicing)
    for name, value in (("weight_sparsity", weight_sparsity), ("act_sparsity", act_sparsity)):
        if not 0 <= value <= 1:
            raise ParameterError(name, value, "in [0, 1]")
    if dtp and not config.dtp:
        raise ParameterError("dtp", dtp, "false in this configuration")
    sparsity = (weight_sparsity, act_sparsity)
    modes = Modes(m=m, k=k, n=n, slicing=slicing, dtp=bool(dtp), next_slices=2 if requantize else 0)
    weights, acts = _words(config, modes, sparsity)
    if dtp is None and config.dtp and n > config.m_step:
        double = dataclasses.replace(modes, dtp=True)
        both = _words(config, double, sparsity)[0]
        if both <= config.wmem_words:
            modes, weights = double, both
    stays = acts <= config.amem_words if resident is None else resident
    modes = dataclasses.replace(modes, resident=stays, stream_weights=weights > config.wmem_words)
    step = config.m_step * (2 if modes.dtp else 1)
    whole = {"steps": -(-n // step), "columns": -(-m // config.tile_n), "depths": -(-k // config.tile_k)}
    small = whole["steps"] * whole["depths"] * groups_of(m) <= WHOLE
    axes: list[tuple[int, ...]] = [
        (count,) if small or count <= SAMPLES[axis][1] else SAMPLES[axis] for axis, count in whole.items()
    ]
    found = {}
    for steps, columns, depths in itertools.product(*axes):
        # The last, perhaps smaller, step of every dimension stays.
        sample = dataclasses.replace(
            modes,
            n=n - (whole["steps"] - steps) * step,
            m=m - (whole["columns"] - columns) * config.tile_n,
            k=k - (whole["depths"] - depths) * config.tile_k,
        )
        found[steps, columns, depths] = _measure(config, sample, sparsity, depths / whole["depths"], seed)
    figures = _extrapolate(found, axes, tuple(whole.values()))
    return _as_cycles(config, modes, figures)


def _words(config: PanaceaConfig, modes: Modes, sparsity: tuple[float, float]) -> tuple[int, int]:
    """Return about how many words the weights of an M step take, and all activations."""
    depths = -(-modes.k // config.tile_k)
    step = config.m_step * (2 if modes.dtp else 1)
    found = []
    for slices, share, size, tile in (
        (modes.slicing.weight_slices, sparsity[0], min(modes.n, step), config.m_step),
        (modes.slicing.act_slices, sparsity[1], modes.m, config.tile_n),
    ):
        dense = -(-config.tile_k // config.lanes) * max(slices - 1, 1)
        # Quads are filled up: half an entry's quad more, unless nothing is stored.
        stored = (1 - share) * config.tile_k
        quads = 0.0 if slices == 1 else min(stored, stored / config.quad + 0.5)
        found.append(round(depths * (-(-size // tile) + groups_of(size) * (dense + quads / config.quads))))
    return found[0], found[1]


def _measure(
    config: PanaceaConfig, modes: Modes, sparsity: tuple[float, float], share: float, seed: int
) -> Ints:
    """Return load, compute, stalled, drain, PPU stall and the traffic of a layer of drawn patterns."""
    rng = np.random.default_rng(seed)

    def draw(groups: int, skipped: float) -> Bools:
        return rng.random((groups, modes.k)) >= skipped

    layer = Layer.of(
        config, modes, draw(groups_of(modes.n), sparsity[0]), draw(groups_of(modes.m), sparsity[1])
    )
    if modes.next_slices:
        kept = rng.random((modes.n, groups_of(modes.m))) < 0.5
        modes = dataclasses.replace(modes, kept=kept)
    _check_tiles(config, modes, layer)
    if share < 1:
        # A memory holds the same share of a layer's K as it would of the whole layer.
        most = [int(fetch.words.sum(axis=1).max()) for fetch in (layer.weights, layer.acts)]
        together = 2 if modes.dtp else 1
        config = dataclasses.replace(
            config,
            wmem_words=max(round(config.wmem_words * share), together * most[0] + 1)
            if not modes.stream_weights
            else config.wmem_words,
            amem_words=max(round(config.amem_words * share), 2 * int(layer.acts.words.max()))
            if not modes.resident
            else config.amem_words,
        )
    marks = Marks(config.peas)
    total, ppu_stall = Walk(config, modes, layer, marks).run()
    works = np.flatnonzero(marks.busy().any(axis=0))
    breakdown = counters(config, modes, works, total, ppu_stall).breakdown
    return np.array([*breakdown.values(), *traffic(config, modes, layer).values()])


def _check_tiles(config: PanaceaConfig, modes: Modes, layer: Layer) -> None:
    """Refuse memories that do not hold a tile."""
    needed = [("wmem_words", int(layer.weights.words.max())), ("amem_words", int(layer.acts.words.max()))]
    if modes.next_slices:
        # Two buffers for a record's dense words, two for its other words, in one half of OMEM.
        needed.append(("omem_words", 8 * record_words(config, modes)))
    for name, words in needed:
        if getattr(config, name) < words:
            raise ParameterError(name, getattr(config, name), f"at least {words} for a tile of this layer")


def _extrapolate(
    found: dict[tuple[int, int, int], Ints], axes: Sequence[tuple[int, ...]], whole: tuple[int, ...]
) -> Ints:
    """Return the figures at ``whole``, linear along every axis that was sampled twice."""
    total = np.zeros(5 + len(MOVED))
    for corner, figures in found.items():
        weight = 1.0
        for at, axis, end in zip(corner, axes, whole, strict=True):
            if len(axis) == 2:
                other = axis[0] if at == axis[1] else axis[1]
                weight *= (end - other) / (at - other)
        total += weight * figures
    return np.maximum(np.rint(total), 0).astype(np.int64)


def _as_cycles(config: PanaceaConfig, modes: Modes, figures: Ints) -> Cycles:
    load, compute, stalled, drain, ppu_stall, *moved = (int(value) for value in figures)
    compute = max(compute, 1)
    first = np.arange(load - 1, load - 1 + compute)
    total = load + compute + stalled + drain
    # The idle cycles between are as good as any others before the drain.
    first[-1] += stalled
    return counters(config, modes, first, total, ppu_stall, dict(zip(MOVED, moved, strict=True)))
