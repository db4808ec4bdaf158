"""Fan-out: buffer trees on wide nets across instances, clocks left alone, the function kept."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from bitfabric.hdl.yosys import YosysError, run_yosys
from bitfabric.synth.fanout import MAX_LOADS, buffer_nets, find_buffer
from bitfabric.synth.libraries import BUILTIN, OSU018, library
from bitfabric.synth.mapping import map_design
from bitfabric.synth.timing import analyse, sta_path

needs_sta = pytest.mark.skipif(sta_path() is None, reason="OpenSTA (Debian package opensta) is not installed")
needs_osu018 = pytest.mark.skipif(not OSU018.is_file(), reason="Debian's qflow-tech-osu018 is not installed")
LIB = library("builtin")


# The register drives 300 gates through an instance's port, and an output.
PAIR = """
module leaf(input clk, en, input [299:0] d, output reg [299:0] q);
  always @(posedge clk) q <= d & {300{en}};
endmodule
module pair(input clk, a, input [299:0] d, output [299:0] q, output copy);
  reg en;
  always @(posedge clk) en <= a;
  leaf only(clk, en, d, q);
  assign copy = en;
endmodule
"""


def loads_per_net(netlist: str, pins: str = "A|B|C|D") -> dict[str, int]:
    """Return how many of ``pins`` each net drives."""
    counts: dict[str, int] = {}
    for net in re.findall(rf"^    \.(?:{pins})\((\S+) ?\)", netlist, re.MULTILINE):
        counts[net] = counts.get(net, 0) + 1
    return counts


@needs_sta
@pytest.mark.parametrize("spec", ["builtin", pytest.param("osu018", marks=needs_osu018)])
def test_register_that_crosses_instances(spec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """300 loads in another instance: a tree of buffers takes a fraction of what one register needs."""
    cells = library(spec)
    mapped = map_design(PAIR, "pair", cells, flat=False, netlist=True)
    after = analyse(mapped, cells)
    assert after.fan_out.nets == 1
    assert (
        after.fan_out.buffers == 19 + 2
    )  # of 300 loads each has 15 or 16, and 19 are too many for the register
    assert after.fan_out.area == 21 * cells.cells[after.fan_out.cell].area
    assert any("1 nets of more than 16 loads" in note and "not counted" in note for note in after.notes)
    assert after.path[1].pin.startswith("en")
    assert re.match(r"(en|copy)_fanout_(19|20)\b", after.path[2].pin)

    monkeypatch.setattr("bitfabric.synth.fanout.MAX_LOADS", 10**9)
    before = analyse(mapped, cells)
    assert before.fan_out.buffers == 0
    assert after.period_ns < before.period_ns / 3


def test_loads_are_limited_and_clocks_left_alone() -> None:
    """No net but the clock has more than the limit afterwards, and the clock's pins stay on its net."""
    mapped = map_design(PAIR, "pair", LIB, flat=False, netlist=True)
    netlist, fan_out = buffer_nets(mapped.netlist, LIB)
    assert max(loads_per_net(mapped.netlist).values()) == 300
    assert max(loads_per_net(netlist).values()) == MAX_LOADS
    assert loads_per_net(netlist, "CK") == {"clk": 301}
    assert buffer_nets(netlist, LIB) == (netlist, replace(fan_out, nets=0, buffers=0, area=0.0))


def prove_equal(scratch: Path, first: str, second: str, top: str, liberty: Path) -> None:
    """Prove that two netlists of ``liberty``'s cells do the same."""
    script = []
    for name, text in (("gold", first), ("gate", second)):
        (scratch / f"{name}.v").write_text(text)
        script += [
            f"read_liberty -ignore_miss_func {liberty}",
            f"read_verilog {scratch}/{name}.v",
            f"hierarchy -top {top}",
            "proc",
            "flatten",
            f"rename {top} {name}",
            f"design -stash {name}",
        ]
    script += [
        "design -copy-from gold -as gold gold",
        "design -copy-from gate -as gate gate",
        "equiv_make gold gate equiv",
        "hierarchy -top equiv",
        "opt_clean",
        "equiv_simple -undef",
        "equiv_induct -undef",
        "equiv_status -assert",
        f"write_rtlil {scratch}/equiv.il",
    ]
    run_yosys(script, outputs=[scratch / "equiv.il"])


