"""DRQ's parameters: what they refuse, and what follows from them."""

import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.quant.errors import ParameterError

TINY = DrqConfig.preset("tiny", map_words=60, flag_words=40, sum_words=6, height_max=20)
LAYER = {
    **{"height": 5, "width": 4, "channels": 5, "n": 4, "kernel_height": 3, "kernel_width": 2},
    **{"stride": 1, "padding": 1, "region_height": 2, "region_width": 2},
}


def test_widths():
    assert TINY.acc_bits == 23  # 128 products of at most 2^14
    assert (TINY.axis_bytes, TINY.drain_lanes, TINY.tile_words, TINY.lines) == (4, 1, 64, 32)
    assert TINY.sum_bits == 1 + (240 * 65535).bit_length()
    paper = DrqConfig.preset("paper")
    assert paper.rows * paper.columns == 3168
    with pytest.raises(
        ParameterError, match="line_elements=8 is not allowed; it must be at most 4, the bytes"
    ):
        DrqConfig.preset("tiny", line_elements=8)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"height": 21}, "height"),
        ({"width": 0}, "width"),
        ({"channels": 65536}, "channels"),
        ({"n": 0}, "n"),
        ({"stride": 256}, "stride"),
        ({"padding": 256}, "padding"),
        ({"region_height": 0}, "region_height"),
        ({"region_width": 65536}, "region_width"),
        ({"kernel_height": 8}, "kernel_height"),
        ({"kernel_width": 7}, "kernel_width"),
        ({"channels": 22}, "K"),
        ({"channels": 21, "padding": 4000}, "padding"),
        ({"width": 16384}, "width * channels"),
        ({"width": 10}, "words of the map"),
        ({"height": 20, "width": 1, "channels": 12, "region_height": 1}, "words of flags"),
        ({"region_width": 1}, "words of sums"),
    ],
)
def test_layers_that_do_not_fit(change, name):
    TINY.check_layer(**LAYER)
    with pytest.raises(ParameterError) as error:
        TINY.check_layer(**LAYER | change)
    assert str(error.value).startswith(f"{name}=")
