"""The documentation says what the code says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.docs import reference_pages
from bitfabric.hdl.registry import BLOCKS, DESIGNS
from bitfabric.sim.case import GemmCase
from bitfabric.sim.gemm_job import output_of, stream_of

ROOT = Path(__file__).parents[2]


def test_reference_pages_are_current() -> None:
    committed = {path.name: path.read_text() for path in (ROOT / "docs" / "reference").glob("*.md")}
    assert committed == reference_pages(), "run `make docs`"


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "docs/testplan.md", "docs/driver.md"]
)
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


def test_drivers_example() -> None:
    """The packet that docs/driver.md shows is the one that goes through the machine in the other tests."""
    text = (ROOT / "docs" / "driver.md").read_text()
    shown = [int(word, 16) for word in re.findall(r"^\| `([0-9a-f]{8})` ", text, re.MULTILINE)]
    answer = [int(word, 16) for word in re.findall(r"^\| \*out\* `([0-9a-f]{8})` ", text, re.MULTILINE)]
    config: Any = DESIGNS["systolic_ws"].config.preset("tiny")
    case = GemmCase(acts=np.array([[1, 2, 3, 4]]), weights=np.arange(1, 9).reshape(4, 2))
    assert config.resident(case.m, case.k)
    assert stream_of(config, case).view("<u4").reshape(-1).tolist() == shown
    assert output_of(config, case).view("<u4").reshape(-1).tolist() == answer


def test_testplan_names_tests_that_exist() -> None:
    text = (ROOT / "docs" / "testplan.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", text)
    assert named
    for file, function in named:
        source = (ROOT / file).read_text()
        assert not function or f"def {function}(" in source, f"{file}::{function}"
