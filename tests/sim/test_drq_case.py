"""DRQ's cases: golden results, case files, random and real layers, and one clear error for what is no case."""

import dataclasses

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.drq import Convolution, convert, drq_layer
from bitfabric.quant.errors import BitfabricError
from bitfabric.quant.requant import ACC_MAX
from bitfabric.sim.drq_case import DrqCase
from bitfabric.sim.drq_limits import check_dimensions, fits, rows_max
from bitfabric.sim.drq_model import drq_model_case
from bitfabric.sim.drq_random import random_case, random_cases, random_convolution
from bitfabric.sim.workloads.minilm import minilm_case

TINY = DrqConfig.preset("tiny")
SMALL = DrqConfig.preset("small")
RNG = np.random.default_rng(0)
IMAGE = RNG.integers(-128, 128, (6, 5, 3)) >> RNG.integers(0, 7, (6, 1, 3))
WEIGHTS = RNG.integers(-128, 128, (18, 4))
KERNEL = {"kernel_height": 3, "kernel_width": 2, "stride": 2, "padding": 1}
POST = {"bias": np.arange(4) * 100, "multiplier": np.array([1, 2, 3, 4]), "shift": np.array([9, 8, 9, 10])}
REGION = {"threshold": 20 << 8, "region_height": 2, "region_width": 3}


def case_of(**fields):
    return DrqCase(**{"image": IMAGE, "weights": WEIGHTS, **KERNEL, **REGION, **fields})


def refusal(call, *args, **kwargs):
    with pytest.raises(BitfabricError) as error:
        call(*args, **kwargs)
    return str(error.value)


def test_golden_is_the_golden_layer():
    shape = Convolution(kernel=(3, 2), stride=(2, 2), padding=(1, 1))
    case = case_of(**POST, low=-90, high=80, zero_point=5)
    expected = drq_layer(
        IMAGE, WEIGHTS, 20 << 8, shape=shape, region=(2, 3), **POST, low=-90, high=80, zero_point=5
    )
    np.testing.assert_array_equal(case.golden(), expected)
    np.testing.assert_array_equal(
        case_of().golden(), drq_layer(IMAGE, WEIGHTS, 20 << 8, shape=shape, region=(2, 3))
    )
    assert (case.m, case.k, case.n, case.out_size) == (9, 18, 4, (3, 3))
    assert case.requantized
    assert not case_of().requantized


def test_the_flags_of_the_rows():
    case = case_of()
    high = convert(IMAGE, case.threshold, (2, 3)).high
    assert case.high_rows.shape == (case.m, case.k)
    row, (i, j) = 7, divmod(7, case.out_size[1])
    expected = [
        bool(high[y, x, c]) if 0 <= y < 6 and 0 <= x < 5 else False
        for y in range(2 * i - 1, 2 * i + 2)
        for x in range(2 * j - 1, 2 * j + 1)
        for c in range(3)
    ]
    assert case.high_rows[row].tolist() == expected
    assert 0 < sum(expected) < len(expected)
    assert not case.high_rows[
        0, :9
    ].any()  # the kernel's first two rows of the corner are padding, or half so


@pytest.mark.parametrize(
    "fields", [{}, {**POST, "low": -3, "zero_point": 4}, {"threshold": 65535, "region_width": 99}]
)
def test_round_trip(fields, tmp_path):
    case = case_of(name="x", **fields)
    case.save(tmp_path / "x.npz")
    again = DrqCase.load(tmp_path / "x.npz")
    for field in dataclasses.fields(DrqCase):
        value, other = getattr(case, field.name), getattr(again, field.name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, other)
        else:
            assert value == other, field.name
    np.testing.assert_array_equal(again.golden(), case.golden())


def test_a_file_of_a_plain_gemm(tmp_path):
    path, acts, weights = tmp_path / "x.npz", RNG.integers(-128, 128, (9, 6)), RNG.integers(-128, 128, (6, 2))
    np.savez(path, acts=acts, weights=weights)
    case = DrqCase.load(path)
    assert (case.m, case.k, case.n, case.height, case.width) == (9, 6, 2, 9, 1)
    assert case.high_rows.all()
    np.testing.assert_array_equal(case.golden(), acts @ weights)


