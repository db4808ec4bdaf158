import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.pwl import FUNCTIONS, PwlFormat, PwlTable, evaluate, fit, real_codes, rounded_codes

INT8 = PwlFormat()
UINT8 = PwlFormat(out_signed=False)


def worst(function, fmt, input_scale, output_scale, output_zero_point=0):
    """Return the largest distance in LSB from the rounded function over every input code."""
    exact = rounded_codes(
        real_codes(function, fmt, input_scale, output_scale, output_zero_point=output_zero_point), fmt
    )
    table = fit(function, input_scale, output_scale, output_zero_point=output_zero_point, fmt=fmt)
    return int(np.abs(evaluate(table, fmt.codes()) - exact).max())


@pytest.mark.parametrize("in_bits", [8, 12, 16])
@pytest.mark.parametrize("segments", [32, 64])
@pytest.mark.parametrize("reach", [0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128])
def test_gelu_within_one_lsb(in_bits, segments, reach):
    scale = reach / 2 ** (in_bits - 1)
    signed = PwlFormat(in_bits=in_bits, segments=segments)
    unsigned = PwlFormat(in_bits=in_bits, segments=segments, out_signed=False)
    spread = (reach + 0.17) / 255  # GELU's least value is -0.17
    assert worst("gelu", signed, scale, reach / 128) <= 1
    assert worst("gelu", unsigned, scale, spread, round(0.17 / spread)) <= 1


@pytest.mark.parametrize("reach", [2, 3, 4, 6, 8, 16])
def test_gelu_with_sixteen_segments(reach):
    assert worst("gelu", PwlFormat(segments=16), reach / 128, reach / 128) <= 1


@pytest.mark.parametrize(
    ("function", "fmt", "input_scale", "output_scale", "limit"),
    [
        ("identity", INT8, 0.1, 0.1, 0),
        ("identity", INT8, 0.125, 0.25, 0),  # every odd code is a tie
        ("identity", INT8, 0.1, 0.05, 0),  # half of the codes saturate
        ("identity", INT8, 0.1, 0.07, 0),
        ("relu", INT8, 0.1, 0.1, 0),
        ("relu", UINT8, 0.1, 0.05, 0),
        ("sigmoid", UINT8, 1 / 16, 1 / 256, 1),
        ("tanh", INT8, 1 / 32, 1 / 128, 1),
        ("exp", UINT8, 1 / 32, 1 / 256, 1),
        ("exp", PwlFormat(in_bits=12, out_signed=False, segments=64), 1 / 256, 1 / 256, 1),
    ],
)
def test_ready_functions(function, fmt, input_scale, output_scale, limit):
    assert worst(function, fmt, input_scale, output_scale) <= limit


def test_gelu_uses_the_exact_erf():
    values = FUNCTIONS["gelu"](np.array([-1.0, 0.0, 2.0]))
    assert values == pytest.approx([-0.15865525393145707, 0.0, 1.9544997361036416], rel=1e-15)


def test_zero_points():
    fmt = INT8
    table = fit("relu", 0.1, 0.1, input_zero_point=-128, output_zero_point=-128, fmt=fmt)
    assert evaluate(table, fmt.codes()).tolist() == fmt.codes().tolist()
    table = fit(lambda x: -x, 0.1, 0.1, input_zero_point=10, output_zero_point=-3)
    assert evaluate(table, [10, 11, 127, -108, -128]).tolist() == [-3, -4, -120, 115, 127]


def test_rounding_and_saturation():
    flat = {"slopes": (0,) * 32, "in_bits": 8, "out_bits": 8, "segments": 32}
    half = 2 ** (INT8.shift - 1)
    for offset, code in ((half, 0), (2 * half - 1, 0), (2 * half, 1), (-1, -1), (0, 0), (-2 * half, -1)):
        assert evaluate(PwlTable(offsets=(offset,) * 32, **flat), 5) == code
    most = 2 ** (INT8.offset_bits - 1)
    for out_signed, low, high in ((True, -128, 127), (False, 0, 255)):
        table = PwlTable(offsets=(-most, most - 1) * 16, out_signed=out_signed, **flat)
        assert evaluate(table, [-128, -121, -120, 127]).tolist() == [low, low, high, high]


