"""The command line as a user meets it: real processes, real output, one line for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitfabric.hdl.registry import BLOCKS, DESIGNS


def cli(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in ``cwd``."""
    return subprocess.run(
        [sys.executable, "-m", "bitfabric.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200", **environment},
    )


def error_of(*arguments: str, cwd: Path, **environment: str) -> str:
    """Return the one line that a mistake is answered with."""
    result = cli(*arguments, cwd=cwd, **environment)
    assert result.returncode == 1, result
    lines = [line for line in result.stderr.splitlines() if not line.endswith(" ...")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    assert result.stdout == ""
    return lines[0].removeprefix("error: ")


def test_list_names_what_the_registry_holds(tmp_path: Path) -> None:
    listing = json.loads(cli("list", "--json", cwd=tmp_path).stdout)
    assert listing["designs"].keys() == DESIGNS.keys()
    assert listing["blocks"].keys() == BLOCKS.keys()
    for entries in (DESIGNS, BLOCKS):
        for name, found in entries.items():
            told = listing["designs" if entries is DESIGNS else "blocks"][name]
            assert told["presets"] == list(found.config.PRESETS)
    text = cli("list", cwd=tmp_path).stdout
    assert all(name in text for name in [*DESIGNS, *BLOCKS, *listing["schemes"], *listing["formats"]])


@pytest.mark.parametrize("command", ["", "list", "verilog", "simulate", "cycles", "area", "formal"])
def test_every_command_has_help(tmp_path: Path, command: str) -> None:
    result = cli(*command.split(), "--help", cwd=tmp_path)
    assert result.returncode == 0
    assert "Usage" in result.stdout


def test_verilog_writes_both_files_again_the_same(tmp_path: Path) -> None:
    first = cli("verilog", "systolic_ws", "-o", "a", "--preset", "tiny", "--set", "rows=2", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    told = json.loads(
        cli(
            "verilog", "systolic_ws", "-o", "b", "--preset", "tiny", "--set", "rows=2", "--json", cwd=tmp_path
        ).stdout
    )
    assert told["config"]["rows"] == 2
    assert told["files"] == ["b/systolic_ws.v", "b/systolic_ws.json"]
    for name in ("systolic_ws.v", "systolic_ws.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_simulate_prints_a_verdict(tmp_path: Path) -> None:
    result = cli("simulate", "systolic_os", "--preset", "tiny", "--cases", "3", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "PASS: 3 of 3 cases equal to the golden model bit for bit, every counter" in result.stdout
    report = json.loads(
        cli("simulate", "systolic_os", "--preset", "tiny", "--gemm", "4,5,6", "--json", cwd=tmp_path).stdout
    )
    assert report["passed"]
    assert report["results"][0]["registers"]["total_cycles"] == report["results"][0]["predicted"]["total"]


def test_simulate_takes_a_case_file_and_writes_waves(tmp_path: Path) -> None:
    acts, weights = np.full((2, 3), -128, np.int8), np.full((3, 4), -128, np.int8)
    np.savez(tmp_path / "corner.npz", acts=acts, weights=weights)
    result = cli(
        *("simulate", "systolic_ws", "--preset", "tiny", "--case", "corner.npz", "--waves", "trace.fst"),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    traces = list(tmp_path.glob("trace.*"))
    assert [trace.suffix for trace in traces] == [".fst"]
    assert traces[0].stat().st_size > 1000


def test_cycles_always_has_the_four_figures(tmp_path: Path) -> None:
    one = json.loads(cli("cycles", "systolic_ws", "--gemm", "64,16,16", "--json", cwd=tmp_path).stdout)
    assert one["array_cycles"] == (2 * 8 + 64 + 8 - 2) * 4
    assert one["utilization"] == 64 * 16 * 16 / (64 * one["array_cycles"])
    assert one["total"] == sum(one["breakdown"].values())
    two = json.loads(
        cli(
            "cycles", "systolic_ws", "--gemm", "64,16,16", "--gemm", "64,16,16", "--json", cwd=tmp_path
        ).stdout
    )
    assert two["array_cycles"] == 2 * one["array_cycles"]
    assert "bert" not in cli("cycles", "systolic_os", "--workload", "bert_base:16", cwd=tmp_path).stderr


@pytest.mark.parametrize("view", ["hierarchical", "flat"])
def test_area_says_which_view_it_is(tmp_path: Path, view: str) -> None:
    result = cli("area", "bitbrick", "--view", view, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert list(report["area"]) == [view]
    assert report["area"][view]["nand2_equivalents"] > 0


def test_formal_proves_by_name(tmp_path: Path) -> None:
    result = cli("formal", "bitbrick", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "1 of 1 proved" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["verilog", "nope"],
            "design='nope' is not allowed; it must be a design (systolic_ws, systolic_os, panacea, drift, dtqatten, drq)",
        ),
        (
            ["simulate", "bitbrick"],
            "design='bitbrick' is not allowed; it must be one of systolic_ws, systolic_os, panacea, drift, dtqatten, drq",
        ),
        (
            ["verilog", "systolic_ws", "--set", "rows=0"],
            "rows=0 is not allowed; it must be an integer in [1, 256]",
        ),
        (
            ["verilog", "systolic_ws", "--set", "acc_bits=16"],
            "acc_bits=16 is not allowed; it must be at least 31 for k_max=65535",
        ),
        (
            ["verilog", "systolic_ws", "--set", "rows"],
            "--set='rows' is not allowed; it must be of the form key=value",
        ),
        (
            ["verilog", "systolic_ws", "--set", "slices=5"],
            "--set='slices=5' is not allowed; it must be key=value with",
        ),
        (
            ["verilog", "systolic_ws", "--preset", "huge"],
            "preset='huge' is not allowed; it must be one of 'tiny',",
        ),
        (["cycles", "systolic_ws", "--gemm", "1,2"], "--gemm='1,2' is not allowed; it must be M,K,N"),
        (
            ["cycles", "systolic_ws", "--gemm", "0,1,1"],
            "M=0 is not allowed; it must be an integer in [1, 65535]",
        ),
        (
            ["cycles", "systolic_ws"],
            "give at least one --gemm M,K,N, or a --workload",
        ),
        (
            ["cycles", "systolic_ws", "--workload", "x"],
            "workload='x' is not allowed; it must be bert_base[:TOKENS]",
        ),
        (
            ["simulate", "systolic_ws", "--sim", "vcs"],
            "simulator='vcs' is not allowed; it must be one of 'icarus',",
        ),
        (
            ["simulate", "systolic_ws", "--stall", "1"],
            "stall=1.0 is not allowed; it must be a probability in [0, 1)",
        ),
        (
            ["simulate", "systolic_ws", "--model", "bert"],
            "model='bert' is not allowed; it must be of the form minilm:",
        ),
        (["simulate", "systolic_ws", "--case", "none.npz"], "none.npz cannot be read as a case file (.npz)"),
        (["area", "bitbrick", "--liberty", "none.lib"], "none.lib"),
        (
            ["simulate", "systolic_ws", "--waves", "w.vcd"],
            "waves='w.vcd' is not allowed; it must be the name of a file",
        ),
        (["simulate", "systolic_ws", "--waves", "no/w.fst"], "no/w.fst cannot be written: no such folder"),
        (
            ["simulate", "systolic_ws", "--gemm", "1,1,1", "--cases", "2"],
            "--gemm and --cases exclude each other",
        ),
        (
            ["simulate", "systolic_ws", "--native", "--sim", "icarus"],
            "--sim='icarus' is not allowed; it must be 'verilator'",
        ),
        (["verilog", "bitbrick", "--set", "rows=3"], "--set='rows=3' is not allowed; it must be left out"),
        (["formal", "nope"], "proof='nope' is not allowed; it must be one of bitbrick,"),
    ],
)
def test_mistakes_get_one_line(tmp_path: Path, arguments: list[str], message: str) -> None:
    assert message in error_of(*arguments, cwd=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_malformed_case_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "bad.npz", acts=np.zeros((2, 3), np.int8))
    message = error_of("simulate", "systolic_ws", "--case", "bad.npz", cwd=tmp_path)
    assert message.startswith("bad.npz lacks weights; a case file holds acts (M, K) and weights (K, N)")


def test_unwritable_directory_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = error_of("verilog", "bitbrick", "-o", "file/sub", cwd=tmp_path)
    assert message.startswith("file/sub cannot be written: ")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_unusable_build_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    message = error_of("simulate", "systolic_ws", "--preset", "tiny", cwd=tmp_path, BITFABRIC_BUILD="file")
    assert message.endswith("cannot be written: File exists; BITFABRIC_BUILD names another place for builds")


def test_text_file_as_case(tmp_path: Path) -> None:
    (tmp_path / "notes.npz").write_text("not a case")
    message = error_of("simulate", "systolic_ws", "--case", "notes.npz", cwd=tmp_path)
    assert message == "notes.npz cannot be read as a case file (.npz): it is no .npz file"


def test_missing_simulator_says_what_to_install(tmp_path: Path) -> None:
    message = error_of("simulate", "systolic_ws", "--preset", "tiny", cwd=tmp_path, PATH="/nonexistent")
    assert message == "iverilog is not on the PATH; install Icarus Verilog: apt-get install iverilog"
