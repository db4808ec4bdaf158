"""Area: circuits whose cells can be counted by hand, memories, hierarchy, and failures that must be errors."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out
from rich.console import Console

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.emit import emit
from bitfabric.hdl.yosys import YosysError, run_yosys
from bitfabric.quant.errors import ParameterError
from bitfabric.synth.adders import find_full_adder
from bitfabric.synth.area import area
from bitfabric.synth.libraries import BUILTIN, OSU018, library
from bitfabric.synth.mapping import map_design
from bitfabric.synth.report import area_command

needs_osu018 = pytest.mark.skipif(not OSU018.is_file(), reason="Debian's qflow-tech-osu018 is not installed")
LIB = library("builtin")

REGISTER = (
    "module register(input clk, input [7:0] d, output reg [7:0] q); always @(posedge clk) q <= d; endmodule"
)
MEMORIES = """
module big(input clk, we, input [7:0] wa, ra, input [15:0] d, output reg [15:0] q);
  reg [15:0] m[0:255];
  always @(posedge clk) begin if (we) m[wa] <= d; q <= m[ra]; end
endmodule
module small(input clk, we, input [2:0] wa, ra, input [7:0] d, output [7:0] q);
  reg [7:0] m[0:7];
  always @(posedge clk) if (we) m[wa] <= d;
  assign q = m[ra];
endmodule
module table8(input [2:0] a, output reg [3:0] q);
  always @* case (a) 0: q = 3; 1: q = 7; 2: q = 12; 3: q = 1; 4: q = 9; 5: q = 2; 6: q = 11; default: q = 4; endcase
endmodule
module memories(input clk, we, input [7:0] wa, ra, input [15:0] d, output reg [15:0] q, output [7:0] s,
                output [3:0] t);
  wire [15:0] a, b;
  big x(clk, we, wa, ra, d, a);
  big y(clk, we, ra, wa, d, b);
  small z(clk, we, wa[2:0], ra[2:0], d[7:0], s);
  table8 u(ra[2:0], t);
  always @(posedge clk) q <= a ^ b;
