"""Run the benchmarks: ``python -m bench [--quick] [--json FILE] [NAME ...]``."""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench import (
    area,
    cycle_model,
    drift,
    drift_area,
    emit,
    formal,
    golden,
    panacea,
    panacea_area,
    simulation,
)
from bench.row import Group, Row
from bitfabric.quant.errors import BitfabricError

GROUPS: dict[str, Group] = {
    "emit": emit.rows,
    "simulation": simulation.rows,
    "golden": golden.rows,
    "cycle_model": cycle_model.rows,
    "area": area.rows,
    "panacea": panacea.rows,
    "panacea_area": panacea_area.rows,
    "drift": drift.rows,
    "drift_area": drift_area.rows,
    "formal": formal.rows,
}
MARKS = {True: "[green]yes", False: "[red]no", None: ""}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the project's figures.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(GROUPS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer repeats, and without what takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    options = parser.parse_args()
    for name in options.names:
        if name not in GROUPS:
            parser.error(f"no benchmark {name!r}: choose of {', '.join(GROUPS)}")

    console, errors = Console(), Console(stderr=True)
    if not console.is_terminal:
        console.width = 200  # a log has no edge to wrap at
    table = Table("what", "target", "reached", "met", "command or workload")
    results: list[tuple[str, Row]] = []
    with errors.status("starting") as status:
        for name in options.names or GROUPS:
            table.add_section()
            try:
                for row in GROUPS[name](options.quick, status.update):
                    results.append((name, row))
                    table.add_row(row.what, row.target, row.reached, MARKS[row.met], row.workload)
            except BitfabricError as error:
                # One missing tool is no reason to lose the other figures.
                table.add_row(name, "", "[red]not measured", "", str(error))
    console.print(table)
    if options.json is not None:
        machine = {"machine": platform.machine(), "python": platform.python_version()}
        figures = [{"group": name, **asdict(row)} for name, row in results]
        options.json.write_text(json.dumps({**machine, "rows": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
