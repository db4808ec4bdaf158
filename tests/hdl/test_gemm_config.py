"""Parameters of the GEMM machines: what is refused and how, and where activations stay in their buffer."""

import pytest

from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError

BOTH = pytest.mark.parametrize("config", [SystolicWsConfig, SystolicOsConfig])
REFUSED = [
    ({"rows": 0}, "rows=0 is not allowed; it must be an integer in [1, 256]"),
    ({"columns": 257}, "columns=257 is not allowed; it must be an integer in [1, 256]"),
    ({"rows": 2.5}, "rows=2.5 is not allowed; it must be an integer in [1, 256]"),
    ({"act_bits": 1}, "act_bits=1 is not allowed; it must be an integer in [2, 8]"),
    ({"weight_bits": 9}, "weight_bits=9 is not allowed; it must be an integer in [2, 8]"),
    ({"acc_bits": 7}, "acc_bits=7 is not allowed; it must be an integer in [8, 32]"),
    ({"acc_bits": 30}, "acc_bits=30 is not allowed; it must be at least 31 for k_max=65535"),
    (
        {"acc_bits": 17, "k_max": 4, "act_bits": 8},
        "acc_bits=17 is not allowed; it must be at least 18 for k_max=4",
    ),
    ({"k_max": 0}, "k_max=0 is not allowed; it must be an integer in [1, 65535]"),
    ({"k_max": 65536}, "k_max=65536 is not allowed; it must be an integer in [1, 65535]"),
    ({"axis_data_bits": 48}, "axis_data_bits=48 is not allowed; it must be one of 32, 64, 128, 256, 512"),
]


@BOTH
@pytest.mark.parametrize(("overrides", "text"), REFUSED)
def test_refused_by_both(config, overrides, text):
    with pytest.raises(ParameterError) as error:
        config.preset("tiny", **overrides)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("config", "overrides", "text"),
    [
        (
            SystolicWsConfig,
            {"acc_depth": 0},
            "acc_depth=0 is not allowed; it must be an integer in [1, 65535]",
        ),
        (SystolicWsConfig, {"act_depth": 7}, "act_depth=7 is not allowed; it must be at least acc_depth=8"),
        (
            SystolicWsConfig,
            {"weight_buffering": "triple"},
            "weight_buffering='triple' is not allowed; it must be one of 'single', 'double'",
        ),
        (
            SystolicOsConfig,
            {"weight_depth": 2},
            "weight_depth=2 is not allowed; it must be at least rows=3",
        ),
        (
            SystolicOsConfig,
            {"act_depth": 4},
            "act_depth=4 is not allowed; it must be at least weight_depth=5",
        ),
        (SystolicOsConfig, {"tile_overlap": 1}, "tile_overlap=1 is not allowed; it must be true or false"),
    ],
)
def test_refused_by_one(config, overrides, text):
    with pytest.raises(ParameterError) as error:
        config.preset("tiny", **overrides)
    assert str(error.value) == text


@BOTH
def test_presets(config):
    sizes = [config.preset(name).rows * config.preset(name).columns for name in config.PRESETS]
    assert list(config.PRESETS) == ["tiny", "small", "medium", "paper"]
    assert sizes == [6, 64, 256, 792]
    assert config.preset() == config.preset("small") == config()
    with pytest.raises(ParameterError) as error:
        config.preset("huge")
    text = "preset='huge' is not allowed; it must be one of 'tiny', 'small', 'medium', 'paper'"
    assert str(error.value) == text


@BOTH
def test_unknown_parameter(config):
    with pytest.raises(ParameterError) as error:
        config.preset("tiny", row=4)
    start = "row=4 is not allowed; it must be one of the parameters acc_bits, act_bits, act_depth, "
    start = start if config is SystolicOsConfig else start.replace("act_bits", "acc_depth, act_bits")
    assert str(error.value).startswith(start)


@BOTH
@pytest.mark.parametrize(
    ("m", "k", "n", "text"),
    [
        (0, 1, 1, "M=0 is not allowed; it must be an integer in [1, 65535]"),
        (65536, 1, 1, "M=65536 is not allowed; it must be an integer in [1, 65535]"),
        (1, 0, 1, "K=0 is not allowed; it must be an integer in [1, 100]"),
        (1, 101, 1, "K=101 is not allowed; it must be an integer in [1, 100]"),
        (1, 1, 0, "N=0 is not allowed; it must be an integer in [1, 65535]"),
        (1, 1, -3, "N=-3 is not allowed; it must be an integer in [1, 65535]"),
        (1, 1, 1.0, "N=1.0 is not allowed; it must be an integer in [1, 65535]"),
    ],
)
def test_gemms_that_do_not_fit(config, m, k, n, text):
    machine = config.preset("tiny", k_max=100)
    machine.check_gemm(65535, 100, 65535)
    machine.check_gemm(1, 1, 1)
    with pytest.raises(ParameterError) as error:
        machine.check_gemm(m, k, n)
    assert str(error.value) == text


@BOTH
@pytest.mark.parametrize(
    ("act_bits", "weight_bits", "k_max"), [(8, 8, 65535), (8, 8, 4), (2, 2, 31), (4, 8, 1000)]
)
def test_narrowest_accumulator(config, act_bits, weight_bits, k_max):
    # The most negative operands give the largest sum, and it is positive.
    needed = max(8, (k_max << (act_bits + weight_bits - 2)).bit_length() + 1)
    widths = {"act_bits": act_bits, "weight_bits": weight_bits, "k_max": k_max}
    assert config.preset("tiny", acc_bits=needed, **widths).acc_bits == needed
    with pytest.raises(ParameterError):
        config.preset("tiny", acc_bits=needed - 1, **widths)


def test_activations_stay_if_an_m_step_fits():
    # Weight stationary: a word is a row of 3 elements of K. 24 words are 8 rows of 3 K tiles.
    ws = SystolicWsConfig.preset("tiny")
    assert ws.resident(8, 9)
    assert not ws.resident(8, 10)
    assert ws.resident(800, 9)  # only 8 rows at a time
    assert ws.resident(6, 12)
    assert not ws.resident(6, 13)
    assert ws.resident(1, 72)
    assert not ws.resident(1, 73)
    assert (ws.act_words(5, 2), ws.m_step, ws.k_step) == (5, 8, 3)
    # Output stationary: a word is an element of K of 3 rows.
    os = SystolicOsConfig.preset("tiny")
    assert os.resident(1, 10)
    assert os.resident(3000, 10)
    assert not os.resident(1, 11)
    assert (os.act_words(2, 4), os.m_step, os.k_step) == (4, 3, 5)


def test_psums_hold_a_column_of_products():
    assert [SystolicWsConfig(rows=rows).psum_bits for rows in (1, 2, 8, 34, 256)] == [16, 17, 19, 21, 24]
