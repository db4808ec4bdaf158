"""The command line: one thin function per command; the work is done elsewhere."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

import bitfabric
from bitfabric.hdl.config import DesignConfig
from bitfabric.hdl.package import require_writable, write_design
from bitfabric.hdl.registry import BLOCKS, DESIGNS, Entry, entry
from bitfabric.quant.errors import BitfabricError, ParameterError

app = typer.Typer(
    help="Synthesizable RTL for neural-network accelerators whose precision changes at run time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out = Console(soft_wrap=True)
err = Console(stderr=True, soft_wrap=True)

Preset = Annotated[str | None, typer.Option(help="Named parameters: tiny, small, paper ...; see `list`.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DesignName = Annotated[str, typer.Argument(metavar="DESIGN", help="A design; see `list`.")]
BlockName = Annotated[str, typer.Argument(metavar="DESIGN", help="A design or block; see `list`.")]


def progress(message: str) -> None:
    """Say on stderr what takes a while."""
    err.print(f"{message} ...", style="dim")


def configure(
    found: Entry, preset: str | None, settings: list[str] | None, default: str = "small"
) -> DesignConfig:
    """Return the configuration that the options ask for."""
    return found.config.preset(preset or default, **found.config.parse_settings(settings or []))


def design_entry(name: str) -> Entry:
    """Return a design, not a block."""
    if name not in DESIGNS:
        raise ParameterError("design", name, f"one of {', '.join(DESIGNS)}")
    return DESIGNS[name]


def print_json(data: Any) -> None:
    """Print ``data`` as JSON."""
    print(json.dumps(data, indent=2))


def version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        print(bitfabric.__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


@app.command("list")
def list_command(as_json: Json = False) -> None:
    """List designs and blocks with their presets, and quantization schemes and formats."""
    from bitfabric.quant import FORMATS, SCHEMES

    def plain(entries: dict[str, Entry]) -> dict[str, Any]:
        return {
            name: {"summary": found.summary, "presets": list(found.config.PRESETS)}
            for name, found in entries.items()
        }

    if as_json:
        print_json(
            {"designs": plain(DESIGNS), "blocks": plain(BLOCKS), "schemes": SCHEMES, "formats": FORMATS}
        )
        return
    for title, entries in (("designs", DESIGNS), ("blocks", BLOCKS)):
        table = Table(title=title, title_justify="left", box=None)
        for column in ("name", "presets", "what it is"):
            table.add_column(column, no_wrap=column == "name")
        for found in entries.values():
            table.add_row(found.name, " ".join(found.config.PRESETS), found.summary)
        out.print(table)
    for title, texts in (("schemes", SCHEMES), ("formats", FORMATS)):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for name, text in texts.items():
            table.add_row(name, text)
        out.print(table)


@app.command("verilog")
def verilog_command(
    design: BlockName,
    directory: Annotated[Path, typer.Option("-o", "--output", help="Directory to write into.")] = Path(
        "build/verilog"
    ),
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write DESIGN's Verilog and the JSON that describes it."""
    found = entry(design)
    config = configure(found, preset, settings)
    progress(f"emitting {design}")
    files = write_design(found, config, directory)
    if as_json:
        print_json({"design": design, "config": config.to_dict(), "files": [str(file) for file in files]})
        return
    for file in files:
        out.print(f"{file}  {file.stat().st_size} bytes", highlight=False)


