"""What the cycle model of Panacea needs of a layer: how its tiles are cut, stored and multiplied."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.quant import rle
from bitfabric.quant.panacea import Slicing
from bitfabric.quant.slicing import unsigned_slices
from bitfabric.sim.panacea_case import PanaceaCase

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def pieces(total: int, step: int) -> list[int]:
    """Return the sizes of the steps that cover ``total``."""
    return [min(step, total - start) for start in range(0, total, step)]


@dataclass(frozen=True, kw_only=True)
class Modes:
    """Hold what the machine is told of a layer; M are tokens, N output channels.

    Members
    -------
    m, k, n : int
        Dimensions.
    slicing : Slicing
        Of the operands.
    dtp, resident, stream_weights, from_omem, keep : bool
        As in ``PanaceaCase``.
    next_slices : int
        The outputs' slices; 0 if they are accumulators.
    kept : bool array, (channels, token groups), or None
        Which HO vectors of the outputs are stored; None without.
    """

    m: int
    k: int
    n: int
    slicing: Slicing
    dtp: bool = False
    resident: bool = False
    stream_weights: bool = False
    from_omem: bool = False
    keep: bool = False
    next_slices: int = 0
    kept: Bools | None = None

    @classmethod
    def of(cls, case: PanaceaCase) -> Modes:
        """Return a case's modes."""
        return cls(
            m=case.m,
            k=case.k,
            n=case.n,
            slicing=case.slicing,
            dtp=case.dtp,
            resident=case.resident,
            stream_weights=case.stream_weights,
            from_omem=case.from_omem,
            keep=case.keep,
            next_slices=case.next_slicing.act_slices if case.codes else 0,
            kept=kept_vectors(case),
        )


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Hold what fetching an operand's tiles takes.

    Members
    -------
    cycles : int array, (tiles along the groups, K tiles, groups of a tile)
        Of each group of a tile, without waiting; 0 where there is none.
    words : int array, (tiles along the groups, K tiles)
        Of the whole tile.
    """

    cycles: Ints
    words: Ints


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Hold a layer as the machine sees it; M are output channels here, N tokens.

    Members
    -------
    weights, acts : Fetch
        By weight tile, by N tile.
    rows : list of int
        Output channels of each weight tile.
    columns, depths : list of int
        Tokens of each N tile; K positions of each K tile.
    dynamic : int array, (K tiles, groups of output channels, groups of tokens)
        Products with an HO slice of each pair of sub-tiles.
    parts : int
        Pairs of dense slices.
    """

    weights: Fetch
    acts: Fetch
    rows: list[int]
    columns: list[int]
    depths: list[int]
    dynamic: Ints
    parts: int

    @classmethod
    def of(cls, config: PanaceaConfig, modes: Modes, weight_keep: Bools, act_keep: Bools) -> Layer:
        """Return the layer of HO vectors kept as said: (channel groups, K) and (token groups, K).

        Of an operand with one slice nothing is kept or skipped, whatever the pattern.
        """
        slicing = modes.slicing
        weight_keep = weight_keep & (slicing.weight_slices > 1)
        act_keep = act_keep & (slicing.act_slices > 1)
        depths = pieces(modes.k, config.tile_k)
        dense = [max(slices - 1, 1) for slices in (slicing.weight_slices, slicing.act_slices)]
        padding = ((0, 0), (0, -modes.k % config.tile_k))
        masks = [
            np.pad(keep, padding).reshape(len(keep), len(depths), config.tile_k).astype(np.float32)
            for keep in (weight_keep, act_keep)
        ]
        # Batched matrix products: K tiles first.
        both = masks[0].transpose(1, 0, 2) @ masks[1].transpose(1, 2, 0)
        own = [mask.sum(axis=2).T for mask in masks]
        dynamic = both + dense[1] * own[0][:, :, None] + dense[0] * own[1][:, None, :]
        return cls(
            weights=_fetch(config, weight_keep, dense[0], config.peas, depths),
            acts=_fetch(config, act_keep, dense[1], config.groups, depths),
            rows=pieces(modes.n, config.m_step),
            columns=pieces(modes.m, config.tile_n),
            depths=depths,
            dynamic=np.rint(dynamic).astype(np.int64),
            parts=dense[0] * dense[1],
        )


def _fetch(config: PanaceaConfig, keep: Bools, dense: int, size: int, depths: list[int]) -> Fetch:
    """Return the cycles and words of an operand's tiles; see ``hdl.panacea.fetcher``."""
    groups = len(keep)
    stored = rle.count_stored(rle.encode(keep, sub_tile=config.tile_k).positions, keep.shape, config.tile_k)
    tiles = -(-groups // size)

    def by_tile(values: Ints) -> Ints:
        padded = np.zeros((tiles * size, len(depths)), np.int64)
        padded[:groups] = values
        return padded.reshape(tiles, size, len(depths)).transpose(0, 2, 1)

    present, quads = by_tile(np.ones_like(stored)), by_tile(-(-stored // config.quad))
    after = np.cumsum(quads, axis=2)
    read = -(-after // config.quads)
    fetched = np.diff(read, axis=2, prepend=0)
    chunks = np.array([-(-depth // config.lanes) for depth in depths]) * dense
    cycles = chunks[None, :, None] + fetched
    words = 1 + present.sum(axis=2) * chunks[None, :] + read[:, :, -1]
    return Fetch(cycles=cycles * present, words=words)


def output_words(config: PanaceaConfig, modes: Modes) -> int:
    """Return the words of a layer's outputs: records, or accumulators in blocks of v x v."""
    depths = pieces(modes.n, config.tile_k)
    if not modes.next_slices:
        beats = 32 * VECTOR * VECTOR // config.axis_data_bits
        return sum(groups_of(depth) for depth in depths) * groups_of(modes.m) * beats
    kept = np.zeros((modes.n, groups_of(modes.m)), np.bool_) if modes.kept is None else modes.kept
    dense = max(modes.next_slices - 1, 1)
    return int(_fetch(config, kept.T, dense, config.groups, depths).words.sum())


def record_words(config: PanaceaConfig, modes: Modes) -> int:
    """Return the words of the largest output record in the memory, dense or HO, of which it needs more."""
    kept = np.zeros((modes.n, groups_of(modes.m)), np.bool_) if modes.kept is None else modes.kept
    depths, dense = pieces(modes.n, config.tile_k), max(modes.next_slices - 1, 1)
    words = _fetch(config, kept.T, dense, config.groups, depths).words
    groups = groups_of(min(modes.m, config.tile_n))
    in_dense = groups * dense * -(-min(modes.n, config.tile_k) // config.lanes)
    return max(in_dense, int(words.max()) - in_dense)


def groups_of(size: int) -> int:
    """Return the groups of v that hold ``size``."""
    return -(-size // VECTOR)


def kept_vectors(case: PanaceaCase) -> Bools | None:
    """Return which HO vectors of the outputs are stored, (channels, token groups); None without slices."""
    if not case.codes:
        return None
    slicing = case.next_slicing
    if slicing.act_slices == 1:
        return np.zeros((case.n, groups_of(case.m)), np.bool_)
    high = unsigned_slices(case.outputs, case.next_bits, case.next_low_bits)[-1]
    differs = high != slicing.skipped(case.next_zero_point)
    padded = np.pad(differs, ((0, 0), (0, -case.m % VECTOR)))
    return np.asarray(padded.reshape(case.n, -1, VECTOR).any(axis=2))
