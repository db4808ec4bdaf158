"""What can be emitted, and the two files that a user takes away: complete, or not there at all."""

import functools
import json
import os
import re
import stat

import numpy as np
import pytest

from bitfabric.hdl import package
from bitfabric.hdl.package import require_writable, write_design, write_together
from bitfabric.hdl.registry import BLOCKS, DESIGNS, entry
from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.sim.array_vectors import array_vectors
from bitfabric.sim.case import random_case

EVERYTHING = DESIGNS | BLOCKS
KEYS = {
    "config",
    "derived",
    "latency",
    "modules",
    "name",
    "parameters",
    "ports",
    "registers",
    "summary",
    "tools",
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_entries(name):
    found = entry(name)
    assert found is EVERYTHING[name]
    assert found.name == name
    assert {"tiny", "small", "paper"} <= set(found.config.PRESETS)
    for preset in found.config.PRESETS:
        block = found.make(found.config.preset(preset))
        block._MustUse__used = True  # no warning that it is not simulated


def test_no_name_twice():
    assert not DESIGNS.keys() & BLOCKS.keys()


def test_unknown_name():
    with pytest.raises(ParameterError) as error:
        entry("systolic")
    designs, blocks = ", ".join(DESIGNS), ", ".join(BLOCKS)
    text = f"design='systolic' is not allowed; it must be a design ({designs}) or a block ({blocks})"
    assert str(error.value) == text


@pytest.mark.parametrize("preset", ["tiny", "small"])
@pytest.mark.parametrize("name", EVERYTHING)
def test_every_entry_is_emitted(name, preset, emitted):
    result = emitted(name, preset)
    modules = re.findall(r"^module (\S+)\(", result.verilog, re.MULTILINE)
    assert modules.count(name) == 1
    assert all(module == name or module.startswith(f"{name}_") for module in modules)
    assert all(re.fullmatch(r"[a-z]\w*", module) for module in modules)
    assert {info.name for info in result.modules} <= set(modules)
    header = re.search(rf"^module {name}\((.*?)\);", result.verilog, re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"\w+", header[1])) == [port["name"] for port in result.ports]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return a function that writes the `tiny` preset once and gives the two paths."""
    root = tmp_path_factory.mktemp("written")

    @functools.cache
    def write(name):
        found = entry(name)
        return write_design(found, found.config.preset("tiny"), root / name / "new" / "folder")

    return write


@pytest.mark.parametrize("name", EVERYTHING)
def test_files(name, written):
    found = entry(name)
    config = found.config.preset("tiny")
    paths = written(name)
    assert [path.name for path in paths] == [f"{name}.v", f"{name}.json"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == sorted(path.name for path in paths)
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o644 for path in paths)
    text = json.loads(paths[1].read_text())
    assert text.keys() == KEYS
    assert (text["name"], text["summary"], text["config"]) == (name, found.summary, config.to_dict())
    assert found.config(**text["config"]) == config  # enough to make it again
    assert text["parameters"].keys() == text["config"].keys()
    for key, parameter in text["parameters"].items():
        assert parameter.keys() == {"value", "unit", "tag", "doc"}
        assert parameter["value"] == text["config"][key]
        assert parameter["doc"]
    assert text["tools"].keys() == {"bitfabric", "amaranth", "pyosys"}
    assert all(re.match(r"\d+\.\d+", version) for version in text["tools"].values())
    for port in text["ports"]:
        assert port.keys() == {"name", "direction", "width", "signed"}
        width = "" if port["width"] == 1 else rf"\[{port['width'] - 1}:0\] "
        declaration = rf"^  {port['direction']} (?:signed )?{width}{port['name']};$"
        assert re.search(declaration, paths[0].read_text(), re.MULTILINE), port
    components = [module["component"] for module in text["modules"]]
    assert all(component.startswith("bitfabric.hdl.") for component in components)
    assert text["modules"][0]["name"] == name


SYSTOLIC = {
    "latency": {"s_axis_to_loader", "buffer_to_array", "array", "accumulators_to_m_axis", "requantizer"},
    "registers": {"clip", "zero_point"},
}
PANACEA = {
    "latency": {"s_axis_to_loader", "memory", "pea_pipeline", "drain", "requantizer"},
    "registers": {"format", "next_format", "pwl_write", "static_products", "dynamic_products"},
}
DRIFT = {
    "latency": {"s_axis_to_machine", "memory", "to_fabric", "drain", "read_out", "requantizer"},
    "registers": {"act_format", "next_act_format", "threshold_low", "split", "array_hh_cycles"},
}
DTQATTEN = {
    "latency": {
        "s_axis_to_machine",
        "memory",
        "to_array",
        "score",
        "softmax_first_pass",
        "softmax_second_pass",
        "result",
    },
    "registers": {"tokens", "kept", "next_kept", "head_size", "q_base", "select_cycles", "qk_tiles_4"},
}
DRQ = {
    "latency": {"planner", "s_axis_to_loader", "im2col", "acts_to_array", "results_to_m_axis", "requantizer"},
    "registers": {
        "height",
        "width",
        "channels",
        "n",
        "kernel",
        "region",
        "threshold",
        "steps_4",
        "sensitive",
    },
}
EXPECTED = {"panacea": PANACEA, "drift": DRIFT, "dtqatten": DTQATTEN, "drq": DRQ}
GEMM = {"m", "k", "n"}


@pytest.mark.parametrize("name", DESIGNS)
def test_designs_describe_their_registers_and_latencies(name, written):
    _, path = written(name)
    text = json.loads(path.read_text())
    expected = EXPECTED.get(name, SYSTOLIC)
    assert set(text["latency"]) == expected["latency"]
    if expected is SYSTOLIC:
        assert text["latency"]["array"] == measured_array_latency(name)
    names = [register["name"] for register in text["registers"]["registers"]]
    common = {"array", "control", "status", "total_cycles"} | (set() if name in ("dtqatten", "drq") else GEMM)
    assert common | expected["registers"] <= set(names)
    ports = {port["name"] for port in text["ports"]}
    assert {"aclk", "aresetn", "s_axil_awaddr", "s_axis_tdata", "m_axis_tlast"} <= ports


def measured_array_latency(name):
    """Count from the last activation at row 0 to the last psum, in edge vectors that the bare arrays are tested with."""
    config = entry(name).config.preset("tiny")
    k = min(3, config.k_step)
    case = random_case(config, np.random.default_rng(0), config.rows, k, config.columns, requantized=False)
    vectors = array_vectors(config, case)
    seen = np.flatnonzero(np.asarray(vectors.mask["psum"]).reshape(vectors.cycles, -1).any(axis=1))
    loads = config.rows if name == "systolic_ws" else 0
    rows = config.rows if name == "systolic_ws" else k
    return int(seen.max()) - (loads + rows - 1)


@pytest.mark.parametrize("name", EVERYTHING)
def test_writing_again_gives_the_same_bytes(name, written, tmp_path):
    first = written(name)
    for path in first:  # something is there already: in another directory, and longer
        (tmp_path / path.name).write_bytes(b"old" + 2 * path.read_bytes())
    over = write_design(entry(name), entry(name).config.preset("tiny"), tmp_path)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in over]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in first)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("mine")
    for directory in (blocked, blocked / "below"):
        with pytest.raises(
            BitfabricError, match=r"cannot be written: (File exists|Not a directory)$"
        ) as error:
            write_design(entry("bitbrick"), entry("bitbrick").config(), directory)
        assert str(error.value).startswith(f"{directory} ")
    assert blocked.read_text() == "mine"


def test_a_directory_without_permission(tmp_path, monkeypatch):
    # As root every directory can be written: let the attempt itself fail.
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", "x")

    monkeypatch.setattr(package.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(package, "emit", lambda *args: pytest.fail("work was done before the refusal"))
    with pytest.raises(BitfabricError) as error:
        write_design(entry("bitbrick"), entry("bitbrick").config(), tmp_path)
    assert str(error.value) == f"{tmp_path} cannot be written: Permission denied"
    assert list(tmp_path.iterdir()) == []


def test_require_writable_makes_the_directory(tmp_path):
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_failing_emission_leaves_nothing(tmp_path, monkeypatch):
    def fail(block, name):
        block._MustUse__used = True
        raise BitfabricError("yosys failed")

    monkeypatch.setattr(package, "emit", fail)
    with pytest.raises(BitfabricError, match=r"^yosys failed$"):
        write_design(entry("bitbrick"), entry("bitbrick").config(), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", ["mkstemp", "chmod"])
def test_a_failure_in_the_middle_leaves_nothing(tmp_path, monkeypatch, call):
    owner = package.tempfile if call == "mkstemp" else os
    real, calls = getattr(owner, call), []

    def second_fails(*args, **kwargs):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(28, "No space left on device", "second")
        return real(*args, **kwargs)

    monkeypatch.setattr(owner, call, second_fails)
    with pytest.raises(BitfabricError) as error:
        write_together({tmp_path / "x.v": "verilog", tmp_path / "x.json": "json"})
    # The user's files are named, not the temporary ones beside them.
    wanted = f"{tmp_path / 'x.v'}, {tmp_path / 'x.json'}"
    assert str(error.value) == f"{wanted} cannot be written: No space left on device"
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_is_a_directory_leaves_nothing(tmp_path):
    (tmp_path / "bitbrick.json").mkdir()
    config = BLOCKS["bitbrick"].config.preset("tiny")
    with pytest.raises(BitfabricError, match=r"bitbrick\.json cannot be written: Is a directory$"):
        write_design(BLOCKS["bitbrick"], config, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bitbrick.json"]