FORMATS = st.builds(
    PwlFormat,
    in_bits=st.integers(8, 16),
    out_bits=st.integers(4, 16),
    out_signed=st.booleans(),
    segments=st.sampled_from([16, 32, 64, 128]),
)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(fmt=FORMATS, data=st.data())
def test_evaluate_against_big_integers(fmt, data):
    def draw(bits):
        limit = 2 ** (bits - 1)
        corners = st.sampled_from([-limit, -1, 0, 1, limit - 1])
        return tuple(data.draw(corners | st.integers(-limit, limit - 1)) for _ in range(16))

    copies = fmt.segments // 16
    slopes, offsets = draw(fmt.slope_bits) * copies, draw(fmt.offset_bits) * copies
    fields = {name: getattr(fmt, name) for name in ("in_bits", "out_bits", "out_signed", "segments")}
    table = PwlTable(slopes=slopes, offsets=offsets, **fields)
    x = data.draw(st.lists(st.integers(-(2 ** (fmt.in_bits - 1)), 2 ** (fmt.in_bits - 1) - 1), min_size=1))
    for code, got in zip(x, evaluate(table, x).tolist(), strict=True):
        segment, distance = divmod(code + 2 ** (fmt.in_bits - 1), 2**fmt.in_bits // fmt.segments)
        value = (offsets[segment] + slopes[segment] * distance) >> fmt.shift
        assert got == min(max(value, fmt.low), fmt.high)
    for word, slope, offset in zip(table.words(), slopes, offsets, strict=True):
        assert 0 <= word < 2 ** (fmt.slope_bits + fmt.offset_bits)
        assert (word - offset) % 2**fmt.offset_bits == 0
        assert ((word >> fmt.offset_bits) - slope) % 2**fmt.slope_bits == 0


@settings(derandomize=True, deadline=None, max_examples=60)
@given(fmt=FORMATS, scale=st.floats(2**-10, 1.0), function=st.sampled_from(sorted(FUNCTIONS)))
def test_any_fit_is_in_format(fmt, scale, function):
    out = evaluate(fit(function, scale, scale, fmt=fmt), fmt.codes())
    assert out.dtype == np.int32
    assert fmt.low <= out.min() <= out.max() <= fmt.high


CHOICES = "16, 32, 64, 128"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (lambda: PwlFormat(in_bits=7), "in_bits=7 is not allowed; it must be an integer in [8, 16]"),
        (lambda: PwlFormat(in_bits=17), "in_bits=17 is not allowed; it must be an integer in [8, 16]"),
        (lambda: PwlFormat(out_bits=3), "out_bits=3 is not allowed; it must be an integer in [4, 16]"),
        (lambda: PwlFormat(out_signed=2), "out_signed=2 is not allowed; it must be one of True, False"),
        (lambda: PwlFormat(segments=8), f"segments=8 is not allowed; it must be one of {CHOICES}"),
        (lambda: PwlFormat(segments=256), f"segments=256 is not allowed; it must be one of {CHOICES}"),
        (lambda: fit("relu", 0, 1), "input_scale=0 is not allowed; it must be positive and finite"),
        (lambda: fit("relu", 1, math.inf), "output_scale=inf is not allowed; it must be positive and finite"),
        (
            lambda: fit("swish", 1, 1),
            "function='swish' is not allowed; it must be one of 'identity', 'relu', 'gelu', 'sigmoid', 'tanh', "
            "'exp'",
        ),
        (lambda: evaluate(fit("relu", 1, 1), [128]), "x=128 is not allowed; it must be in [-128, 127]"),
        (lambda: evaluate(fit("relu", 1, 1), -129), "x=-129 is not allowed; it must be in [-128, 127]"),
        (
            lambda: evaluate(fit("relu", 1, 1), 0.5),
            "x='float64' is not allowed; it must be an integer or an array of integers",
        ),
        (
            lambda: PwlTable(slopes=(0,), offsets=(0,) * 32),
            "slopes=(0,) is not allowed; it must be 32 integers",
        ),
        (
            lambda: PwlTable(slopes=(0,) * 32, offsets=(2**17,) * 32),
            "offsets=131072 is not allowed; it must be an integer in [-131072, 131071]",
        ),
    ],
)
def test_refused(build, text):
    with pytest.raises(ParameterError) as error:
        build()
    assert str(error.value) == text


def test_not_a_number_is_refused():
    with pytest.raises(ParameterError, match="it must be a number for every input"):
        fit(lambda x: x * np.nan, 1, 1)