endmodule
"""


class MacPe(Block):
    """Multiply a held weight and add: the plain weight-stationary PE."""

    def __init__(self, psum_bits: int = 24):
        self.psum_bits = psum_bits
        super().__init__(
            {
                "load": In(1),
                "act_i": In(signed(8)),
                "act_o": Out(signed(8)),
                "weight_i": In(signed(8)),
                "weight_o": Out(signed(8)),
                "psum_i": In(signed(psum_bits)),
                "psum_o": Out(signed(psum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        with m.If(self.load):
            m.d.sync += self.weight_o.eq(self.weight_i)
        m.d.sync += [
            self.act_o.eq(self.act_i),
            self.psum_o.eq(self.psum_i + self.act_i * self.weight_o),
        ]
        return m


class Row(Block):
    """Chain PEs whose first psum is 0, so that a flat view has constants to carry across."""

    def __init__(self, length: int = 2, psum_bits: int = 16):
        self.length = length
        self.psum_bits = psum_bits
        super().__init__({"load": In(1), "data": In(signed(8)), "psum": Out(signed(psum_bits))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        act, weight, psum = self.data, self.data, Signal(signed(self.psum_bits))
        for index in range(self.length):
            pe = place(m, f"pe_{index}", MacPe(self.psum_bits))
            m.d.comb += [pe.load.eq(self.load), pe.act_i.eq(act), pe.weight_i.eq(weight), pe.psum_i.eq(psum)]
            act, weight, psum = pe.act_o, pe.weight_o, pe.psum_o
        m.d.comb += self.psum.eq(psum)
        return m


def test_inverter() -> None:
    """One inverter is one cell of half a NAND2, one deep."""
    report = area("module inv(input a, output y); assign y = ~a; endmodule", "inv", LIB)
    assert report.by_cell == {"INV": 1}
    assert (report.cells, report.nand2_equivalents, report.logic_depth, report.flip_flops) == (1, 0.5, 1, 0)


def test_three_inverters_between_kept_modules() -> None:
    """Hierarchical synthesis keeps a chain that flat synthesis folds into one inverter."""
    chain = """module one(input a, output y); assign y = ~a; endmodule
    module chain(input a, output y); wire b, c; one x(a, b); one z(b, c); one w(c, y); endmodule"""
    kept = area(chain, "chain", LIB, flat=False)
    assert kept.by_cell == {"INV": 3}
    assert kept.logic_depth == 3
    assert [(m.name, m.instances, m.cells) for m in kept.by_module] == [("chain", 1, 0), ("one", 3, 1)]
    folded = area(chain, "chain", LIB)
    assert folded.by_cell == {"INV": 1}
    assert folded.logic_depth == 1
    assert [m.name for m in folded.by_module] == ["chain"]


def test_register() -> None:
    """Eight flip-flops and nothing else: 8 x 24 transistors / 4, no logic between registers."""
    report = area(REGISTER, "register", LIB)
    assert report.by_cell == {"DFF": 8}
    assert (report.flip_flops, report.nand2_equivalents, report.logic_depth) == (8, 48, 0)


def test_asynchronous_resets_latches_and_nothing() -> None:
    """Cells that Amaranth designs rarely need are mapped too; an empty design costs 0."""
    source = """module odd(input clk, rst, g, d, output reg q, p, l);
    always @(posedge clk or posedge rst) if (rst) q <= 0; else q <= d;
    always @(posedge clk or negedge rst) if (!rst) p <= 1; else p <= d;
    always @* if (g) l = d; endmodule"""
    report = area(source, "odd", LIB)
    assert report.by_cell == {"DFFR": 1, "DFFS": 1, "INV": 1, "LATCH": 1}
    assert (report.flip_flops, report.latches) == (2, 1)
    empty = area("module nothing(input a, output y); assign y = a; endmodule", "nothing", LIB)
    assert (empty.cells, empty.area, empty.logic_depth) == (0, 0, 0)


@pytest.mark.parametrize("flat", [True, False])
def test_memories(flat: bool) -> None:
    """Big memories stay macros, small ones become flip-flops, tables of constants become logic."""
    report = area(MEMORIES, "memories", LIB, flat)
    assert report.memory_bits == 2 * 256 * 16
    assert report.flip_flops == 8 * 8 + 16
    kept = [memory for memory in report.memories if memory.kept]
    assert [(m.depth, m.width, m.read_ports, m.write_ports, m.instances) for m in kept] == [
        (256, 16, 1, 1, 2)
    ]
    assert "2 x 256x16 bits" in report.notes[0]
    if not flat:
        assert {m.name: m.instances for m in report.by_module}["big"] == 2


def test_memory_threshold() -> None:
    """The threshold moves a memory between macros and flip-flops."""
    low = area(MEMORIES, "memories", LIB, memory_threshold=63)
    assert low.memory_bits == 2 * 256 * 16 + 64
    assert low.flip_flops == 16
    # Not by much: as flip-flops, "big" makes a design that takes long to map.
    high = area(MEMORIES, "small", LIB, memory_threshold=64)
    assert (high.memory_bits, high.flip_flops) == (0, 64)


def test_flat_is_smaller_than_hierarchical() -> None:
    """A row of emitted PEs: same flip-flops or fewer, less area, and the report says which it is."""
    verilog = emit(Row(), "row").verilog
    kept, flat = (area(verilog, "row", LIB, flat=view) for view in (False, True))
    assert (kept.flat, flat.flat) == (False, True)
    assert flat.area < kept.area
    assert flat.flip_flops <= kept.flip_flops == 2 * (8 + 8 + 16)
    assert {m.name: m.instances for m in kept.by_module} == {"row": 1, "row_mac_pe": 2}
    total = sum(m.area * m.instances for m in kept.by_module)
    assert total == pytest.approx(kept.area)
    assert sum(m.share for m in kept.by_module) == pytest.approx(1)


@needs_osu018
def test_builtin_and_osu018_agree() -> None:
    """NAND2-equivalents of the two libraries differ by less than half; osu018's flip-flop is the smaller one."""
    verilog = emit(MacPe(), "mac_pe").verilog
    ours, osu = area(verilog, "mac_pe", LIB), area(verilog, "mac_pe", library("osu018"))
    assert ours.flip_flops == osu.flip_flops == 40
    assert 0.7 < osu.nand2_equivalents / ours.nand2_equivalents < 1.1
    assert 500 < osu.nand2_equivalents < 1035


def test_speed_costs_area() -> None:
    """Mapping for speed gives a shorter and larger PE."""
    verilog = emit(MacPe(), "mac_pe").verilog
    small, fast = (area(verilog, "mac_pe", LIB, goal=goal) for goal in ("area", "speed"))
    assert fast.logic_depth < small.logic_depth
    assert fast.area > small.area


