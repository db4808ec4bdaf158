"""DTQAtten's cases: golden results, order, chains of blocks, files, random and real blocks, and clear errors."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.quant.dtqatten import counts, select_top
from bitfabric.quant.dtqatten_attention import attention
from bitfabric.quant.dtqatten_parameters import AttentionParameters
from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.sim.case_file import load_arrays
from bitfabric.sim.cycles.dtqatten import gemm_cycles
from bitfabric.sim.designs import simulated
from bitfabric.sim.dtqatten_case import AttentionCase, attention_case
from bitfabric.sim.dtqatten_limits import check_dimensions, check_sequence
from bitfabric.sim.dtqatten_random import next_case, random_case, random_cases, shared_bits
from bitfabric.sim.models import ATTENTION_SHARES, dtqatten_model_case
from bitfabric.sim.workloads.minilm import attention_operands

TINY = DtqattenConfig.preset("tiny")
SMALL = DtqattenConfig.preset("small")
PAPER = DtqattenConfig.preset("paper")
BITS = np.array([8, 4, 0, 4, 8, 8])
ORDER = np.array([4, 1, 5, 3, 0])  # without token 2, which is pruned
RNG = np.random.default_rng(0)
VECTORS = {
    name: np.where(
        BITS[:, np.newaxis] == 4, RNG.integers(-8, 8, (2, 6, 5)), RNG.integers(-128, 128, (2, 6, 5))
    )
    for name in ("queries", "keys", "values")
}
SCALES = {name: RNG.integers(20_000, 65_536, 6) for name in ("sq", "sk", "sv")}


def case_of(**fields: Any) -> AttentionCase:
    defaults: dict[str, Any] = {
        "bits": BITS,
        "order": ORDER,
        "next_kept": 3,
        "next_high": 1,
        "score_multiplier": 40_000,
        "score_shift": 14,
        "out_multiplier": 50_000,
        "out_shift": 17,
    }
    return AttentionCase(**{**VECTORS, **defaults, **fields})


def refusal(call: Any, *args: Any, **fields: Any) -> str:
    with pytest.raises(BitfabricError) as error:
        call(*args, **fields)
    return str(error.value)


def test_positions() -> None:
    assert case_of(reorder=False).positions.tolist() == [4, 1, 5, 3, 0]
    assert case_of().positions.tolist() == [1, 3, 4, 5, 0]
    assert case_of(order=None).positions.tolist() == [1, 3, 0, 4, 5]
    assert case_of(order=np.array([2, 4, 1, 5, 3, 0])).positions.tolist() == [1, 3, 4, 5, 0]
    assert case_of(carry=True).positions.tolist() == [4, 1, 5, 3, 0]  # as they are in the machine
    assert case_of().high.tolist() == [False, False, True, True, True]
    assert (case_of().kept, case_of().m, case_of().k, case_of().n, case_of().heads) == (5, 6, 5, 6, 2)


@pytest.mark.parametrize("reorder", [True, False])
@pytest.mark.parametrize("scales", [{}, SCALES], ids=["layer", "token"])
def test_golden_is_the_attention_of_the_tokens_that_stay(reorder: bool, scales: dict[str, Any]) -> None:
    """In the order of ids, whatever the order in the machine."""
    out_shift = 7 if scales else 17
    case = case_of(reorder=reorder, causal=True, out_shift=out_shift, **scales)
    kept = np.array([0, 1, 3, 4, 5])
    machine = [VECTORS[name][:, kept] * np.array([1, 16, 16, 1, 1])[:, None] for name in VECTORS]
    parameters = AttentionParameters(
        score_multiplier=40_000,
        score_shift=14,
        out_multiplier=50_000,
        out_shift=out_shift,
        **{name: values[kept] for name, values in scales.items()},
    )
    bits = BITS[kept]
    expected = attention(*machine, bits=bits, parameters=parameters, k0=3, k1=1, ids=kept, causal=True)
    at = np.searchsorted(kept, case.positions)
    result = case.golden()
    assert np.array_equal(result.outputs, expected.outputs[:, at])
    assert np.unique(result.outputs).size > 10
    assert np.array_equal(result.importance, expected.importance[at])
    assert np.array_equal(result.bits, expected.bits[at])


@pytest.mark.parametrize("accumulate", [True, False])
@pytest.mark.parametrize("reorder", [True, False])
def test_what_a_block_leaves(reorder: bool, accumulate: bool) -> None:
    options: dict[str, Any] = {
        "reorder": reorder,
        "accumulate": accumulate,
        "order": np.array([0, 4, 1, 5, 3]),
    }
    first = case_of(**options, next_kept=4, next_high=2)
    left = first.next_fields()
    ids, total = first.positions, first.result.importance
    by_id = np.zeros(6, np.int64)
    by_id[ids] = select_top(total, 4, 2, ids=ids)
    assert np.array_equal(left["bits"], by_id)
    # Those of 4 bits first, either kind in the order in which the block before had it.
    clustered = [i for bits in (4, 8) for i in ids.tolist() if by_id[i] == bits]
    plain = [i for i in ids.tolist() if by_id[i] > 0]
    assert reorder or clustered != plain
    assert left["order"].tolist() == (clustered if reorder else plain)
    importance = np.zeros(6, np.int64)
    if accumulate:
        importance[ids] = np.where(by_id[ids] > 0, total, 0)
    assert np.array_equal(left["carried"], importance)

    second = next_case(TINY, np.random.default_rng(1), first, accumulate=False, next_kept=2, next_high=1)
    assert np.array_equal(second.positions, left["order"])
    fresh = dataclasses.replace(second, carried=None)
    added = second.result.importance - fresh.result.importance
    assert np.array_equal(added, importance[second.positions])
    assert added.any() == accumulate
    check_sequence([first, second])


def test_sequences_that_do_not_fit() -> None:
    rng = np.random.default_rng(1)
    first = case_of(accumulate=True, next_kept=4, next_high=1)
    second = next_case(TINY, rng, first)
    check_sequence([case_of(), first, second, next_case(TINY, rng, second), case_of()])
    assert "no case before this one" in refusal(check_sequence, [second])
    other = [dataclasses.replace(second, carried=None)]
    other += [dataclasses.replace(second, order=second.positions[::-1])]
    bits = second.bits.copy()
    bits[second.positions[0]] ^= 12  # 8 and 4
    vectors = {name: np.ones_like(second.queries) for name in VECTORS}
    other += [dataclasses.replace(second, bits=bits, **vectors)]
    for case in other:
        assert "carry=True" in refusal(check_sequence, [first, case])
    assert "carry=True" in refusal(check_sequence, [first, case_of(), second])
    assert "carry=True" in refusal(check_sequence, [random_case(TINY, rng, 7, 5), second])


LOW = VECTORS["keys"].copy()
LOW[0, 1, 0] = 8
WRONG: dict[str, dict[str, Any]] = {
    "queries, keys, values": {"queries": np.zeros((2, 6, 4), int)},
    "keys": {"keys": np.full((2, 6, 5), 128)},
    "values": {"values": np.zeros((2, 6, 5))},
    "keys of a 4-bit token": {"keys": LOW},
    "bits": {"bits": np.array([8, 4, 0, 4, 8, 6])},
    "bits='no token above 0 bits'": {"bits": np.zeros(6, int)},
    "bits=(5,)": {"bits": BITS[:5]},
    "order=6": {"order": np.array([4, 1, 5, 3, 6])},
    "order=1": {"order": np.array([4, 1, 5, 3, 0, 1])},
    "order='without token 3'": {"order": np.array([4, 1, 5, 0])},
    "next_kept=0": {"next_kept": 0, "next_high": 0},
    "next_kept=6": {"next_kept": 6},
    "next_high=4": {"next_high": 4},
    "score_multiplier=0": {"score_multiplier": 0},
    "score_shift=0": {"score_shift": 0},
    "score_shift=48": {"score_shift": 48},
    "out_multiplier=65536": {"out_multiplier": 65536},
    "out_shift=64": {"out_shift": 64},
    "sq=(5,)": {**SCALES, "sq": np.ones(5, int)},
    "sk=0": {**SCALES, "sk": np.array([0, 1, 1, 1, 1, 1])},
    "sv=None": {"sq": SCALES["sq"], "sk": SCALES["sk"]},
    "carried='given'": {"carried": np.zeros(6, int)},
    "carried=(5,)": {"carry": True, "carried": np.zeros(5, int)},
    "carried=-1": {"carry": True, "carried": np.full(6, -1)},
}


@pytest.mark.parametrize("named", WRONG)
def test_cases_that_make_no_sense(named: str) -> None:
    assert refusal(case_of, **WRONG[named]).startswith(named)


def test_a_pruned_token_may_have_anything() -> None:
    """No machine sees it: scales of 0 are none of a token's that stays, and vectors have no precision."""
    scales: dict[str, Any] = {name: np.where(BITS == 0, 0, values) for name, values in SCALES.items()}
    other = {name: np.where(BITS[:, np.newaxis] == 0, -128, values) for name, values in VECTORS.items()}
    found = case_of(**other, **scales, out_shift=7).result.outputs
    assert np.array_equal(found, case_of(**SCALES, out_shift=7).result.outputs)
    assert found.any()


