"""Panacea's parameters: what does not fit together is refused at construction, with its name and what is allowed."""

import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import Slicing


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"peas": 0}, "peas=0 is not allowed; it must be an integer in [1, 64]"),
        ({"peas": 3}, "peas=3 is not allowed; it must be a multiple of tile_k/4=2, so that outputs are whole sub-tiles"),
        ({"peas": 18}, "peas=18 is not allowed; it must be so that 18 counts of 4 bits fit axis_data_bits=64"),
        ({"tile_n": 6}, "tile_n=6 is not allowed; it must be a multiple of 4"),
        ({"tile_n": 68}, "tile_n=68 is not allowed; it must be so that 17 counts of 4 bits fit axis_data_bits=64"),
        ({"tile_k": 64}, "tile_k=64 is not allowed; it must be one of 4, 8, 16, 32"),
        ({"dynamic_operators": 0}, "dynamic_operators=0 is not allowed; it must be an integer in [1, 16]"),
        ({"static_operators": 17}, "static_operators=17 is not allowed; it must be an integer in [1, 16]"),
        ({"act_slots": 1}, "act_slots=1 is not allowed; it must be an integer in [2, 8]"),
        ({"flexible": True}, "dtp=True is not allowed; it must be false with flexible: the operators are shared already"),
        ({"acc_bits": 30}, "acc_bits=30 is not allowed; it must be at least 31 for k_max=65535"),
        ({"omem_words": 17}, "omem_words=17 is not allowed; it must be even"),
        ({"max_weight_bits": 8}, "max_weight_bits=8 is not allowed; it must be one of 4, 7, 10"),
        ({"max_act_bits": 6}, "max_act_bits=6 is not allowed; it must be one of 4, 8, 12"),
        ({"axis_data_bits": 32}, "axis_data_bits=32 is not allowed; it must be one of 64, 128, 256, 512"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together(options, text):
    with pytest.raises(ParameterError) as error:
        PanaceaConfig.preset("tiny", **options)
    assert str(error.value) == text


def test_the_papers_size():
    config = PanaceaConfig.preset("paper")
    assert config.multipliers == 3072
    assert (config.m_step, config.groups, config.halves, config.count_bits) == (64, 16, 2, 6)
    assert (config.lanes, config.quad, config.quads, config.params_beats) == (16, 4, 3, 2)
    assert (config.weight_dense, config.act_dense, config.operators) == (2, 2, 12)


@pytest.mark.parametrize(
    ("dimensions", "slicing", "text"),
    [
        ((0, 1, 1), {}, "M=0 is not allowed; it must be an integer in [1, 65535]"),
        ((1, 33, 1), {}, "K=33 is not allowed; it must be an integer in [1, 32]"),
        ((1, 1, 65536), {}, "N=65536 is not allowed; it must be an integer in [1, 65535]"),
        ((1, 1, 1), {"weight_bits": 10}, "weight_bits=10 is not allowed; it must be at most 7 in this configuration"),
        ((1, 1, 1), {"act_bits": 12}, "act_bits=12 is not allowed; it must be at most 8 in this configuration"),
        ((1, 1, 1), {"vector": 8}, "vector=8 is not allowed; it must be 4: the machine's"),
    ],
)  # fmt: skip
def test_layers_that_no_register_holds(dimensions, slicing, text):
    config = PanaceaConfig.preset("tiny", k_max=32, max_weight_bits=7, max_act_bits=8)
    with pytest.raises(ParameterError) as error:
        config.check_layer(*dimensions, Slicing(**slicing))
    assert str(error.value) == text