@pytest.fixture
def cheap_adder(tmp_path: Path) -> Path:
    """The builtin library with a full adder that pays, its outputs inverted as some vendors have them."""
    head, cell, tail = BUILTIN.read_text().partition("  cell (FA) {\n    area : 7;")
    adder, end, rest = tail.partition("  cell (HA)")
    adder = adder.replace('"A^B^CI"', '"!(A^B^CI)"').replace(
        '"(A&B)|(A&CI)|(B&CI)"', '"!((A&B)|(A&CI)|(B&CI))"'
    )
    path = tmp_path / "adder.lib"
    path.write_text(head + cell.replace("7", "5") + adder + end + rest)
    return path


ADDERS = """module adders(input clk, input signed [15:0] a, b, input [20:0] c, input signed [4:0] d, e, input less,
    output reg signed [15:0] s, output reg [20:0] t, output reg signed [20:0] u, output reg v, output reg [16:0] w);
    always @(posedge clk) begin
      s <= a + b; t <= c - {a, 3'b101}; u <= c + a + d * e; v <= a < b; w <= less ? 17'd9 - a : {a, 1'b0} + c + 1;
    end endmodule"""


def test_full_adders_are_found_and_used(cheap_adder: Path) -> None:
    """Wide sums take full-adder cells where those pay; comparisons, narrow sums and the goal "speed" do not."""
    lib = library(cheap_adder)
    found = find_full_adder(lib)
    assert found is not None
    assert (found.cell.name, found.sum_pin, found.carry_pin) == ("FA", "S", "CO")
    assert found.sum_inverted
    assert found.carry_inverted
    assert find_full_adder(LIB) is None  # 7 NAND2s are more than gates take
    sums = "module sums(input [15:0] a, b, output [15:0] s); assign s = a + b; endmodule"
    assert area(sums, "sums", lib).by_cell["FA"] == 14  # bit 0 has no carry in, bit 15 needs none out
    assert area(sums, "sums", lib).area < area(sums, "sums", LIB).area
    assert "FA" not in area(sums, "sums", lib, goal="speed").by_cell
    less = "module less(input [15:0] a, b, output y); assign y = a < b; endmodule"
    assert "FA" not in area(less, "less", lib).by_cell
    narrow = "module narrow(input [7:0] a, b, output [7:0] s); assign s = a + b; endmodule"
    assert "FA" not in area(narrow, "narrow", lib).by_cell


def test_full_adders_compute_the_same(cheap_adder: Path, tmp_path: Path) -> None:
    """Sums, differences, signs, constants, carries in and products that end in full-adder cells are proved equal."""
    mapped = map_design(ADDERS, "adders", library(cheap_adder), netlist=True)
    assert mapped.cells["adders"]["FA"] > 40
    prove_equal(tmp_path, ADDERS, mapped.netlist, cheap_adder)


@needs_osu018
def test_osu018_full_adders_compute_the_same(tmp_path: Path) -> None:
    """FAX1 is found by its functions and the netlist is equal."""
    mapped = map_design(ADDERS, "adders", library("osu018"), netlist=True)
    assert mapped.cells["adders"]["FAX1"] > 40
    prove_equal(tmp_path, ADDERS, mapped.netlist, OSU018)


def prove_equal(tmp_path: Path, source: str, netlist: str, liberty: Path) -> None:
    """Prove a mapped netlist equal to its source, the cells being what the Liberty file says."""
    name = re.search(r"module (\w+)", source)[1]  # type: ignore[index]
    (tmp_path / "gold.v").write_text(source)
    (tmp_path / "gate.v").write_text(netlist)
    log = run_yosys(
        [
            f"read_verilog {tmp_path}/gold.v",
            f"prep -top {name}",
            "splitnets -ports -format @",
            f"rename {name} gold",
            f"read_liberty -ignore_miss_func {liberty}",
            f"read_verilog {tmp_path}/gate.v",
            f"rename {name} gate",
            "flatten gate",
            "proc",
            "opt_clean",
            "async2sync",
            "equiv_make gold gate equiv",
            "hierarchy -top equiv",
            "equiv_simple",
            "equiv_induct",
            "equiv_status -assert",
        ]
    )
    assert "Equivalence successfully proven" in log