def limits_of(tokens: int = 6, size: int = 5, heads: int = 2, **fields: Any) -> AttentionCase:
    return random_case(TINY, np.random.default_rng(0), tokens, size, heads=heads, **{"base": 0, **fields})


def test_what_a_machine_cannot_hold() -> None:
    limits_of(16, 16, 4).check(TINY)
    assert refusal(limits_of(17).check, TINY).startswith("tokens=17")
    assert refusal(limits_of(size=17).check, TINY).startswith("head_size=17")
    assert refusal(limits_of(heads=5).check, TINY).startswith("heads=5")
    limits_of(gap=65535 - 10).check(TINY)
    assert refusal(limits_of(gap=65536 - 10).check, TINY).startswith("gap=65526")


def test_addresses_have_32_bits() -> None:
    space = 1 << 32
    bits = np.full(6, 8)
    needed = 6 * 10 + 6 * 8
    limits_of(bits=bits, out_base=space - needed).check(TINY)
    text = refusal(limits_of(bits=bits, out_base=space - needed + 1).check, TINY)
    assert text.startswith(f"out_base={space - needed + 1}")
    assert f"at most {space - needed}" in text
    whole = 6 * 4 + 6 * 8 + 3 * 60 + needed
    limits_of(bits=bits, order=None, base=space - whole).check(TINY)
    assert f"at most {space - whole}" in refusal(
        limits_of(bits=bits, order=None, base=space - whole + 7).check, TINY
    )
    assert refusal(limits_of(out_base=100).check, TINY).startswith("out_base=100")  # in the inputs


