"""Drift's parameters: what does not fit together is refused at construction, with its name and what is allowed."""

import pytest

from bitfabric.hdl.drift.config import CHANNEL, CHANNEL_BITS, DriftConfig
from bitfabric.quant.errors import ParameterError

ODD = [(name, {name: 33}) for name in ("high_words", "low_words", "out_words")]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rows": 0}, "rows=0 is not allowed; it must be an integer in [1, 64]"),
        ({"rows": 17}, "rows=17 is not allowed; it must be at most 16: a word of axis_data_bits holds a row's nibbles"),
        ({"columns": 65}, "columns=65 is not allowed; it must be an integer in [1, 64]"),
        ({"alignment": "byte"}, "alignment='byte' is not allowed; it must be one of 'nibble', 'bit'"),
        ({"weight_buffering": "none"}, "weight_buffering='none' is not allowed; it must be one of 'single', 'double', 'transit'"),
        ({"scheduler": "best"}, "scheduler='best' is not allowed; it must be one of 'scan', 'greedy'"),
        ({"lanes": 16}, "lanes=16 is not allowed; it must be at most 8, a word's bytes"),
        ({"lanes": 12}, "lanes=12 is not allowed; it must be one of 4, 8, 16, 32"),
        ({"acc_bits": 31}, "acc_bits=31 is not allowed; it must be at least 32 for k_max=65535"),
        ({"acc_bits": 19, "k_max": 9}, "acc_bits=19 is not allowed; it must be at least 20 for k_max=9"),
        ({"acc_depth": 4097}, "acc_depth=4097 is not allowed; it must be an integer in [1, 4096]"),
        ({"weight_words": 0}, "weight_words=0 is not allowed; it must be an integer in [1, 65536]"),
        ({"axis_data_bits": 32}, "axis_data_bits=32 is not allowed; it must be one of 64, 128, 256, 512"),
        *((options, f"{name}=33 is not allowed; it must be even") for name, options in ODD),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(options, text):
    with pytest.raises(ParameterError) as error:
        DriftConfig.preset("tiny", **options)
    assert str(error.value) == text


@pytest.mark.parametrize(
    ("m", "k", "n", "text"),
    [
        (65, 1, 1, "M=65 is not allowed; it must be an integer in [1, 64]"),
        (0, 1, 1, "M=0 is not allowed; it must be an integer in [1, 64]"),
        (1, 65536, 1, "K=65536 is not allowed; it must be an integer in [1, 65535]"),
        (1, 1, 65535, "N=65535 is not allowed; it must be an integer in [1, 65534]"),
    ],
)
def test_gemms_that_do_not_fit(m, k, n, text):
    config = DriftConfig.preset("tiny")
    config.check_gemm(64, 65535, 65534)
    with pytest.raises(ParameterError) as error:
        config.check_gemm(m, k, n)
    assert str(error.value) == text


def test_the_papers_size():
    config = DriftConfig.preset("paper")
    assert (config.rows, config.columns, config.groups, config.multipliers) == (22, 36, 792, 3168)
    assert (config.beat_bytes, config.word_nibbles, config.word_weights) == (32, 64, 16)
    assert (config.word_granules, config.params_beats) == (4, 2)


@pytest.mark.parametrize(("width", "beats"), [(64, 5), (128, 3), (256, 2), (512, 1)])
def test_four_records_are_whole_beats(width, beats):
    assert CHANNEL_BITS == CHANNEL.size == 80
    assert DriftConfig.preset("tiny", axis_data_bits=width).params_beats == beats


def test_stored_widths():
    for alignment, expected in (("nibble", [4] * 4 + [8] * 4), ("bit", range(1, 9))):
        config = DriftConfig.preset("tiny", alignment=alignment)
        assert [config.stored_bits(bits) for bits in range(1, 9)] == list(expected)


@pytest.mark.parametrize("alignment", ["nibble", "bit"])
def test_the_halfs_precision_is_not_in_the_load_chain(alignment):
    config = DriftConfig.preset("tiny", alignment=alignment)
    names = {name for name, _ in config.group.stationary}
    assert {name for name, _ in config.stationary} == names - {"wide"}
    assert config.stationary.size == config.group.stationary.size - 1
