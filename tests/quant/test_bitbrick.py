"""The golden models of BitGroups and fusion units against plain integer arithmetic."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitfabric.quant import bitbrick
from bitfabric.quant.errors import ParameterError


@given(
    bits=st.integers(1, 8),
    weight_bits=st.sampled_from((4, 8)),
    m=st.integers(1, 4),
    k=st.integers(1, 23),
    n=st.integers(1, 4),
    groups=st.integers(1, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_sliced_gemm_is_the_integer_gemm(bits, weight_bits, m, k, n, groups, seed):
    rng = np.random.default_rng(seed)
    acts = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), (m, k))
    weights = rng.integers(-(1 << (weight_bits - 1)), 1 << (weight_bits - 1), (k, n))
    assert np.array_equal(bitbrick.gemm(acts, weights, bits, weight_bits, groups), acts @ weights)


@pytest.mark.parametrize("act_bits", [3, 4, 8])
@pytest.mark.parametrize("weight_bits", [4, 8])
def test_corner_values(act_bits, weight_bits):
    low, high = -(1 << (act_bits - 1)), (1 << (act_bits - 1)) - 1
    acts = np.array([[low] * 7, [high] * 7, [0] * 7, [-1] * 7, [low, high] * 3 + [low]])
    corners = np.array([-(1 << (weight_bits - 1)), (1 << (weight_bits - 1)) - 1, 0, -1])
    weights = np.tile(corners, (7, 1))
    assert np.array_equal(bitbrick.gemm(acts, weights, act_bits, weight_bits, 3), acts @ weights)


def test_rows_have_no_gaps_and_tiles_follow_equation_7():
    layout = bitbrick.row_layout(k=5, bits=3, groups=2)
    assert layout.element.shape == (2, 2, 4)
    assert layout.element.ravel().tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, -1]
    assert layout.significance.ravel().tolist() == [0, 1, 2] * 5 + [0]
    assert layout.sign.ravel().tolist() == [False, False, True] * 5 + [False]


def test_an_8_bit_weight_is_an_unsigned_and_a_signed_nibble():
    assert bitbrick.nibble_columns([[-128, -1, 127]], 8).tolist() == [[0, -8, 15, -1, 15, 7]]
    assert bitbrick.join_columns([[0, -8, 15, -1, 15, 7]], 8).tolist() == [[-128, -1, 127]]
    assert bitbrick.nibble_columns([[-8, 7]], 4).tolist() == [[-8, 7]]


MODES = [(a, w, b) for b in (2, 4) for a in (2, 4, 8) for w in (2, 4, 8) if min(a, w) >= b]


@pytest.mark.parametrize(("act_bits", "weight_bits", "brick_bits"), MODES)
@pytest.mark.parametrize("act_signed", [True, False])
@pytest.mark.parametrize("weight_signed", [True, False])
def test_fusion_sum_is_the_dot_product(act_bits, weight_bits, brick_bits, act_signed, weight_signed):
    rng = np.random.default_rng(act_bits * 10 + weight_bits)
    products = bitbrick.fusion_products(act_bits, weight_bits)
    assert products == 16 // ((act_bits // 2) * (weight_bits // 2))

    def operands(bits, signed):
        low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
        corners = np.array([[low] * products, [high] * products, [0] * products])
        return np.concatenate([corners, corners[[1, 0, 2]], rng.integers(low, high + 1, (50, products))])

    acts, weights = operands(act_bits, act_signed), operands(weight_bits, weight_signed)
    weights[3:6] = weights[[0, 0, 1]]
    mode = (act_bits, weight_bits, brick_bits)
    words = [bitbrick.pack_fusion(v, side, *mode) for v, side in ((acts, "act"), (weights, "weight"))]
    sums = bitbrick.fusion_sum(*words, *mode, act_signed, weight_signed)
    assert np.array_equal(sums, (acts * weights).sum(axis=-1))


def test_packing_repeats_what_several_bricks_need():
    # one 8x8 product: activation slices run along i, weight slices along j
    assert int(bitbrick.pack_fusion([0b11100100], "act", 8, 8)) == 0b11100100_11100100_11100100_11100100
    assert int(bitbrick.pack_fusion([0b11100100], "weight", 8, 8)) == 0b11111111_10101010_01010101_00000000
    assert int(bitbrick.pack_fusion([1, 2, 3, 4], "act", 4, 4, 4)) == 0x4321


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bitbrick.row_layout(0, 4, 1), "k=0 is not allowed; it must be an integer of at least 1"),
        (lambda: bitbrick.row_layout(1, 9, 1), "bits=9 is not allowed; it must be an integer in [1, 8]"),
        (
            lambda: bitbrick.row_layout(1, 4, 0),
            "groups=0 is not allowed; it must be an integer of at least 1",
        ),
        (lambda: bitbrick.slice_acts([8], 4, 1), "acts=8 is not allowed; it must be in [-8, 7]"),
        (
            lambda: bitbrick.slice_acts([0.5], 4, 1),
            "acts='float64' is not allowed; it must be an array of integers",
        ),
        (lambda: bitbrick.nibble_columns([1], 5), "bits=5 is not allowed; it must be one of 4, 8"),
        (
            lambda: bitbrick.fusion_products(8, 3),
            "weight_bits=3 is not allowed; it must be one of 2, 4, 8",
        ),
        (
            lambda: bitbrick.pack_fusion([1], "act", 2, 4, 4),
            "act_bits=2 is not allowed; it must be one of 4, 8",
        ),
        (
            lambda: bitbrick.pack_fusion([1], "act", 4, 4),
            "values=(1,) is not allowed; it must be an array of 4 operands along its last axis",
        ),
        (
            lambda: bitbrick.pack_fusion([256], "act", 8, 8),
            "values=256 is not allowed; it must be in [-128, 255]",
        ),
    ],
)
def test_errors_name_the_parameter(call, message):
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == message