def test_dimensions() -> None:
    check_dimensions(TINY, 16, 16, 16)
    assert refusal(check_dimensions, TINY, 17, 1, 17).startswith("M (tokens)=17")
    assert refusal(check_dimensions, TINY, 1, 17, 1).startswith("K (channels of a head)=17")
    assert refusal(check_dimensions, TINY, 5, 4, 6).startswith("N=6")


@pytest.mark.parametrize(
    "fields", [{}, {**SCALES, "reorder": False, "causal": True}, {"carry": True, "carried": np.arange(6)}]
)
def test_files(fields: dict[str, Any], tmp_path: Path) -> None:
    case = case_of(base=3, gap=4, out_base=5000, accumulate=True, **fields)
    case.save(tmp_path / "block.npz")
    found = AttentionCase.load(tmp_path / "block.npz")
    assert found.name == "block"
    for field in dataclasses.fields(case):
        if field.name != "name":
            value = getattr(found, field.name)
            assert np.array_equal(value, getattr(case, field.name)), field.name
            assert type(value) is type(getattr(case, field.name)), field.name
    assert np.array_equal(found.result.outputs, case.result.outputs)


def test_files_with_little_in_them(tmp_path: Path) -> None:
    numbers = {"next_kept": 1, "next_high": 0, "score_shift": 9, "out_multiplier": 9, "out_shift": 9}
    path = tmp_path / "least.npz"
    np.savez(path, **VECTORS, bits=BITS, **numbers)
    assert AttentionCase.load(path).order is None
    np.savez(path, **VECTORS, **numbers)
    text = refusal(AttentionCase.load, path)
    assert "lacks bits; a case file holds queries, keys and values" in text
    assert "optionally order, sq, sk, sv, carried, score_multiplier" in text
    np.savez(path, **VECTORS, bits=BITS, **numbers, causal=2)
    assert refusal(AttentionCase.load, path).startswith("causal=2")
    np.savez(path, **VECTORS, bits=BITS, **{**numbers, "out_shift": [1, 2]})
    assert refusal(AttentionCase.load, path).startswith("out_shift=[1, 2]")
    np.savez(path, **VECTORS, bits=BITS, **numbers, acts=1)
    assert "unknown arrays acts" in refusal(AttentionCase.load, path)
    assert "cannot be read" in refusal(load_arrays, tmp_path / "no.npz", (), (), (), (), holds="nothing")


