"""Turn area and timing reports into tables and plain data; every command that prints costs goes through here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bitfabric.quant.errors import ParameterError
from bitfabric.synth.area import AreaReport, measure
from bitfabric.synth.libraries import library
from bitfabric.synth.mapping import Progress, map_design
from bitfabric.synth.memories import DEFAULT_THRESHOLD_BITS
from bitfabric.synth.timing import NOT_FOUND, PathStep, TimingError, TimingReport, analyse, sta_path

VIEWS = {"flat": (True,), "hierarchical": (False,), "both": (False, True)}


@dataclass(frozen=True, kw_only=True)
class CostReport:
    """Hold the costs of one design: one area report per view, and timing where OpenSTA is present.

    Members
    -------
    areas : list of AreaReport
        Hierarchical, flat, or both in this order.
    timings : list of TimingReport
        One per area report, of the same netlist; empty where timing was not possible.
    timing_note : str
        Why there is no timing.
    """

    areas: list[AreaReport]
    timings: list[TimingReport]
    timing_note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data, ready for JSON."""
        first = self.areas[0]
        return {
            "top": first.top,
            "library": first.library,
            "goal": first.goal,
            "area": {_view(area.flat): area.to_dict() for area in self.areas},
            "timing": {_view(report.flat): report.to_dict() for report in self.timings} or None,
            "timing_note": self.timing_note,
        }

    def render(self) -> RenderableType:
        """Return the report as rich tables."""
        parts: list[RenderableType] = [summary_table(self)]
        for area in self.areas:
            if len(area.by_module) > 1:
                parts.append(module_table(area))
        parts += [path_table(report) for report in self.timings[-1:]]
        notes = [note for area in self.areas for note in area.notes]
        notes += [note for timing in self.timings for note in timing.notes]
        if self.timing_note:
            notes.append(f"timing: {self.timing_note}")
        parts += [Text(f"note: {note}") for note in dict.fromkeys(notes)]
        return Group(*parts)


def area_command(
    verilog: str,
    top: str,
    library_spec: str | Path = "builtin",
    view: str = "flat",
    *,
    goal: str = "area",
    memory_threshold: int = DEFAULT_THRESHOLD_BITS,
    with_timing: bool = True,
    progress: Progress | None = None,
) -> CostReport:
    """Return what ``bitfabric area`` prints.

    Parameters
    ----------
    verilog, top : str
        The design.
    library_spec : str or Path
        ``"builtin"``, ``"osu018"`` or a Liberty file.
    view : str
        ``"flat"``, ``"hierarchical"`` or ``"both"``.
    goal : str
        ``"area"`` or ``"speed"``.
    memory_threshold : int
        Bits above which a memory stays a macro.
    with_timing : bool
        Time the design where OpenSTA is present.
    progress : callable
        Called with the name of each stage as it starts.

    Raises
    ------
    LibraryError, YosysError, ParameterError
        If the library, the synthesis or an argument fails. Failing timing is a note in the report.
    """
    if view not in VIEWS:
        raise ParameterError("view", view, "one of " + ", ".join(VIEWS))
    cells = library(library_spec)
    possible = with_timing and sta_path() is not None
    note = "" if possible else NOT_FOUND if with_timing else "not asked for"
    areas: list[AreaReport] = []
    timings: list[TimingReport] = []
    for flat in VIEWS[view]:
        mapped = map_design(
            verilog,
            top,
            cells,
            flat=flat,
            goal=goal,
            memory_threshold=memory_threshold,
            netlist=possible,
            progress=progress,
        )
        areas.append(measure(mapped, cells, memory_threshold))
        if possible:
            try:
                timings.append(analyse(mapped, cells, progress=progress))
            except TimingError as error:
                note = str(error)
    return CostReport(areas=areas, timings=timings, timing_note=note)


def summary_table(report: CostReport) -> Table:
    """Return one column of totals per view."""
    first = report.areas[0]
    table = Table(title=f"{first.top} in {first.library}, mapped for {first.goal}")
    table.add_column("")
    for area in report.areas:
        table.add_column(_view(area.flat), justify="right")
    rows = [
        ("NAND2-equivalents", [f"{area.nand2_equivalents:,.0f}" for area in report.areas]),
        ("area (library units)", [f"{area.area:,.1f}" for area in report.areas]),
        ("cells", [f"{area.cells:,}" for area in report.areas]),
        ("flip-flops", [f"{area.flip_flops:,}" for area in report.areas]),
        ("memory bits in macros", [f"{area.memory_bits:,}" for area in report.areas]),
        ("logic depth (cells)", [f"{area.logic_depth}" for area in report.areas]),
    ]
    if any(area.latches for area in report.areas):
        rows.insert(4, ("latches", [f"{area.latches:,}" for area in report.areas]))
    if report.timings:
        rows.append(("clock period (ns)", [f"{timing.period_ns:.2f}" for timing in report.timings]))
        rows.append(("Fmax (MHz)", [f"{timing.fmax_mhz:.1f}" for timing in report.timings]))
    for name, values in rows:
        table.add_row(name, *values)
    return table


def module_table(area: AreaReport) -> Table:
    """Return the cost of each module, submodules not included; names are shown without the top's and an underscore."""
    table = Table(title=f"{area.top}, {_view(area.flat)}: own cost per instance")
    # Names fold rather than end in dots: the difference is often at their end.
    table.add_column("module", overflow="fold")
    for name in ("instances", "NAND2-eq.", "cells", "flip-flops", "share"):
        table.add_column(name, justify="right")
    for module in area.by_module:
        table.add_row(
            module.name.removeprefix(f"{area.top}_"),
            f"{module.instances:,}",
            f"{module.nand2_equivalents:,.1f}",
            f"{module.cells:,}",
            f"{module.flip_flops:,}",
            f"{module.share:.1%}",
        )
    return table


def path_table(timing: TimingReport, limit: int = 12) -> Table:
    """Return the slowest path; the middle of a path longer than ``limit`` pins is left out."""
    table = Table(title=f"slowest path ({_view(timing.flat)}): {timing.startpoint} to {timing.endpoint}")
    table.add_column("pin", overflow="fold")
    table.add_column("cell")
    for name in ("delay (ns)", "arrival (ns)"):
        table.add_column(name, justify="right")
    steps = timing.path
    left_out = max(0, len(steps) - limit)
    head = steps if not left_out else steps[: limit // 2]
    tail = [] if not left_out else steps[-(limit - limit // 2) :]
    for step in head:
        table.add_row(Text(_pin(step)), step.cell, f"{step.delay_ns:.3f}", f"{step.arrival_ns:.3f}")
    if left_out:
        table.add_row(f"... {left_out} more ...", "", "", "")
    for step in tail:
        table.add_row(Text(_pin(step)), step.cell, f"{step.delay_ns:.3f}", f"{step.arrival_ns:.3f}")
    return table


def _pin(step: PathStep) -> str:
    """Return the pin without the backslash and type that yosys ends the name of a register's cell with."""
    return re.sub(rf"\\+{re.escape(step.cell)}/", "/", step.pin)


def _view(flat: bool) -> str:
    return "flat" if flat else "hierarchical"
