"""Map wide adders to a library's full-adder cells, which abc cannot choose by itself: they have two outputs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import partial

from bitfabric.synth.functions import computes
from bitfabric.synth.liberty import Cell
from bitfabric.synth.libraries import Library

# A bit of a wide adder that abc builds of gates takes 6.3 NAND2s in osu018 and 6.5 in builtin. Narrower adders it merges
# with the logic around them: with cells (5 NAND2s in osu018) for adders from 8 bits on a fusion unit was 9 % larger
# than with none, for those from 15 bits on it is 2 % smaller, and a BitGroup 8 %. Half-adder cells never paid.
MAX_NAND2 = 6.0
MIN_BITS = 15

# At how many ones among its inputs each output is 1.
_OUTPUTS = {"sum": (1, 3), "carry": (2, 3)}


@dataclass(frozen=True, kw_only=True)
class FullAdder:
    """Hold a full-adder cell.

    Members
    -------
    cell : Cell
        With three inputs, all alike.
    sum_pin, carry_pin : str
        Its outputs.
    sum_inverted, carry_inverted : bool
        True where the output is the complement.
    """

    cell: Cell
    sum_pin: str
    carry_pin: str
    sum_inverted: bool
    carry_inverted: bool


def find_full_adder(library: Library) -> FullAdder | None:
    """Return the library's smallest full adder, found by its functions, or None where gates are as small."""
    found = [adder for cell in library.cells.values() if (adder := _as_full_adder(cell))]
    smallest = min(found, key=lambda adder: adder.cell.area, default=None)
    if smallest is None or not 0 < smallest.cell.area <= MAX_NAND2 * library.nand2.area:
        return None
    return smallest


def _as_full_adder(cell: Cell) -> FullAdder | None:
    if cell.kind != "logic" or len(cell.inputs) != 3 or len(cell.functions) != 2:
        return None
    pins: dict[str, tuple[str, bool]] = {}
    for pin, function in cell.functions.items():
        for name, inverted in itertools.product(_OUTPUTS, (False, True)):
            if computes(function, cell.inputs, partial(_output, name, inverted)):
                pins[name] = pin, inverted
    if len(pins) < 2:
        return None
    (sum_pin, sum_inverted), (carry_pin, carry_inverted) = pins["sum"], pins["carry"]
    return FullAdder(
        cell=cell,
        sum_pin=sum_pin,
        carry_pin=carry_pin,
        sum_inverted=sum_inverted,
        carry_inverted=carry_inverted,
    )


def _output(name: str, inverted: bool, values: tuple[bool, ...]) -> bool:
    return (sum(values) in _OUTPUTS[name]) != inverted


def adder_script(chains: str, cells: str) -> list[str]:
    """Return the yosys commands that map wide adders, given the files of ``CHAINS`` and ``cell_map()``."""
    return [
        "maccmap t:$macc t:$macc_v2",
        # Comparisons are $alu cells too: of them only the carry is used, which gates make for less.
        "select -set sums t:$alu %co1:+[Y] w:* %i",
        "select -set wanted t:* %ci1 w:* %i o:* %u @sums %i %ci1:+[Y] t:$alu %i",
        f"techmap -map {chains} @wanted r:Y_WIDTH>={MIN_BITS} %i",
        "opt_clean",
        "opt_expr",
        f"techmap -map {cells} t:bitfabric_adder",
        "opt_clean",
    ]


def cell_map(adder: FullAdder) -> str:
    """Return the techmap that makes one bit of a chain a library cell, or gates where an input is constant."""
    a, b, c = adder.cell.inputs
    return _CELL_MAP.format(
        cell=adder.cell.name,
        pins=f".{a}(A), .{b}(B), .{c}(C), .{adder.sum_pin}(s), .{adder.carry_pin}(x)",
        sum="~s" if adder.sum_inverted else "s",
        carry="~x" if adder.carry_inverted else "x",
    )


# The top bit stays in gates: its carry is seldom used.
CHAINS = r"""
(* techmap_celltype = "$alu" *)
module chain(A, B, CI, BI, X, Y, CO);
  parameter A_SIGNED = 0, B_SIGNED = 0, A_WIDTH = 1, B_WIDTH = 1, Y_WIDTH = 1;
  (* force_downto *) input [A_WIDTH-1:0] A;
  (* force_downto *) input [B_WIDTH-1:0] B;
  input CI, BI;
  (* force_downto *) output [Y_WIDTH-1:0] X, Y, CO;
  (* force_downto *) wire [Y_WIDTH-1:0] a, raw, b;
  wire [Y_WIDTH:0] carry;
  \$pos #(.A_SIGNED(A_SIGNED), .A_WIDTH(A_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_a(.A(A), .Y(a));
  \$pos #(.A_SIGNED(B_SIGNED), .A_WIDTH(B_WIDTH), .Y_WIDTH(Y_WIDTH)) extend_b(.A(B), .Y(raw));
  assign b = BI ? ~raw : raw;
  assign carry[0] = CI;
  assign CO = carry[Y_WIDTH:1];
  assign X = a ^ b;
  genvar i;
  generate for (i = 0; i < Y_WIDTH - 1; i = i + 1) begin : bits
    bitfabric_adder adder(.A(a[i]), .B(b[i]), .C(carry[i]), .S(Y[i]), .X(carry[i+1]));
  end endgenerate
  assign Y[Y_WIDTH-1] = X[Y_WIDTH-1] ^ carry[Y_WIDTH-1];
  assign carry[Y_WIDTH] = a[Y_WIDTH-1] & b[Y_WIDTH-1] | carry[Y_WIDTH-1] & X[Y_WIDTH-1];
endmodule
"""
# What a bit of a chain is until its constants are known.
BIT = "(* blackbox *) module bitfabric_adder(input A, B, C, output S, X); endmodule\n"
_CELL_MAP = """
module bitfabric_adder(A, B, C, S, X);
  parameter _TECHMAP_CONSTMSK_A_ = 0;
  parameter _TECHMAP_CONSTMSK_B_ = 0;
  parameter _TECHMAP_CONSTMSK_C_ = 0;
  input A, B, C;
  output S, X;
  generate if (_TECHMAP_CONSTMSK_A_ || _TECHMAP_CONSTMSK_B_ || _TECHMAP_CONSTMSK_C_) begin
    assign S = A ^ B ^ C;
    assign X = A & B | C & (A | B);
  end else begin
    wire s, x;
    {cell} adder({pins});
    assign S = {sum};
    assign X = {carry};
  end endgenerate
endmodule
"""
