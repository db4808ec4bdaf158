"""What holds for the emitted Verilog of everything: Verilator's lint, no latch, no path from an input to an output."""

import fnmatch
import json
import re
from collections import defaultdict

import pytest

from bitfabric.hdl.registry import BLOCKS, DESIGNS
from bitfabric.hdl.yosys import YosysError, run_yosys

EVERYTHING = [(name, {}) for name in (*DESIGNS, *BLOCKS)]
WS, OS, PANACEA, DRIFT, DRQ = "systolic_ws", "systolic_os", "panacea", "drift", "drq"
SMALL = {"wmem_words": 16, "amem_words": 16, "omem_words": 16, "omem_records": 2, "segments": 16}
ONE_PEA = {
    **SMALL,
    **{"peas": 1, "dynamic_operators": 1, "static_operators": 1, "tile_k": 4, "tile_n": 4},
    **{"max_weight_bits": 4, "max_act_bits": 4},
}
DRIFT_SMALL = {
    **{"weight_words": 8, "high_words": 8, "low_words": 8, "out_words": 8, "staging_beats": 4},
    **{"m_max": 8, "granules_max": 4, "acc_depth": 4, "segments": 16},
}
DRIFT_SMALLEST = {
    **{"rows": 1, "columns": 1, "weight_words": 1, "high_words": 4, "low_words": 4, "out_words": 2},
    **{"staging_beats": 2, "m_max": 1, "granules_max": 1, "acc_depth": 1, "acc_bits": 20, "k_max": 16},
}
DRQ_SMALLEST = {
    **{"rows": 1, "columns": 1, "line_elements": 1, "k_max": 1, "map_words": 1, "flag_words": 1},
    **{"sum_words": 1, "height_max": 1},
}
EXTREMES = [
    (WS, {"weight_buffering": "double"}),
    (WS, {"rows": 1, "columns": 1}),
    (WS, {"rows": 5, "columns": 7, "axis_data_bits": 64, "acc_bits": 20, "k_max": 10}),
    (WS, {"rows": 1, "columns": 9, "axis_data_bits": 128, "acc_depth": 1, "act_depth": 1}),
    (OS, {"tile_overlap": True, "rows": 4, "columns": 4, "weight_depth": 16, "act_depth": 16}),
    (OS, {"rows": 1, "columns": 1, "weight_depth": 1, "act_depth": 1}),
    ("bitgroup", {"alignment": "bit"}),
    (PANACEA, {**SMALL, "flexible": True, "dtp": False}),
    (PANACEA, {**SMALL, "dtp": False, "axis_data_bits": 256, "act_slots": 5}),
    (PANACEA, {**SMALL, "peas": 3, "tile_k": 4, "tile_n": 12, "axis_data_bits": 512}),
    (PANACEA, ONE_PEA),
    ("workload_scheduler", {"flexible": True, "dtp": False}),
    (DRIFT, {**DRIFT_SMALL, "weight_buffering": "single", "axis_data_bits": 128, "lanes": 8}),
    (DRIFT, {**DRIFT_SMALL, "weight_buffering": "transit", "alignment": "bit", "scheduler": "greedy"}),
    (DRIFT, {**DRIFT_SMALL, "rows": 5, "columns": 7}),
    (DRIFT, {**DRIFT_SMALL, "rows": 3, "columns": 1, "axis_data_bits": 256, "lanes": 8, "acc_depth": 1}),
    (DRIFT, DRIFT_SMALLEST),
    (DRQ, {"rows": 5, "columns": 2, "line_elements": 4, "axis_data_bits": 64, "pe_counters": False}),
    (DRQ, DRQ_SMALLEST),
]
VARIANTS = [*EVERYTHING, *EXTREMES]
NO_LATCH = "select -assert-none t:$dlatch t:$adlatch t:$dlatchsr t:$adff t:$aldff t:$sr"
# Mistakes that users make beside our modules, each with the class that Verilator files it under.
MISTAKES = {
    "WIDTHTRUNC": "module bad(input [7:0] a, output [3:0] b); assign b = a; endmodule",
    "WIDTHEXPAND": "module bad(input [3:0] a, output [7:0] b); assign b = a; endmodule",
    "LATCH": "module bad(input [1:0] a, output reg b); always @* if (a[0]) b = a[1]; endmodule",
    "UNDRIVEN": "module bad(input a, output b, output c); assign b = a; endmodule",
    "PINMISSING": "module bad(input a, output b); sub s(.i(a)); assign b = a; endmodule\n"
    "module sub(input i, output o, input p); assign o = i ^ p; endmodule",
    "MULTIDRIVEN": "module bad(input clk, input a, output reg b);\n"
    "always @(posedge clk) b <= a; always @(negedge clk) b <= !a; endmodule",
    "UNOPTFLAT": "module bad(input a, output b); wire c; assign c = ~(c & a); assign b = c; endmodule",
}


@pytest.fixture(scope="module")
def source(emitted, tmp_path_factory):
    """Return a function that writes a variant of the `tiny` preset to a file."""

    def write(name, overrides):
        path = tmp_path_factory.mktemp("verilog") / f"{name}.v"
        path.write_text(emitted(name, "tiny", **overrides).verilog)
        return path

    return write


@pytest.mark.parametrize(("name", "overrides"), VARIANTS)
def test_lint(name, overrides, source, lint):
    assert lint(source(name, overrides)) == []


@pytest.mark.parametrize("kind", MISTAKES)
def test_the_waivers_leave_real_mistakes(kind, tmp_path, lint):
    path = tmp_path / "bad.v"
    path.write_text(MISTAKES[kind] + "\n")
    assert kind in {text.split(":")[0] for text in lint(path)}


