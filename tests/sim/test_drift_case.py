"""Drift's cases: golden results, case files, random and real layers, and one clear error for what a machine cannot hold."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.quant.drift import (
    NEVER,
    MixedOperand,
    Pooling,
    PostProcess,
    drift_layer,
    pool,
    saturate,
    select_rows,
    statistics,
)
from bitfabric.quant.errors import BitfabricError
from bitfabric.quant.pwl import PwlFormat, evaluate, fit
from bitfabric.quant.requant import requantize
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_limits import check_sequence
from bitfabric.sim.drift_options import Precision, threshold_for
from bitfabric.sim.drift_random import random_case, random_cases, random_chain, random_shared
from bitfabric.sim.models import drift_model_case
from bitfabric.sim.workloads.minilm import minilm_case

TINY = DriftConfig.preset("tiny")
SMALL = DriftConfig.preset("small")
RNG = np.random.default_rng(0)
ACTS = RNG.integers(-128, 128, (12, 9))
ACTS[::2] //= 16
BITS, CLIP = np.array([8, 4, 6, 2, 4]), np.array([0, 4, 2, 1, 0])
WEIGHTS = np.stack([RNG.integers(-(2 ** (b - 1)), 2 ** (b - 1), 9) for b in BITS], axis=1)
POST = {
    "bias": np.arange(5) * 100,
    "multiplier": np.array([1, 2, 3, 4, 5]),
    "shift": np.array([6, 5, 4, 3, 2]),
}
TABLE = fit("gelu", 1 / 32, 1 / 32)
POOL = Pooling(height=3, width=2, kernel=(2, 1), stride=2)


def case_of(**fields):
    defaults = {"acts": ACTS, "weights": WEIGHTS, "weight_bits": BITS, "weight_clip": CLIP}
    return DriftCase(**{**defaults, "threshold": 40.0, **fields})


def refusal(call, *args, **kwargs):
    with pytest.raises(BitfabricError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("rows", [1, 5, 20])
def test_golden_accumulators(rows):
    case = case_of(subtensor_rows=rows)
    low = 0
    for first in range(0, 12, rows):
        block = np.clip(ACTS[first : first + rows], -127, 127)
        n, most, total = block.size, np.abs(block).max(), np.abs(block).sum()
        hc = max(hc for hc in range(5) if most << hc <= 127)
        lc = 4 - hc
        # Eq. (6): the variance against the step between values, in units of the scale.
        if 2 * (total / n) ** 2 / 2**lc >= 40.0:
            low += len(block)
            block = np.clip((block + (1 << lc >> 1)) >> lc, -8, 7) << lc
        np.testing.assert_array_equal(case.golden()[first : first + rows], block @ (WEIGHTS << CLIP))
    assert case.counts == (12 - low, low, 2, 3, 1, 1)
    assert case.rows.saturated == (ACTS < -127).sum()
    np.testing.assert_array_equal(case.stored(), case.golden()[:, [0, 2, 1, 3, 4]])
    assert (case.m, case.k, case.n, case.m_out) == (12, 9, 5, 12)


@pytest.mark.parametrize(
    ("threshold", "fields"),
    [(40.0, {}), (30.0, {"act_high_bits": 6, "act_low_bits": 3, "truncate": True, "subtensor_rows": 5})],
)
def test_golden_is_the_golden_layer(threshold, fields):
    case = case_of(**POST, **fields, threshold=threshold, scale=0.5, pool=POOL, table=TABLE)
    weights = MixedOperand(WEIGHTS.astype(np.int8), BITS <= 4, BITS, CLIP)
    layer = drift_layer(
        ACTS,
        weights,
        scale=0.5,
        threshold=threshold,
        rows_per_subtensor=case.subtensor_rows,
        high_bits=case.act_high_bits,
        low_bits=case.act_low_bits,
        rounding="truncate" if case.truncate else "half_up",
        post=PostProcess(**POST, table=TABLE, pooling=POOL),
    )
    np.testing.assert_array_equal(case.golden(), layer.output)
    np.testing.assert_array_equal(case.selection.low, layer.selection.low)
    assert 0 < case.selection.low.sum() < case.selection.low.size


def test_golden_bytes():
    acc = case_of().golden()
    bounds = {"low": -100, "high": 90, "zero_point": 5}
    bytes_out = requantize(acc, POST["multiplier"], POST["shift"], 5, -100, 90, POST["bias"])
    case = case_of(**POST, **bounds)
    np.testing.assert_array_equal(case.golden(), bytes_out)
    of_table = evaluate(TABLE, bytes_out)
    np.testing.assert_array_equal(dataclasses.replace(case, table=TABLE).golden(), of_table)
    pooled = dataclasses.replace(case, table=TABLE, pool=POOL)
    np.testing.assert_array_equal(pooled.golden(), pool(of_table, 3, 2, (2, 1), 2))
    assert pooled.m_out == len(pooled.golden()) == 2 * 1 * 1


def test_thresholds_given_as_integers():
    found = np.clip(np.abs(ACTS), 0, 127)
    hc = np.floor(np.log2(127 / found.max(axis=1))).astype(int).clip(0, 4)
    reach = found.sum(axis=1) ** 2 << hc
    for row in range(3):
        for more in (0, 1):
            case = case_of(threshold_int=int(reach[row]) + more)
            np.testing.assert_array_equal(case.selection.low, reach >= reach[row] + more)
    assert not case_of(threshold_int=NEVER).selection.low.any()
    # The tail's own T, where there is one.
    case = case_of(subtensor_rows=5, threshold_int=NEVER, threshold_tail_int=0)
    assert case.selection.low.tolist() == [False, False, True]
    case = case_of(subtensor_rows=4, threshold_int=NEVER, threshold_tail_int=0)
    assert not case.selection.low.any()
    assert Precision(subtensor_rows=5, scale=0.5, threshold=3.0).limits(12, 9) == (
        45**2 * 3 * 16,
        18**2 * 3 * 16,
    )


def test_threshold_for_a_share():
    found = statistics(saturate(ACTS)[0])
    for low in range(13):
        limit = threshold_for(found, low, 0.3)
        chosen = select_rows(ACTS, 0.3, limit)
        assert chosen.low.sum() >= low
        if low:
            assert select_rows(ACTS, 0.3, np.nextafter(limit, np.inf)).low.sum() < low


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**POST, "table": TABLE, "pool": POOL, "keep": True, "next_subtensor_rows": 2, "next_threshold_int": NEVER},
        {**POST, "pool": dataclasses.replace(POOL, kind="average"), "low": -3, "zero_point": 4, "resident": True},
        {"threshold": float("inf"), "truncate": True, "act_high_bits": 7, "threshold_tail_int": 9, "subtensor_rows": 5},
    ],
)  # fmt: skip
def test_round_trip(fields, tmp_path):
    case = case_of(name="x", **fields)
    case.save(tmp_path / "x.npz")
    again = DriftCase.load(tmp_path / "x.npz")
    for field in dataclasses.fields(DriftCase):
        value, other = getattr(case, field.name), getattr(again, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other)
        else:
            assert value == other, field.name
    np.testing.assert_array_equal(again.golden(), case.golden())


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, acts=ACTS, weights=WEIGHTS)
    case = DriftCase.load(path)
    assert (case.weight_bits == 8).all()
    assert (case.weight_clip == 0).all()
    for extra, text in (
        ({"keep": 2}, "keep=2 is not allowed; it must be an integer in [0, 1]"),
        ({"scale": [1, 2]}, "scale=[1, 2] is not allowed; it must be one real number"),
        ({"threshold": -0.5}, "threshold=-0.5 is not allowed; it must be at least 0 (infinity: never low precision)"),
        ({"table_slopes": np.zeros(32, int)}, "table_slopes alone: a table takes table_slopes and table_offsets"),
        ({"pool_average": 1}, "pool_average alone: pooling takes pool_height and pool_width and"),
        ({"pool_stride": 1, "pool_width": 2}, "pool_width, pool_stride alone: pooling takes pool_height and"),
    ):  # fmt: skip
        np.savez(path, acts=ACTS, weights=WEIGHTS, **extra)
        assert refusal(DriftCase.load, path).startswith(text)
    np.savez(path, acts=ACTS, weights=WEIGHTS, lows=3)
    assert "has unknown arrays lows; a case file holds acts (M, K)" in refusal(DriftCase.load, path)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"acts": ACTS * 1.0}, "acts='float64(12, 9)' is not allowed; it must be a matrix of integers"),
        ({"weights": WEIGHTS[1:]}, "weights=(8, 5) is not allowed; it must be of shape (K, N) with K=9 as in acts"),
        ({"acts": ACTS[:0]}, "acts, weights=(0, 9, 5) is not allowed; it must be M, K and N of at least 1"),
        ({"weight_bits": BITS[:2]}, "weight_bits='int64(2,)' is not allowed; it must be integers of shape (5,)"),
        ({"weight_bits": BITS * 2}, "weight_bits=16 is not allowed; it must be in [1, 8]"),
        ({"shift": POST["shift"]}, "bias, multiplier missing: requantization takes bias, multiplier and shift"),
        ({"keep": True}, "keep=True is not allowed; it must be absent where accumulators come out"),
        ({"act_low_bits": 9}, "act_low_bits=9 is not allowed; it must be an integer in [1, 8]"),
        ({"next_high_bits": 1}, "next_high_bits=1 is not allowed; it must be an integer in [2, 8]"),
        ({"next_threshold": -1.0}, "next_threshold=-1.0 is not allowed; it must be at least 0 (infinity: never low precision)"),
        ({"subtensor_rows": 0}, "subtensor_rows=0 is not allowed; it must be an integer in [1, 65535]"),
        ({"scale": 0.0}, "scale=0.0 is not allowed; it must be positive and finite"),
        ({"threshold_int": NEVER + 1}, f"threshold_int={NEVER + 1} is not allowed; it must be an integer in [0, {NEVER}]"),
        ({**POST, "pool": Pooling(height=5, width=1, kernel=2)}, "M=12 is not allowed; it must be whole images of 5 x 1 positions for pooling"),
        ({**POST, "pool": Pooling(height=12, width=1, kernel=9)}, "kernel=9 is not allowed; it must be an integer in [1, 8]"),
        ({**POST, "pool": Pooling(height=4, width=3, kernel=2, stride=(1, 2))}, "stride=(1, 2) is not allowed; it must be the same along height and width"),
        ({**POST, "pool": Pooling(height=4, width=3, kernel=2, padding=1, kind="average")}, "padding=1 is not allowed; it must be an integer in [0, 0]"),
        ({**POST, "pool": Pooling(height=1, width=12, kernel=2)}, "kernel=(2, 2) is not allowed; it must be at most the padded image, (1, 12)"),
    ],
)  # fmt: skip
def test_what_is_no_case(fields, text):
    assert refusal(case_of, **fields) == text


HIGH = {"threshold_int": NEVER}
LOW = {"threshold_int": 0}


@pytest.mark.parametrize(
    ("options", "fields", "text"),
    [
        ({"m_max": 11}, {}, "M=12 is not allowed; it must be an integer in [1, 11]"),
        ({"k_max": 8}, {}, "K=9 is not allowed; it must be an integer in [1, 8]"),
        ({}, {"acts": ACTS + 128}, f"acts={ACTS.max() + 128} is not allowed; it must be in [-128, 127]"),
        ({}, {"weights": np.full((9, 5), 8)}, "weights=8 is not allowed; it must be within channel 1's 4 bits, two's complement"),
        ({}, {"weights": np.full((9, 5), -3)}, "weights=-3 is not allowed; it must be within channel 3's 2 bits, two's complement"),
        ({}, {"weight_clip": CLIP + 1}, "weight_clip=1 is not allowed; it must be at most 0 with channel 0's 8 bits"),
        ({}, {**POST, "shift": np.zeros(5, int)}, "shift=0 is not allowed; it must be in [1, 62]"),
        ({}, {**POST, "low": 5, "high": 4}, "low=5 is not allowed; it must be at most high=4"),
        ({}, {**POST, "zero_point": 1}, "high + zero_point=128 is not allowed; it must be an integer in [-128, 127]"),
        ({"staging_beats": 10}, {"subtensor_rows": 5}, None),
        ({"staging_beats": 10}, {"subtensor_rows": 6}, "staging_beats=10 is not allowed; it must be at least 12 for a sub-tensor of 6 rows of the activations"),
        ({"staging_beats": 24}, {"subtensor_rows": 99}, None),
        ({"high_words": 22}, HIGH, "high_words=22 is not allowed; it must be at least 24 for 12 high-precision rows of the activations"),
        ({"high_words": 22, "low_words": 12}, LOW, None),
        ({"low_words": 10}, LOW, "low_words=10 is not allowed; it must be at least 12 for 12 low-precision rows of the activations"),
        # Nibble alignment stores 5 bits in 8.
        ({"low_words": 22}, {"act_low_bits": 5, **LOW}, "low_words=22 is not allowed; it must be at least 24 for 12 low-precision rows of the activations"),
        ({"low_words": 22, "alignment": "bit"}, {"act_low_bits": 4, **LOW}, None),
        ({"weight_words": 2}, {}, "weight_words=2 is not allowed; it must be at least 3 for the weights of a granule of K=9"),
        ({"granules_max": 1}, {}, "granules_max=1 is not allowed; it must be at least 2 for the parameters of N=5 channels"),
        ({"lanes": 8, "granules_max": 2}, {}, "granules_max=2 is not allowed; it must be at least 3 for the parameters of N=5 channels"),
        ({"rows": 1}, {}, "rows=1 is not allowed; it must be at least 2 for activations of both precisions"),
        ({"rows": 1}, LOW, None),
        ({"columns": 1}, {}, "columns=1 is not allowed; it must be at least 2 for weights of both precisions"),
        ({"columns": 1}, {"weight_bits": np.full(5, 8), "weight_clip": np.zeros(5, int)}, None),
        ({"out_words": 46}, {}, "out_words=46 is not allowed; it must be at least 48 for the accumulators"),
        ({"out_words": 12}, POST, None),
        ({"out_words": 10}, POST, "out_words=10 is not allowed; it must be at least 12 for the bytes"),
        ({"staging_beats": 4}, {**POST, "keep": True, "next_subtensor_rows": 5}, "staging_beats=4 is not allowed; it must be at least 5 for a sub-tensor of 5 rows of the results that are kept"),
        ({"high_words": 10}, {**POST, **LOW, "keep": True, "next_threshold_int": NEVER}, "high_words=10 is not allowed; it must be at least 12 for 12 high-precision rows of the results that are kept"),
    ],
)  # fmt: skip
def test_what_a_machine_cannot_hold(options, fields, text):
    case = case_of(**fields)
    config = DriftConfig.preset("tiny", **options)
    if text is None:
        case.check(config)
    else:
        assert refusal(case.check, config) == text


def test_other_table():
    case = case_of(**POST, table=TABLE)
    case.check(TINY)
    text = refusal(case.check, DriftConfig.preset("tiny", segments=16))
    assert text.startswith("table={'in_bits': 8, 'out_bits': 8, 'out_signed': True, 'segments': 32} is not")
    assert text.endswith("'segments': 16}")
    assert PwlFormat(segments=16) == DriftConfig.preset("tiny", segments=16).pwl


def test_an_accumulator_beyond_32_bits_is_refused():
    case = case_of(**{**POST, "bias": np.full(5, 2**31 - 1)})
    assert refusal(case.golden).startswith("acc + bias=")


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_random_cases(preset, alignment):
    config = DriftConfig.preset(preset, alignment=alignment)
    cases = random_cases(config, 11, 60)
    for case in cases:
        case.check(config)
        case.golden()
    for name, values in (
        ("truncate", {False, True}),
        ("requantized", {False, True}),
    ):
        assert values <= {getattr(case, name) for case in cases}, name
    assert len({(case.act_high_bits, case.act_low_bits) for case in cases}) > 10
    kinds = {(bool(c.counts.m_high), bool(c.counts.m_low)) for c in cases}
    assert kinds == {(True, False), (False, True), (True, True)}
    assert kinds == {(bool(c.counts.n_high), bool(c.counts.n_low)) for c in cases}
    assert any(case.m > config.acc_depth for case in cases)
    assert any(case.m == 1 for case in cases)
    assert {case.pool.kind for case in cases if case.pool} == {"max", "average"}
    assert any(case.table for case in cases)
    assert any(1 < case.subtensor_rows < case.m for case in cases)
    assert any(case.rows.saturated for case in cases)
    assert sum(len(np.unique(case.golden())) > 4 for case in cases if case.requantized) >= 5
    for again, case in zip(random_cases(config, 11, 3), cases[:3], strict=True):
        assert again.name == case.name
        np.testing.assert_array_equal(again.acts, case.acts)
        np.testing.assert_array_equal(again.weights, case.weights)


def test_random_case_takes_what_is_given():
    rng = np.random.default_rng(0)
    given = {"subtensor_rows": 3, "threshold": 0.0, "scale": 2.0, "truncate": True}
    case = random_case(
        SMALL, rng, 6, 4, 5, requantized=False, **given, weight_bits=BITS, act_high_bits=5, act_low_bits=2
    )
    for name, value in given.items():
        assert getattr(case, name) == value
    assert (case.act_high_bits, case.act_low_bits) == (5, 2)
    assert case.counts == (0, 6, 2, 3, 1, 1)
    assert not case.requantized
    assert random_case(SMALL, rng, 6, 4, 5, pool=POOL).requantized


def test_chains():
    pooled = 0
    for seed in range(10):
        cases = random_chain(SMALL, np.random.default_rng(seed), 12, [40, 33, 20, 6])
        assert [case.k for case in cases] == [40, 33, 20]
        for before, case in pairwise(cases):
            assert before.keep
            assert case.resident
            np.testing.assert_array_equal(before.stored(), case.acts)
            assert before.next_precision == case.precision
            np.testing.assert_array_equal(before.next_rows.values, case.rows.values)
            pooled += before.pool is not None
        for case in cases:
            case.check(SMALL)
        assert not cases[-1].keep
    assert pooled
    assert random_chain(SMALL, np.random.default_rng(0), 3, [4, 5], keep_last=True)[0].keep


def test_layers_of_the_same_activations():
    cases = random_shared(SMALL, np.random.default_rng(4), 9, 12, [3, 20, 1])
    assert [case.resident for case in cases] == [False, True, True]
    assert [case.n for case in cases] == [3, 20, 1]
    for case in cases[1:]:
        np.testing.assert_array_equal(case.acts, cases[0].acts)
        assert case.precision == cases[0].precision


def test_a_real_layer():
    config = DriftConfig()
    try:
        case = drift_model_case("minilm:2.ffn2:16", config)
    except BitfabricError as error:
        pytest.skip(str(error))
    case.check(config)
    assert (case.m, case.k, case.n) == (16, 1536, 384)
    assert case.counts.n_low == round(0.7 * 384)
    for spec, m, low in (
        ("0.q", 128, 90),
        ("2.ffn1", 64, None),
        ("0.q:0.25", 128, 32),
        ("0.q:1.0", 128, 128),
    ):
        case = drift_model_case(f"minilm:{spec}", config)
        case.check(config)
        assert case.m == m
        assert low is None or case.counts.m_low in (low, low + 1)
    dense = drift_model_case("minilm:0.o:8:0.0", config)
    assert dense.counts[:4] == (8, 0, 384, 0)
    np.testing.assert_array_equal(dense.golden(), minilm_case("0.o").output()[:8])
    for spec in (
        "minilm:2.ffn2:0",
        "minilm:2.ffn2:129",
        "minilm:2.ffn2:",
        "bert:2",
        "minilm:0.q:1.5",
        "minilm:0.q:.",
    ):
        text = refusal(drift_model_case, spec, config)
        assert text.startswith(
            f"model='{spec}' is not allowed; it must be of the form minilm:LAYER.NAME[:TOKENS]"
        )
    text = refusal(drift_model_case, "minilm:9.q:3", config)
    assert text.startswith("model='9.q' is not allowed; it must be LAYER.NAME with LAYER 0 to 5")


def test_what_no_layer_left_is_refused():
    rng = np.random.default_rng(0)
    chain, shared = random_chain(SMALL, rng, 3, [5, 8, 4]), random_shared(SMALL, rng, 3, 5, [2, 2, 2])
    check_sequence([*chain, *shared, *random_cases(SMALL, 0, 3)])
    text = "resident=True is not allowed; it must be false: "
    assert refusal(check_sequence, chain[1:]) == text + "no case before this one brings activations"
    for cases in ([*chain, shared[1]], [chain[0], chain[0], shared[2]], [shared[0], chain[1]]):
        assert refusal(check_sequence, cases).startswith(text + "activations or precisions are not")
    other = dataclasses.replace(shared[1], act_high_bits=7, act_low_bits=7)
    assert refusal(check_sequence, [shared[0], other]).startswith(text + "activations or precisions are not")
