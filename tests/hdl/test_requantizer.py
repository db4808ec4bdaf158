import random
import shutil
import subprocess

import numpy as np
import pytest

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.requant import requantize
from bitfabric.sim.streams import simulate

NAMES = ("acc", "bias", "multiplier", "shift", "low", "high", "zero_point")
INT8, UINT8 = (-128, 127), (0, 255)


def oracle(acc, bias, multiplier, shift, low, high, zero_point):
    product = (acc + bias) * multiplier
    rounded = (product + (1 << (shift - 1))) >> shift if shift else product
    return (high if rounded > high else max(rounded, low)) + zero_point


def corners(acc_bits=32, out_bits=8, multiplier_bits=31, shift_bits=6):
    top, most = 2 ** (acc_bits - 1), 2**multiplier_bits - 1
    last, bound = 2**shift_bits - 1, 2**out_bits
    for acc in (-top, -top + 1, -1, 0, 1, top - 1):
        for bias in (-top, 0, -acc - 1 if acc < 0 else -acc, top - 1):
            for multiplier in (1, most // 2 + 1, most):
                for shift in {0, 1, min(2, last), min(multiplier_bits, last), last - 1, last}:
                    yield acc, bias, multiplier, shift, -bound // 2, bound // 2 - 1, 0
                yield acc, bias, multiplier, 1, -bound, bound - 1, bound - 1
                yield acc, bias, multiplier, 1, -bound, bound - 1, -bound
                yield acc, bias, multiplier, 1, bound - 1, -bound, 3
    for zero_point in (0, 1, bound // 2, bound - 1):  # unsigned outputs, values around both bounds
        for acc in (-zero_point - 1, -zero_point, 0, bound - 1 - zero_point, bound - zero_point):
            yield acc, 0, 1, 1, -zero_point, bound - 1 - zero_point, zero_point
    for odd in range(-9, 10):  # ties
        for shift in range(1, last + 1):
            if abs(odd) << (shift - 1) < top:
                yield odd << (shift - 1), 0, 1, shift, -bound, bound - 1, 0


def draw(rng, acc_bits=32, out_bits=8, multiplier_bits=31, shift_bits=6):
    acc, bias = (
        rng.randrange(-(2 ** (acc_bits - 1)), 2 ** (acc_bits - 1)) >> rng.randrange(24) for _ in "ab"
    )
    multiplier = rng.randrange(1, 2**multiplier_bits)
    # Shifts that bring the product to about the bounds are where rounding shows.
    length = ((acc + bias) * multiplier).bit_length() - out_bits
    shift = rng.choice([rng.randrange(2**shift_bits), length + rng.randrange(-2, 6)])
    low, high = sorted(rng.randrange(-(2**out_bits), 2**out_bits) for _ in "lh")
    zero_point = rng.randrange(-(2**out_bits), 2**out_bits)
    return acc, bias, multiplier, min(max(shift, 0), 2**shift_bits - 1), low, high, zero_point


def run(block, samples, hold=0.0):
    """Feed ``samples`` in order and return what comes out, ``en`` being low with probability ``hold``."""
    rng = random.Random(7)
    outputs = []

    async def testbench(ctx):
        todo = list(samples) + [(0, 0, 1, 1, 0, 0, 0)] * block.LATENCY
        for count, sample in enumerate(todo):
            while rng.random() < hold:  # what is at the inputs meanwhile must not enter
                ctx.set(block.en, 0)
                for name, value in zip(NAMES, draw(rng), strict=True):
                    ctx.set(getattr(block, name), value)
                before = ctx.get(block.out)
                await ctx.tick()
                assert ctx.get(block.out) == before
            ctx.set(block.en, 1)
            for name, value in zip(NAMES, sample, strict=True):
                ctx.set(getattr(block, name), value)
            if count >= block.LATENCY:
                outputs.append(ctx.get(block.out))
            await ctx.tick()

    simulate(block, testbench)
    return outputs


def test_corners():
    samples = list(corners())
    assert run(Requantizer(), samples) == [oracle(*sample) for sample in samples]


@pytest.mark.parametrize(("hold", "count"), [(0.0, 4000), (0.5, 1500)])
def test_random(hold, count):
    rng = random.Random(1)
    samples = [draw(rng) for _ in range(count)]
    expected = [oracle(*sample) for sample in samples]
    inside = sum(low < e - z < high for e, (*_, low, high, z) in zip(expected, samples, strict=True))
    assert inside > count // 10  # not everything is clipped
    assert run(Requantizer(), samples, hold) == expected


@pytest.mark.parametrize(
    "widths",
    [
        {"acc_bits": 8, "out_bits": 2, "multiplier_bits": 1, "shift_bits": 1},
        {"acc_bits": 8, "out_bits": 16, "multiplier_bits": 4, "shift_bits": 6},
        {"acc_bits": 20, "out_bits": 4, "multiplier_bits": 16, "shift_bits": 5},
        {"acc_bits": 32, "out_bits": 16, "multiplier_bits": 31, "shift_bits": 6},
        {"acc_bits": 26, "out_bits": 24, "multiplier_bits": 16, "shift_bits": 6},
        {"acc_bits": 8, "out_bits": 24, "multiplier_bits": 1, "shift_bits": 1},
    ],
)
def test_other_widths(widths):
    rng = random.Random(2)
    limit = 2 ** (widths["acc_bits"] - 1)
    samples = [s for s in corners(**widths) if -limit <= s[0] < limit and -limit <= s[1] < limit]
    samples += [draw(rng, **widths) for _ in range(500)]
    assert run(Requantizer(**widths), samples) == [oracle(*sample) for sample in samples]


@pytest.mark.parametrize(("low", "high"), [INT8, UINT8])
def test_golden(low, high):
    rng = random.Random(3)
    samples = []
    while len(samples) < 2000:
        acc, bias, multiplier, shift, *_ = draw(rng)
        if -(2**31) <= acc + bias < 2**31 and 1 <= shift <= 62:  # what the golden model accepts
            zero_point = rng.choice([low, high, 0, rng.randrange(low, high + 1)])
            samples.append((acc, bias, multiplier, shift, low - zero_point, high - zero_point, zero_point))
    outputs = run(Requantizer(), samples)
    expected = [
        int(requantize(np.array([a]), m, s, z, lo, hi, np.array([b]))[0]) for a, b, m, s, lo, hi, z in samples
    ]
    assert outputs == expected
    assert {low, high} <= set(outputs) <= set(range(low, high + 1))


@pytest.mark.parametrize(
    ("parameter", "value", "low", "high"),
    [
        ("acc_bits", 7, 8, 32),
        ("acc_bits", 33, 8, 32),
        ("out_bits", 1, 2, 24),
        ("out_bits", 25, 2, 24),
        ("multiplier_bits", 0, 1, 31),
        ("multiplier_bits", 32, 1, 31),
        ("shift_bits", 0, 1, 6),
        ("shift_bits", 7, 1, 6),
        ("shift_bits", True, 1, 6),
        ("acc_bits", "32", 8, 32),
    ],
)
def test_refused(parameter, value, low, high):
    with pytest.raises(ParameterError) as error:
        Requantizer(**{parameter: value})
    text = f"{parameter}={value!r} is not allowed; it must be an integer in [{low}, {high}]"
    assert str(error.value) == text


def test_emitted_verilog(tmp_path):
    block = Requantizer()
    emitted = emit(block, "requantizer")
    assert emitted.verilog == emit(Requantizer(), "requantizer").verilog
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    rng = random.Random(4)
    samples = list(corners()) + [draw(rng) for _ in range(2000)]
    widths = {name: len(getattr(block, name)) for name in NAMES}
    words = []
    for sample in samples:
        word = 0
        for name, value in zip(NAMES, sample, strict=True):
            word = word << widths[name] | value & (2 ** widths[name] - 1)
        words.append(word)
    (tmp_path / "vectors.hex").write_text("\n".join(f"{word:x}" for word in words))
    ports = ", ".join(f".{name}({name})" for name in (*NAMES, "en", "clk", "out"))
    (tmp_path / "tb.v").write_text(f"""`timescale 1ns/1ps
module tb;
  reg clk = 0, en = 1;
  {" ".join(f"reg [{width - 1}:0] {name};" for name, width in widths.items())}
  wire signed [{len(block.out) - 1}:0] out;
  reg [{sum(widths.values()) - 1}:0] vectors [0:{len(words) - 1}];
  integer i;
  requantizer dut ({ports});
  initial begin
    $readmemh("{tmp_path}/vectors.hex", vectors);
    for (i = 0; i < {len(words) + block.LATENCY}; i = i + 1) begin
      {{{", ".join(NAMES)}}} = vectors[i < {len(words)} ? i : 0];
      if (i >= {block.LATENCY}) $display("%0d", out);
      #5 clk = 1; #5 clk = 0;
    end
  end
endmodule
""")
    (tmp_path / "dut.v").write_text(emitted.verilog)
    subprocess.run(["iverilog", "-o", "sim", "tb.v", "dut.v"], cwd=tmp_path, check=True)
    result = subprocess.run(["vvp", "sim"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert [int(line) for line in result.stdout.split()] == [oracle(*sample) for sample in samples]
