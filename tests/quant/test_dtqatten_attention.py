"""DTQAtten's attention of a block: against scalar integers, against float64, reordered, causal, refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bitfabric.quant.dtqatten import counts, importance, select_top
from bitfabric.quant.dtqatten_attention import BlockResult, attend, attention, row_factors
from bitfabric.quant.dtqatten_parameters import AttentionParameters
from bitfabric.quant.dtqatten_tokens import SCALES, AttentionInputs, quantize_attention
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.softmax import MASKED

Floats = NDArray[np.float64]


def half_up(x: int, shift: int) -> int:
    return (x + (1 << (shift - 1))) >> shift


def scalar_exponent(x: int) -> int:
    octaves, fraction = x >> 12, x & 4095
    if octaves >= 24:
        return 0
    segment, rest = fraction >> 6, fraction & 63
    base = [round(65536 * 2 ** (-s / 64)) for s in range(65)]
    y = base[segment] * 64 - (base[segment] - base[segment + 1]) * rest
    return (y + ((1 << octaves) >> 1)) >> octaves


def scalar_reciprocal(x: int) -> tuple[int, int]:
    e = x.bit_length() - 1
    fraction = ((x << 16) >> e) - 65536
    segment, rest = fraction >> 9, fraction & 511
    base = [round(2**17 * 128 / (128 + s)) for s in range(129)]
    return base[segment] - half_up((base[segment] - base[segment + 1]) * rest, 9), e


def scalar_row(q: int, head: Any, p: AttentionParameters, ids: list[int], causal: bool) -> tuple[list, list]:
    """Give one query's outputs and probabilities in Python integers, from the binding equations."""
    query, key, value = head
    size, d = len(key), len(key[0])
    t = []
    for k in range(size):
        acc = sum(int(query[q][e]) * int(key[k][e]) for e in range(d))
        m = p.score_multiplier
        if p.sq is not None and p.sk is not None:
            m = (int(p.sq[q]) * int(p.sk[k]) + 32768) >> 16
        score = max(-(2**23 - 1), min(2**23 - 1, half_up(acc * m, p.score_shift)))
        t.append(-(2**23) if causal and ids[k] > ids[q] else score)
    top = max(t)
    e_all = [0 if one == -(2**23) else scalar_exponent(top - one) for one in t]
    s = sum(e_all)
    r, e = scalar_reciprocal(s)
    probabilities = [min(65535, (one * r + (1 << e)) >> (1 + e)) for one in e_all]
    if p.sv is None:
        a = [min(255, half_up(255 * one, 22)) for one in e_all]
        ro, eo = scalar_reciprocal(sum(a))
    else:
        f = [half_up(one * int(sv), 22) for one, sv in zip(e_all, p.sv, strict=True)]
        mx = max(*f, 1)
        rf, ef = scalar_reciprocal(mx)
        g = [(one * rf + (1 << ef)) >> (1 + ef) for one in f]
        a = [min(255, (255 * one + 32768) >> 16) for one in g]
        ro, eo = (((mx << 16) >> ef) * r + 65536) >> 17, e - ef + 10
    m = max(1, (p.out_multiplier * ro + 32768) >> 16)
    sh = min(63, p.out_shift + eo)
    outs = [sum(a[k] * int(value[k][c]) for k in range(size)) for c in range(d)]
    return [max(-128, min(127, half_up(o * m, sh))) for o in outs], probabilities


def machine_case(seed: int, per_token: bool, size: int = 7, heads: int = 2, d: int = 5) -> dict[str, Any]:
    """Give arbitrary machine integers and parameters, extreme ones among them."""
    rng = np.random.default_rng(seed)
    bits = rng.choice([4, 8], size)
    q, k, v = rng.integers(-128, 128, (3, heads, size, d))
    q[:, rng.integers(size)] = -128
    for one in (q, k, v):
        one[:, bits == 4] &= ~15
    scales = {
        name: np.where(rng.random(size) < 0.2, [[1], [65535]][seed % 2], rng.integers(1, 65536, size))
        for name in ("sq", "sk", "sv")
    }
    parameters = AttentionParameters(
        score_multiplier=int(rng.integers(1, 65536)),
        score_shift=int(rng.choice([1, 5, 14, 15, 16, 17, 47])),
        out_multiplier=int(rng.choice([1, 40000, 65535])),
        out_shift=int(rng.choice([1, 7, 15, 17, 63])),
        **(scales if per_token else {}),
    )
    return {
        "vectors": (q, k, v),
        "bits": bits,
        "parameters": parameters,
        "ids": rng.permutation(50)[:size],
    }