@app.command("simulate")
def simulate_command(
    design: DesignName,
    simulator: Annotated[str, typer.Option("--sim", help="icarus or verilator.")] = "icarus",
    preset: Preset = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(help="Seed of random cases and of stalls.")] = 0,
    count: Annotated[int, typer.Option("--cases", min=1, help="Number of random cases.")] = 4,
    case: Annotated[Path | None, typer.Option(help="A case file (.npz) instead of random cases.")] = None,
    model: Annotated[str | None, typer.Option(help="A real GEMM: minilm:LAYER.NAME (preset medium).")] = None,
    gemm: Annotated[
        str | None, typer.Option(metavar="M,K,N", help="Random operands of these dimensions.")
    ] = None,
    stall: Annotated[float, typer.Option(help="Probability that a channel pauses in a cycle.")] = 0.0,
    native: Annotated[
        bool, typer.Option("--native", help="Drive Verilator from C++: for long runs.")
    ] = False,
    waves: Annotated[Path | None, typer.Option(help="Write a signal trace to this file.")] = None,
    as_json: Json = False,
) -> None:
    """Run DESIGN's emitted RTL, compare it bit for bit with the golden model, and print its cycles."""
    import numpy as np

    from bitfabric.sim.case import GemmCase, random_case
    from bitfabric.sim.models import model_case
    from bitfabric.sim.report import simulation_table
    from bitfabric.sim.simulate import random_cases, simulate

    if sum(choice is not None for choice in (case, model, gemm)) > 1:
        raise ParameterError("cases", "several sources", "one of --case, --model and --gemm")
    found = design_entry(design)
    config = configure(found, preset, settings, default="medium" if model else "small")
    if waves is not None:
        require_writable(waves.absolute().parent)
    if case is not None:
        cases = [GemmCase.load(case)]
    elif model is not None:
        cases = [model_case(model)]
    elif gemm is not None:
        cases = [random_case(config, np.random.default_rng(seed), *check_dimensions(config, gemm))]  # type: ignore[arg-type]
    else:
        cases = random_cases(config, seed, count)
    report = simulate(
        design,
        config,
        cases,
        simulator="verilator" if native else simulator,
        native=native,
        stall=stall,
        seed=seed,
        waves_to=waves,
        progress=progress,
    )
    if as_json:
        print_json(report.to_dict())
    else:
        out.print(simulation_table(report))
    if not report.passed:
        raise typer.Exit(1)


def parse_gemm(text: str) -> tuple[int, int, int]:
    """Return ``M,K,N`` as integers."""
    try:
        m, k, n = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError("--gemm", text, "M,K,N: three integers joined by commas") from error
    return m, k, n


def check_dimensions(config: Any, text: str) -> tuple[int, int, int]:
    """Return the dimensions that ``text`` names if ``config`` can compute them."""
    dimensions = parse_gemm(text)
    config.check_gemm(*dimensions)
    return dimensions


@app.command("cycles")
def cycles_command(
    design: DesignName,
    gemm: Annotated[
        list[str] | None,
        typer.Option(metavar="M,K,N", help="Activation rows, contraction, output channels; may be repeated."),
    ] = None,
    workload: Annotated[
        str | None, typer.Option(help="bert_base[:TOKENS] or resnet18[:IMAGE]: all its GEMMs.")
    ] = None,
    requantize: Annotated[
        bool, typer.Option("--requantize", help="Bytes come out, not accumulators.")
    ] = False,
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Predict DESIGN's cycles; equal to the RTL's counters when the streams do not stall."""
    from bitfabric.sim.designs import simulated
    from bitfabric.sim.report import cycles_table, sum_cycles
    from bitfabric.sim.workloads.bert import GemmShape
    from bitfabric.sim.workloads.named import workload_shapes

    config: Any = configure(design_entry(design), preset, settings)
    shapes = [GemmShape(text, *check_dimensions(config, text)) for text in gemm or []]
    if workload is not None:
        shapes += workload_shapes(workload)
    if not shapes:
        raise ParameterError("--gemm", None, "given at least once, or --workload")
    rows = [
        (shape, simulated(design).gemm_cycles(config, shape.m, shape.k, shape.n, requantize=requantize))
        for shape in shapes
    ]
    if as_json:
        results = [
            {"name": s.name, "gemm": [s.m, s.k, s.n], "count": s.count, **cycles.to_dict()}
            for s, cycles in rows
        ]
        whole = sum_cycles(config, rows).to_dict()
        print_json({"design": design, "config": config.to_dict(), **whole, "results": results})
    else:
        out.print(cycles_table(design, config, rows))


@app.command("area")
def area_command_(
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
    from bitfabric.hdl.emit import emit
    from bitfabric.synth.report import area_command

    found = entry(design)
    config = configure(found, preset, settings)
    progress(f"emitting {design}")
    emitted = emit(found.make(config), design)
    report = area_command(emitted.verilog, design, liberty, view, goal=goal, progress=progress)
    if as_json:
        print_json({"design": design, "config": config.to_dict(), **report.to_dict()})
    else:
        out.print(report.render())


@app.command("formal")
def formal_command(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PROOF]...", help="Proofs to run; all by default.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Prove the multiplier blocks equal to integer multiplication in every mode."""
    from dataclasses import asdict

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


def fail(message: str) -> NoReturn:
    """Print one line and leave with 1."""
    err.print(f"error: {message}", style="red", markup=False, highlight=False)
    sys.exit(1)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr."""
    try:
        app()
    except BitfabricError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted")


if __name__ == "__main__":
    main()
