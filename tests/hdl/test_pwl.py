import random
import shutil
import subprocess

import pytest

from bitfabric.hdl.arith.pwl import PiecewiseLinear
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.pwl import PwlFormat, PwlTable, evaluate, fit
from bitfabric.sim.streams import simulate

FIELDS = ("in_bits", "out_bits", "out_signed", "segments")


def block_for(fmt):
    return PiecewiseLinear(**{name: getattr(fmt, name) for name in FIELDS})


def random_table(fmt, seed=1):
    """Return a table of random words, the extremes among them."""
    rng = random.Random(seed)

    def draw(bits):
        limit = 2 ** (bits - 1)
        values = [
            rng.choice([-limit, limit - 1, 0, rng.randrange(-limit, limit)]) for _ in range(fmt.segments)
        ]
        return tuple(values)

    fields = {name: getattr(fmt, name) for name in FIELDS}
    return PwlTable(slopes=draw(fmt.slope_bits), offsets=draw(fmt.offset_bits), **fields)


def run(table, codes, hold=0.0, tables=()):
    """Load ``table``, feed ``codes`` and return what comes out; then do the same with each of ``tables``."""
    block, rng = block_for(table), random.Random(5)
    outputs = []

    async def testbench(ctx):
        for current in (table, *tables):
            ctx.set(block.en, 0)
            ctx.set(block.table_en, 1)
            for address, word in enumerate(current.words()):  # loading does not need `en`
                ctx.set(block.table_addr, address)
                ctx.set(block.table_data, word)
                await ctx.tick()
            ctx.set(block.table_en, 0)
            ctx.set(block.table_data, 0)
            for count, code in enumerate([*codes, *[0] * block.LATENCY]):
                while rng.random() < hold:
                    ctx.set(block.en, 0)
                    ctx.set(block.x, rng.getrandbits(table.in_bits))
                    before = ctx.get(block.out)
                    await ctx.tick()
                    assert ctx.get(block.out) == before
                ctx.set(block.en, 1)
                ctx.set(block.x, int(code))
                if count >= block.LATENCY:
                    outputs.append(ctx.get(block.out))
                await ctx.tick()

    simulate(block, testbench)
    return outputs


@pytest.mark.parametrize("hold", [0.0, 0.5])
@pytest.mark.parametrize("segments", [16, 32, 128])
def test_gelu_for_every_code(segments, hold):
    table = fit("gelu", 1 / 16, 1 / 16, fmt=PwlFormat(segments=segments))
    codes = table.codes()
    assert run(table, codes, hold) == evaluate(table, codes).tolist()


@pytest.mark.parametrize(
    "fmt",
    [
        PwlFormat(),
        PwlFormat(segments=16),
        PwlFormat(segments=128, out_signed=False),
        PwlFormat(in_bits=12, out_bits=4),
        PwlFormat(in_bits=12, out_bits=16, out_signed=False, segments=64),
        PwlFormat(in_bits=16, out_bits=8, segments=16),
    ],
)
@pytest.mark.parametrize("hold", [0.0, 0.5])
def test_random_tables(fmt, hold):
    table = random_table(fmt)
    codes = fmt.codes()
    if fmt.in_bits > 8:
        ends = [int(code) for code in codes if code % (len(codes) // fmt.segments) in (0, 1, -1)]
        codes = ends + random.Random(2).choices(codes.tolist(), k=1000)
    expected = evaluate(table, codes).tolist()
    assert {fmt.low, fmt.high} <= set(expected)  # it saturates on both sides
    assert run(table, codes, hold) == expected


def test_table_is_replaced_at_run_time():
    tables = [fit(name, 1 / 16, 1 / 16) for name in ("relu", "identity", "tanh")]
    codes = tables[0].codes()
    expected = [value for table in tables for value in evaluate(table, codes).tolist()]
    assert run(tables[0], codes, tables=tables[1:]) == expected


def test_lookup_sees_the_old_word_of_a_write_in_its_cycle():
    old, new = fit("identity", 1, 1), fit(lambda x: -x, 1, 1)
    block = block_for(old)
    seen = []

    async def testbench(ctx):
        ctx.set(block.table_en, 1)
        ctx.set(block.table_addr, 20)  # codes 32 to 39
        ctx.set(block.x, 35)
        ctx.set(block.en, 1)
        for table in (old, new):
            ctx.set(block.table_data, table.words()[20])
            await ctx.tick()
        for _ in range(block.LATENCY):
            await ctx.tick()
            seen.append(ctx.get(block.out))

    simulate(block, testbench)
    assert seen[1:] == [35, -35]  # the first was looked up before anything was written


@pytest.mark.parametrize(
    ("parameter", "value", "allowed"),
    [
        ("in_bits", 7, "an integer in [8, 16]"),
        ("in_bits", 17, "an integer in [8, 16]"),
        ("out_bits", 3, "an integer in [4, 16]"),
        ("out_bits", 17, "an integer in [4, 16]"),
        ("out_signed", None, "one of True, False"),
        ("segments", 8, "one of 16, 32, 64, 128"),
        ("segments", 48, "one of 16, 32, 64, 128"),
        ("segments", 256, "one of 16, 32, 64, 128"),
    ],
)
def test_refused(parameter, value, allowed):
    with pytest.raises(ParameterError) as error:
        PiecewiseLinear(**{parameter: value})
    assert str(error.value) == f"{parameter}={value!r} is not allowed; it must be {allowed}"


def test_emitted_verilog(tmp_path):
    table = fit("gelu", 1 / 16, 1 / 16)
    emitted = emit(block_for(table), "pwl")
    assert emitted.verilog == emit(block_for(table), "pwl").verilog
    if shutil.which("iverilog") is None:
        pytest.skip("iverilog is not installed")
    word_bits = table.slope_bits + table.offset_bits
    (tmp_path / "words.hex").write_text("\n".join(f"{word:x}" for word in table.words()))
    (tmp_path / "tb.v").write_text(f"""`timescale 1ns/1ps
module tb;
  reg clk = 0, en = 0, table_en = 1;
  reg [7:0] x = 0;
  reg [4:0] table_addr;
  reg [{word_bits - 1}:0] table_data;
  reg [{word_bits - 1}:0] words [0:31];
  wire signed [7:0] out;
  integer i;
  pwl dut (.clk(clk), .en(en), .x(x), .out(out),
           .table_en(table_en), .table_addr(table_addr), .table_data(table_data));
  initial begin
    $readmemh("{tmp_path}/words.hex", words);
    for (i = 0; i < 32; i = i + 1) begin
      table_addr = i; table_data = words[i];
      #5 clk = 1; #5 clk = 0;
    end
    table_en = 0; en = 1;
    for (i = 0; i < {256 + PiecewiseLinear.LATENCY}; i = i + 1) begin
      x = i - 128;
      if (i >= {PiecewiseLinear.LATENCY}) $display("%0d", out);
      #5 clk = 1; #5 clk = 0;
    end
  end
endmodule
""")
    (tmp_path / "dut.v").write_text(emitted.verilog)
    subprocess.run(["iverilog", "-o", "sim", "tb.v", "dut.v"], cwd=tmp_path, check=True)
    result = subprocess.run(["vvp", "sim"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert [int(line) for line in result.stdout.split()] == evaluate(table, table.codes()).tolist()