def test_files_that_hold_something_else(tmp_path):
    path = tmp_path / "x.npz"
    for arrays, text in (
        ({"image": IMAGE}, f"{path} lacks weights; a case file holds weights (K, N), and image (height, width, channels) or acts (M, K), and optionally "),
        ({"weights": WEIGHTS}, f"{path} lacks image; a case file holds weights (K, N), and image"),
        ({"weights": WEIGHTS, "image": IMAGE, "acts": WEIGHTS.T}, f"{path} has both image and acts"),
        ({"weights": WEIGHTS, "acts": IMAGE}, "acts=(6, 5, 3) is not allowed; it must be of shape (M, K)"),
        ({"weights": WEIGHTS, "image": IMAGE, "strides": 2}, f"{path} has unknown arrays strides"),
        ({"weights": WEIGHTS, "image": IMAGE, "stride": [2, 2]}, "stride=[2, 2] is not allowed; it must be one integer"),
    ):  # fmt: skip
        np.savez(path, **arrays)
        assert refusal(DrqCase.load, path).startswith(text)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"image": IMAGE * 1.0}, "image='float64(6, 5, 3)' is not allowed; it must be integers (height, width, channels), not empty"),
        ({"image": IMAGE[0]}, "image='int64(5, 3)' is not allowed; it must be integers (height, width, channels), not empty"),
        ({"image": IMAGE[:0]}, "image='int64(0, 5, 3)' is not allowed; it must be integers (height, width, channels), not empty"),
        ({"image": np.full_like(IMAGE, 128)}, "image=128 is not allowed; it must be in [-128, 127]"),
        ({"weights": WEIGHTS[:, :0]}, "weights='int64(18, 0)' is not allowed; it must be integers (K, N), not empty"),
        ({"weights": WEIGHTS * 0 - 129}, "weights=-129 is not allowed; it must be in [-128, 127]"),
        ({"weights": WEIGHTS[1:]}, "weights=(17, 4) is not allowed; it must be of shape (18, N): kernel height x kernel width x channels"),
        ({"kernel_height": 9}, "kernel=(9, 2) is not allowed; it must be at most the padded image, (8, 7)"),
        ({"kernel_width": 0}, "kernel_width=0 is not allowed; it must be an integer of at least 1"),
        ({"stride": 0}, "stride=0 is not allowed; it must be an integer of at least 1"),
        ({"padding": -1}, "padding=-1 is not allowed; it must be an integer of at least 0"),
        ({"threshold": 65536}, "threshold=65536 is not allowed; it must be an integer in [0, 65535]"),
        ({"region_height": 0}, "region_height=0 is not allowed; it must be an integer of at least 1"),
        ({"shift": POST["shift"]}, "bias, multiplier missing: requantization takes bias, multiplier and shift"),
        ({**POST, "bias": np.arange(3)}, "bias='int64(3,)' is not allowed; it must be integers of shape (4,)"),
    ],
)  # fmt: skip
def test_what_is_no_case(fields, text):
    assert refusal(case_of, **fields) == text


def test_an_accumulator_with_its_bias_that_leaves_32_bits():
    case = case_of(**{**POST, "bias": np.full(4, ACC_MAX)})
    assert refusal(case.golden).startswith("acc + bias=")


@pytest.mark.parametrize("config", [TINY, SMALL])
def test_random_cases(config):
    cases = random_cases(config, 3, 60)
    for case in cases:
        case.check(config)
        case.golden()
    shares = [case.mixed.sensitive.mean() for case in cases]
    assert min(shares) == 0
    assert max(shares) == 1
    assert sum(0 < share < 1 for share in shares) > 20
    plain = [
        case for case in cases if case.width == case.kernel_height == case.kernel_width == case.stride == 1
    ]
    assert len(plain) > 5
    for name, least in (("kernel_height", 3), ("kernel_width", 3), ("stride", 2), ("padding", 1)):
        assert sum(getattr(case, name) >= least for case in cases) > 5, name
    assert any(case.m > config.rows and case.m % config.rows for case in cases)
    assert any(case.n > config.columns and case.n % config.columns for case in cases)
    assert any(case.k % config.line_elements for case in cases)
    assert any(case.height % case.region_height and case.height > case.region_height for case in cases)
    assert 10 < sum(case.requantized for case in cases) < 50
    assert [case.name for case in random_cases(config, 3, 5)] == [case.name for case in cases[:5]]


def test_a_random_case_of_given_sizes():
    case = random_case(SMALL, np.random.default_rng(1), 9, 7, 5, requantized=True, threshold=300)
    assert (case.m, case.k, case.n, case.requantized, case.threshold) == (9, 7, 5, True, 300)
    acts = RNG.integers(-128, 128, (9, 7))
    case = random_case(
        SMALL, np.random.default_rng(1), 9, 7, 5, acts=acts, weights=np.eye(7, 5, dtype=int), threshold=0
    )
    np.testing.assert_array_equal(case.image[:, 0], acts)
    case = random_convolution(
        SMALL, np.random.default_rng(2), (4, 6, 3), 2, kernel_height=3, padding=1, stride=2
    )
    assert (case.height, case.width, case.channels, case.n) == (4, 6, 3, 2)
    assert (case.kernel_height, case.padding, case.stride) == (3, 1, 2)


HOLDS = {"height_max": 6, "map_words": 60, "flag_words": 30, "sum_words": 2, "k_max": 18}


