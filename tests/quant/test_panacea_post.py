import numpy as np
import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import activation_table, post_process
from bitfabric.quant.pwl import FUNCTIONS, PwlFormat, evaluate, fit

WIDE = PwlFormat(in_bits=12, out_bits=12, out_signed=False)


def direct(acc, bias, multiplier, shift, table, bits):
    """Return one code by Python's integers, written from the equations."""
    code = ((acc + bias) * multiplier + (1 << (shift - 1))) >> shift
    code = max(-2048, min(2047, code))
    size = 4096 // table.segments
    segment, distance = divmod(code + 2048, size)
    line = (table.offsets[segment] + table.slopes[segment] * distance) >> table.shift
    return max(0, min(line, 4095, 2**bits - 1))


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("segments", [16, 32, 64])
def test_equals_the_equations(bits, segments):
    rng = np.random.default_rng(bits + segments)
    m, n = 9, 13
    acc = rng.integers(-(2**20), 2**20, (m, n))
    acc[0, :4] = [-(2**31), 2**31 - 1, 0, -1]
    bias = rng.integers(-(2**15), 2**15, m)
    bias[0] = 0
    multiplier, shift = rng.integers(1, 2**31, m), rng.integers(30, 50, m)
    table = activation_table("gelu", 4 / 2048, 4.2 / 2**bits, 2**bits // 20, bits, segments)
    got = post_process(acc, bias, multiplier, shift, table, bits)
    for i, j in np.ndindex(m, n):
        numbers = (int(acc[i, j]), int(bias[i]), int(multiplier[i]), int(shift[i]))
        assert got[i, j] == direct(*numbers, table, bits)
    assert got.min() >= 0
    assert got.max() <= 2**bits - 1


def worst(function, input_scale, output_scale, zero_point, bits, segments=32):
    table = activation_table(function, input_scale, output_scale, zero_point, bits, segments)
    codes = np.arange(-2048, 2048)
    real = FUNCTIONS[function](codes * input_scale) / output_scale + zero_point
    wanted = np.clip(np.floor(real + 0.5), 0, 2**bits - 1)
    return int(np.abs(np.minimum(evaluate(table, codes), 2**bits - 1) - wanted).max())


@pytest.mark.parametrize("reach", [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128])
@pytest.mark.parametrize("zero_point", [0, 8, 128, 200])
def test_activations_within_one_lsb(reach, zero_point):
    scale = reach / 2048
    assert worst("relu", scale, reach / (255 - zero_point), zero_point, 8) <= 1
    assert worst("identity", scale, 2 * reach / 255, zero_point, 8) <= 1
    spread = (reach + 0.17) / 255
    assert worst("gelu", scale, spread, round(0.17 / spread), 8) <= 1


@pytest.mark.parametrize("function", ["relu", "identity"])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.8, 1.5])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_clip_is_no_kink(function, share, bits):
    # Only a share of the function's range has codes: the rest is clipped.
    assert worst(function, 8 / 2048, share * 8 / 2**bits, 2**bits // 3, bits) <= 1


@pytest.mark.parametrize("share", [0.3, 0.5, 0.8])
def test_gelu_that_is_clipped(share):
    assert worst("gelu", 6 / 2048, share * 6 / 255, 7, 8) <= 1


def test_twelve_bits_keep_the_wide_fit():
    assert activation_table("gelu", 4 / 2048, 0.001, 170, 12) == fit(
        "gelu", 4 / 2048, 0.001, output_zero_point=170, fmt=WIDE
    )


def test_errors():
    table = activation_table("relu", 0.1, 0.1, 0, 8)
    good = (np.zeros((2, 3), int), np.zeros(2, int), np.ones(2, int), np.ones(2, int))
    with pytest.raises(ParameterError, match="bits=7 is not allowed"):
        post_process(*good, table, 7)
    with pytest.raises(ParameterError, match="bits=16 is not allowed"):
        activation_table("relu", 0.1, 0.1, 0, 16)
    with pytest.raises(ParameterError, match="out_bits=8"):
        post_process(*good, fit("relu", 0.1, 0.1), 8)
    with pytest.raises(ParameterError, match="a matrix"):
        post_process(np.zeros(2, int), *good[1:], table, 8)
    with pytest.raises(ParameterError, match="bias"):
        post_process(good[0], np.zeros(3, int), *good[2:], table, 8)
    with pytest.raises(ParameterError, match="shift"):
        post_process(*good[:3], np.zeros(2, int), table, 8)
