"""The BitGroup against what it replaces: a PE's adders, psum and weight registers included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.row import Progress, Row
from bitfabric.hdl.emit import emit
from bitfabric.hdl.registry import entry
from bitfabric.synth.area import area
from bitfabric.synth.libraries import OSU018, library

ROWS, LESS = 24, 0.45  # R, which sizes the psums; how much less area the group is to take
REFERENCE = "fusion unit 8/4/2"
BLOCKS: dict[str, tuple[str, dict[str, Any]]] = {
    REFERENCE: ("fusion_unit", {}),
    "BitGroup, nibble-aligned": ("bitgroup", {"alignment": "nibble"}),
    "BitGroup, bit-aligned": ("bitgroup", {"alignment": "bit"}),
    "fusion unit 8/4/2, signed or unsigned": ("fusion_unit", {"signs": "any"}),
    "fusion unit 8/4": ("fusion_unit", {"min_bits": 4}),
    "plain 8x8 WS PE": ("systolic_ws_pe", {}),
}


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    libraries = (["osu018"] if OSU018.exists() else []) + ["builtin"]
    for name in libraries[:1] if quick else libraries:
        cells = library(name)
        reference = 0.0
        for what, (block, fields) in BLOCKS.items():
            progress(f"area of {what}, {name}")
            found = entry(block)
            config = found.config.preset("small", rows=ROWS, **fields)
            report = area(emit(found.make(config), block).verilog, block, cells, flat=True)
            reference = reference or report.area
            less = 1 - report.area / reference
            aim = what == "BitGroup, nibble-aligned"
            share = "" if what == REFERENCE else f", {abs(less):.1%} {'less' if less >= 0 else 'more'}"
            options = " ".join(f"--set {key}={value}" for key, value in {"rows": ROWS, **fields}.items())
            yield Row(
                what=f"{what}, {name}",
                target=f">= {LESS:.0%} less area than the {REFERENCE}" if aim else "",
                reached=f"{report.nand2_equivalents:.0f} NAND2{share}, {report.flip_flops} FF",
                workload=f"bitfabric area {block} {options} --view flat --liberty {name}",
                met=less >= LESS if aim else None,
                figures={"nand2": report.nand2_equivalents, "flip_flops": report.flip_flops, "less": less},
            )