def test_real_vectors() -> None:
    rng = np.random.default_rng(4)
    q, k, v = rng.normal(size=(3, 2, 10, 8))
    bits = np.array([8, 4, 0, 4, 8, 8, 8, 4, 8, 8])
    for scales in ("layer", "token"):
        case = attention_case(q, k, v, bits=bits, keep=0.5, high=0.2, scales=scales, reorder=False)
        assert (case.next_kept, case.next_high, case.per_token) == (5, 2, scales == "token")
        kept = case.positions
        scores = q[:, kept] @ k[:, kept].transpose(0, 2, 1) / math.sqrt(8)
        weights = np.exp(scores)
        exact = weights / weights.sum(axis=-1, keepdims=True) @ v[:, kept]
        out_scale = np.abs(v[:, kept]).max() / 127
        error = np.abs(case.result.outputs * out_scale - exact)
        assert error.mean() < 0.08 * np.abs(v).max()
        assert np.corrcoef(case.result.outputs.reshape(-1), exact.reshape(-1))[0, 1] > 0.97


@pytest.mark.parametrize("config", [TINY, SMALL, PAPER], ids=["tiny", "small", "paper"])
def test_random_cases(config: DtqattenConfig) -> None:
    cases = random_cases(config, 3, 120)
    check_sequence(cases)
    for case in cases:
        case.check(config)
    again = random_cases(config, 3, 120)
    assert all(np.array_equal(a.queries, b.queries) for a, b in zip(cases, again, strict=True))
    assert [case.name for case in cases] == [case.name for case in again]
    assert [case.name for case in cases] != [case.name for case in random_cases(config, 4, 120)]
    mixes = {frozenset(case.bits.tolist()) for case in cases}
    assert {frozenset({8}), frozenset({4}), frozenset({4, 8}), frozenset({0, 4, 8})} <= mixes
    assert any(case.kept == 1 < case.tokens for case in cases)
    for name in ("per_token", "reorder", "causal", "accumulate", "carry"):
        assert {bool(getattr(case, name)) for case in cases} == {True, False}, name
    assert any(case.carried is not None and case.carried.any() for case in cases)
    assert {(case.next_kept == 1, case.next_kept == case.kept) for case in cases if case.kept > 2} == {
        (True, False),
        (False, True),
        (False, False),
    }
    assert any(case.next_high == 0 for case in cases)
    assert any(case.next_high == case.next_kept for case in cases)
    assert {1, config.tokens_max} & {case.tokens for case in cases}
    assert any(case.head_size % 2 and (case.bits == 4).any() for case in cases)
    outputs = [case.result.outputs.astype(int) for case in cases]
    saturated = [(np.abs(each) >= 127).mean() for each in outputs]
    assert any(share > 0.5 for share in saturated)
    assert (
        sum(share < 0.1 and np.abs(each).max() > 20 for share, each in zip(saturated, outputs, strict=True))
        > 20
    )
    limit = (1 << 23) - 1
    assert any((case.result.attended.scores == limit).any() for case in cases)
    assert any((case.out_base or 0) > 1 << 31 for case in cases)


def test_a_random_case_of_given_dimensions() -> None:
    case = random_case(TINY, np.random.default_rng(0), 5, 7, 5)
    assert (case.heads, case.tokens, case.head_size) == (1, 5, 7)
    fixed = {"next_kept": 2, "next_high": 2, "causal": True, "bits": np.full(5, 4), "out_shift": 3}
    case = random_case(TINY, np.random.default_rng(0), 5, 7, heads=3, **fixed)
    assert case.heads == 3
    assert all(np.array_equal(getattr(case, name), value) for name, value in fixed.items())


