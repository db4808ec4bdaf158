"""Measure what a design costs in cells: area, NAND2-equivalents, flip-flops, memory bits, logic depth."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bitfabric.synth.libraries import Library
from bitfabric.synth.mapping import Mapped, Progress, map_design
from bitfabric.synth.memories import DEFAULT_THRESHOLD_BITS, Memory


@dataclass(frozen=True, kw_only=True)
class ModuleArea:
    """Hold one module's own cost, its submodules not included.

    Members
    -------
    name : str
        The Verilog module.
    instances : int
        How often it occurs under the top.
    cells, flip_flops : int
        Of one instance.
    area, nand2_equivalents : float
        Of one instance, in the library's unit and in NAND2s.
    share : float
        What all its instances are of the design's area, 0 to 1.
    """

    name: str
    instances: int
    cells: int
    area: float
    nand2_equivalents: float
    flip_flops: int
    share: float


@dataclass(frozen=True, kw_only=True)
class AreaReport:
    """Hold the cost of one design in one library.

    Members
    -------
    top, library, goal : str
        What was measured, in which library, mapped for ``"area"`` or ``"speed"``.
    flat : bool
        True where the hierarchy was dissolved before optimization; hierarchical figures are larger.
    cells : int
        Cells, memory macros not included.
    area : float
        In the library's unit; memory macros not included.
    nand2_equivalents : float
        ``area`` divided by that of the library's smallest two-input NAND.
    flip_flops, latches : int
        Storage bits in cells, those of small memories included.
    memory_bits : int
        Bits in macros: memories above ``memory_threshold`` bits.
    memories : list of Memory
        Every memory geometry: ``kept`` ones are macros, the others are in ``cells``. Those mapped to cells say
        nothing of how often they occur (instances is 0).
    logic_depth : int
        Cells, inverters and buffers included, on the longest path between registers, memories or ports of the
        flattened netlist (yosys ``ltp``).
    depth_start : str
        The net where that path starts.
    by_module : list of ModuleArea
        The top first; one entry where flat.
    by_cell : dict of str to int
        Cells of each type in the whole design, most frequent first.
    notes : list of str
        What the figures leave out.
    """

    top: str
    library: str
    goal: str
    flat: bool
    cells: int
    area: float
    nand2_equivalents: float
    flip_flops: int
    latches: int
    memory_bits: int
    memory_threshold: int
    memories: list[Memory]
    logic_depth: int
    depth_start: str
    by_module: list[ModuleArea]
    by_cell: dict[str, int]
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        data = asdict(self)
        for memory, plain in zip(self.memories, data["memories"], strict=True):
            plain["bits"] = memory.bits
        return data


def area(
    verilog: str,
    top: str,
    library: Library,
    flat: bool = True,
    *,
    goal: str = "area",
    memory_threshold: int = DEFAULT_THRESHOLD_BITS,
    progress: Progress | None = None,
) -> AreaReport:
    """Synthesize ``top`` and return what it costs.

    Parameters
    ----------
    verilog, top, library, flat, goal, memory_threshold, progress
        As in ``map_design``.

    Raises
    ------
    YosysError
        If synthesis fails or leaves cells unmapped.
    ParameterError
        If an argument is not allowed.
    """
    mapped = map_design(
        verilog,
        top,
        library,
        flat=flat,
        goal=goal,
        memory_threshold=memory_threshold,
        progress=progress,
    )
    return measure(mapped, library, memory_threshold)


def measure(mapped: Mapped, library: Library, memory_threshold: int) -> AreaReport:
    """Return the cost of a mapped design; ``memory_threshold`` is the one it was mapped with, in bits."""
    counts = mapped.instances()
    total: dict[str, int] = {}
    for name, own in mapped.cells.items():
        for kind, number in own.items():
            if kind in library.cells and name in counts:
                total[kind] = total.get(kind, 0) + number * counts[name]
    whole = sum(library.cells[kind].area * number for kind, number in total.items())
    nand2 = library.nand2.area

    def module(name: str, own: dict[str, int]) -> ModuleArea:
        cells = {kind: number for kind, number in own.items() if kind in library.cells}
        own_area = sum(library.cells[kind].area * number for kind, number in cells.items())
        return ModuleArea(
            name=name,
            instances=counts[name],
            cells=sum(cells.values()),
            area=own_area,
            nand2_equivalents=own_area / nand2,
            flip_flops=_storage(cells, library, "ff"),
            share=own_area * counts[name] / whole if whole else 0.0,
        )

    modules = [module(name, own) for name, own in mapped.cells.items() if name in counts]
    modules.sort(key=lambda m: (m.name != mapped.top, -m.area * m.instances, m.name))
    latches = _storage(total, library, "latch")
    return AreaReport(
        top=mapped.top,
        library=library.name,
        goal=mapped.goal,
        flat=mapped.flat,
        cells=sum(total.values()),
        area=whole,
        nand2_equivalents=whole / nand2,
        flip_flops=_storage(total, library, "ff"),
        latches=latches,
        memory_bits=sum(memory.bits * memory.instances for memory in mapped.memories if memory.kept),
        memory_threshold=memory_threshold,
        memories=mapped.memories,
        logic_depth=mapped.logic_depth,
        depth_start=mapped.depth_start,
        by_module=modules,
        by_cell=dict(sorted(total.items(), key=lambda item: (-item[1], item[0]))),
        notes=_notes(mapped, library, total),
    )


def _storage(cells: dict[str, int], library: Library, kind: str) -> int:
    return sum(
        number * library.cells[name].bits
        for name, number in cells.items()
        if library.cells[name].kind == kind
    )


def _notes(mapped: Mapped, library: Library, total: dict[str, int]) -> list[str]:
    notes = []
    for memory in mapped.memories:
        if memory.kept:
            notes.append(
                f"{memory.instances} x {memory.depth}x{memory.width} bits ({memory.read_ports} read, "
                f"{memory.write_ports} write) kept as macros: counted as memory bits, not in area"
            )
    free = sorted(kind for kind in total if library.cells[kind].area == 0)
    if free:
        notes.append(f"the library {library.name} gives no area for {', '.join(free)}: they count as 0")
    return notes
