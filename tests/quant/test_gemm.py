"""The exact GEMM: against Python's unbounded integers, on both sides of every switch of arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.gemm import acc_bits_needed, gemm

DETERMINISTIC = settings(derandomize=True, deadline=None, max_examples=200, database=None)


def exact(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Multiply with Python ints, which never round and never overflow."""
    return np.asarray(np.matmul(a.astype(object), b.astype(object)))


@DETERMINISTIC
@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(0, 9), st.integers(1, 40), st.integers(0, 9)),
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32"]),
    st.sampled_from(["int8", "uint8", "int16", "uint16", "int32"]),
)
def test_all_pairs_of_dtypes(seed: int, shape: tuple[int, int, int], left: str, right: str) -> None:
    rng = np.random.default_rng(seed)
    m, k, n = shape
    a = rng.integers(np.iinfo(left).min, np.iinfo(left).max, (m, k), dtype=left, endpoint=True)
    b = rng.integers(np.iinfo(right).min, np.iinfo(right).max, (k, n), dtype=right, endpoint=True)
    if left == right == "int32":
        a >>= 3
        b >>= 3
    product = gemm(a, b, acc_bits=64)
    assert product.dtype == np.int64
    assert product.shape == (m, n)
    assert (product == exact(a, b)).all()
    assert (gemm(b.T, a.T, acc_bits=64) == exact(a, b).T).all()