@pytest.mark.parametrize("per_token", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_against_scalar_integers(seed: int, per_token: bool) -> None:
    case = machine_case(seed, per_token)
    for causal in (False, True):
        found = attend(
            *case["vectors"],
            bits=case["bits"],
            parameters=case["parameters"],
            ids=case["ids"],
            causal=causal,
        )
        for h, q in np.ndindex(2, 7):
            head = [one[h] for one in case["vectors"]]
            outputs, probabilities = scalar_row(q, head, case["parameters"], case["ids"].tolist(), causal)
            assert found.outputs[h, q].tolist() == outputs
            assert found.softmax.probabilities[h, q].tolist() == probabilities


@pytest.mark.parametrize("per_token", [False, True])
def test_row_factors_are_exact(per_token: bool) -> None:
    rng = np.random.default_rng(8)
    parameters = machine_case(1, per_token)["parameters"]
    for out_multiplier in (1, 33333, 65535):
        parameters = replace(parameters, out_multiplier=out_multiplier)
        sums, numerator_sums = rng.integers(2**22, 2**32, 300), rng.integers(255, 255 * 1024, 300)
        largest = np.r_[1, 65535, rng.integers(1, 65536, 298)]
        multipliers, shifts = row_factors(numerator_sums, sums, largest, parameters)
        for i in range(300):
            ro, eo = scalar_reciprocal(int(numerator_sums[i]))
            if per_token:
                (r, e), (_, ef) = scalar_reciprocal(int(sums[i])), scalar_reciprocal(int(largest[i]))
                ro, eo = half_up(((int(largest[i]) << 16) >> ef) * r, 17), e - ef + 10
            assert multipliers[i] == max(1, half_up(out_multiplier * ro, 16))
            assert shifts[i] == min(63, parameters.out_shift + eo)
        assert 1 <= multipliers.min() <= multipliers.max() < 2**17


def test_equally_important_tokens_stay_by_id() -> None:
    zeros = np.zeros((1, 4, 2), np.int8)
    parameters = AttentionParameters(score_shift=10, out_multiplier=40000, out_shift=16)
    found = attention(zeros, zeros, zeros, bits=[8] * 4, parameters=parameters, k0=2, k1=1, ids=[7, 2, 9, 3])
    assert found.bits.tolist() == [0, 8, 0, 4]
    assert found.next_ids.tolist() == [3, 2]


def real_case(tokens: int, scales: str, seed: int = 0, heads: int = 2, d: int = 32) -> AttentionInputs:
    """Give normal Q and K, whose scores have deviation 1, and V; the tokens' magnitudes differ in "token"."""
    rng = np.random.default_rng([tokens, seed])
    q, k, v = rng.normal(size=(3, heads, tokens, d))
    if scales == "token":
        v *= 2.0 ** rng.uniform(-2, 2, (tokens, 1))
    return quantize_attention(q, k, v, rng.choice([4, 8], tokens), scales)


def float_softmax(scores: Floats) -> Floats:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def error(found: Floats, expected: Floats) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("tokens", [1, 2, 9, 64, 128, 384])
def test_against_float(tokens: int, scales: str) -> None:
    case = real_case(tokens, scales)
    found = attend(*case.vectors, bits=case.q.bits, parameters=case.parameters)
    v = case.v.dequantize()
    # Scores as the machine has them, then everything in float64.
    same = float_softmax(found.scores / 4096 * np.log(2)) @ v
    unrounded = found.acc * found.multipliers[..., np.newaxis] * 2.0 ** -found.shifts[..., np.newaxis]
    # A single token has nothing to round but the factors: no constant in them is off by 256/255.
    assert error(unrounded * case.out_scale, same) < (1e-4 if tokens == 1 else 0.02)
    # The scores themselves, from the quantized vectors: 1/sqrt(d), log2 e and both scales are in place.
    scores = case.q.dequantize() @ case.k.dequantize().transpose(0, 2, 1) / np.sqrt(32)
    assert np.abs(found.scores / 4096 * np.log(2) - scores).max() < 2e-3
    # The output's own rounding adds half an LSB.
    assert np.abs(found.outputs - unrounded).max() <= 0.5
    assert np.abs(found.outputs * case.out_scale - float_softmax(scores) @ v).max() < case.out_scale * 2
    assert np.abs(found.softmax.probabilities / 65536 - float_softmax(scores)).max() < 2**-9


def test_scales_of_tokens_do_better_where_tokens_differ() -> None:
    rng = np.random.default_rng(4)
    q, k, v = rng.normal(size=(3, 2, 64, 32))
    v *= 2.0 ** rng.uniform(-3, 3, (64, 1))
    bits = rng.choice([4, 8], 64)
    exact = float_softmax(q @ k.transpose(0, 2, 1) / np.sqrt(32)) @ v
    errors = {}
    for scales in SCALES:
        case = quantize_attention(q, k, v, bits, scales, out_scale=float(np.abs(exact).max() / 127))
        found = attend(*case.vectors, bits=bits, parameters=case.parameters)
        errors[scales] = error(found.outputs * case.out_scale, exact)
    assert errors["token"] < errors["layer"]


@pytest.mark.parametrize("scales", SCALES)
def test_importance_is_of_unfolded_probabilities(scales: str) -> None:
    case = real_case(40, scales)
    found = attention(*case.vectors, bits=case.q.bits, parameters=case.parameters, k0=20, k1=10)
    p = float_softmax(found.attended.scores / 4096 * np.log(2))
    assert found.importance / 65536 == pytest.approx(p.sum(axis=(0, 1)), abs=1e-2)
    assert (found.importance == importance(found.attended.softmax.probabilities)).all()
    assert (found.bits == select_top(found.importance, 20, 10)).all()


def chain(
    scales: str, reorder: bool, causal: bool = False, accumulate: bool = False
) -> list[tuple[BlockResult, list[int]]]:
    """Run three blocks whose tokens carry over, from one set of real vectors by token id."""
    tokens, heads, d = 30, 2, 8
    results = []
    ids, bits = np.arange(tokens), np.full(tokens, 8)
    carried = np.zeros(tokens, np.int64)
    for block in range(3):
        q, k, v = np.random.default_rng(block).normal(size=(3, heads, tokens, d))
        # By id first, so that both orders see the same integers and scales.
        everyone = np.zeros(tokens, np.int64)
        everyone[ids] = bits
        case = quantize_attention(q, k, v, everyone, scales)
        result = attention(
            *(one.at(ids).values for one in (case.q, case.k, case.v)),
            bits=bits,
            parameters=case.parameters.at(ids),
            k0=(k0k1 := counts(tokens, 0.8 - 0.2 * block, 0.3, left=ids.size))[0],
            k1=k0k1[1],
            ids=ids,
            causal=causal,
            reorder=reorder,
            accumulate=accumulate,
            carried=carried,
        )
        results.append((result, ids.tolist()))
        ids, bits, carried = result.next_ids, result.next_bits, result.next_importance
    return results


@pytest.mark.parametrize("scales", SCALES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("accumulate", [False, True])
def test_reordering_gives_the_same_bits(scales: str, causal: bool, accumulate: bool) -> None:
    plain = chain(scales, False, causal, accumulate)
    ordered = chain(scales, True, causal, accumulate)
    for (one, ids), (other, others) in zip(plain, ordered, strict=True):
        assert sorted(ids) == sorted(others)
        at = [others.index(token) for token in ids]
        assert (one.outputs == other.outputs[:, at]).all()
        assert (one.importance == other.importance[at]).all()
        assert (one.bits == other.bits[at]).all()
        assert one.next_ids.tolist() == sorted(other.next_ids.tolist())
        assert (np.diff(other.next_bits) >= 0).all()
    assert [ids for _, ids in plain][1:] != [ids for _, ids in ordered][1:]
    # Of 30: all, 24, 18.
    assert [len(ids) for _, ids in plain] == [30, 24, 18]
    assert plain[2][0].order.size == 12


def test_accumulation() -> None:
    fresh, summed = chain("layer", True), chain("layer", True, accumulate=True)
    first, after = fresh[0][0], summed[0][0]
    assert (first.importance == after.importance).all()
    assert not first.next_importance.any()
    assert (after.next_importance == after.importance[after.order]).all()
    own = importance(summed[1][0].attended.softmax.probabilities)
    assert (summed[1][0].importance == own + after.next_importance).all()
    case = real_case(4, "layer")
    full = attention(
        *case.vectors,
        bits=case.q.bits,
        parameters=case.parameters,
        k0=4,
        k1=1,
        accumulate=True,
        carried=[2**32 - 1, 0, 2**32 - 9, 0],
    )
    assert full.importance[[0, 2]].tolist() == [2**32 - 1] * 2
    # Saturated alike, the lower id wins.
    assert full.bits.tolist() == [8, 4, 4, 4]


@pytest.mark.parametrize("accumulate", [False, True])
def test_what_is_carried_in_always_counts(accumulate: bool) -> None:
    """Whether it is carried on is another question."""
    case = real_case(4, "layer")
    block: dict[str, Any] = {"bits": case.q.bits, "parameters": case.parameters, "k0": 2, "k1": 1}
    own = attention(*case.vectors, **block).importance
    carried = [0, 10**7, 0, 10**8]
    found = attention(*case.vectors, **block, accumulate=accumulate, carried=carried)
    assert (found.importance == own + carried).all()
    assert found.bits.tolist() == [0, 4, 0, 8]
    assert (found.next_importance == accumulate * found.importance[found.order]).all()


@pytest.mark.parametrize("scales", SCALES)
def test_causal_queries_see_no_later_token(scales: str) -> None:
    case = real_case(12, scales)
    ids = np.array([7, 1, 30, 4, 9, 0, 2, 11, 23, 5, 16, 3])
    kwargs: dict[str, Any] = {"bits": case.q.bits, "parameters": case.parameters, "ids": ids, "causal": True}
    found = attend(*case.vectors, **kwargs)
    hidden = ids[np.newaxis, :] > ids[:, np.newaxis]
    assert ((found.scores == MASKED) == hidden).all()
    assert not found.numerators[:, hidden].any()
    assert not found.softmax.probabilities[:, hidden].any()
    # The first sees itself alone.
    assert found.softmax.probabilities[:, 5].sum(axis=-1).tolist() == [65535] * 2
    if scales == "layer":
        assert np.abs(found.outputs[:, 5].astype(int) - case.v.values[:, 5]).max() <= 1
    # A change in a later token changes nothing before.
    q, k, v = (one.copy() for one in case.vectors)
    k[:, 2] ^= 16
    v[:, 2] = -128
    again = attend(q, k, v, **kwargs)
    before = ids < 30
    assert (again.outputs[:, before] == found.outputs[:, before]).all()
    assert (again.outputs[:, 2] != found.outputs[:, 2]).any()


def good() -> dict[str, Any]:
    return {
        "q": np.zeros((1, 3, 2), np.int8),
        "k": np.zeros((1, 3, 2), np.int8),
        "v": np.zeros((1, 3, 2), np.int8),
        "bits": [8, 4, 4],
        "parameters": AttentionParameters(score_shift=10, out_multiplier=40000, out_shift=16),
        "k0": 2,
        "k1": 1,
    }


ONES = np.ones(2, np.int64)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"q": np.zeros((1, 3, 2))}, "q"),
        ({"q": np.full((1, 3, 2), 128)}, "q"),
        ({"k": np.full((1, 3, 2), 8)}, "k"),
        ({"v": np.zeros((3, 2), np.int8)}, "v"),
        ({"v": np.zeros((1, 3, 3), np.int8)}, "q, k, v"),
        ({"bits": [8, 4]}, "q"),
        ({"bits": [8, 4, 0]}, "bits"),
        ({"bits": [8, 4, 2]}, "bits"),
        ({"ids": [1, 2, 1]}, "ids"),
        ({"ids": [1, 2, -1]}, "ids"),
        ({"ids": [1, 2]}, "ids"),
        ({"k0": 0}, "k0"),
        ({"k0": 4}, "k0"),
        ({"k1": 3}, "k1"),
        ({"accumulate": True, "carried": [1, 2]}, "carried"),
        ({"accumulate": True, "carried": [1, 2, -3]}, "carried"),
        (
            {
                "parameters": AttentionParameters(
                    score_shift=1, out_multiplier=1, out_shift=1, sq=ONES, sk=ONES, sv=ONES
                )
            },
            "sq",
        ),
    ],
)
def test_refused(change: dict[str, Any], name: str) -> None:
    call: Callable[..., BlockResult] = attention
    call(**good())
    with pytest.raises(ParameterError) as refused:
        call(**{**good(), **change})
    assert refused.value.name == name
