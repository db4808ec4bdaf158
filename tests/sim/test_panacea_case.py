"""Panacea's cases: golden results and counts, case files, and one clear error for what a machine cannot hold."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.errors import BitfabricError
from bitfabric.quant.panacea import act_sparsity, calibrate_acts, calibrate_weights, weight_sparsity
from bitfabric.quant.panacea.post import activation_table
from bitfabric.quant.pwl import evaluate
from bitfabric.quant.requant import requantize
from bitfabric.sim.models import panacea_model_case
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_random import random_case, random_cases, random_chain
from bitfabric.sim.simulate import simulate
from bitfabric.sim.workloads.minilm import gemm_operands

TINY = PanaceaConfig.preset("tiny")
SMALL = PanaceaConfig.preset("small")
RNG = np.random.default_rng(0)
ACTS, WEIGHTS = RNG.integers(0, 256, (3, 9)), RNG.integers(-64, 64, (9, 5))
TABLE = activation_table("relu", 1.0, 20.0, 7, 8)
POST = {
    "multiplier": np.array([1, 2, 3, 4, 5]),
    "shift": np.array([6, 5, 4, 3, 2]),
    "table": TABLE,
}


def case_of(**fields):
    return PanaceaCase(**{"acts": ACTS, "weights": WEIGHTS, "zero_point": 100, **fields})


def refusal(call, *args, **kwargs):
    with pytest.raises(BitfabricError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("low_bits", [4, 5, 6])
def test_golden_accumulators(low_bits):
    bias = np.arange(5) - 2
    case = case_of(bias=bias, low_bits=low_bits)
    kept = ACTS >> (low_bits - 4) << (low_bits - 4)
    np.testing.assert_array_equal(case.golden(), kept @ WEIGHTS + bias)
    assert case.golden().shape == (case.m, case.n) == (3, 5)
    assert case.k == 9
    # What the machine adds has the fold in it, of the skipped slice.
    fold = (100 >> low_bits << low_bits) * WEIGHTS.sum(axis=0)
    np.testing.assert_array_equal(case.folded_bias(), bias + fold)


def test_golden_codes():
    case = case_of(bias=np.arange(5) * 50, **POST, next_bits=4)
    acc = ACTS @ WEIGHTS
    codes = requantize(acc, POST["multiplier"], POST["shift"], 0, -2048, 2047, np.arange(5) * 50)
    np.testing.assert_array_equal(case.golden(), np.clip(evaluate(TABLE, codes), 0, 15))


def brute_counts(config, case):
    """Count outer products and reads one vector at a time."""
    slicing, r = case.slicing, case.slicing.skipped(case.zero_point)
    high_w = case.result.weight_keep if slicing.weight_slices > 1 else None
    high_x = case.result.act_keep if slicing.act_slices > 1 else None
    rows, columns = -(-case.n // 4), -(-case.m // 4)
    dense_w, dense_x = max(slicing.weight_slices - 1, 1), max(slicing.act_slices - 1, 1)
    static = dynamic = 0
    for k in range(case.k):
        kept_w = 0 if high_w is None else int(high_w[:, k].sum())
        kept_x = 0 if high_x is None else int(high_x[k].sum())
        static += rows * dense_w * columns * dense_x
        dynamic += kept_w * columns * dense_x + rows * dense_w * kept_x + kept_w * kept_x

    def stored(keep):
        total = 0
        for row in keep:
            for first in range(0, case.k, config.tile_k):
                run = 0
                for kept in row[first : first + config.tile_k]:
                    total += (1 + run // 16) * kept
                    run = 0 if kept else run + 1
        return total

    reads_w = rows * dense_w * case.k + (0 if high_w is None else stored(high_w))
    reads_x = columns * dense_x * case.k + (0 if high_x is None else stored(high_x.T))
    m_step = config.m_step * (2 if case.dtp else 1)
    assert 0 <= r < 16
    return {
        "static_products": static,
        "dynamic_products": dynamic,
        "wmem_reads": reads_w * -(-case.m // config.tile_n),
        "amem_reads": reads_x * -(-case.n // m_step),
    }


@pytest.mark.parametrize("config", [TINY, SMALL], ids=["tiny", "small"])
def test_counts(config):
    for case in random_cases(config, 5, 25):
        assert case.counts(config) == brute_counts(config, case), case.name


@pytest.mark.parametrize("fields", [{}, {"bias": np.arange(5), **POST, "dtp": True, "keep": True}])
def test_round_trip(fields, tmp_path):
    scalars = {"act_bits": 8, "low_bits": 5, "next_bits": 12, "next_zero_point": 99, "resident": True}
    case = case_of(name="x", **fields, **scalars)
    case.save(tmp_path / "x.npz")
    again = PanaceaCase.load(tmp_path / "x.npz")
    for field in dataclasses.fields(PanaceaCase):
        value, other = getattr(case, field.name), getattr(again, field.name)
        np.testing.assert_array_equal(value, other) if isinstance(value, np.ndarray) else None
        assert isinstance(value, np.ndarray) or value == other, field.name
    np.testing.assert_array_equal(again.golden(), case.golden())


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "x.npz"
    holds = (
        "a case file holds acts (M, K) and weights (K, N), and optionally bias, multiplier, shift, table_slopes, "
        "table_offsets, weight_bits, act_bits, low_bits, zero_point, next_bits, next_low_bits, next_zero_point, "
        "dtp, resident, stream_weights, from_omem, keep"
    )
    np.savez(path, acts=ACTS)
    assert refusal(PanaceaCase.load, path) == f"{path} lacks weights; {holds}"
    np.savez(path, acts=ACTS, weights=WEIGHTS, low=3)
    assert refusal(PanaceaCase.load, path) == f"{path} has unknown arrays low; {holds}"
    np.savez(path, acts=ACTS, weights=WEIGHTS, keep=2)
    assert refusal(PanaceaCase.load, path) == "keep=2 is not allowed; it must be an integer in [0, 1]"
    np.savez(path, acts=ACTS, weights=WEIGHTS, table_slopes=np.zeros(32, int))
    assert (
        refusal(PanaceaCase.load, path) == "table_slopes alone: a table takes table_slopes and table_offsets"
    )


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"acts": ACTS * 1.0}, "acts='float64(3, 9)' is not allowed; it must be a matrix of integers"),
        ({"weights": WEIGHTS[1:]}, "weights=(8, 5) is not allowed; it must be of shape (K, N) with K=9 as in acts"),
        ({"bias": np.zeros(3, int)}, "bias='int64(3,)' is not allowed; it must be integers of shape (5,)"),
        ({"zero_point": 256}, "zero_point=256 is not allowed; it must be an integer in [0, 255]"),
        ({"act_bits": 12, "low_bits": 5}, "low_bits=5 is not allowed; it must be 4 with 12-bit activations; 5 and 6 need 8 bits"),
        ({"act_bits": 6}, "act_bits=6 is not allowed; it must be one of 4, 8, 12"),
        ({"act_bits": 4, "zero_point": 16}, "zero_point=16 is not allowed; it must be an integer in [0, 15]"),
        ({"weight_bits": 8}, "weight_bits=8 is not allowed; it must be one of 4, 7, 10"),
        ({"next_bits": 7}, "next_bits=7 is not allowed; it must be one of 4, 8, 12, 16"),
        ({"next_bits": 4, "next_low_bits": 6}, "next_low_bits=6 is not allowed; it must be one of 4"),
        ({"next_zero_point": -1}, "next_zero_point=-1 is not allowed; it must be an integer in [0, 255]"),
        ({"shift": POST["shift"]}, "multiplier, table missing: post-processing takes multiplier, shift and table"),
        ({"keep": True}, "keep=True is not allowed; it must be false where accumulators come out"),
    ],
)  # fmt: skip
def test_what_is_no_case(fields, text):
    assert refusal(case_of, **fields) == text


@pytest.mark.parametrize(
    ("options", "fields", "text"),
    [
        ({"k_max": 8}, {}, "K=9 is not allowed; it must be an integer in [1, 8]"),
        ({"acc_bits": 20, "k_max": 32}, {"weight_bits": 10}, "K=9 is not allowed; it must be such that weight_bits + act_bits + ceil(log2 K) = 22 is at most acc_bits=20"),
        ({"max_act_bits": 4}, {}, "act_bits=8 is not allowed; it must be at most 4 in this configuration"),
        ({}, {"acts": ACTS - 1}, f"acts={ACTS.min() - 1} is not allowed; it must be in [0, 255]"),
        ({}, {"weights": np.full((9, 5), 64)}, "weights=64 is not allowed; it must be in [-64, 63]"),
        ({}, {"bias": np.full(5, 2**31)}, "bias=2147483648 is not allowed; it must be in [-2147483648, 2147483647]"),
        (
            {},
            {"bias": np.full(5, 2**31 - 1), "weights": np.full((9, 5), 1)},
            "bias + fold=2147484511 is not allowed; it must be in [-2147483648, 2147483647]",
        ),
        ({"dtp": False}, {"dtp": True}, "dtp=True is not allowed; it must be false: this configuration has no double-tile processing"),
        ({"max_act_bits": 8}, {**POST, "next_bits": 12}, "next_bits=12 is not allowed; it must be at most 8 in this configuration"),
        ({}, {**POST, "shift": np.zeros(5, int)}, "shift=0 is not allowed; it must be in [1, 62]"),
        ({"wmem_words": 15}, {}, "wmem_words=15 is not allowed; it must be at least 16 for the weights of 8 output channels, unless `stream_weights` is set"),
        ({"wmem_words": 15}, {"stream_weights": True}, None),
        ({"wmem_words": 10}, {"stream_weights": True}, "wmem_words=10 is not allowed; it must be at least 11 for a tile of weights"),
        ({"amem_words": 8}, {"acts": np.full((3, 9), 255)}, None),
        ({"amem_words": 8}, {"acts": np.full((3, 9), 255), "resident": True}, "amem_words=8 is not allowed; it must be at least 9 for all activations: `resident` is set"),
        ({"omem_words": 30}, {**POST, "next_bits": 12}, "omem_words=30 is not allowed; it must be at least 32 for two tiles of outputs"),
        ({"omem_words": 14}, {**POST, "next_bits": 12, "keep": True}, "omem_words=14 is not allowed; it must be at least 16 to keep the outputs"),
        ({"omem_records": 1}, {**POST, "acts": np.ones((9, 9), int), "keep": True}, "omem_records=1 is not allowed; it must be at least 2 to keep the outputs"),
    ],
)  # fmt: skip
def test_what_a_machine_cannot_hold(options, fields, text):
    case = case_of(**{"weights": np.full((9, 5), 63), **fields})
    if options:
        case.check(TINY)
    config = PanaceaConfig.preset("tiny", **options)
    if text is None:
        case.check(config)
    else:
        assert refusal(case.check, config) == text


def test_double_tiles_need_room_for_both():
    # 16 words for each of three weight tiles, computed by hand: 11 under the first K tile, 5 under the second.
    config = PanaceaConfig.preset("tiny", wmem_words=31)
    case = case_of(weights=np.full((9, 24), 63))
    case.check(config)
    assert refusal(dataclasses.replace(case, dtp=True).check, config) == (
        "wmem_words=31 is not allowed; it must be at least 32 for the weights of 16 output channels, unless `stream_weights` is set"
    )


def test_other_table():
    case = case_of(**POST)
    text = refusal(case.check, PanaceaConfig.preset("tiny", segments=16))
    assert text.startswith(
        "table={'in_bits': 12, 'out_bits': 12, 'out_signed': False, 'segments': 32} is not"
    )
    assert text.endswith("'segments': 16}")


def test_an_accumulator_beyond_32_bits_is_refused():
    acts, weights = np.full((1, 1), 255), np.full((1, 1), 63)
    case = PanaceaCase(acts=acts, weights=weights, bias=np.array([2**31 - 1]))
    assert refusal(case.golden).startswith("acc + bias=2147499712 is not allowed")


@pytest.mark.parametrize("preset", ["tiny", "small", "paper"])
def test_random_cases(preset):
    config = PanaceaConfig.preset(preset)
    cases = random_cases(config, 11, 80)
    for case in cases:
        case.check(config)
        case.golden()
    for name, values in (
        ("weight_bits", {4, 7, 10}),
        ("act_bits", {4, 8, 12}),
        ("low_bits", {4, 5, 6}),
        *((flag, {False, True}) for flag in ("codes", "dtp", "resident", "stream_weights")),
    ):
        assert {getattr(case, name) for case in cases} == values, name
    assert sum(len(np.unique(case.golden())) > 4 for case in cases if case.codes) >= 5
    for again, case in zip(random_cases(config, 11, 3), cases[:3], strict=True):
        assert again.name == case.name
        np.testing.assert_array_equal(again.acts, case.acts)
        np.testing.assert_array_equal(again.weights, case.weights)
    narrow = PanaceaConfig.preset(preset, max_weight_bits=7, max_act_bits=8, acc_bits=17, dtp=False, k_max=3)
    assert max(case.k for case in random_cases(narrow, 1, 20)) <= 3


def test_random_sparsities_and_runs():
    rng = np.random.default_rng(1)
    cases = [random_case(SMALL, rng, 40, 64, 40, weight_bits=7, act_bits=8) for _ in range(30)]
    for shares in (
        [weight_sparsity(case.weights.T).vector for case in cases],
        [act_sparsity(case.acts.T, case.zero_point, 8, case.low_bits).vector for case in cases],
    ):
        assert min(shares) < 0.05
        assert max(shares) > 0.95
        assert any(0.2 < share < 0.8 for share in shares)
    storages = [
        storage(SMALL.tile_k)
        for case in cases
        for storage in (case.result.act_storage, case.result.weight_storage)
    ]
    assert sum(storage.forced > 0 for storage in storages) > 5


def test_chains():
    for seed in range(10):
        cases = random_chain(SMALL, np.random.default_rng(seed), 11, [40, 33, 20, 6])
        assert [case.k for case in cases] == [40, 33, 20]
        for before, case in pairwise(cases):
            assert before.keep
            assert case.from_omem
            np.testing.assert_array_equal(before.golden(), case.acts)
            taken = (before.next_bits, before.next_low_bits, before.next_zero_point)
            assert taken == (case.act_bits, case.low_bits, case.zero_point)
        for case in cases:
            case.check(SMALL)
        assert not cases[-1].keep


def test_a_real_layer():
    config = PanaceaConfig()
    try:
        case = panacea_model_case("minilm:2.ffn2:16", config)
    except BitfabricError as error:
        pytest.skip(str(error))
    case.check(config)
    assert (case.m, case.k, case.n) == (16, 1536, 384)
    # WMEM holds one weight tile of this K, not two.
    assert (case.dtp, case.resident) == (False, True)
    assert panacea_model_case("minilm:2.q:16", config).dtp
    operands = gemm_operands(2, "ffn2")
    real = operands.act[:16] @ operands.weight + operands.bias
    scale = calibrate_weights(operands.weight.T, per_channel=True).scale.reshape(-1)
    ours = case.golden() * scale * calibrate_acts(operands.act.T, zpm="auto").scale
    assert np.linalg.norm(ours - real) / np.linalg.norm(real) < 0.03
    for spec in ("minilm:2.ffn2:0", "minilm:2.ffn2:129", "minilm:2.ffn2:", "bert:2"):
        assert refusal(panacea_model_case, spec, config).startswith(
            f"model='{spec}' is not allowed; it must be of"
        )


def test_minilm_is_named():
    text = refusal(panacea_model_case, "minilm:9.q:3", PanaceaConfig())
    assert text.startswith("model='9.q' is not allowed; it must be LAYER.NAME with LAYER 0 to 5")


def test_flags_of_a_case_file_may_be_booleans(tmp_path):
    operands = {"acts": np.ones((2, 3), np.uint8), "weights": np.ones((3, 4), np.int8)}
    for value in (True, 1):
        np.savez(tmp_path / "x.npz", **operands, resident=value)
        assert PanaceaCase.load(tmp_path / "x.npz").resident is True
    np.savez(tmp_path / "x.npz", **operands, resident=2)
    with pytest.raises(BitfabricError, match=r"^resident=2 is not allowed"):
        PanaceaCase.load(tmp_path / "x.npz")


def test_what_no_layer_kept_is_refused():
    config = PanaceaConfig.preset("tiny")
    chain = random_chain(config, np.random.default_rng(0), 3, [5, 8, 4])
    with pytest.raises(
        BitfabricError, match="from_omem=True is not allowed; it must be false: no case before"
    ):
        simulate("panacea", config, chain[1:])
