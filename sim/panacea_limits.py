"""What a Panacea machine can compute and hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bitfabric.hdl.panacea.config import DIMENSION_BITS, PanaceaConfig
from bitfabric.quant.arrays import check_integers
from bitfabric.quant.errors import ParameterError, check_range
from bitfabric.quant.pwl import PwlFormat
from bitfabric.quant.requant import ACC_MAX, ACC_MIN, MAX_MULTIPLIER, MAX_SHIFT
from bitfabric.sim.panacea_records import case_tiles, dense_count

if TYPE_CHECKING:  # a case checks itself with this module
    from bitfabric.sim.panacea_case import PanaceaCase


def check_dimensions(config: PanaceaConfig, m: int, k: int, n: int) -> None:
    """Refuse dimensions, M tokens and N output channels, that the machine's registers cannot hold.

    Raises
    ------
    ParameterError
        Naming M, K or N.
    """
    high = (1 << DIMENSION_BITS) - 1
    check_range("M", m, 1, high)
    check_range("K", k, 1, config.k_max)
    check_range("N", n, 1, high)


def check_sequence(cases: Sequence[PanaceaCase]) -> None:
    """Refuse a case that takes kept outputs where none before it keeps any.

    Raises
    ------
    ParameterError
        If there is one.
    """
    kept = False
    for case in cases:
        if case.from_omem and not kept:
            raise ParameterError("from_omem", True, "false: no case before this one keeps its outputs")
        kept = kept or case.keep


def check_case(config: PanaceaConfig, case: PanaceaCase) -> None:
    """Refuse a case that a machine cannot compute.

    Raises
    ------
    ParameterError
        If a dimension, an operand, a mode or a memory does not allow it.
    """
    check_dimensions(config, case.m, case.k, case.n)
    config.check_layer(case.n, case.k, case.m, case.slicing)
    check_integers("acts", case.acts, 0, 2**case.act_bits - 1)
    bound = 2 ** (case.weight_bits - 1)
    check_integers("weights", case.weights, -bound, bound - 1)
    check_integers("bias", case.biases, ACC_MIN, ACC_MAX)
    case.folded_bias()
    if case.dtp and not config.dtp:
        raise ParameterError("dtp", True, "false: this configuration has no double-tile processing")
    if case.table is not None:
        if case.next_bits > config.max_act_bits:
            allowed = f"at most {config.max_act_bits} in this configuration"
            raise ParameterError("next_bits", case.next_bits, allowed)
        for name, most in (("multiplier", MAX_MULTIPLIER), ("shift", MAX_SHIFT)):
            check_integers(name, getattr(case, name), 1, most)
        form = {name: getattr(case.table, name) for name in PwlFormat.__dataclass_fields__}
        if PwlFormat(**form) != config.pwl:
            raise ParameterError("table", form, f"of the form {dataclasses.asdict(config.pwl)}")
    _check_memories(config, case)


def fits(config: PanaceaConfig, case: PanaceaCase) -> bool:
    """Return whether a machine can compute a case."""
    try:
        check_case(config, case)
    except ParameterError:
        return False
    return True


def _check_memories(config: PanaceaConfig, case: PanaceaCase) -> None:
    weights, acts, outputs = case_tiles(config, case)
    if case.stream_weights:
        _fit(
            config,
            "wmem_words",
            max(len(record) for row in weights for record in row),
            "for a tile of weights",
        )
    else:
        tiles = [sum(map(len, row)) for row in weights]
        together = 2 if case.dtp else 1
        needed = max(sum(tiles[first : first + together]) for first in range(0, len(tiles), together))
        why = f"for the weights of {together * config.m_step} output channels, unless `stream_weights` is set"
        _fit(config, "wmem_words", needed, why)
    sizes = [len(record) for row in acts for record in row]
    if case.resident:
        _fit(config, "amem_words", sum(sizes), "for all activations: `resident` is set")
    else:
        _fit(config, "amem_words", max(sizes), "for a tile of activations")
    if not case.codes:
        return
    dense, high = [], []
    slices = max(case.next_slicing.act_slices - 1, 1)
    for n_tile, row in enumerate(outputs):
        tokens = min(case.m - n_tile * config.tile_n, config.tile_n)
        for k_tile, record in enumerate(row):
            k_valid = min(case.n - k_tile * config.tile_k, config.tile_k)
            dense.append(dense_count(config, tokens, k_valid, slices))
            high.append(len(record) - dense[-1])
    # A half has two memories of a quarter each; what is not kept has two buffers in a half.
    if case.keep:
        _fit(config, "omem_words", 4 * max(sum(dense), sum(high)), "to keep the outputs")
        _fit(config, "omem_records", len(dense), "to keep the outputs")
    else:
        _fit(config, "omem_words", 8 * max(*dense, *high), "for two tiles of outputs")


def _fit(config: PanaceaConfig, name: str, needed: int, why: str) -> None:
    there = getattr(config, name)
    if needed > there:
        raise ParameterError(name, there, f"at least {needed} {why}")
