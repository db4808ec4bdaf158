import os
import re
import subprocess
import sys

import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.data import StructLayout
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters
from bitfabric.hdl.common.axi_stream import AxiStreamSink, AxiStreamSource
from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.hdl.common.fifo import StreamFifo
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.common.register_map import Field, Register, RegisterMap
from bitfabric.hdl.common.stream import StreamRegister, connect_stream
from bitfabric.hdl.emit import emit, port_list
from bitfabric.hdl.yosys import YosysError, run_yosys
from bitfabric.sim.streams import simulate


class Delay(Block):
    """Delay by one cycle; count how often it is elaborated."""

    elaborated = 0

    def __init__(self, width: int):
        self.width = width
        super().__init__({"a": In(width), "b": Out(width)})

    def elaborate(self, platform):
        type(self).elaborated += 1
        m = Module()
        m.d.sync += self.b.eq(self.a + 1)
        return m


class Wires(Block):
    """Have no logic of its own: its clock is needed by its children only."""

    def __init__(self, width: int, count: int):
        self.width, self.count = width, count
        super().__init__({"a": In(width), "b": Out(width)})

    def elaborate(self, platform):
        m = Module()
        value = self.a
        for index in range(self.count):
            delay = place(m, f"delay{index}", Delay(self.width))
            m.d.comb += delay.a.eq(value)
            value = delay.b
        m.d.comb += self.b.eq(value)
        return m


class Nested(Block):
    """Place equal and different children, and an ordinary submodule that places one too."""

    def __init__(self, width: int = 8):
        self.width = width
        super().__init__({"a": In(width), "b": Out(width), "narrow": Out(4)})

    def elaborate(self, platform):
        m = Module()
        first = place(m, "first", Wires(self.width, 2))
        second = place(m, "second", Wires(self.width, 2))
        m.submodules.inner = inner = Module()
        third = place(inner, "third", Delay(self.width))
        narrow = place(inner, "narrow", Delay(4))
        state = Signal(self.width)
        inner.d.sync += state.eq(third.b)
        m.d.comb += [
            first.a.eq(self.a),
            second.a.eq(first.b),
            third.a.eq(second.b),
            narrow.a.eq(self.a[:4]),
            self.b.eq(state),
            self.narrow.eq(narrow.b),
        ]
        return m


def module_names(verilog):
    return re.findall(r"^module (\S+)\(", verilog, re.MULTILINE)


def test_each_type_is_converted_once():
    Delay.elaborated = 0
    emitted = emit(Nested(), "chip")
    assert Delay.elaborated == 2
    assert {module.name: module.instances for module in emitted.modules} == {
        "chip": 0,
        "chip_wires": 2,
        "chip_delay": 3,
        "chip_delay_2": 1,
    }
    assert emitted.modules[0].component.endswith(".Nested(width=8)")
    # The ordinary submodule is the only module beside them, and its name has no dot.
    assert sorted(module_names(emitted.verilog)) == sorted(
        ["chip", "chip__inner", "chip_wires", "chip_delay", "chip_delay_2"]
    )
    assert "." not in "".join(re.findall(r"^\s*(?:module|\w+) \\?(\S+) ?\(", emitted.verilog, re.MULTILINE))


BENCH = """
module bench;
  reg clk = 0, rst = 1; reg [7:0] a = 0; wire [7:0] b; wire [3:0] narrow;
  chip dut(.clk(clk), .rst(rst), .a(a), .b(b), .narrow(narrow));
  integer cycle;
  initial begin
    #1 clk = 1; #1 clk = 0; rst = 0;
    for (cycle = 0; cycle < 40; cycle = cycle + 1) begin
      a = cycle * 37 + 11;
      #1 $display("%0d %0d", b, narrow);
      clk = 1; #1 clk = 0;
    end
  end
endmodule
"""


def test_inlined_and_instantiated_behave_the_same(tmp_path):
    (tmp_path / "chip.v").write_text(emit(Nested(), "chip").verilog)
    (tmp_path / "bench.v").write_text(BENCH)
    subprocess.run(["iverilog", "-o", "bench.vvp", "chip.v", "bench.v"], cwd=tmp_path, check=True)
    output = subprocess.run(["vvp", "bench.vvp"], cwd=tmp_path, check=True, capture_output=True, text=True)
    block, lines = Nested(), []

    async def testbench(ctx):
        for cycle in range(40):
            ctx.set(block.a, (cycle * 37 + 11) & 0xFF)
            lines.append(f"{ctx.get(block.b)} {ctx.get(block.narrow)}")
            await ctx.tick()

    simulate(block, testbench)
    assert len(set(lines)) > 30
    assert output.stdout.splitlines() == lines


def test_emission_is_repeatable_across_processes():
    first = emit(Nested(), "chip")
    assert emit(Nested(), "chip") == first
    script = (
        "import sys, importlib.util as u; s = u.spec_from_file_location('m', sys.argv[1]); m = u.module_from_spec(s);"
        "s.loader.exec_module(m); sys.stdout.write(m.emit(m.Nested(), 'chip').verilog)"
    )
    for seed in ("0", "12345"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)}
        other = subprocess.run(
            [sys.executable, "-c", script, __file__],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        )
        assert other.stdout == first.verilog


def test_two_designs_share_no_module_name():
    one, two = (set(module_names(emit(Nested(), name).verilog)) for name in ("chip", "other"))
    assert one.isdisjoint(two)


class ChipPart(Delay):
    """Have a name that starts with the top's."""

    def __init__(self, width: int):
        super().__init__(width)


class ChipTop(Block):
    """Place a block whose module would be called like the top."""

    def __init__(self):
        super().__init__({"a": In(8), "b": Out(8)})

    def elaborate(self, platform):
        m = Module()
        part = place(m, "part", ChipPart(8))
        m.d.comb += [part.a.eq(self.a), self.b.eq(part.b)]
        return m


