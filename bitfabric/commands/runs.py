"""``simulate`` and ``cycles``: what the RTL does, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bitfabric.commands.options import (
    DesignName,
    Json,
    Preset,
    Settings,
    configure,
    design_entry,
    out,
    parse_gemm,
    print_json,
    progress,
)
from bitfabric.quant.errors import BitfabricError, ParameterError


def simulate_command(
    design: DesignName,
    simulator: Annotated[str | None, typer.Option("--sim", help="icarus (default) or verilator.")] = None,
    preset: Preset = None,
    settings: Settings = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of random cases and of stalls.")] = 0,
    count: Annotated[
        int | None, typer.Option("--cases", min=1, help="Number of random cases; 4 by default.")
    ] = None,
    case: Annotated[Path | None, typer.Option(help="A case file (.npz) instead of random cases.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A real GEMM: minilm:LAYER.NAME (preset medium); minilm:LAYER.NAME[:TOKENS] of panacea (paper), "
            "with [:SHARE] of low precision of drift (paper); minilm:BLOCK[:TOKENS][:KEEP:HIGH], a block's attention and the "
            "shares of its tokens that stay and that have 8 bits, of dtqatten (paper)."
        ),
    ] = None,
    gemm: Annotated[
        str | None, typer.Option(metavar="M,K,N", help="Random operands of these dimensions.")
    ] = None,
    stall: Annotated[float, typer.Option(help="Probability that a channel pauses in a cycle.")] = 0.0,
    native: Annotated[
        bool, typer.Option("--native", help="Drive Verilator from C++: for long runs.")
    ] = False,
    waves: Annotated[
        Path | None, typer.Option(help="Write a signal trace: NAME.fst with Icarus, NAME.vcd with Verilator.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run DESIGN's emitted RTL, compare it bit for bit with the golden model, and print its cycles."""
    import numpy as np

    from bitfabric.sim.designs import Case, simulated
    from bitfabric.sim.report import simulation_table
    from bitfabric.sim.simulate import simulate

    sources = {"--case": case, "--model": model, "--gemm": gemm, "--cases": count}
    given = [option for option, value in sources.items() if value is not None]
    if len(given) > 1:
        raise BitfabricError(f"{' and '.join(given)} exclude each other: each says what to run")
    if native and simulator not in (None, "verilator"):
        raise ParameterError("--sim", simulator, "'verilator' with --native")
    found = design_entry(design)
    machine = simulated(design)
    config = configure(found, preset, settings, default=machine.model_preset if model else "small")
    cases: list[Case]
    if case is not None:
        cases = [machine.load_case(case)]
    elif model is not None:
        cases = [machine.model_case(model, config)]
    elif gemm is not None:
        dimensions = parse_gemm(gemm)
        machine.check_gemm(config, *dimensions)
        cases = [machine.random_case(config, np.random.default_rng(seed), *dimensions)]
    else:
        cases = machine.random_cases(config, seed, count or 4)
    report = simulate(
        design,
        config,
        cases,
        simulator="verilator" if native else simulator or "icarus",
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
        if waves is not None:
            out.print(f"signals: {waves}", highlight=False)
    if not report.passed:
        raise typer.Exit(1)


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
        bool, typer.Option("--requantize", help="The next layer's codes come out, not accumulators.")
    ] = False,
    weight_sparsity: Annotated[
        float | None,
        typer.Option(help="Share of skipped weight vectors, 0 to 1; panacea only, 0 by default."),
    ] = None,
    act_sparsity: Annotated[
        float | None, typer.Option(help="Share of skipped activation vectors, as --weight-sparsity.")
    ] = None,
    weight_low: Annotated[
        float | None,
        typer.Option(help="Share of channels at low precision, 0 to 1; drift only, 0 by default."),
    ] = None,
    act_low: Annotated[
        float | None, typer.Option(help="Share of activation rows at low precision, as --weight-low.")
    ] = None,
    token_low: Annotated[
        float | None, typer.Option(help="Share of tokens of 4 bits, 0 to 1; dtqatten only, 0 by default.")
    ] = None,
    token_pruned: Annotated[
        float | None, typer.Option(help="Share of tokens that are left out, as --token-low.")
    ] = None,
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Predict DESIGN's cycles when the streams do not stall.

    Equal to the RTL's counters; where cycles follow from the data (panacea, 7 x 8 bits, double tiles where they fit),
    nearly so, from patterns of the sparsities given; drift (8 and 4 bits) from the shares of low precision.
    """
    from bitfabric.sim.designs import simulated
    from bitfabric.sim.report import cycles_table, sum_cycles
    from bitfabric.sim.workloads.bert import GemmShape
    from bitfabric.sim.workloads.named import workload_shapes

    config: Any = configure(design_entry(design), preset, settings)
    machine = simulated(design)
    shapes = [GemmShape(text, *parse_gemm(text)) for text in gemm or []]
    if workload is not None:
        shapes += workload_shapes(workload)
    if not shapes:
        raise BitfabricError("give at least one --gemm M,K,N, or a --workload")
    options: dict[str, Any] = {
        "requantize": requantize,
        "weight_sparsity": weight_sparsity,
        "act_sparsity": act_sparsity,
        "weight_low": weight_low,
        "act_low": act_low,
        "token_low": token_low,
        "token_pruned": token_pruned,
    }
    rows = [(shape, machine.gemm_cycles(config, shape.m, shape.k, shape.n, **options)) for shape in shapes]
    if as_json:
        results = [
            {"name": s.name, "gemm": [s.m, s.k, s.n], "count": s.count, **cycles.to_dict()}
            for s, cycles in rows
        ]
        whole = sum_cycles(rows).to_dict()
        print_json({"design": design, "config": config.to_dict(), **whole, "results": results})
    else:
        out.print(cycles_table(f"{design}, {machine.describe(config)}", rows))
