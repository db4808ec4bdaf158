"""Run-length indices: against a one-vector-at-a-time encoder, exhaustive where the space is small."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.rle import RleCode, count_stored, decode, encode

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=150, database=None)


def stream_encode(keep: list[bool], index_bits: int) -> list[tuple[int, int, bool]]:
    """Encode as a state machine sees it: one counter, forced vectors held back until one is kept."""
    stored: list[tuple[int, int, bool]] = []
    pending: list[tuple[int, int, bool]] = []
    skipped = 0
    for position, kept in enumerate(keep):
        if kept:
            stored += [*pending, (skipped, position, False)]
            pending, skipped = [], 0
        elif skipped == 2**index_bits - 1:
            pending.append((skipped, position, True))
            skipped = 0
        else:
            skipped += 1
    return stored


def rows_of(code: RleCode) -> list[tuple[int, int, bool]]:
    return list(zip(code.indices.tolist(), code.positions.tolist(), code.forced.tolist(), strict=True))


@pytest.mark.parametrize("index_bits", [1, 2, 3])
def test_every_short_sub_tile(index_bits: int) -> None:
    for length in range(11):
        for keep in product([False, True], repeat=length):
            code = encode(np.array(keep, bool), index_bits)
            assert rows_of(code) == stream_encode(list(keep), index_bits)


@DETERMINISTIC
@given(
    hnp.arrays(bool, hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=90)),
    st.integers(1, 16),
    st.one_of(st.none(), st.integers(1, 40)),
    st.floats(0, 1),
)
def test_rows_and_sub_tiles(keep: np.ndarray, index_bits: int, sub_tile: int | None, density: float) -> None:
    # Hypothesis draws mostly equal elements; thin them out, so that there are runs of all lengths.
    keep = keep ^ (np.random.default_rng(keep.size).random(keep.shape) < density)
    code = encode(keep, index_bits, sub_tile)
    length = keep.shape[-1]
    expected, counts = [], []
    for row, vectors in enumerate(keep.reshape(-1, length) if keep.size else []):
        for start in range(0, length, sub_tile or length):
            part = stream_encode(vectors[start : start + (sub_tile or length)].tolist(), index_bits)
            expected += [(i, row * length + start + p, f) for i, p, f in part]
            counts.append(len(part))
    assert rows_of(code) == expected
    stored_of = count_stored(code.positions, keep.shape, sub_tile)
    assert stored_of.sum() == len(expected)
    if keep.size:
        assert stored_of.reshape(-1).tolist() == counts
    arguments = {"counts": stored_of, "index_bits": index_bits, "sub_tile": sub_tile}
    assert np.array_equal(decode(code.indices, keep.shape, skippable=code.forced, **arguments), keep)
    stored = decode(code.indices, keep.shape, **arguments)
    assert np.flatnonzero(stored).tolist() == code.positions.tolist()


@pytest.mark.parametrize(
    ("run", "expected"),
    [
        (0, [(0, 0, False)]),
        (15, [(15, 15, False)]),
        (16, [(15, 15, True), (0, 16, False)]),
        (17, [(15, 15, True), (1, 17, False)]),
        (31, [(15, 15, True), (15, 31, False)]),
        (32, [(15, 15, True), (15, 31, True), (0, 32, False)]),
    ],
)
def test_runs_about_the_length_of_an_index(run: int, expected: list[tuple[int, int, bool]]) -> None:
    keep = np.zeros(run + 1, bool)
    keep[-1] = True
    assert rows_of(encode(keep)) == expected
    # The same run, once more behind it, ends the sub-tile and stores nothing.
    assert rows_of(encode(np.concatenate([keep, np.zeros(run, bool)]))) == expected


def test_nothing_kept_stores_nothing() -> None:
    code = encode(np.zeros((3, 100), bool), sub_tile=32)
    assert code.indices.size == code.positions.size == code.forced.size == 0
    counts = count_stored(code.positions, (3, 100), 32)
    assert counts.tolist() == [[0] * 4] * 3
    assert not decode([], (3, 100), counts=counts, sub_tile=32).any()


def test_the_index_restarts_at_a_sub_tile() -> None:
    keep = np.zeros(64, bool)
    keep[[10, 40]] = True
    assert rows_of(encode(keep, sub_tile=32)) == [(10, 10, False), (8, 40, False)]
    assert rows_of(encode(keep)) == [(10, 10, False), (15, 26, True), (13, 40, False)]
    indices, positions, forced = encode(keep)
    assert (indices.dtype, positions.dtype, forced.dtype) == (np.uint16, np.int64, np.bool_)
    assert count_stored(positions, (64,)).tolist() == [3]
    assert count_stored([], (2, 64), 48).tolist() == [[0, 0], [0, 0]]


REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: encode([0, 1]), "keep='int64' is not allowed; it must be an array of bool"),
    (lambda: encode(True), "keep=() is not allowed; it must be of at least one axis"),
    (lambda: encode([True], 0), "index_bits=0 is not allowed; it must be an integer in [1, 16]"),
    (lambda: encode([True], 17), "index_bits=17 is not allowed; it must be an integer in [1, 16]"),
    (
        lambda: encode([True], sub_tile=0),
        "sub_tile=0 is not allowed; it must be an integer of at least 1",
    ),
    (lambda: count_stored([8], (2, 4)), "positions=8 is not allowed; it must be in [0, 7]"),
    (
        lambda: count_stored([0.5], (2, 4)),
        "positions='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (lambda: count_stored([0], ()), "shape=() is not allowed; it must be of at least one axis"),
    (lambda: decode([16], 99), "indices=(16, 16) is not allowed; it must be in [0, 15]"),
    (lambda: decode([-1], 99), "indices=(-1, -1) is not allowed; it must be in [0, 15]"),
    (lambda: decode([2], 99, index_bits=1), "indices=(2, 2) is not allowed; it must be in [0, 1]"),
    (
        lambda: decode([0.5], 99),
        "indices=((1,), 'float64') is not allowed; it must be one axis of integers",
    ),
    (
        lambda: decode([[1]], 99),
        "indices=((1, 1), 'int64') is not allowed; it must be one axis of integers",
    ),
    (
        lambda: decode([3, 6], 10),
        "indices=[3, 6] is not allowed; it must be indices that stay inside their sub-tile",
    ),
    (
        lambda: decode([2], (1, 4), counts=[0, 1], sub_tile=2),
        "indices=[2] is not allowed; it must be indices that stay inside their sub-tile",
    ),
    (
        # The last sub-tile of the first row has one position only.
        lambda: decode([1], (2, 5), counts=[0, 1, 0, 0], sub_tile=4),
        "indices=[1] is not allowed; it must be indices that stay inside their sub-tile",
    ),
    (lambda: decode([], -1), "length=-1 is not allowed; it must be an integer of at least 0"),
    (
        lambda: decode([1, 1], (2, 4)),
        "counts=[2] is not allowed; it must be 2 sub-tile counts with the sum 2",
    ),
    (
        lambda: decode([1, 1], (2, 4), counts=[1, 2]),
        "counts=[1, 2] is not allowed; it must be 2 sub-tile counts with the sum 2",
    ),
    (
        lambda: decode([1], (2, 4), counts=[2, -1]),
        "counts=[2, -1] is not allowed; it must be 2 sub-tile counts with the sum 1",
    ),
    (
        lambda: decode([1, 1], 8, skippable=[True]),
        "skippable=((1,), 'bool') is not allowed; it must be 2 bools",
    ),
    (
        lambda: decode([1], 8, skippable=[1]),
        "skippable=((1,), 'int64') is not allowed; it must be 1 bools",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