@pytest.mark.parametrize(
    ("options", "fields", "text"),
    [
        ({}, {}, None),  # a row is 15 bytes, 4 words of 4; a pixel 1
        ({"height_max": 5}, {}, "height=6 is not allowed; it must be an integer in [1, 5]"),
        ({"k_max": 17}, {}, "K=18 is not allowed; it must be an integer in [1, 17]"),
        ({"map_words": 24}, {}, None),
        ({"map_words": 23}, {}, "words of the map=24 is not allowed; it must be an integer in [1, 23]"),
        ({"flag_words": 12}, {}, None),
        ({"flag_words": 11}, {}, "words of flags=12 is not allowed; it must be an integer in [1, 11]"),
        ({"sum_words": 1}, {}, "words of sums=2 is not allowed; it must be an integer in [1, 1]"),
        ({}, {"region_height": 65536}, "region_height=65536 is not allowed; it must be an integer in [1, 65535]"),
        ({}, {"padding": 256}, "padding=256 is not allowed; it must be an integer in [0, 255]"),
        ({}, {"stride": 256}, "stride=256 is not allowed; it must be an integer in [1, 255]"),
        ({}, {**POST, "shift": np.zeros(4, int)}, "shift=0 is not allowed; it must be in [1, 62]"),
        ({}, {**POST, "multiplier": np.zeros(4, int)}, "multiplier=0 is not allowed; it must be in [1, 2147483647]"),
        ({}, {**POST, "low": 5, "high": 4}, "low=5 is not allowed; it must be at most high=4"),
        ({}, {**POST, "zero_point": 256}, "zero_point=256 is not allowed; it must be an integer in [-256, 255]"),
        ({}, {**POST, "zero_point": 128}, None),  # unsigned bytes
        ({}, {**POST, "zero_point": 1}, "low + zero_point, high + zero_point=(-127, 128) is not allowed; it must be in [-128, 127] or in [0, 255]"),
        ({}, {"zero_point": 1}, None),  # of no account where accumulators come out
    ],
)  # fmt: skip
def test_what_a_machine_holds(options, fields, text):
    config = DrqConfig.preset("tiny", **{**HOLDS, **options})
    case = case_of(**fields)
    assert fits(config, case) == (text is None)
    if text is None:
        case.check(config)
    else:
        assert refusal(case.check, config) == text


def test_the_rows_of_a_gemm_that_a_machine_holds():
    # The map, the flags, the height: each is the least in its turn. Flags are one word for 4 rows.
    for options, k, most in (
        ({"map_words": 30}, 9, 10),
        ({"flag_words": 7}, 9, 8),
        ({"height_max": 5}, 9, 5),
        ({"sum_words": 3}, 9, 64),
    ):
        config = DrqConfig.preset("tiny", **options)
        assert rows_max(config, k) == most, options
        rng = np.random.default_rng(0)
        region = {"region_height": 4, "region_width": 16}
        assert fits(config, random_case(config, rng, most, k, 2, **region, requantized=False))
        assert not fits(config, random_case(config, rng, most + 1, k, 2, **region, requantized=False))
    check_dimensions(TINY, 65535, TINY.k_max, 65535)
    for dimensions, text in (
        ((0, 1, 1), "M=0 is not allowed; it must be an integer in [1, 65535]"),
        ((1, TINY.k_max + 1, 1), "K=129 is not allowed; it must be an integer in [1, 128]"),
        ((1, 1, 65536), "N=65536 is not allowed; it must be an integer in [1, 65535]"),
    ):
        assert refusal(check_dimensions, TINY, *dimensions) == text
    narrow = DrqConfig.preset("tiny", map_words=2)
    assert (
        refusal(check_dimensions, narrow, 1, 9, 1)
        == "words of the map=3 is not allowed; it must be an integer in [1, 2]"
    )
    assert refusal(rows_max, narrow, 9).startswith("words of the map=3")


@pytest.mark.minilm
def test_a_real_layer():
    config = DrqConfig.preset("paper")
    real = minilm_case("0.q")
    case = drq_model_case("minilm:0.q", config)
    case.check(config)
    np.testing.assert_array_equal(case.image[:, 0], real.act)
    assert 0.3 <= case.mixed.sensitive.mean() < 0.35
    # Wholly sensitive, it is the layer in 8 bits.
    np.testing.assert_array_equal(drq_model_case("minilm:0.q:16:0.0", config).golden(), real.output()[:16])
    held = drq_model_case("minilm:0.q:0.5", DrqConfig.preset("small", map_words=48 * 20))
    assert held.m == 20
    assert held.threshold < case.threshold
    assert refusal(drq_model_case, "minilm:0.q:1000", config).endswith("with 1 to 128 TOKENS")