@pytest.mark.parametrize("flat", [True, False])
def test_function_is_kept(tmp_path: Path, flat: bool) -> None:
    """The netlist is proved to do what it did, where the wide net is an output too."""
    mapped = map_design(PAIR, "pair", LIB, flat=flat, netlist=True)
    netlist, fan_out = buffer_nets(mapped.netlist, LIB)
    assert fan_out.buffers == 21
    prove_equal(tmp_path, mapped.netlist, netlist, "pair", BUILTIN)
    wrong = netlist.replace(".A(\\en_fanout_19 )", ".A(a)", 1).replace(".A(\\copy_fanout_19 )", ".A(a)", 1)
    assert wrong != netlist
    with pytest.raises(YosysError):
        prove_equal(tmp_path, mapped.netlist, wrong, "pair", BUILTIN)


def structural(pins: str, extra: str = "") -> str:
    """Return a netlist as ``map_design`` writes them, of instances that hold ``pins``."""
    return f"module top(a, y);\n  input a;\n  output y;\n{extra}{pins}endmodule\n"


def inverters(net: str, count: int, start: int = 0) -> str:
    """Return ``count`` inverters behind ``net``."""
    return "".join(f"  INV g{i} (\n    .A({net}),\n    .Y(n{i})\n  );\n" for i in range(start, start + count))


def test_names_of_one_net_count_together() -> None:
    """Nets joined by assignments are one, however they are called; the tree hangs at their source."""
    text = structural(
        inverters("\\b[1] ", 9) + inverters("c", 9, 9), "  assign c = \\b[1] ;\n  assign \\b[1]  = a;\n"
    )
    netlist, fan_out = buffer_nets(text, LIB)
    assert (fan_out.nets, fan_out.buffers) == (1, 2)
    assert "  BUF \\a_fanout_0\\BUF  (\n    .A(a ),\n    .Y(\\a_fanout_0 )\n  );\n" in netlist
    assert loads_per_net(netlist) == {"\\a_fanout_0": 9, "\\a_fanout_1": 9, "a": 2}


def test_names_that_exist_are_not_taken() -> None:
    """A net that is called like a buffer's keeps its name to itself, and constants are no nets."""
    text = structural(inverters("a", 17) + inverters("\\a_fanout_0 ", 1, 17) + inverters("1'b0", 30, 18))
    netlist, fan_out = buffer_nets(text, LIB)
    assert (fan_out.nets, fan_out.buffers) == (1, 2)
    assert loads_per_net(netlist)["\\a_fanout_0"] == 1
    assert {"\\a_fanout_1", "\\a_fanout_2"} < loads_per_net(netlist).keys()


def test_memory_macros_count_ports() -> None:
    """A macro's port is one load for all bits a net drives; its clocks and its data out are none."""
    macro = "  memory_4x2_1r1w_a2 m{} (\n    .RD_CLK(a),\n    .RD_DATA({{ q{}, r }}),\n    .WR_EN({{ e, e }})\n  );\n"
    text = structural("".join(macro.format(i, i) for i in range(16)))
    assert buffer_nets(text, LIB)[1].nets == 0
    netlist, fan_out = buffer_nets(structural("".join(macro.format(i, i) for i in range(17))), LIB)
    assert (fan_out.nets, fan_out.buffers) == (1, 2)
    assert netlist.count(".RD_CLK(a)") == 17
    assert netlist.count(".WR_EN({ \\e_fanout_0 , \\e_fanout_0 })") == 8


def test_library_without_buffer() -> None:
    """Without a buffer the netlist stays as it is, and the count says so."""
    assert (find_buffer(LIB) or pytest.fail("no buffer")).name == "BUF"
    poor = replace(LIB, cells={name: cell for name, cell in LIB.cells.items() if name != "BUF"})
    text = structural(inverters("a", 17))
    netlist, fan_out = buffer_nets(text, poor)
    assert netlist == text
    assert (fan_out.nets, fan_out.cell, fan_out.buffers) == (1, "", 0)
