"""AQS-GEMM: against int64 products, and against the paper's definition one vector at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import AqsResult, Slicing, aqs_gemm, fold_bias

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=200, database=None)

# weight_bits, act_bits, low_bits: everything the machine has a mode for.
MODES = [
    (weight_bits, act_bits, low_bits)
    for weight_bits in (4, 7, 10)
    for act_bits, low_bits in ((4, 4), (8, 4), (8, 5), (8, 6), (12, 4))
]
VECTORS = (1, 2, 4, 8)


@dataclass
class Oracle:
    """What the loops below find."""

    parts: np.ndarray
    compensation: np.ndarray
    compensation_5: np.ndarray
    weight_keep: np.ndarray
    act_keep: np.ndarray
    products: np.ndarray
    multiplications: int = 0
    additions: int = 0
    words: int = 0
    eq5: list[int] = field(default_factory=lambda: [0, 0, 0])
    eq6: list[int] = field(default_factory=lambda: [0, 0, 0])


def cut_weight(value: int, bits: int) -> list[int]:
    """Cut by the paper's words: 3 bits and the sign, which the rest makes up for by adding 1."""
    slices = []
    for _ in range((bits - 4) // 3):
        sign = value < 0
        slices.append(value % 8 - (8 if sign else 0))
        value = value // 8 + (1 if sign else 0)
    return [*slices, value]


def cut_act(value: int, bits: int, low_bits: int) -> list[int]:
    if bits == 8:
        return [value % 2**low_bits // 2 ** (low_bits - 4), value // 2**low_bits]
    return [value // 16**j % 16 for j in range(bits // 4)]


def walk(w: np.ndarray, x: np.ndarray, zp: int, mode: tuple[int, int, int], v: int) -> Oracle:
    """Do every outer product by itself, with scalars, as Section III-B tells it."""
    weight_bits, act_bits, low_bits = mode
    (m, k), n = w.shape, x.shape[1]
    top_w, top_x = (weight_bits - 4) // 3, act_bits // 4 - 1
    high = {0: 0, 1: low_bits, 2: 8}[top_x]
    r = zp // 2**high
    rows, columns = range(0, m, v), range(0, n, v)
    # Absent rows are 0, absent columns have the skipped HO slice (and any LO slice: no one sees them).
    weight = [
        [cut_weight(int(w[row, at]), weight_bits) if row < m else [0] * (top_w + 1) for at in range(k)]
        for row in range(-(-m // v) * v)
    ]
    absent = [0] * top_x + [r]
    act = [
        [cut_act(int(x[at, column]), act_bits, low_bits) if column < n else absent for at in range(k)]
        for column in range(-(-n // v) * v)
    ]
    skip_w = {
        (a, at): top_w > 0 and all(weight[a + p][at][top_w] == 0 for p in range(v))
        for a in rows
        for at in range(k)
    }
    skip_x = {
        (b, at): top_x > 0 and all(act[b + q][at][top_x] == r for q in range(v))
        for b in columns
        for at in range(k)
    }
    size = (top_w + 1, top_x + 1)
    found = Oracle(
        np.zeros((*size, m, n), int),
        np.zeros((m, n), int),
        np.zeros((m, n), int),
        np.array([[not skip_w[a, at] for at in range(k)] for a in rows]),
        np.array([[not skip_x[b, at] for b in columns] for at in range(k)]),
        np.zeros(size, int),
    )
    found.words = v * sum(len(rows) * top_w + sum(not skip_w[a, at] for a in rows) for at in range(k))
    found.words += v * sum(len(columns) * top_x + sum(not skip_x[b, at] for b in columns) for at in range(k))
    for a, b in product(rows, columns):
        sums, sums_5 = [0] * v, [0] * v
        for at, i in product(range(k), range(top_w + 1)):
            if i == top_w and skip_w[a, at]:
                continue
            for j in range(top_x + 1):
                if j == top_x and top_x and skip_x[b, at]:
                    # Eq. (5) has to fetch this vector of weights, for the compensation alone.
                    found.eq5[1] += v
                    found.eq5[2] += v
                    for p in range(v):
                        sums_5[p] += 8**i * weight[a + p][at][i]
                    continue
                found.products[i, j] += 1
                found.multiplications += v * v
                found.additions += v * v
                for p, q in product(range(min(v, m - a)), range(min(v, n - b))):
                    found.parts[i, j, a + p, b + q] += weight[a + p][at][i] * act[b + q][at][j]
                if j == top_x and top_x:
                    found.eq6[1] += v
                    for p in range(v):
                        sums[p] += 8**i * weight[a + p][at][i]
        if top_x:
            found.eq5[0] += v * v
            found.eq6[0] += v * v
            for p, q in product(range(min(v, m - a)), range(min(v, n - b))):
                found.compensation[a + p, b + q] = r * 2**high * sums[p]
                found.compensation_5[a + p, b + q] = r * 2**high * sums_5[p]
    return found


def draw(
    rng: np.random.Generator, shape: tuple[int, int, int], mode: tuple[int, int, int], zp: int, spread: float
) -> tuple[np.ndarray, np.ndarray]:
    """Draw weights about 0 and activations about the zero point: the wider, the fewer are skipped."""
    m, k, n = shape
    weight_bits, act_bits, _ = mode
    half, top = 2 ** (weight_bits - 1), 2**act_bits - 1
    w = np.clip(np.rint(rng.normal(0, spread * half + 0.1, (m, k))), -half, half - 1).astype(np.int16)
    x = np.clip(np.rint(rng.normal(zp, spread * top + 0.1, (k, n))), 0, top).astype(np.uint16)
    return w, x


def truncated(x: np.ndarray, low_bits: int) -> np.ndarray:
    return x.astype(np.int64) >> (low_bits - 4) << (low_bits - 4)


def weighted(result: AqsResult) -> np.ndarray:
    return np.asarray((result.part_weights[:, :, None, None] * result.parts).sum(axis=(0, 1)))


def check_identities(result: AqsResult, w: np.ndarray, x: np.ndarray, low_bits: int) -> None:
    exact = w.astype(np.int64) @ truncated(x, low_bits)
    assert np.array_equal(result.acc, exact)
    assert np.array_equal(weighted(result) + result.fold - result.compensation, exact)
    v = result.slicing.vector
    assert result.multiplications == result.additions == v * v * result.outer_products
    assert result.memory_words <= result.operations.dense.memory_words


@DETERMINISTIC
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(MODES),
    st.sampled_from(VECTORS),
    st.tuples(st.integers(1, 11), st.integers(1, 9), st.integers(1, 11)),
    st.sampled_from([0.0, 0.01, 0.03, 0.1, 1.0]),
)
def test_one_vector_at_a_time(
    seed: int, mode: tuple[int, int, int], v: int, shape: tuple[int, int, int], spread: float
) -> None:
    rng = np.random.default_rng(seed)
    weight_bits, act_bits, low_bits = mode
    zp = int(rng.integers(0, 2**act_bits))
    w, x = draw(rng, shape, mode, zp, spread)
    result = aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits, v)
    oracle = walk(w, x, zp, mode, v)
    check_identities(result, w, x, low_bits)
    assert np.array_equal(result.parts, oracle.parts)
    assert np.array_equal(result.compensation, oracle.compensation)
    # Eq. (5) and eq. (6) are two ways to the same sum.
    assert np.array_equal(result.fold - result.compensation, oracle.compensation_5)
    assert np.array_equal(result.weight_keep, oracle.weight_keep)
    assert np.array_equal(result.act_keep, oracle.act_keep)
    assert np.array_equal(result.part_outer_products, oracle.products)
    assert result.outer_products == oracle.products.sum()
    assert (result.multiplications, result.additions) == (oracle.multiplications, oracle.additions)
    assert result.memory_words == oracle.words
    table = result.operations
    assert list(table.compensation_5) == oracle.eq5
    assert list(table.compensation_6) == oracle.eq6
    assert list(table.compensation_rtl) == [oracle.eq6[0] // v, *oracle.eq6[1:]]


@DETERMINISTIC
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from(MODES),
    st.sampled_from(VECTORS),
    st.tuples(st.integers(0, 40), st.integers(0, 70), st.integers(0, 40)),
    st.sampled_from([0.0, 0.01, 0.1, 1.0]),
)
def test_any_shape(
    seed: int, mode: tuple[int, int, int], v: int, shape: tuple[int, int, int], spread: float
) -> None:
    rng = np.random.default_rng(seed)
    weight_bits, act_bits, low_bits = mode
    zp = int(rng.integers(0, 2**act_bits))
    w, x = draw(rng, shape, mode, zp, spread)
    result = aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits, v)
    m, k, n = shape
    slices = (weight_bits - 1) // 3, act_bits // 4
    assert result.parts.shape == (*slices, m, n)
    assert result.weight_keep.shape == (-(-m // v), k)
    assert result.act_keep.shape == (k, -(-n // v))
    check_identities(result, w, x, low_bits)


@pytest.mark.parametrize("low_bits", [4, 5, 6])
def test_every_8_bit_product_and_zero_point(low_bits: int) -> None:
    # K = 1 and vectors of one: each of the 128 x 256 outputs is one product, with or without its HO slice.
    w, x = np.arange(-64, 64)[:, None], np.arange(256)[None]
    exact = w * truncated(x, low_bits)
    for zp in range(256):
        result = aqs_gemm(w, x, zp, low_bits, vector=1)
        assert np.array_equal(result.acc, exact)
        assert np.array_equal(weighted(result) + result.fold - result.compensation, exact)
        assert result.act_keep.sum() == 256 - 2**low_bits
        assert result.weight_keep.sum() == 128 - 16


@pytest.mark.parametrize(("weight_bits", "act_bits"), [(10, 12), (10, 4), (4, 12), (4, 4)])
def test_products_of_other_widths(weight_bits: int, act_bits: int) -> None:
    half = 2 ** (weight_bits - 1)
    w, x = np.arange(-half, half, 3)[:, None], np.unique(np.r_[0 : 2**act_bits : 13, 2**act_bits - 1])[None]
    for zp in (0, 2 ** (act_bits - 1), 2**act_bits - 1):
        check_identities(aqs_gemm(w, x, zp, 4, weight_bits, act_bits, 2), w, x, 4)


@pytest.mark.parametrize("mode", MODES)
def test_largest_magnitudes(mode: tuple[int, int, int]) -> None:
    weight_bits, act_bits, low_bits = mode
    for weight in (-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1) - 1):
        w, x = np.full((5, 3000), weight), np.full((3000, 6), 2**act_bits - 1)
        for zp in (0, 2**act_bits - 1):
            check_identities(aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits), w, x, low_bits)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("v", VECTORS)
def test_nothing_and_everything_skipped(mode: tuple[int, int, int], v: int) -> None:
    weight_bits, act_bits, low_bits = mode
    slices = n, k = (weight_bits - 1) // 3, act_bits // 4
    zp = 2 ** (act_bits - 1) + 1
    (m, depth, columns), groups = (9, 21, 7), -(-9 // v) * -(-7 // v)
    # Every HO slice skipped: what is left is products of lower slices.
    w, x = np.full((m, depth), -1), np.full((depth, columns), zp)
    result = aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits, v)
    check_identities(result, w, x, low_bits)
    assert result.outer_products == groups * depth * max(n - 1, 1) * max(k - 1, 1)
    assert not result.compensation.any()
    assert not result.parts[-1].any() or n == 1
    assert not result.parts[:, -1].any() or k == 1
    # None skipped: every product is done, and the compensation takes back the whole fold.
    w, x = np.full((m, depth), -(2 ** (weight_bits - 1))), np.zeros((depth, columns), int)
    result = aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits, v)
    check_identities(result, w, x, low_bits)
    assert result.outer_products == groups * depth * n * k
    assert np.array_equal(result.fold, result.compensation)
    assert result.operations.panacea == result.operations.dense
    assert result.parts.shape == (*slices, m, columns)


def test_parts_leave_skipped_vectors_out() -> None:
    # One kept vector among skipped ones: HO parts see it alone, with the r-valued slices in it.
    w = np.full((4, 3), 8)
    x = np.full((3, 8), 0x53)
    x[1, 2] = 0x63
    result = aqs_gemm(w, x, 0x5F)
    assert result.act_keep.tolist() == [[False, False], [True, False], [False, False]]
    assert result.parts[1, 1, 0].tolist() == [5, 5, 6, 5, 0, 0, 0, 0]
    assert result.parts[1, 0, 0].tolist() == [9] * 8
    assert result.fold[0].tolist() == [5 * 16 * 24] * 8
    assert result.compensation[0].tolist() == [5 * 16 * 8] * 4 + [0] * 4
    assert result.part_outer_products.tolist() == [[6, 1], [6, 1]]


def test_symmetric_mode_is_a_zero_point_of_128() -> None:
    rng = np.random.default_rng(0)
    w, signed = rng.integers(-64, 64, (12, 40)), rng.integers(-128, 128, (40, 12))
    result = aqs_gemm(w, signed + 128, 128)
    bias = fold_bias(np.zeros(12, int), w, 128)
    assert np.array_equal(weighted(result) - result.compensation + bias[:, None], w @ signed)
    # 128 lies at the lower end of its skip range, so that r·16 is the whole zero point: nothing is folded.
    assert not bias.any()


@DETERMINISTIC
@given(st.integers(0, 2**32 - 1), st.sampled_from(MODES))
def test_the_folded_bias_gives_the_layer(seed: int, mode: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(seed)
    weight_bits, act_bits, low_bits = mode
    zp = int(rng.integers(0, 2**act_bits))
    w, x = draw(rng, (6, 17, 5), mode, zp, 0.1)
    bias = rng.integers(-(10**6), 10**6, 6)
    result = aqs_gemm(w, x, zp, low_bits, weight_bits, act_bits)
    folded = fold_bias(bias, w, zp, low_bits, act_bits)
    layer = w.astype(np.int64) @ (truncated(x, low_bits) - zp) + bias[:, None]
    assert np.array_equal(weighted(result) - result.compensation + folded[:, None], layer)


@pytest.mark.parametrize("low_bits", [4, 5, 6])
def test_the_mean_of_dropped_bits(low_bits: int) -> None:
    # All residues equally often: the option makes up for the truncation exactly.
    w, x = np.full((1, 64), 2), np.arange(64)[:, None]
    result = aqs_gemm(w, x, 32, low_bits)
    plain = fold_bias([0], w, 32, low_bits)
    mended = fold_bias([0], w, 32, low_bits, dropped=True)
    assert (mended - plain).item() == (2 ** (low_bits - 4) - 1) * 64
    assert (weighted(result) - result.compensation + mended).item() == (2 * (np.arange(64) - 32)).sum()
    if low_bits == 5:
        # Halves go to even.
        assert [fold_bias([0], [[s]], 0, 5, dropped=True).item() for s in (1, 3, -1, -3)] == [0, 2, 0, -2]


def test_with_the_manipulated_zero_point_the_fold_forgets_it() -> None:
    w = np.arange(-6, 6).reshape(3, 4)
    for low_bits, zp in ((4, 0x38), (4, 0x98), (5, 0x70), (6, 0x20)):
        assert fold_bias([0], w, zp, low_bits).tolist() == (-(2 ** (low_bits - 1)) * w.sum(axis=1)).tolist()


def test_operands_are_left_alone_and_may_be_views() -> None:
    rng = np.random.default_rng(0)
    w = rng.integers(-64, 64, (30, 20), dtype=np.int8).T[::2]
    x = rng.integers(0, 256, (60, 9), dtype=np.uint8)[::2]
    for operand in (w, x):
        operand.setflags(write=False)
    before = w.copy(), x.copy()
    check_identities(aqs_gemm(w, x, 77), w, x, 4)
    assert np.array_equal(w, before[0])
    assert np.array_equal(x, before[1])
    listed = aqs_gemm(w.tolist(), x.tolist(), 77)
    assert np.array_equal(listed.acc, w.astype(int) @ x)


def test_weights_of_the_parts() -> None:
    assert Slicing().part_weights().tolist() == [[1, 16], [8, 128]]
    assert Slicing(low_bits=5).part_weights().tolist() == [[2, 32], [16, 256]]
    assert Slicing(low_bits=6).part_weights().tolist() == [[4, 64], [32, 512]]
    three = Slicing(weight_bits=10, act_bits=12).part_weights()
    assert three.tolist() == [[8**i * 16**j for j in range(3)] for i in range(3)]


W, X = np.zeros((2, 3), int), np.zeros((3, 2), int)
REFUSALS: list[tuple[Callable[[], object], str]] = [
    (lambda: aqs_gemm(W, X, 256), "zero_point=256 is not allowed; it must be an integer in [0, 255]"),
    (lambda: aqs_gemm(W, X, -1), "zero_point=-1 is not allowed; it must be an integer in [0, 255]"),
    (
        lambda: aqs_gemm(W, X, 16, act_bits=4),
        "zero_point=16 is not allowed; it must be an integer in [0, 15]",
    ),
    (lambda: aqs_gemm(W, X, 0, weight_bits=8), "weight_bits=8 is not allowed; it must be one of 4, 7, 10"),
    (lambda: aqs_gemm(W, X, 0, act_bits=7), "act_bits=7 is not allowed; it must be one of 4, 8, 12"),
    (lambda: aqs_gemm(W, X, 0, low_bits=3), "low_bits=3 is not allowed; it must be one of 4, 5, 6"),
    (
        lambda: aqs_gemm(W, X, 0, low_bits=5, act_bits=12),
        "low_bits=5 is not allowed; it must be 4 with 12-bit activations; 5 and 6 need 8 bits",
    ),
    (lambda: aqs_gemm(W, X, 0, vector=3), "vector=3 is not allowed; it must be one of 1, 2, 4, 8"),
    (lambda: aqs_gemm(W + 64, X, 0), "w=64 is not allowed; it must be in [-64, 63]"),
    (lambda: aqs_gemm(W, X + 256, 0), "x=256 is not allowed; it must be in [0, 255]"),
    (
        lambda: aqs_gemm(W + 0.5, X, 0),
        "w='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (lambda: aqs_gemm(W[0], X, 0), "w=(3,) is not allowed; it must be a matrix"),
    (
        lambda: aqs_gemm(W, X[:2], 0),
        "x=(2, 2) is not allowed; it must be of shape (3, N), to follow w of shape (2, 3)",
    ),
    (
        lambda: fold_bias([0, 0, 0], W, 0),
        "bias=(3,) is not allowed; it must be of a shape that broadcasts to (2,)",
    ),
    (lambda: fold_bias([0], W, 256), "zero_point=256 is not allowed; it must be an integer in [0, 255]"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
