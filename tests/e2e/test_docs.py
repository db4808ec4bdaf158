"""The documentation says what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bitfabric.hdl.docs import reference_pages
from bitfabric.hdl.registry import BLOCKS, DESIGNS

ROOT = Path(__file__).parents[2]


def test_reference_pages_are_current() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert committed == reference_pages(), "run `make docs`"


@pytest.mark.parametrize("page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/testplan.md"])
def test_links_and_paths_exist(page: str) -> None:
    text = (ROOT / page).read_text()
    folder = (ROOT / page).parent
    targets = [target for target in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in target]
    missing = [target for target in targets if not (folder / target).exists()]
    # Paths in code quotes: what looks like a file or folder of this repository.
    for path in re.findall(r"`((?:quant|hdl|sim|synth|tests|bench|docs|scripts)/[\w./*]*)`", text):
        if not list(ROOT.glob(path.rstrip("/"))):
            missing.append(path)
    assert missing == []


def test_readme_names_every_design() -> None:
    text = (ROOT / "README.md").read_text()
    assert [name for name in (*DESIGNS, *BLOCKS) if f"`{name}`" not in text] == []


def test_testplan_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "testplan.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    for file, function in named:
        source = (ROOT / file).read_text()
        assert not function or f"def {function}(" in source, f"{file}::{function}"
