"""DTQAtten's token selection and stall ratio: the paper's example, ties, counts, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest

from bitfabric.quant.dtqatten import counts, importance, next_order, select_tokens, select_top, stall_ratio
from bitfabric.quant.errors import ParameterError


def test_importance_sums_columns_over_queries_and_heads() -> None:
    prob = np.array([[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], [[0.25, 0.5, 0.25], [0.5, 0.0, 0.5]]])
    assert importance(prob).tolist() == [1.25, 1.75, 1.0]
    assert importance(prob[0]).tolist() == [0.5, 1.25, 0.25]
    exact = importance(np.full((12, 1024, 7), 65535, np.uint16))
    assert exact.dtype == np.int64
    assert exact.tolist() == [12 * 1024 * 65535] * 7


@pytest.mark.parametrize("share", range(0, 101, 5))
def test_counts_are_exact_at_steps_of_5_percent(share: int) -> None:
    for tokens in (1, 2, 7, 9, 20, 60, 128, 384, 1000, 1024):
        exact = -(-share * tokens // 100)
        assert counts(tokens, share / 100, share / 100) == (max(1, exact), exact)
        # However the share was put together.
        assert counts(tokens, 1 - (100 - share) / 100, 0.0) == (max(1, exact), 0)
        assert counts(tokens, float(Fraction(share, 100)), 1.0)[1] == max(1, exact)


def test_counts_never_rise() -> None:
    assert counts(100, 0.5, 0.5, left=20) == (20, 20)
    assert counts(100, 0.1, 0.05, left=20) == (10, 5)
    assert counts(100, 0.0, 0.0, left=20) == (1, 0)
    assert counts(100, 0.3, 0.9) == (30, 30)


def test_selection_by_hand() -> None:
    scores = [5.0, 1.0, 9.0, 3.0, 7.0, 2.0]
    assert select_tokens(scores, 0.5, 1 / 6).tolist() == [4, 0, 8, 0, 4, 0]
    assert select_tokens(scores, 1.0, 0.0).tolist() == [4] * 6
    assert select_tokens(scores, 1.0, 1.0).tolist() == [8] * 6
    assert select_tokens(scores, 0.0, 0.0).tolist() == [0, 0, 4, 0, 0, 0]
    # What was pruned stays so, however important; the count is of the original 6.
    assert select_tokens(scores, 0.5, 1 / 6, previous=[8, 4, 0, 4, 4, 0]).tolist() == [4, 0, 0, 4, 8, 0]
    assert select_tokens(scores, 1.0, 0.5, previous=[0, 4, 0, 0, 8, 0]).tolist() == [0, 8, 0, 0, 8, 0]
    # Three of ten are at hand.
    assert select_tokens([1, 2, 3], 0.2, 0.1, ids=[9, 4, 6], tokens=10).tolist() == [0, 4, 8]


def test_ties_go_to_the_lower_id() -> None:
    assert select_top([7] * 5, 3, 1).tolist() == [8, 4, 4, 0, 0]
    assert select_top([7] * 5, 3, 1, ids=[4, 2, 8, 0, 6]).tolist() == [4, 4, 0, 8, 0]
    assert select_top([7, 8, 7], 2, 2, ids=[5, 9, 1]).tolist() == [0, 8, 8]


@pytest.mark.parametrize("seed", range(20))
def test_selection_is_a_sort(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 60))
    values = rng.integers(0, rng.choice([3, 10, 2**32]), size)
    ids = rng.permutation(200)[:size]
    previous = rng.choice([0, 4, 8], size)
    previous[rng.integers(size)] = 8
    left = int((previous > 0).sum())
    k0 = int(rng.integers(1, left + 1))
    k1 = int(rng.integers(0, k0 + 1))
    ranked = sorted((i for i in range(size) if previous[i]), key=lambda i: (-int(values[i]), int(ids[i])))
    expected = [0] * size
    for rank, token in enumerate(ranked[:k0]):
        expected[token] = 8 if rank < k1 else 4
    assert select_top(values, k0, k1, previous=previous, ids=ids).tolist() == expected
    # By id, the order in which they are held does not matter.
    shuffled = rng.permutation(size)
    again = select_top(values[shuffled], k0, k1, previous=previous[shuffled], ids=ids[shuffled])
    assert again.tolist() == [expected[i] for i in shuffled]


def test_importance_beyond_float_precision() -> None:
    assert select_top([2**60, 2**60 + 1], 1, 0).tolist() == [0, 4]


def test_the_next_order() -> None:
    bits = [8, 0, 4, 8, 4, 0, 4]
    assert next_order(bits).tolist() == [2, 4, 6, 0, 3]
    assert next_order(bits, reorder=False).tolist() == [0, 2, 3, 4, 6]
    assert next_order([8, 8]).tolist() == [0, 1]


def test_the_paper_s_example_of_stalls() -> None:
    for places in ([1, 5], [0, 8], [3, 6]):
        bits = np.full(9, 4)
        bits[places] = 8
        ratios = stall_ratio(bits, bits, 3, 3)
        assert ratios.shape == (3, 3)
        assert ratios.mean() == pytest.approx(0.395, abs=5e-4)
        assert sorted(ratios.ravel().tolist()) == pytest.approx([0.0] + [1 / 3] * 4 + [5 / 9] * 4)
    # Reordered, Fig. 5(c): the two share a tile, and four tiles do not stall.
    ratios = stall_ratio(np.sort(bits), np.sort(bits), 3, 3)
    assert (ratios[:2, :2] == 0).all()
    assert ratios[:2, 2].tolist() == ratios[2, :2].tolist() == pytest.approx([1 / 6] * 2)
    # Products of 4, 2 and 1 cycles: 4*4 + 4*2 + 1 of 36.
    assert ratios[2, 2] == pytest.approx(1 - 25 / 36)


@pytest.mark.parametrize("seed", range(10))
def test_stalls_pe_by_pe(seed: int) -> None:
    rng = np.random.default_rng(seed)
    m, n, rows, columns = (int(x) for x in rng.integers(1, [30, 30, 8, 8]))
    q, k = rng.choice([4, 8], m), rng.choice([4, 8], n)
    cycles = {(4, 4): 1, (4, 8): 2, (8, 4): 2, (8, 8): 4}
    found = stall_ratio(q, k, rows, columns)
    for r, c in np.ndindex(found.shape):
        tile = [
            cycles[int(x), int(y)]
            for x in q[r * rows : (r + 1) * rows]
            for y in k[c * columns : (c + 1) * columns]
        ]
        stalled = sum(max(tile) - one for one in tile)
        assert found[r, c] == pytest.approx(stalled / (len(tile) * max(tile)))
    assert found.shape == (-(-m // rows), -(-n // columns))


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: importance([1.0, 2.0]), "prob"),
        (lambda: importance([[-0.1]]), "prob"),
        (lambda: importance([[np.nan]]), "prob"),
        (lambda: importance([["a"]]), "prob"),
        (lambda: counts(0, 1.0, 1.0), "tokens"),
        (lambda: counts(10, 1.1, 0.1), "keep"),
        (lambda: counts(10, float("nan"), 0.1), "keep"),
        (lambda: counts(10, "all", 0.1), "keep"),
        (lambda: counts(10, 0.5, -0.1), "high"),
        (lambda: counts(10, 0.5, 0.1, left=0), "left"),
        (lambda: counts(10, 0.5, 0.1, left=11), "left"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, previous=[0, 0]), "previous"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, previous=[8, 2]), "previous"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, previous=[8]), "previous"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, ids=[0, 1]), "tokens"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, ids=[0, 4], tokens=4), "ids"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, ids=[3, 3], tokens=4), "ids"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, ids=[-1, 3], tokens=4), "ids"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, ids=[1], tokens=4), "ids"),
        (lambda: select_tokens([1, 2], 0.5, 0.5, tokens=1), "ids"),
        (lambda: select_tokens([], 0.5, 0.5), "importance"),
        (lambda: select_tokens([1.0, -1.0], 0.5, 0.5), "importance"),
        (lambda: select_top([1, 2, 3], 0, 0), "k0"),
        (lambda: select_top([1, 2, 3], 4, 0), "k0"),
        (lambda: select_top([1, 2, 3], 3, 0, previous=[8, 0, 8]), "k0"),
        (lambda: select_top([1, 2, 3], 1, 2), "k1"),
        (lambda: select_top([1, 2, 3], 2, -1), "k1"),
        (lambda: select_top([2**62], 1, 0), "importance"),
        (lambda: next_order([0, 0]), "bits"),
        (lambda: next_order([0, 6]), "bits"),
        (lambda: stall_ratio([4, 0], [4], 3, 3), "row_bits"),
        (lambda: stall_ratio([4], [], 3, 3), "column_bits"),
        (lambda: stall_ratio([4], [5], 3, 3), "column_bits"),
        (lambda: stall_ratio([4], [4], 0, 3), "rows"),
        (lambda: stall_ratio([4], [4], 3, 0), "columns"),
    ],
)
def test_refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        call()
    assert refused.value.name == name