def test_every_waiver_is_needed_and_explained(source, lint, waivers):
    text = waivers.read_text()
    groups = re.findall(r"^// .+\n((?:lint_off .+\n)+)", text, re.MULTILINE)
    assert sum(group.count("lint_off") for group in groups) == text.count("lint_off")
    rules = re.findall(
        r"^lint_off -rule (\w+)(?: -file \"\*\" -match \"(.*)\")?$", "".join(groups), re.MULTILINE
    )
    assert rules
    # What no rule waives, the lint above finds; so it is enough to go on until each has met something to waive.
    unmet = {f"{rule}: {pattern or '*'}" for rule, pattern in rules}
    for variant in sorted(VARIANTS, key=lambda variant: variant[0] in DESIGNS):
        if unmet:
            waived = lint(source(*variant), waivers=False)
            unmet -= {rule for rule in unmet if fnmatch.filter(waived, rule)}
    assert not unmet


def check_netlist(path, top, *steps, outputs=()):
    """Find latches, loops and conflicts in the flat netlist, and take further steps with it."""
    read = [f"read_verilog {path}", f"hierarchy -check -top {top}", "proc", "flatten"]
    run_yosys([*read, "check -assert", NO_LATCH, *steps], outputs=outputs)


@pytest.mark.parametrize(("name", "overrides"), [item for item in VARIANTS if item[0] in BLOCKS])
def test_no_latch_no_loop_no_conflict(name, overrides, source):
    check_netlist(source(name, overrides), name)


@pytest.mark.parametrize(
    ("verilog", "message"),
    [
        (MISTAKES["LATCH"], "Assertion failed: selection is not empty"),
        ("module bad(input a, output b); wire c = ~(c & a); assign b = c; endmodule", "Found 1 problems"),
        (
            "module bad(input a, input c, output b); assign b = a & c; assign b = ~a; endmodule",
            "Found 1 problems",
        ),
    ],
)
def test_latch_loop_and_conflict_are_noticed(verilog, message, tmp_path):
    path = tmp_path / "bad.v"
    path.write_text(verilog + "\n")
    with pytest.raises(YosysError, match=message):
        check_netlist(path, "bad")


def is_clocked_memory(cell):
    """Return whether all that a memory gives comes from its registers."""
    return cell["type"].startswith("$mem") and "0" not in cell["parameters"]["RD_CLK_ENABLE"]


def combinational_paths(path, top, scratch):
    """Return the pairs (input port, output port) joined by a path without a flip-flop; latches and loops are refused."""
    netlist = scratch / "netlist.json"
    # Without the flip-flops, nearly all that is no path from port to port leads to no output and is removed with them.
    steps = ["opt_dff", "memory_dff", "memory_collect", "delete t:*dff*", "opt_clean", "simplemap"]
    check_netlist(path, top, *steps, f"write_json {netlist}", outputs=[netlist])
    module = json.loads(netlist.read_text())["modules"][top]
    follows = defaultdict(set)  # bit to the bits that depend on it in the same cycle
    for cell in module["cells"].values():
        if "dff" in cell["type"].lower() or is_clocked_memory(cell):
            continue
        pins = defaultdict(list)
        for pin, bits in cell["connections"].items():
            pins[cell["port_directions"][pin]] += bits
        for bit in pins["input"]:
            follows[bit].update(pins["output"])
    outputs = {
        bit: name
        for name, port in module["ports"].items()
        if port["direction"] == "output"
        for bit in port["bits"]
    }
    found = set()
    for name, port in module["ports"].items():
        reached, front = set(), [bit for bit in port["bits"] if port["direction"] == "input"]
        while front:
            bit = front.pop()
            if bit not in reached:
                reached.add(bit)
                front += follows[bit]
        found |= {(name, outputs[bit]) for bit in reached if bit in outputs}
    return found


@pytest.mark.parametrize(("name", "overrides"), [item for item in VARIANTS if item[0] in DESIGNS])
def test_no_latch_no_loop_and_no_input_reaches_an_output_within_a_cycle(name, overrides, source, tmp_path):
    # One reading of a machine's netlist does for all. No path: so no ready waits for a valid, no valid for a ready, and the machine adds no path to its neighbours'.
    assert combinational_paths(source(name, overrides), name, tmp_path) == set()


def test_paths_are_found(tmp_path):
    path = tmp_path / "bad.v"
    path.write_text(
        "module bad(input clk, input s_tvalid, output s_tready, output reg m_tvalid, input m_tready, input [1:0] a,\n"
        "  output [1:0] b);\n"
        "always @(posedge clk) m_tvalid <= s_tvalid & s_tready;\n"
        "part p(.i(m_tready), .o(s_tready)); assign b = {a[0] + 1'b1, m_tvalid};\nendmodule\n"
        "module part(input i, output o); assign o = ~i; endmodule\n"
    )
    assert combinational_paths(path, "bad", tmp_path) == {("m_tready", "s_tready"), ("a", "b")}


def test_paths_through_memories_are_found(tmp_path):
    path = tmp_path / "bad.v"
    path.write_text(
        "module bad(input clk, input w, input [1:0] a, input [1:0] b, input [1:0] c, output [1:0] q, output reg [1:0] r);\n"
        "  reg [1:0] mem [3:0], other [3:0];\n"
        "  always @(posedge clk) if (w) begin mem[c] <= c; other[c] <= c; end\n"
        "  assign q = mem[a]; always @(posedge clk) r <= other[b];\nendmodule\n"
    )
    found = combinational_paths(path, "bad", tmp_path)
    assert ("a", "q") in found
    assert {name for _, name in found} == {"q"}
