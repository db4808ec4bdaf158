"""Storage of HO slices: against a vector-at-a-time encoder, and damaged streams."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import (
    act_keep,
    aqs_gemm,
    compress_acts,
    compress_weights,
    decompress,
    storage,
    weight_keep,
)

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def stream(vectors: list[list[int]], skipped: int, limit: int) -> list[tuple[int, list[int], bool]]:
    """Encode one sub-tile: (index, vector, forced); a run that ends it is never written."""
    stored: list[tuple[int, list[int], bool]] = []
    pending: list[tuple[int, list[int], bool]] = []
    run = 0
    for vector in vectors:
        if any(value != skipped for value in vector):
            stored += [*pending, (run, vector, False)]
            pending, run = [], 0
        elif run == limit:
            pending.append((limit, vector, True))
            run = 0
        else:
            run += 1
    return stored


@DETERMINISTIC
@given(
    st.integers(0, 2**32 - 1),
    st.booleans(),
    st.sampled_from([1, 2, 4, 8]),
    st.integers(1, 70),
    st.integers(1, 5),
    st.tuples(st.integers(0, 20), st.integers(0, 130)),
    st.sampled_from([0.0, 0.02, 0.3, 1.0]),
)
def test_round_trips(
    seed: int, acts: bool, v: int, sub_tile: int, index_bits: int, size: tuple[int, int], density: float
) -> None:
    rng = np.random.default_rng(seed)
    low, high = (0, 15) if acts else (-8, 7)
    skipped = int(rng.integers(0, 16)) if acts else 0
    # Rows are output channels or tokens, in groups of v; columns are K.
    rows = np.where(rng.random(size) < density, rng.integers(low, high, size, endpoint=True), skipped)
    layout = {"vector": v, "sub_tile": sub_tile, "index_bits": index_bits}
    packed = compress_acts(rows.T, skipped, **layout) if acts else compress_weights(rows, **layout)
    expected: list[tuple[int, list[int], bool]] = []
    for first in range(0, size[0], v):
        group = np.full((v, size[1]), skipped)
        part = rows[first : first + v]
        group[: len(part)] = part
        columns = group.T.tolist()
        tiles = [
            stream(columns[start : start + sub_tile], skipped, 2**index_bits - 1)
            for start in range(0, max(size[1], 1), sub_tile)
        ]
        assert packed.counts[first // v].tolist() == [len(tile) for tile in tiles]
        expected += [entry for tile in tiles for entry in tile]
    assert packed.indices.tolist() == [index for index, _, _ in expected]
    assert packed.vectors.tolist() == [vector for _, vector, _ in expected]
    opened, keep = decompress(packed)
    keep_of = act_keep(rows.T, skipped, v) if acts else weight_keep(rows, v)
    assert np.array_equal(opened, rows.T if acts else rows)
    assert np.array_equal(keep, keep_of)
    counted = storage(keep_of.T if acts else keep_of, 2, v, sub_tile, index_bits)
    forced = sum(flag for _, _, flag in expected)
    assert (counted.dense, counted.kept, counted.forced) == (keep.size, len(expected) - forced, forced)
    assert counted.kept == keep.sum()
    assert counted.words == v * (keep.size + len(expected))
    assert counted.bits == 4 * counted.words + index_bits * len(expected)


def test_forced_vectors_are_stored_but_never_multiplied() -> None:
    # Position 0 and 20 kept: the 16th of the 19 vectors between them is stored, and nothing behind 20.
    w, x = np.zeros((4, 64), int), np.full((64, 4), 0x7A)
    w[0, [0, 20]] = 60
    x[[0, 20], 0] = 0
    result = aqs_gemm(w, x, 0x7A)
    assert result.part_outer_products.tolist() == [[64, 2], [2, 2]]
    for counted in (result.weight_storage(64), result.act_storage(64)):
        assert (counted.dense, counted.kept, counted.forced) == (64, 2, 1)
        assert counted.vectors == 67
    # With sub-tiles of 16 no run outgrows its index.
    assert result.weight_storage(16).forced == result.act_storage(16).forced == 0
    packed = compress_acts(x >> 4, 7, sub_tile=64)
    assert packed.indices.tolist() == [0, 15, 3]
    assert packed.vectors.tolist() == [[0, 7, 7, 7], [7] * 4, [0, 7, 7, 7]]
    assert decompress(packed)[1].sum() == 2


def test_operands_of_one_slice_have_no_indices() -> None:
    result = aqs_gemm(np.zeros((5, 40), int), np.zeros((40, 3), int), 0, weight_bits=4, act_bits=4)
    assert result.weight_storage() == (80, 0, 0, 4, 4)
    assert result.act_storage() == (40, 0, 0, 4, 4)
    assert result.weight_storage().bits == 80 * 16
    three = aqs_gemm(np.zeros((5, 40), int), np.zeros((40, 3), int), 0, weight_bits=10, act_bits=12)
    assert (three.weight_storage().dense, three.act_storage().dense) == (160, 80)


def test_any_skipped_value_that_is_stored_is_dropped() -> None:
    # An encoder that forced earlier than it had to is understood all the same.
    packed = compress_acts(np.array([[1], [2], [1]]), 1)
    early = replace(
        packed,
        vectors=np.array([[1] * 4, [2, 1, 1, 1]], np.uint8),
        indices=np.array([0, 0], np.uint16),
        counts=np.array([[2]]),
    )
    assert np.array_equal(decompress(early)[0], decompress(packed)[0])
    assert np.array_equal(decompress(early)[1], decompress(packed)[1])


W = np.array([[0, 0, 3, 0, 1]])
PACKED = compress_weights(W, sub_tile=4)
REFUSALS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: decompress(replace(PACKED, indices=PACKED.indices[:1])),
        "vectors=2 is not allowed; it must be 1, one for each index",
    ),
    (
        lambda: decompress(replace(PACKED, indices=PACKED.indices[:1], vectors=PACKED.vectors[:1])),
        "counts=[1, 1] is not allowed; it must be 2 sub-tile counts with the sum 1",
    ),
    (
        lambda: decompress(replace(PACKED, counts=np.array([[2, 0]]), indices=np.array([2, 1]))),
        "indices=[2, 1] is not allowed; it must be indices that stay inside their sub-tile",
    ),
    (
        lambda: decompress(replace(PACKED, indices=np.array([16, 0]))),
        "indices=(0, 16) is not allowed; it must be in [0, 15]",
    ),
    (
        lambda: decompress(replace(PACKED, vectors=PACKED.vectors + 8)),
        "vectors=11 is not allowed; it must be in [-8, 7]",
    ),
    (
        lambda: decompress(replace(PACKED, vectors=PACKED.vectors[:, :3])),
        "vector=3 is not allowed; it must be one of 1, 2, 4, 8",
    ),
    (lambda: compress_weights(W + 5), "high=8 is not allowed; it must be in [-8, 7]"),
    (lambda: compress_acts(W - 1, 0), "high=-1 is not allowed; it must be in [0, 15]"),
    (lambda: compress_acts(W, 16), "skipped=16 is not allowed; it must be an integer in [0, 15]"),
    (lambda: compress_weights(W[0]), "high=(5,) is not allowed; it must be a matrix"),
    (lambda: compress_weights(W, 5), "vector=5 is not allowed; it must be one of 1, 2, 4, 8"),
    (
        lambda: compress_weights(W, sub_tile=0),
        "sub_tile=0 is not allowed; it must be an integer of at least 1",
    ),
    (
        lambda: compress_weights(W, index_bits=0),
        "index_bits=0 is not allowed; it must be an integer in [1, 16]",
    ),
    (lambda: storage(W == 0, 0), "slices=0 is not allowed; it must be an integer of at least 1"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