@pytest.mark.parametrize("goal", ["area", "speed"])
def test_mapped_cells_compute_the_same(tmp_path: Path, goal: str) -> None:
    """The netlist of builtin cells is proved equal to its source, so that the library's functions are right."""
    source = """module mac(input clk, rst, en, input signed [4:0] a, b, output reg signed [9:0] q, output reg [4:0] c);
    always @(posedge clk) begin
      if (rst) q <= 0; else if (en) q <= q + a * b;
      c <= en ? (a ^ b) & {a[0], b[4:1]} : ~(a | q[4:0]);
    end endmodule"""
    mapped = map_design(source, "mac", LIB, goal=goal, netlist=True)
    prove_equal(tmp_path, source, mapped.netlist, BUILTIN)


@pytest.mark.parametrize(
    ("verilog", "top", "message"),
    [
        ("module broken(input a; endmodule", "broken", "syntax error"),
        (REGISTER, "absent", "absent"),
        ("module parent(input a); child c(a); endmodule", "parent", "child"),
    ],
)
def test_failed_synthesis_is_an_error(verilog: str, top: str, message: str) -> None:
    """Bad Verilog, a missing top and a missing module are errors that name the culprit."""
    with pytest.raises(YosysError, match=message):
        area(verilog, top, LIB)


def test_cells_that_the_library_lacks_are_an_error() -> None:
    """A black box is refused instead of being counted as nothing."""
    source = """(* blackbox *) module pll(input a, output y); endmodule
    module top(input a, output y); pll p(a, y); endmodule"""
    with pytest.raises(YosysError, match="left cells that the library builtin does not have: pll"):
        area(source, "top", LIB)


def test_storage_that_the_library_lacks_is_an_error(tmp_path: Path) -> None:
    """A storage cell that the library lacks makes yosys fail, and that is reported."""
    text = BUILTIN.read_text()
    path = tmp_path / "one_flip_flop.lib"
    path.write_text(text[: text.index("  cell (DFFR)")] + "}\n")
    latch = "module held(input g, d, output reg q); always @* if (g) q = d; endmodule"
    assert area(latch, "held", LIB).latches == 1
    with pytest.raises(YosysError, match=r"cannot be legalized|unsupported"):
        area(latch, "held", library(path))


def test_parameters_are_checked() -> None:
    """Impossible arguments are refused before yosys starts."""
    for arguments in ({"goal": "power"}, {"memory_threshold": -1}):
        with pytest.raises(ParameterError):
            area(REGISTER, "register", LIB, **arguments)  # type: ignore[arg-type]
    with pytest.raises(ParameterError):
        area(REGISTER, "register; shell ls", LIB)
    with pytest.raises(ParameterError, match="view"):
        area_command(REGISTER, "register", view="round")


def test_command_report() -> None:
    """The command's report has both views, plain data and tables, and tells its stages."""
    stages: list[str] = []
    report = area_command(MEMORIES, "memories", view="both", with_timing=False, progress=stages.append)
    assert [a.flat for a in report.areas] == [False, True]
    data = json.loads(json.dumps(report.to_dict()))
    assert data["area"]["flat"]["memory_bits"] == data["area"]["hierarchical"]["memory_bits"] == 8192
    assert data["timing"] is None
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report.render())
    text = console.export_text()
    for words in ("hierarchical", "flat", "memory bits in macros", "8,192", "timing: not asked for"):
        assert words in text
    assert stages == [
        "read memories",
        "map memories to builtin",
        "read memories and flatten it",
        "map memories to builtin",
    ]


def test_tables_fit_a_terminal() -> None:
    """In 80 columns no name is cut: modules go without the top's name, registers without their type."""
    name = "a_module_of_twenty_one"
    source = f"""module {name}(input clk, d, output reg q); always @(posedge clk) q <= d; endmodule
    module top_accumulator_column(input clk, d, output q); wire w; {name} x(clk, d, w); {name} y(clk, w, q); endmodule
    module top(input clk, d, output q); top_accumulator_column column(clk, ~d, q); endmodule"""
    report = area_command(source, "top", view="hierarchical")
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(report.render())
    text = console.export_text()
    assert "…" not in text
    assert "│ accumulator_column " in text
    assert "DFF/" not in text
    assert {m.name for m in report.areas[0].by_module} == {"top", "top_accumulator_column", name}
