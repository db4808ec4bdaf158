"""Turn simulation and cycle results into tables."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from bitfabric.sim.cycles import Cycles
from bitfabric.sim.workloads.bert import GemmShape

if TYPE_CHECKING:  # it brings the simulators along, which a table of cycles does not need
    from bitfabric.sim.simulate import SimulationReport


def _table(*columns: str) -> Table:
    table = Table(box=None)
    table.add_column(columns[0], no_wrap=True)
    for column in columns[1:]:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _figure(value: float | str) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def simulation_table(report: SimulationReport) -> RenderableType:
    """Return the verdicts, with what the machine counted."""
    table = _table("case", "MxKxN", "array", "stalled", "total", "util.", "of total", "verdict")
    for result in report.results:
        counted = [result.registers.get(f"{name}_cycles") for name in ("compute", "stalled", "total")]
        table.add_row(
            result.name,
            f"{result.m}x{result.k}x{result.n}",
            *(str(value) for value in counted),
            f"{result.predicted.utilization:.3f}",
            f"{result.predicted.machine_utilization:.3f}",
            "equal" if result.passed else "DIFFERENT",
        )
    parts: list[RenderableType] = [table]
    parts += [Text(f"{result.name}: {result.problem}") for result in report.results if result.problem]
    for result in report.results:
        if result.remarks:
            figures = ", ".join(f"{name} {_figure(value)}" for name, value in result.remarks.items())
            parts.append(Text(f"{result.name}: {figures}"))
    compared = (
        "every counter to the cycle model" if report.stall == 0 else "counters not compared: streams stalled"
    )
    verdict = "PASS" if report.passed else "FAIL"
    parts.append(
        Text(
            f"{verdict}: {sum(result.passed for result in report.results)} of {report.cases} cases equal to the golden "
            f"model bit for bit, {compared} ({report.design} on {report.simulator}, "
            f"build {report.build_seconds:.1f} s, run {report.run_seconds:.1f} s)"
        )
    )
    return Group(*parts)


def sum_cycles(rows: list[tuple[GemmShape, Cycles]]) -> Cycles:
    """Return the cycles of GEMMs that run one after the other, each as often as it occurs."""
    array = sum(cycles.array_cycles * shape.count for shape, cycles in rows)
    total = sum(cycles.total * shape.count for shape, cycles in rows)
    # What a design's multipliers do in a cycle, its model knows; fractions keep one GEMM's figure as it is.
    work, work_of_total = (
        sum(
            Fraction(getattr(cycles, share)) * getattr(cycles, during) * shape.count for shape, cycles in rows
        )
        for share, during in (("utilization", "array_cycles"), ("machine_utilization", "total"))
    )
    return Cycles(
        array_cycles=array,
        total=total,
        utilization=float(work / array),
        machine_utilization=float(work_of_total / total),
        breakdown={
            name: sum(cycles.breakdown[name] * shape.count for shape, cycles in rows)
            for name in rows[0][1].breakdown
        },
        traffic={
            name: sum(cycles.traffic[name] * shape.count for shape, cycles in rows)
            for name in rows[0][1].traffic
        },
    )


def cycles_table(heading: str, rows: list[tuple[GemmShape, Cycles]]) -> RenderableType:
    """Return the cycle model's figures under a heading, summed where there are several."""
    table = _table("GEMM", "MxKxN", "count", "array", "stalled", "total", "util.", "of total")

    def add(name: str, size: str, count: str, cycles: Cycles, style: str | None = None) -> None:
        figures = (cycles.array_cycles, cycles.breakdown["stalled"], cycles.total)
        table.add_row(
            name,
            size,
            count,
            *(str(value) for value in figures),
            f"{cycles.utilization:.3f}",
            f"{cycles.machine_utilization:.3f}",
            style=style,
        )

    for shape, cycles in rows:
        add(shape.name, f"{shape.m}x{shape.k}x{shape.n}", str(shape.count), cycles)
    if len(rows) > 1:
        add("all of them", "", "", sum_cycles(rows), "bold")
    return Group(Text(heading), table)
