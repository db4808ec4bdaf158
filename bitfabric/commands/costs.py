"""``area`` and ``formal``: what a design costs, and proofs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bitfabric.commands.options import BlockName, Json, Preset, Settings, configure, out, print_json, progress
from bitfabric.hdl.emit import emit
from bitfabric.hdl.registry import entry


def area_command(
    design: BlockName,
    liberty: Annotated[
        str, typer.Option(help="builtin, osu018 (Debian's qflow-tech-osu018) or a Liberty file.")
    ] = "builtin",
    view: Annotated[str, typer.Option(help="flat, hierarchical or both.")] = "hierarchical",
    goal: Annotated[str, typer.Option(help="area or speed.")] = "area",
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Synthesize DESIGN and report cells, area, flip-flops, memory bits, depth and, with OpenSTA, timing."""
    from bitfabric.synth.report import area_command as report_costs

    found = entry(design)
    config = configure(found, preset, settings)
    progress(f"emitting {design}")
    emitted = emit(found.make(config), design)
    report = report_costs(emitted.verilog, design, liberty, view, goal=goal, progress=progress)
    if as_json:
        print_json({"design": design, "config": config.to_dict(), **report.to_dict()})
    else:
        out.print(report.render())


def formal_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PROOF]...", help="Proofs to run; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove the multiplier blocks equal to integer multiplication in every mode."""
    from bitfabric.synth import formal

    chosen = names or [proof.name for proof in formal.proofs()]
    results = []
    for number, name in enumerate(chosen, 1):
        result = formal.run(name)
        results.append(result)
        if not as_json:
            state = "proved" if result.proved else f"REFUTED by {result.counterexample}"
            out.print(
                f"[{number}/{len(chosen)}] {name}: {state} in {result.seconds:.1f} s",
                markup=False,
                highlight=False,
            )
    proved = sum(result.proved for result in results)
    if as_json:
        print_json(
            {"proved": proved, "total": len(results), "results": [asdict(result) for result in results]}
        )
    else:
        out.print(f"{proved} of {len(results)} proved", highlight=False)
    if proved != len(results):
        raise typer.Exit(1)
