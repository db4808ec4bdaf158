"""What a Panacea PEA consists of, the paper's form and ours beside each other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.row import Progress, Row
from bitfabric.hdl.emit import emit
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.registry import entry
from bitfabric.synth.area import area
from bitfabric.synth.libraries import OSU018, library

FORMS: dict[str, dict[str, Any]] = {
    "D4/S8": {"dtp": False},
    "with DTP": {},
    "flexible": {"dtp": False, "flexible": True},
}
MUX, WEIGHTS, PSUMS = "operand multiplexers", "weight buffer and index buffer", "psum buffers and CSBUF"
SCHEDULER, COMPENSATOR, DECODER = "scheduler", "compensator with its accumulators", "index decoder"
REST = "pipeline registers"
# By the class that a module was made of.
PARTS = {
    "OuterProduct": "multipliers",
    "Operators": "shifts and adder trees",
    "AccumulatorBanks": "accumulators",
    "WorkloadScheduler": SCHEDULER,
    "FlexibleScheduler": SCHEDULER,
    "ProductPicker": SCHEDULER,
    "Compensator": COMPENSATOR,
    "IndexDecoder": DECODER,
    "VectorPlacer": WEIGHTS,  # the crossbar in front of the buffers
    "OperandMux": MUX,
    "WeightBuffer": WEIGHTS,
    "VectorBank": WEIGHTS,
    "Ram": PSUMS,
    "Pea": REST,
}
OVERHEAD, ASIDE = (SCHEDULER, COMPENSATOR, DECODER), (MUX, WEIGHTS, PSUMS)
MOST = 0.15
PEAS = PanaceaConfig.preset("paper").peas


def part_of(component: str) -> str:
    """Return the part that a module belongs to."""
    name, _, arguments = component.partition("(")
    kind = name.rpartition(".")[2]
    if kind == "AccumulatorBanks" and arguments.startswith("lanes=4,"):
        return COMPENSATOR
    return PARTS[kind]


def parts_of(fields: dict[str, Any], cells: Any) -> tuple[dict[str, float], int]:
    """Return the NAND2 equivalents of a PEA's parts, and its bits in macros."""
    parts = dict.fromkeys(PARTS.values(), 0.0)
    bits = 0
    config = PanaceaConfig.preset("paper", **fields)
    # The decoder of the weights' indices sits in their fetcher, one for all PEAs [ours]: each has its share.
    for name, shared in (("panacea_pea", 1), ("index_decoder", PEAS)):
        emitted = emit(entry(name).make(config), name)
        made_of = {module.name: module.component for module in emitted.modules}
        report = area(emitted.verilog, name, cells, flat=False)
        bits += report.memory_bits
        for module in report.by_module:
            parts[part_of(made_of[module.name])] += module.nand2_equivalents * module.instances / shared
    return parts, bits


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    libraries = (["osu018"] if OSU018.exists() else []) + ["builtin"]
    for name in libraries[:1] if quick else libraries:
        cells = library(name)
        forms: dict[str, dict[str, float]] = {}
        bits: dict[str, int] = {}
        for form, fields in FORMS.items():
            if quick and form != "D4/S8":
                continue
            progress(f"area of a PEA, {form}, {name}")
            forms[form], bits[form] = parts_of(fields, cells)
        yield from _table(name, forms, bits)


def _table(name: str, forms: dict[str, dict[str, float]], bits: dict[str, int]) -> Iterator[Row]:
    totals = {form: sum(parts.values()) for form, parts in forms.items()}
    for part in dict.fromkeys(PARTS.values()):
        shares = {form: parts[part] / totals[form] for form, parts in forms.items()}
        text = [f"{form} {forms[form][part]:,.0f} ({share:.1%})" for form, share in shares.items()]
        note = f"; besides, in macros: {', '.join(f'{b:,} bits' for b in bits.values())}" * (part == PSUMS)
        yield Row(
            what=f"PEA, {part}, {name}",
            reached=", ".join(text) + note,
            workload="NAND2 equivalents and their share of the whole PEA",
            figures={form: parts[part] for form, parts in forms.items()},
        )
    for form, parts in forms.items():
        overhead = sum(parts[part] for part in OVERHEAD)
        whole = totals[form]
        bare = whole - sum(parts[part] for part in ASIDE)
        options = "".join(f" --set {key}={str(value).lower()}" for key, value in FORMS[form].items())
        yield Row(
            what=f"PEA, scheduler, compensator and index decoder, {form}, {name}",
            target=f"< {MOST:.0%} of a PEA",
            reached=f"{overhead / whole:.1%} of the PEA's {whole:,.0f} NAND2; {overhead / bare:.1%} of the "
            f"{bare:,.0f} without operand multiplexers and buffers",
            workload=f"bitfabric area panacea_pea --preset paper{options} --liberty {name}, and a PEA's share of "
            f"index_decoder, one for all of them ({parts[DECODER] * PEAS:,.0f}); memories above 1024 bits are "
            "macros and in no share",
            met=overhead < MOST * bare,
            figures={"overhead": overhead, "whole": whole, "bare": bare, "memory_bits": bits[form]},
        )