@pytest.mark.parametrize(
    ("name", "modules"),
    [
        ("chip", ["chip", "chip_part"]),
        ("chip_part", ["chip_part", "chip_part_2"]),
        ("ch", ["ch", "ch_chip_part"]),
    ],
)
def test_names_of_modules(name, modules):
    emitted = emit(ChipTop(), name)
    assert [module.name for module in emitted.modules] == modules
    assert sorted(module_names(emitted.verilog)) == sorted(modules)


def test_ports():
    class Ports(Block):
        def __init__(self):
            shape = StructLayout({"data": 8, "last": 1})
            super().__init__(
                {"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape)), "s": In(-4 % 7)}
            )

        def elaborate(self, platform):
            m = Module()
            connect_stream(m, self.i, self.o)
            return m

    block = Ports()
    ports = port_list(block)
    assert emit(block, "ports").ports == ports
    assert [(port["name"], port["direction"], port["width"]) for port in ports] == [
        ("i__payload", "input", 9),
        ("i__ready", "output", 1),
        ("i__valid", "input", 1),
        ("o__payload", "output", 9),
        ("o__ready", "input", 1),
        ("o__valid", "output", 1),
        ("s", "input", 3),
    ]
    assert not any(port["signed"] for port in ports)


def test_ports_of_the_emitted_module_are_complete():
    emitted = emit(Nested(), "chip")
    assert [port["name"] for port in emitted.ports] == ["a", "b", "clk", "narrow", "rst"]
    header = re.search(r"^module chip\((.*?)\);", emitted.verilog, re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"\w+", header[1])) == [port["name"] for port in emitted.ports]


def test_yosys_errors(tmp_path):
    with pytest.raises(
        YosysError, match=r"yosys failed \(exit code \d+\): .*ERROR: No such command: no_such_pass"
    ):
        run_yosys(["no_such_pass"])
    with pytest.raises(YosysError, match=r"yosys failed .*missing\.il"):
        run_yosys([f"read_rtlil {tmp_path / 'missing.il'}"])


def test_outputs_have_to_be_written_anew(tmp_path):
    output = tmp_path / "out.v"
    output.write_text("left over from another run")
    with pytest.raises(YosysError) as error:
        run_yosys(["log nothing"], outputs=[output])
    assert str(error.value) == f"yosys finished but did not write {output}"
    with pytest.raises(YosysError, match="yosys finished but did not write"):
        run_yosys([f"tee -q -o {output} log"], outputs=[output, tmp_path / "other.v"])


def test_yosys_that_takes_too_long():
    with pytest.raises(YosysError, match=r"yosys did not finish within 0\.01 s"):
        run_yosys(["log late"], timeout=0.01)


def test_yosys_gives_its_log():
    assert "hello from the script" in run_yosys(["log hello from the script"])


# What has to hold for the Verilog of every shared block.

REGISTERS = RegisterMap(
    "test",
    [
        Register(
            "control",
            "",
            [Field("start", 1, "pulse", ""), Field("mode", 3, "rw", "", 5), Field("done", 1, "w1c", "")],
        ),
        Register.value("cycles", "ro", ""),
    ],
)
COMMON = [
    StreamRegister(StructLayout({"data": 8, "last": 1})),
    StreamFifo(8, 1),
    StreamFifo(8, 7),
    Ram(8, 1),
    Ram(1, 2, transparent=True),
    Ram(8, 5),
    DoubleBuffer(8, 1),
    DoubleBuffer(8, 7),
    AxiLiteRegisters(REGISTERS),
    AxiStreamSink(8),
    AxiStreamSource(8),
]


@pytest.mark.parametrize(
    "block", COMMON, ids=lambda block: f"{block.block_key[0].__name__}({block.block_key[1][:30]})"
)
def test_shared_blocks_lint_and_have_no_latch(block, tmp_path, lint):
    path = tmp_path / "block.v"
    path.write_text(emit(block, "block").verilog)
    assert lint(path) == []
    run_yosys(
        [
            f"read_verilog {path}",
            "hierarchy -check -top block",
            "proc",
            "check -assert",
            "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$adff t:$aldff",
        ]
    )


def test_a_memory_is_inferred(tmp_path):
    path = tmp_path / "block.v"
    path.write_text(emit(Ram(32, 1024), "block").verilog)
    run_yosys([f"read_verilog {path}", "synth_ecp5 -top block", "select -assert-count 2 t:DP16KD"])


def test_memories_are_cleared_in_a_loop_and_start_at_zero(tmp_path):
    emitted = emit(Ram(5, 100), "cleared")
    assert "for (i = 0; i < 100; i = i + 1)" in emitted.verilog
    assert "[99] =" not in emitted.verilog
    bench = """
        module tb; reg clk = 0; reg [6:0] a = 0; wire [4:0] q; integer wrong = 0, n;
        cleared dut(.clk(clk), .read_en(1'b1), .read_addr(a), .read_data(q), .write_en(1'b0), .write_addr(7'd0),
                    .write_data(5'd0));
        initial begin
          for (n = 0; n < 100; n = n + 1) begin
            a = n; #1 clk = 1; #1 clk = 0; if (q !== 5'd0) wrong = wrong + 1;
          end
          $display("wrong %0d", wrong);
        end endmodule"""
    (tmp_path / "tb.v").write_text(emitted.verilog + bench)
    subprocess.run(["iverilog", "-o", str(tmp_path / "tb"), str(tmp_path / "tb.v")], check=True)
    told = subprocess.run(["vvp", str(tmp_path / "tb")], check=True, capture_output=True, text=True).stdout
    assert "wrong 0" in told
