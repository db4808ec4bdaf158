"""Cell libraries: the parser, functions, and what is said about a library that cannot be used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from bitfabric.synth import libraries
from bitfabric.synth.functions import computes, evaluate
from bitfabric.synth.liberty import LibraryError, parse_liberty, read_cells
from bitfabric.synth.libraries import BUILTIN, OSU018, library

needs_osu018 = pytest.mark.skipif(not OSU018.is_file(), reason="Debian's qflow-tech-osu018 is not installed")

SMALL = """
/* a comment { */ library ("my lib") { // another
  time_unit : "1ns"; capacitive_load_unit (1, pf);
  cell (ND) { area : 3.5; pin (X) { direction : input; } pin ("Y") { direction : input; }
    pin (Z) { direction : output; function : "(X Y)'"; } }
  cell (BIGND) { area : 7; pin (X) { direction : input; } pin (Y) { direction : input; }
    pin (Z) { direction : output; function : "!X + !Y"; timing () { values ("1, 2", \\
      "3, 4"); } } }
  cell (IV) { area : 2 ; pin (X) { direction : input; } pin (Z) { direction : output; function : "X'" } }
  cell (FF2) { area : 20; ff_bank (Q, QN, 2) { next_state : "D"; clocked_on : "C"; }
    pin (C) { direction : input; } }
}
"""


@pytest.mark.parametrize(
    ("function", "expected"),
    [("!(A B)", "1110"), ("A'+B'", "1110"), ("A^B&B", "0100"), ("(A|!B)'", "0100"), ("!A*1", "1100")],
)
def test_functions(function: str, expected: str) -> None:
    """Operators bind as Liberty says: ' and ! first, then ^, then and, then or."""
    rows = [(False, False), (False, True), (True, False), (True, True)]
    values = [evaluate(function, {"A": a, "B": b}) for a, b in rows]
    assert "".join("01"[bool(value)] for value in values) == expected


@pytest.mark.parametrize("function", ["", "A +", "(A", "A)", "C", "A ' '^"])
def test_unreadable_functions(function: str) -> None:
    """A malformed function is no function, and equals none."""
    assert evaluate(function, {"A": True}) is None
    assert not computes(function, ["A"], lambda values: values[0])


def test_parser_reads_cells(tmp_path: Path) -> None:
    """Comments, continued lines, quoted names and a missing last semicolon are read; NAND2 is found by function."""
    path = tmp_path / "with blank.lib"
    path.write_text(SMALL)
    lib = library(path)
    assert (lib.name, lib.nand2.name, lib.nand2.area) == ("my lib", "ND", 3.5)
    assert lib.flip_flops == ["FF2"]
    assert lib.cells["FF2"].bits == 2
    assert lib.cells["IV"].inputs == ("X",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no complete library"),
        ("module x; endmodule", "neither an attribute nor a group"),
        (SMALL.rstrip()[:-1], "not closed"),
        (SMALL[: len(SMALL) // 2], "not closed"),
        (SMALL + "}", "closing brace too many"),
        (SMALL.replace("area : 3.5", "area : wide"), "'wide' is not a number"),
        (SMALL.replace("ff_bank", "other"), "no flip-flop"),
        (SMALL.replace("(X Y)'", "X Y").replace("!X + !Y", "X"), "no two-input NAND"),
        (SMALL.replace('"X\'"', '"X"'), "no inverter"),
    ],
)
def test_unusable_libraries(tmp_path: Path, text: str, message: str) -> None:
    """Every way a library can be unusable is named, with the file."""
    path = tmp_path / "x.lib"
    path.write_text(text)
    with pytest.raises(LibraryError, match=message) as caught:
        library(path)
    assert str(path) in str(caught.value)


def test_missing_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file, a binary file and a missing Debian package are clear errors."""
    with pytest.raises(LibraryError, match="neither builtin, nor osu018, nor a file"):
        library("sky130")
    binary = tmp_path / "x.lib"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LibraryError, match="cannot read the library"):
        library(binary)
    monkeypatch.setattr(libraries, "OSU018", tmp_path / "absent.lib")
    with pytest.raises(LibraryError, match="Debian's package qflow-tech-osu018"):
        library("osu018")


def test_builtin_is_what_its_script_writes(tmp_path: Path) -> None:
    """The committed library equals the script's output, counts NAND2 as 1 and computes what its names say."""
    script = tmp_path / "make_builtin.py"
    script.write_text(BUILTIN.with_name("make_builtin.py").read_text())
    subprocess.run([sys.executable, str(script)], check=True)
    assert (tmp_path / "builtin.lib").read_text() == BUILTIN.read_text()
    cells = read_cells(parse_liberty(BUILTIN.read_text()))
    assert cells["NAND2"].area == 1
    truths = {
        "XOR2": lambda v: v[0] != v[1],
        "AOI21": lambda v: not ((v[0] and v[1]) or v[2]),
        "OAI22": lambda v: not ((v[0] or v[1]) and (v[2] or v[3])),
        "MUX2": lambda v: v[1] if v[2] else v[0],
    }
    for name, truth in truths.items():
        assert computes(cells[name].functions["Y"], cells[name].inputs, truth), name


@needs_osu018
def test_osu018() -> None:
    """Debian's library has its NAND2 and flip-flops found."""
    lib = library("osu018")
    assert (lib.nand2.name, lib.nand2.area) == ("NAND2X1", 24)
    assert lib.flip_flops == ["DFFNEGX1", "DFFPOSX1", "DFFSR"]
    assert lib.latches == ["LATCH"]