@pytest.mark.parametrize("exponent", [24, 53])
def test_float_limits(exponent: int) -> None:
    # One operand 1, so that the sum itself is the bound; odd sums just below and above 2^exponent, the
    # latter wrong in the narrower float.
    for total in (2**exponent - 1, 2**exponent, 2**exponent + 1, 2**exponent + 3):
        row = np.array([[total - total // 2, total // 2, 0]], np.int64)
        for sign in (1, -1):
            assert gemm(sign * row, np.ones((3, 1), np.int8), acc_bits=64).item() == sign * total
    # A sum whose partial sums exceed 2^exponent although the result is small.
    big = 2**exponent - 1
    row = np.array([[big, big, 3, -big, -big]], np.int64)
    assert gemm(row, np.ones((5, 1), np.int64), acc_bits=64).item() == 3


def test_most_negative_operands() -> None:
    a = np.full((2, 1024), -128, np.int8)
    assert (gemm(a, a.T) == 2**24).all()
    assert (gemm(a[:, :1023], a.T[:1023]) == 2**24 - 2**14).all()
    u = np.full((2, 259), 255, np.uint8)
    assert (gemm(u, u.T) == 259 * 255 * 255).all()
    assert (gemm(u, a.T[:259]) == -259 * 255 * 128).all()


def test_leading_axes() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (3, 1, 4, 6), dtype=np.int8)
    b = rng.integers(0, 256, (2, 6, 5), dtype=np.uint8)
    product = gemm(a, b)
    assert product.dtype == np.int32
    assert product.shape == (3, 2, 4, 5)
    assert (product == exact(a, b)).all()


def test_operands_are_left_alone_and_may_be_views() -> None:
    rng = np.random.default_rng(0)
    a = rng.integers(-128, 128, (20, 30), dtype=np.int8)
    view, before = a[::2, ::-3], a.copy()
    assert (gemm(view, view.T) == exact(view, view.T)).all()
    assert np.array_equal(a, before)


def test_accumulator_width() -> None:
    a = np.array([[127, 127]], np.int8)
    for sign, bits in ((1, 16), (-1, 16)):
        assert gemm(sign * a, a.T, acc_bits=bits).item() == sign * 2 * 127 * 127
    # 16384 needs 16 bits, -16384 only 15; a sum that wraps on the way is not refused.
    low = np.array([[-128]], np.int8)
    assert gemm(low, np.array([[127], [0]], np.int8)[:1], acc_bits=15).item() == -16256
    assert gemm(low, -low.astype(np.int16), acc_bits=15).item() == -16384
    assert gemm([[-128, -128, -128]], [[-128], [-128], [127]], acc_bits=16).item() == 16512
    assert gemm([[1]], [[1]], acc_bits=33).dtype == np.int64


@DETERMINISTIC
@given(st.integers(1, 5000), st.integers(1, 16), st.integers(1, 16), st.booleans(), st.booleans())
def test_accumulator_bits(k: int, act_bits: int, weight_bits: int, act: bool, weight: bool) -> None:
    acts = [-(2 ** (act_bits - 1)), 2 ** (act_bits - 1) - 1] if act else [0, 2**act_bits - 1]
    weights = [-(2 ** (weight_bits - 1)), 2 ** (weight_bits - 1) - 1] if weight else [0, 2**weight_bits - 1]
    sums = [k * x * w for x in acts for w in weights] + [0]
    fitting = [b for b in range(1, 64) if all(-(2 ** (b - 1)) <= s < 2 ** (b - 1) for s in sums)]
    assert acc_bits_needed(k, act_bits, weight_bits, act_signed=act, weight_signed=weight) == fitting[0]


def test_known_accumulator_bits() -> None:
    assert acc_bits_needed(1, 8, 8) == 16  # -128 * -128 = 2^14
    assert acc_bits_needed(1, 8, 8, act_signed=False) == 16
    assert acc_bits_needed(1, 8, 8, act_signed=False, weight_signed=False) == 17
    assert acc_bits_needed(1, 1, 8, act_signed=False) == 8  # 1 * -128 fits 8 bits
    assert acc_bits_needed(4, 1, 8, act_signed=False) == 10
    assert acc_bits_needed(768, 8, 8) == 25
    assert acc_bits_needed(2**16, 8, 8) == 32
    assert acc_bits_needed(2**17 - 1, 8, 8) == 32
    assert acc_bits_needed(2**17, 8, 8) == 33


def test_the_stated_bits_hold_the_worst_gemm_and_no_fewer_do() -> None:
    a = np.full((1, 100), -128, np.int8)
    needed = acc_bits_needed(100, 8, 8)
    assert gemm(a, a.T, acc_bits=needed).item() == 100 * 2**14
    with pytest.raises(ParameterError):
        gemm(a, a.T, acc_bits=needed - 1)


BIG = np.full((1, 2), 2**31, np.int64)
REFUSALS: list[tuple[Callable[[], object], str]] = [
    (
        lambda: gemm([[1.0]], [[1]]),
        "a='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (
        lambda: gemm([[1]], [[True]]),
        "b='bool' is not allowed; it must be an integer or an array of integers",
    ),
    (
        lambda: gemm([1], [[1]]),
        "a=(1,) is not allowed; it must be a matrix, or matrices along leading axes",
    ),
    (
        lambda: gemm([[1]], 1),
        "b=() is not allowed; it must be a matrix, or matrices along leading axes",
    ),
    (
        lambda: gemm([[1, 2]], [[1]]),
        "b=(1, 1) is not allowed; it must be of shape (2, N), to follow a of shape (1, 2)",
    ),
    (
        lambda: gemm(np.ones((2, 1, 1), int), np.ones((3, 1, 1), int)),
        "b=(3, 1, 1) is not allowed; it must be of leading axes that broadcast with a of shape (2, 1, 1)",
    ),
    (
        lambda: gemm(BIG, BIG.T, acc_bits=64),
        "max|a|*max|b|*K=9223372036854775808 is not allowed; it must be below 2^63, or int64 could overflow",
    ),
    (
        lambda: gemm([[2**16]], [[2**15]]),
        "acc_bits=32 is not allowed; it must be at least 33 for the results of this (1, 1) GEMM",
    ),
    (
        lambda: gemm([[-128]], [[-128]], acc_bits=15),
        "acc_bits=15 is not allowed; it must be at least 16 for the results of this (1, 1) GEMM",
    ),
    (
        lambda: gemm([[-129]], [[128]], acc_bits=15),
        "acc_bits=15 is not allowed; it must be at least 16 for the results of this (1, 1) GEMM",
    ),
    (
        lambda: gemm([[1]], [[1]], acc_bits=0),
        "acc_bits=0 is not allowed; it must be an integer in [1, 64]",
    ),
    (
        lambda: gemm([[1]], [[1]], acc_bits=65),
        "acc_bits=65 is not allowed; it must be an integer in [1, 64]",
    ),
    (lambda: acc_bits_needed(0, 8, 8), "k=0 is not allowed; it must be an integer of at least 1"),
    (
        lambda: acc_bits_needed(1, 0, 8),
        "act_bits=0 is not allowed; it must be an integer in [1, 32]",
    ),
    (
        lambda: acc_bits_needed(1, 8, 33),
        "weight_bits=33 is not allowed; it must be an integer in [1, 32]",
    ),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
