"""What Drift's bidirectional, double-buffered group costs, its fabric against a systolic array, and the machine's parts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from bench.row import Progress, Row
from bitfabric.hdl.arith.bitgroup import ALIGNMENTS, BitGroup
from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_lite import AxiLiteRegisters
from bitfabric.hdl.drift.act_store import ActStore
from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.counters import Counters
from bitfabric.hdl.drift.dispatcher import Dispatcher
from bitfabric.hdl.drift.drain import Drain
from bitfabric.hdl.drift.edge import EdgeColumn
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.hdl.drift.feed import Feed
from bitfabric.hdl.drift.group import DriftGroup
from bitfabric.hdl.drift.intake import Intake
from bitfabric.hdl.drift.psum_delay import PsumDelay
from bitfabric.hdl.drift.readout import Readout
from bitfabric.hdl.drift.registers import drift_registers
from bitfabric.hdl.drift.sequencer import Sequencer
from bitfabric.hdl.drift.splitter import Splitter
from bitfabric.hdl.drift.top import DriftTop
from bitfabric.hdl.drift.weight_column import WeightColumn
from bitfabric.hdl.drift.weight_loader import WeightLoader
from bitfabric.hdl.emit import emit
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.pe import SystolicWsPe
from bitfabric.synth.area import area
from bitfabric.synth.libraries import OSU018, Library, library

# Reading it takes yosys minutes with the paper's memories, and it is no cell.
_CLEAR = re.compile(r"^  initial begin : \w+_clear\n.*?^  end\n", re.MULTILINE | re.DOTALL)
# Rows of groups from which the fabric's own logic per row is measured: all but the first and the last are alike.
FEW, MORE = 3, 7
FABRIC, EDGES, WEIGHTS = "fabric", "edge accumulators", "weight columns"


@dataclass(frozen=True)
class Cost:
    """Hold NAND2 equivalents, flip-flops, and bits in macros."""

    nand2: float = 0.0
    flip_flops: int = 0
    bits: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.nand2 + other.nand2, self.flip_flops + other.flip_flops, self.bits + other.bits)

    def __mul__(self, times: float) -> Cost:
        return Cost(self.nand2 * times, round(self.flip_flops * times), round(self.bits * times))


def cost_of(block: Block, cells: Library, *, flat: bool = False, only: tuple[str, ...] = ()) -> Cost:
    """Return what a block costs, or what modules of the named classes alone cost in it."""
    emitted = emit(block, "block")
    report = area(_CLEAR.sub("", emitted.verilog), "block", cells, flat=flat)
    if not only:
        return Cost(report.nand2_equivalents, report.flip_flops, report.memory_bits)
    kinds = {m.name: m.component.partition("(")[0].rpartition(".")[2] for m in emitted.modules}
    return sum(
        (
            Cost(module.nand2_equivalents, module.flip_flops) * module.instances
            for module in report.by_module
            if kinds[module.name] in only
        ),
        Cost(),
    )


def fabric_cost(config: DriftConfig, cells: Library) -> Cost:
    """Return the groups and, linear in the rows, what gives them their directions."""
    few, more = (
        cost_of(DriftFabric(dataclasses.replace(config, rows=rows)), cells, only=("DriftFabric", "DriftRow"))
        for rows in (FEW, MORE)
    )
    own = few + (more + few * -1) * ((config.rows - FEW) / (MORE - FEW))
    return cost_of(DriftGroup(config), cells, flat=True) * config.groups + own


def machine_parts(config: DriftConfig) -> dict[str, list[tuple[int, Callable[[], Block]]]]:
    """Return the blocks of the machine but its fabric, with their number."""
    stores = (config.high_words, config.low_words)
    return {
        EDGES: [(2 * config.columns, lambda: EdgeColumn(config)), (4, lambda: PsumDelay(config))],
        WEIGHTS: [(config.columns, lambda: WeightColumn(config))],
        "dispatcher": [(1, lambda: Dispatcher(config))],
        "activation stores": [(1, partial(ActStore, config, words)) for words in stores],
        "sequencers": [(2, partial(Sequencer, config, words)) for words in stores],
        "intake": [(1, lambda: Intake(config))],
        "scheduler": [(1, lambda: Splitter(config))],
        "drain": [(1, lambda: Drain(config))],
        "read-out and pooling": [(1, lambda: Readout(config))],
        "streams, registers, counters": [
            (1, lambda: Feed(config)),
            (1, lambda: WeightLoader(config)),
            (1, lambda: AxiLiteRegisters(drift_registers(config, DriftTop.NAME))),
            (1, Counters),
        ],
    }


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    libraries = (["osu018"] if OSU018.exists() else []) + ["builtin"]
    for name in libraries[:1] if quick else libraries:
        cells = library(name)
        yield from _groups(name, cells, progress)
        if not quick:
            yield from _machine(name, cells, progress)


def _groups(name: str, cells: Library, progress: Progress) -> Iterator[Row]:
    """Compare groups with the BitGroup, which passes everything in one direction and has one weight register."""
    for alignment in ALIGNMENTS:
        progress(f"area of groups, {alignment}, {name}")
        config = DriftConfig(alignment=alignment)
        plain = cost_of(BitGroup(config.group), cells, flat=True)
        for mode in BUFFERINGS:
            config = DriftConfig(alignment=alignment, weight_buffering=mode)
            cost = cost_of(DriftGroup(config), cells, flat=True)
            more = cost.nand2 / plain.nand2 - 1
            yield Row(
                what=f"Drift's group, {alignment}-aligned, {mode}, {name}",
                reached=f"{cost.nand2:,.0f} NAND2, {cost.flip_flops} FF: {more:+.1%} over the BitGroup's "
                f"{plain.nand2:,.0f}, {plain.flip_flops} FF",
                workload=f"bitfabric area drift_group --set alignment={alignment} --set weight_buffering={mode} "
                f"--view flat --liberty {name}, and bitgroup --set rows={config.rows}: one direction, one register",
                figures={"nand2": cost.nand2, "flip_flops": cost.flip_flops, "over_bitgroup": more},
            )


def _machine(name: str, cells: Library, progress: Progress) -> Iterator[Row]:
    config = DriftConfig()
    found: dict[str, Cost] = {}
    for part, blocks in machine_parts(config).items():
        progress(f"area of {part}, {name}")
        found[part] = sum((cost_of(make(), cells) * count for count, make in blocks), Cost())
    fabrics = {}
    for alignment in ALIGNMENTS:
        for mode in BUFFERINGS:
            progress(f"area of the fabric, {alignment}, {mode}, {name}")
            fields: dict[str, Any] = {"alignment": alignment, "weight_buffering": mode}
            fabrics[alignment, mode] = fabric_cost(DriftConfig(**fields), cells)
    edges = found[EDGES].nand2 + found[WEIGHTS].nand2
    for mode in ("single", "double"):
        systolic = SystolicWsConfig(rows=config.rows, columns=config.columns, weight_buffering=mode)
        pe = SystolicWsPe(systolic.act_bits, systolic.weight_bits, systolic.psum_bits, mode)
        array = cost_of(pe, cells, flat=True) * config.groups
        for alignment in ALIGNMENTS:
            fabric = fabrics[alignment, mode]
            yield Row(
                what=f"Drift's fabric, {config.rows} x {config.columns}, {alignment}-aligned, {mode}, {name}",
                reached=f"{fabric.nand2:,.0f} NAND2: {fabric.nand2 / array.nand2:.2f}x the systolic array's "
                f"{array.nand2:,.0f}"
                + f"; with edges and weight columns {(fabric.nand2 + edges) / array.nand2:.2f}x"
                * (alignment == "nibble" and mode == "double"),
                workload=f"{config.groups} groups, one 8x8 product or four 4x4 a cycle each, directions included, "
                f"against as many 8x8 PEs of systolic_ws, {mode}-buffered both, each mapped flat by itself",
                figures={"fabric": fabric.nand2, "systolic": array.nand2, "edges_and_weights": edges},
            )
    base = fabrics["nibble", "single"]
    found = {FABRIC: fabrics["nibble", "double"], **found}
    whole = sum(found.values(), Cost())
    yield Row(
        what=f"Drift, double buffering, {name}",
        reached=", ".join(
            f"{mode} {(fabrics['nibble', mode].nand2 - base.nand2) / base.nand2:+.1%} of the fabric, "
            f"{(fabrics['nibble', mode].nand2 - base.nand2) / whole.nand2:+.1%} of the machine"
            for mode in ("double", "transit")
        ),
        workload=f"over single buffering, {config.rows} x {config.columns}, nibble-aligned",
        figures={mode: fabrics["nibble", mode].nand2 for mode in BUFFERINGS},
    )
    for part, cost in found.items():
        yield Row(
            what=f"Drift's machine, {part}, {name}",
            reached=f"{cost.nand2 / whole.nand2:.1%}: {cost.nand2:,.0f} NAND2, {cost.flip_flops:,} FF, "
            f"{cost.bits / 8192:,.0f} KB in macros",
            workload=f"of {whole.nand2:,.0f} NAND2, {whole.flip_flops:,} FF and {whole.bits / 8192:,.0f} KB; preset "
            "paper, blocks by themselves times their number, hierarchical but for the groups; what joins them is in none",
            figures={"nand2": cost.nand2, "flip_flops": cost.flip_flops, "bits": cost.bits},
        )
