"""Quantized tokens and the integers derived from their scales, against the real numbers they stand for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitfabric.quant.dtqatten_parameters import AttentionParameters, attention_parameters
from bitfabric.quant.dtqatten_tokens import quantize_attention, quantize_tokens
from bitfabric.quant.errors import ParameterError

LOG2_E = 1.4426950408889634


def test_one_scale_by_hand() -> None:
    x = np.array([[[12.7, -12.7], [6.5, 0.85], [99.0, 0.0]]])
    found = quantize_tokens(x, [8, 4, 0])
    assert float(found.scale) == pytest.approx(0.1)
    # 6.5/1.6 is 4.06; 0.85/1.6 is 0.53. The pruned token has no part in the scale.
    assert found.values.tolist() == [[[127, -127], [64, 16], [0, 0]]]
    assert found.values.dtype == np.int8
    assert found.dequantize()[0, 1].tolist() == pytest.approx([6.4, 1.6])
    # A nibble ends at 7 and -8.
    assert quantize_tokens([[[12.7, -12.7]]], [4]).values.tolist() == [[[7 * 16, -8 * 16]]]
    assert quantize_tokens([[[12.7, -40.0]]], [8], scale=0.1).values.tolist() == [[[127, -127]]]


def test_a_scale_for_each_token() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3, 6, 8)) * np.array([1, 10, 0.1, 0, 5, 3])[:, np.newaxis]
    bits = np.array([8, 4, 8, 4, 0, 4])
    found = quantize_tokens(x, bits, "token")
    top = np.abs(x).max(axis=(0, 2))
    assert found.scale[[0, 2]] == pytest.approx(top[[0, 2]] / 127)
    assert found.scale[[1, 5]] == pytest.approx(top[[1, 5]] / 7 / 16)
    # Nothing determines the scale of a zero token.
    assert found.scale[3] == found.scale[4] == found.scale[[0, 1, 2, 5]].min()
    assert not found.values[:, 3:5].any()
    assert (found.values[:, bits == 4] % 16 == 0).all()
    error = np.abs(found.dequantize() - x).max(axis=(0, 2))
    assert (error[[0, 2]] <= top[[0, 2]] / 127 / 2 + 1e-9).all()
    assert (error[[1, 5]] <= top[[1, 5]] / 7 / 2 + 1e-9).all()
    again = found.at([5, 0])
    assert again.bits.tolist() == [4, 8]
    assert (again.dequantize() == found.dequantize()[:, [5, 0]]).all()


def test_tokens_of_nothing() -> None:
    for scales in ("layer", "token"):
        found = quantize_tokens(np.zeros((1, 2, 3)), [8, 4], scales)
        assert not found.values.any()
        assert (found.scale == 1).all()
    made = quantize_attention(*np.zeros((3, 1, 2, 4)), [8, 4])
    assert made.out_scale == 1
    # A scale no float64 divides by.
    assert (quantize_tokens(np.full((1, 1, 2), 1e-320), [8]).values == 0).all()


@pytest.mark.parametrize("seed", range(30))
def test_parameters_of_a_layer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v, out = 2.0 ** rng.uniform(-12, 2, 4)
    score_scale = 1 / np.sqrt(rng.integers(1, 1025))
    made = attention_parameters(q, k, v, score_scale, out)
    assert not made.per_token
    scores = q * k * score_scale * LOG2_E * 4096
    assert made.score_multiplier * 2.0**-made.score_shift == pytest.approx(scores, rel=2**-15)
    assert made.out_multiplier * 2.0 ** (1 - made.out_shift) == pytest.approx(v / out, rel=2**-15)
    assert made.score_multiplier >= 2**15 or made.score_shift == 47
    assert made.at([0]) is made


@pytest.mark.parametrize("seed", range(30))
def test_parameters_of_tokens(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q, k, v = 2.0 ** rng.uniform(-8, -4, (3, 20))
    out, score_scale = float(v.max()) * rng.uniform(0.1, 3), 1 / np.sqrt(rng.integers(1, 1025))
    made = attention_parameters(q, k, v, score_scale, out)
    assert made.per_token
    assert made.sq is not None
    assert made.sk is not None
    assert made.sv is not None
    scores = np.outer(q, k) * score_scale * LOG2_E * 4096
    multipliers = (np.outer(made.sq, made.sk) + 32768) >> 16
    # A scale has at least 2^11 steps, the least product 2^7.
    assert np.abs(multipliers * 2.0**-made.score_shift / scores - 1).max() < 0.01
    # The largest to 16 bits.
    assert (multipliers * 2.0**-made.score_shift / scores).max() == pytest.approx(1, rel=0.01)
    assert int(made.sk.max()) == int(made.sv.max()) == 65535
    unit = v.max() / 65535
    assert made.sv * unit == pytest.approx(v, rel=2**-11)
    assert made.out_multiplier * 2.0 ** (-16 - made.out_shift) == pytest.approx(
        unit * 65536 / (255 * out), rel=2**-15
    )
    part = made.at([3, 1])
    assert part.sk is not None
    assert part.sk.tolist() == made.sk[[3, 1]].tolist()


def test_a_multiplier_that_rounds_up_to_2_16() -> None:
    factor = (2**16 - 0.25) * 2.0**-20
    made = attention_parameters(1.0, 1.0, factor, 1e-3, 1.0)
    assert (made.out_multiplier, made.out_shift) == (2**15, 20)


def test_the_least_factor() -> None:
    made = attention_parameters(1.0, 1.0, 2.0**-62, 1e-3, 1.0)
    assert (made.out_multiplier, made.out_shift) == (1, 63)
    made = attention_parameters(1.0, 1.0, 65535.0, 1e-3, 1.0)
    assert (made.out_multiplier, made.out_shift) == (65535, 1)
    with pytest.raises(ParameterError) as refused:
        attention_parameters(1.0, 1.0, 2.0**-64, 1e-3, 1.0)
    assert refused.value.name == "out factor"


X = np.ones((1, 2, 3))
GOOD = {"score_shift": 1, "out_multiplier": 1, "out_shift": 1}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: quantize_tokens(X[0], [8, 8]), "x"),
        (lambda: quantize_tokens(X * np.nan, [8, 8]), "x"),
        (lambda: quantize_tokens(X.astype(str), [8, 8]), "x"),
        (lambda: quantize_tokens(X, [8]), "bits"),
        (lambda: quantize_tokens(X, [8, 5]), "bits"),
        (lambda: quantize_tokens(X, [8, 4], "head"), "scales"),
        (lambda: quantize_tokens(X, [8, 4], scale=0.0), "scale"),
        (lambda: quantize_tokens(X, [8, 4], "token", 1.0), "scale"),
        (lambda: quantize_attention(X, X, X[:, :, :2], [8, 4]), "q, k, v"),
        (lambda: attention_parameters(1.0, 1.0, [1.0], 1.0, 1.0), "scales"),
        (lambda: attention_parameters([1.0], [1.0], [1.0, 2.0], 1.0, 1.0), "scales"),
        (lambda: attention_parameters([1.0, 0.0], [1.0, 1.0], [1.0, 2.0], 1.0, 1.0), "q_scale"),
        (lambda: attention_parameters(0.01, 0.01, 1.0, -1.0, 1.0), "score_scale"),
        (lambda: attention_parameters(0.01, 0.01, 1.0, 1.0, np.inf), "out_scale"),
        (lambda: attention_parameters(100.0, 1.0, 1.0, 1.0, 1.0), "score factor"),
        (lambda: attention_parameters(1e-10, 1e-10, 1.0, 1.0, 1.0), "score factor"),
        (lambda: attention_parameters(0.01, 0.01, 1e6, 1.0, 1.0), "out factor"),
        (lambda: AttentionParameters(**{**GOOD, "score_shift": 48}), "score_shift"),
        (lambda: AttentionParameters(**GOOD, score_multiplier=0), "score_multiplier"),
        (lambda: AttentionParameters(**{**GOOD, "out_multiplier": 65536}), "out_multiplier"),
        (lambda: AttentionParameters(**{**GOOD, "out_shift": 64}), "out_shift"),
        (lambda: AttentionParameters(**GOOD, sq=np.array([1])), "sk"),
        (lambda: AttentionParameters(**GOOD, sk=np.array([1]), sv=np.array([1])), "sq"),
        (lambda: AttentionParameters(**GOOD, **dict.fromkeys(("sq", "sk", "sv"), np.array([0]))), "sq"),
        (lambda: AttentionParameters(**GOOD, sq=np.array([1]), sk=np.array([1, 2]), sv=np.array([1])), "sk"),
    ],
)
def test_refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        call()
    assert refused.value.name == name
