"""What is shipped: every module once, under one name, and imports that point one way."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("quant", "hdl", "sim", "synth")
# What a folder may import besides itself. The command line stands above them all and is imported by none.
MAY_IMPORT = {
    "quant": (),
    "hdl": ("quant",),
    "sim": ("quant", "hdl"),
    "synth": ("quant", "hdl"),
}


def shipped_files() -> list[str]:
    """Return the path inside a wheel of every file in the working tree that belongs there."""
    found = [f"bitfabric/{path.name}" for path in (ROOT / "bitfabric").iterdir() if path.is_file()]
    for folder in (*FOLDERS, "bitfabric/commands"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(ROOT).as_posix().removeprefix("bitfabric/")
                found.append(f"bitfabric/{name}")
    return sorted(found)


def build(tree: Path, kind: str, into: Path) -> Path:
    """Build a wheel or an sdist from ``tree`` without a network."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(into)]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (archive,) = into.iterdir()
    return archive


def wheel_files(wheel: Path) -> list[str]:
    """Return the names in ``wheel``, its metadata left out."""
    with zipfile.ZipFile(wheel) as archive:
        return sorted(name for name in archive.namelist() if ".dist-info/" not in name)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory) -> Path:
    return build(ROOT, "sdist", tmp_path_factory.mktemp("sdist"))


def test_wheel_holds_every_file_once(wheel):
    # A list, not a set: a file found through two paths would be there twice.
    assert wheel_files(wheel) == shipped_files()


def test_wheel_holds_licence_and_entry_point(wheel):
    with zipfile.ZipFile(wheel) as archive:
        metadata = {
            name.split(".dist-info/")[1]: name for name in archive.namelist() if ".dist-info/" in name
        }
        assert "licenses/LICENSE" in metadata
        assert b"bitfabric = bitfabric.cli:main" in archive.read(metadata["entry_points.txt"])


def test_wheel_from_sdist_equals_wheel_from_tree(wheel, sdist, tmp_path):
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
        archive.extractall(tmp_path / "tree")  # no filter=: Debian 12's 3.11.2 is older than it
    files = [member.name.split("/", 1)[1] for member in members if member.isfile()]
    # Each module once: under bitfabric/, and not a second time in the folder the symlink leads to.
    assert len(files) == len(set(files))
    assert not [name for name in files if name.split("/")[0] in FOLDERS]
    assert not [member.name for member in members if member.issym() or member.islnk()]
    (tree,) = (tmp_path / "tree").iterdir()
    again = build(tree, "wheel", tmp_path / "wheel")
    assert wheel_files(again) == wheel_files(wheel)


def test_wheel_runs_where_the_tree_is_not(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import bitfabric, bitfabric.quant, bitfabric.hdl, bitfabric.sim, bitfabric.synth\n"
        "print(bitfabric.quant.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.strip() == str(tmp_path / "bitfabric" / "quant" / "__init__.py")


@pytest.mark.parametrize("folder", FOLDERS)
def test_bare_import_is_refused(folder):
    done = subprocess.run(
        [sys.executable, "-c", f"import {folder}"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"import this package as bitfabric.{folder}, not as {folder}" in done.stderr


@pytest.mark.parametrize("folder", FOLDERS)
def test_symlink_is_committed(folder):
    link = ROOT / "bitfabric" / folder
    assert link.is_symlink()
    assert link.readlink() == Path("..") / folder


def imported_modules(path: Path) -> set[str]:
    """Return the absolute names of the modules that a file imports, inside functions too.

    ``from bitfabric import x`` may import a module x, so it counts as ``bitfabric.x``.
    """
    package = ("bitfabric", *path.relative_to(ROOT).parent.parts)
    names = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            if len(base) == 1:
                names.update(f"{base[0]}.{alias.name}" for alias in node.names)
            names.add(".".join(base))
    return names


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder):
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in sorted(imported_modules(path)):
            parts = name.split(".")
            if parts[0] in FOLDERS:
                wrong.append(f"{path.relative_to(ROOT)} imports {name} by its bare name")
            elif parts[0] == "bitfabric" and len(parts) > 1:
                if parts[1] in (*FOLDERS, "cli", "commands") and parts[1] not in (
                    folder,
                    *MAY_IMPORT[folder],
                ):
                    wrong.append(f"{path.relative_to(ROOT)} imports {name}")
            elif parts[0] == "amaranth" and folder == "quant":
                wrong.append(f"{path.relative_to(ROOT)} imports {name}: quant is numpy only")
    assert not wrong, "\n".join(wrong)


def test_relative_and_nested_imports_are_seen(tmp_path, monkeypatch):
    # The rule above is worth as much as the reader of imports it stands on.
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    module = tmp_path / "quant" / "deep" / "module.py"
    module.parent.mkdir(parents=True)
    module.write_text(
        "from . import a\nfrom .. import b\nfrom ...sim import c\nfrom bitfabric import hdl\n"
        "def f():\n    import bitfabric.cli\n"
    )
    assert imported_modules(module) >= {
        "bitfabric.quant.deep",
        "bitfabric.quant",
        "bitfabric.sim",
        "bitfabric.hdl",
        "bitfabric.cli",
    }