def test_shares() -> None:
    for low, pruned, expected in (
        (0, 0, (10, 0, 0)),
        (0.5, 0.3, (2, 5, 3)),
        (1, 0, (0, 10, 0)),
        (0, 1, (1, 0, 9)),
    ):
        bits = shared_bits(np.random.default_rng(0), 10, low, pruned)
        assert tuple((bits == kind).sum() for kind in (8, 4, 0)) == expected
    assert (np.diff(shared_bits(np.random.default_rng(0), 100, 0.5, 0)) != 0).sum() > 20  # in random order
    text = refusal(shared_bits, np.random.default_rng(0), 10, 0.6, 0.5)
    assert text.startswith("token_low + token_pruned=1.1")


def test_cycles_of_shares() -> None:
    machine = simulated("dtqatten")
    dense = machine.gemm_cycles(PAPER, 128, 64, 128)
    low = machine.gemm_cycles(PAPER, 128, 64, 128, token_low=1.0)
    pruned = machine.gemm_cycles(PAPER, 128, 64, 128, token_pruned=0.5)
    assert low.traffic["qk_tiles_1"] == dense.traffic["qk_tiles_4"] == 64
    assert low.traffic["qk"] < dense.traffic["qk"] / 3
    assert pruned.traffic["qk_tiles_4"] == 16
    assert gemm_cycles(PAPER, 128, 64, 128).total == dense.total
    assert refusal(machine.gemm_cycles, PAPER, 128, 64, 128, token_low=1.5).startswith("token_low=1.5")
    assert "token_low + token_pruned" in refusal(
        machine.gemm_cycles, PAPER, 128, 64, 128, token_low=0.7, token_pruned=0.7
    )
    text = refusal(simulated("drift").gemm_cycles, DriftConfig.preset("tiny"), 4, 4, 4, token_low=0.5)
    assert text.endswith("left out: drift takes weight_low and act_low")
    text = refusal(machine.gemm_cycles, PAPER, 4, 4, 4, act_sparsity=0.5)
    assert text.endswith("left out: dtqatten skips nothing")
    assert refusal(machine.gemm_cycles, PAPER, 128, 64, 64).startswith("N=64")
    assert refusal(machine.gemm_cycles, PAPER, 129, 64, 129).startswith("M (tokens)=129")


@pytest.mark.minilm
def test_a_real_block() -> None:
    case = dtqatten_model_case("minilm:1:40", PAPER)
    case.check(PAPER)
    assert case.name == "minilm:1:40"
    assert (case.heads, case.tokens, case.head_size) == (12, 40, 32)
    kept, high = counts(40, *ATTENTION_SHARES)
    assert (case.kept, int(case.high.sum()), case.next_kept, case.next_high) == (kept, high, kept, high)
    q, k, v = (values[:, case.positions] for values in attention_operands(1))
    weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(32))
    exact = weights / weights.sum(axis=-1, keepdims=True) @ v
    correlation = np.corrcoef(case.result.outputs.reshape(-1), exact.reshape(-1))[0, 1]
    assert correlation > 0.97


@pytest.mark.minilm
def test_shares_of_a_real_block() -> None:
    for spec in ("minilm:2:20:0.5:0.25", "minilm:2:0.5:0.3125"):
        case = dtqatten_model_case(spec, TINY)
        high = int(case.high.sum())
        assert (case.kept, high) == ((10, 5) if case.tokens == 20 else (8, 5))
    assert dtqatten_model_case("minilm:2:20:1.0:0.0", TINY).bits.tolist() == [4] * 20


@pytest.mark.minilm
def test_real_blocks_that_are_not_there() -> None:
    assert dtqatten_model_case("minilm:0", TINY).tokens == TINY.tokens_max
    wrong = ("minilm:0:0", "minilm:0:9999", "minilm:0:x", "minilm:q", "minilm", "bert:0")
    for spec in (*wrong, "minilm:0:8:0.5", "minilm:0:1.5:0.5", "minilm:0:8:.:.", "minilm:0:8:0.5:1.1"):
        assert refusal(dtqatten_model_case, spec, TINY).startswith(f"model='{spec}'")
    with pytest.raises(ParameterError):
        dtqatten_model_case("minilm:6", TINY)
