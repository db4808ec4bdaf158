"""Timing: paths that are known, paths that are cut, and what is said without OpenSTA."""

from __future__ import annotations

import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.synth import timing as timing_module
from bitfabric.synth.libraries import OSU018, library
from bitfabric.synth.mapping import map_design
from bitfabric.synth.netlist import for_opensta
from bitfabric.synth.report import area_command
from bitfabric.synth.timing import TimingError, analyse, sta_path, timing

needs_sta = pytest.mark.skipif(sta_path() is None, reason="OpenSTA (Debian package opensta) is not installed")
needs_osu018 = pytest.mark.skipif(not OSU018.is_file(), reason="Debian's qflow-tech-osu018 is not installed")
LIB = library("builtin")

INVERT = "module invert(input clk, d, output reg q); reg p; always @(posedge clk) begin p <= d; q <= ~p; end endmodule"
COUNTER = """
module stage(input clk, rst, input [15:0] d, output reg [15:0] sum, output reg parity);
  always @(posedge clk) begin
    if (rst) sum <= 0; else sum <= sum + d;
    parity <= sum[0];
  end
endmodule
module counter(input clk, rst, input [15:0] d, output [15:0] total, output parity);
  reg [15:0] held;
  always @(posedge clk) held <= d;
  stage adder(clk, rst, held, total, parity);
endmodule
"""
MEMORY = """
module memory(input clk, we, input [7:0] a, input [15:0] d, output reg [15:0] q);
  reg [15:0] m[0:255];
  reg [15:0] r;
  always @(posedge clk) begin if (we) m[a] <= d; r <= m[a]; q <= ~r; end
endmodule
"""


@needs_sta
def test_one_inverter_between_registers() -> None:
    """The period is the sum that logical effort gives: clock to output, inverter, setup."""
    report = timing(INVERT, "invert", LIB)
    tau = 0.02
    # The flip-flop drives an inverter (1 unit), the inverter a flip-flop's D (1 unit).
    expected = tau * (6 + 1) + tau * (1 + 1) + 4 * tau
    assert report.period_ns == pytest.approx(expected, abs=1e-3)
    assert report.fmax_mhz == pytest.approx(1000 / expected, rel=1e-2)
    assert [step.cell for step in report.path] == ["DFF", "DFF", "INV", "DFF"]
    assert sum(step.delay_ns for step in report.path) == pytest.approx(report.path[-1].arrival_ns, abs=1e-3)
    assert any("nominal" in note for note in report.notes)


@needs_sta
@pytest.mark.parametrize("spec", ["builtin", pytest.param("osu018", marks=needs_osu018)])
@pytest.mark.parametrize("flat", [True, False])
def test_carry_path_is_named_by_its_registers(spec: str, flat: bool) -> None:
    """An adder's slowest path goes from a low bit to a high bit, and keeps its registers' names."""
    report = timing(COUNTER, "counter", library(spec), flat)
    start, end = report.startpoint, report.endpoint
    assert start.startswith(("held[", "total[", "adder.sum["))
    assert end.startswith(("total[", "adder.sum["))
    assert int(start.split("[")[1][:-1]) < 8 <= int(end.split("[")[1][:-1])
    assert 0.5 < report.period_ns < 20


@needs_sta
def test_ports_and_nets_of_one_name() -> None:
    """A port of several bits beside a net called like one of them (Amaranth has those) is timed all the same."""
    source = r"""module twins(input clk, input [1:0] a, output reg [1:0] q);
    reg [1:0] \a[0] , \a[1] ;
    always @(posedge clk) begin \a[0] <= a; \a[1] <= \a[0] ; q <= ~(a + \a[1] ); end endmodule"""
    report = timing(source, "twins", LIB)
    assert report.startpoint in ("a[0]", "a[1]", "a[1][0]", "a[1][1]")
    assert report.endpoint == "q[1]"


@needs_sta
def test_speed_is_faster() -> None:
    """The goal "speed" shortens the period."""
    small, fast = (timing(COUNTER, "counter", LIB, goal=goal) for goal in ("area", "speed"))
    assert fast.period_ns < small.period_ns


@needs_sta
def test_memory_macros_cut_paths() -> None:
    """A macro's access time is unknown: the path is cut there, and the report says so."""
    report = timing(MEMORY, "memory", LIB)
    assert any("cut at memory macros" in note for note in report.notes)
    assert "memory_256x16" not in report.startpoint + report.endpoint


@needs_sta
def test_port_to_port_and_no_path() -> None:
    """Combinational designs are timed from port to port; one without any path is an error, or a note."""
    report = timing("module gate(input a, b, output y); assign y = ~(a & b); endmodule", "gate", LIB)
    assert report.startpoint in "ab"
    assert report.endpoint == "y"
    with pytest.raises(TimingError, match="no path"):
        timing("module wire_only(input a, output y); assign y = a; endmodule", "wire_only", LIB)
    constant = "module constant(output y); assign y = 1; endmodule"
    with pytest.raises(TimingError, match="no path"):
        timing(constant, "constant", LIB)
    command = area_command(constant, "constant")
    assert command.timings == []
    assert "no path" in command.timing_note


def test_without_opensta(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without OpenSTA the area report says which package has it; timing alone is an error."""
    monkeypatch.setattr(timing_module.shutil, "which", lambda name: None)
    report = area_command(INVERT, "invert")
    assert report.timings == []
    assert report.timing_note == "OpenSTA not found (Debian package opensta)"
    with pytest.raises(TimingError, match="Debian package opensta"):
        timing(INVERT, "invert", LIB)


@needs_sta
def test_opensta_failures_are_errors() -> None:
    """A netlist that OpenSTA does not read, or none, is an error with its message."""
    mapped = map_design(INVERT, "invert", LIB)
    with pytest.raises(ParameterError, match="netlist"):
        analyse(mapped, LIB)
    broken = type(mapped)(**{**vars(mapped), "netlist": "module invert(input clk; endmodule\n"})
    with pytest.raises(TimingError, match=r"OpenSTA failed: .*syntax error"):
        analyse(broken, LIB)


def test_netlist_is_split_per_bit() -> None:
    """Assignments of concatenations become one per bit, constants included, and signed goes."""
    text = "  wire signed \\a[0] ;\n  assign { \\a[0] , b, c } = { \\x[1] , 2'b01 };\n"
    assert for_opensta(text) == (
        "  wire \\a[0] ;\n  assign \\a[0]  = \\x[1] ;\n  assign b = 1'b0;\n  assign c = 1'b1;\n"
    )


@needs_sta
def test_high_fan_out_is_buffered() -> None:
    """An enable of 512 registers is a tree of buffers: one gate driving them all would take 40 ns."""
    source = """module wide(input clk, a, b, input [511:0] d, output reg [511:0] q); reg x, y;
    always @(posedge clk) begin x <= a; y <= b; if (x ^ y) q <= d; end endmodule"""
    assert timing(source, "wide", LIB).period_ns < 6
