"""Map Verilog to the cells of a library with yosys; area and timing reports both start from here."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bitfabric.hdl.yosys import YosysError, run_yosys
from bitfabric.quant.errors import ParameterError, check_choice, check_range
from bitfabric.synth.adders import BIT, CHAINS, adder_script, cell_map, find_full_adder
from bitfabric.synth.libraries import Library
from bitfabric.synth.memories import DEFAULT_THRESHOLD_BITS, Memory, find_memories, keep_script
from bitfabric.synth.netlist import for_opensta

Progress = Callable[[str], None]

GOALS = ("area", "speed")
# Commas stand for blanks. ``amap`` covers for area and gave 17 % less on an 8x8 int8 array than yosys' own script
# (``&nf``), in the same time; ``&nf`` balances for delay. For speed there is no ``dc2``: it makes ripples of prefix
# adders again (requantizer in osu018: 9.6 ns with it, 5.5 ns without for 17 % more area; a WS PE 4.4 and 4.2 ns).
# Both end by buffering nets of more than 16 loads: without, an enable of 480 registers had 460 ns of the slowest path.
# What registers and inputs drive abc leaves alone: fanout.py sees to it. Then cells are sized up for delay and down for
# area.
_FAN_OUT = "buffer,-c,-N,16;topo"
_ABC = {
    "area": f"+strash;ifraig;scorr;dc2;dc2;strash;dch,-f;amap,-m;topo;{_FAN_OUT};upsize,-D,1;dnsize,-D,1000000",
    "speed": f"+strash;&get,-n;&fraig,-x;&put;scorr;strash;&get,-n;&dch,-f;&nf;&put;{_FAN_OUT};upsize;dnsize",
}
# Booth multipliers took 26 % off an 8x8 weight-stationary PE, and blocks without wide products are left as they are.
# ``-arith_tree`` (carry-save adders) is left out: sums are balanced trees already, and it made BitGroups 3-4 % larger.
_SYNTH = "-booth -noabc"


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """Hold a mapped design.

    Members
    -------
    top : str
        The top module.
    flat : bool
        Whether the hierarchy was dissolved before optimization.
    goal : str
        What the cells were chosen for: ``"area"`` or ``"speed"``.
    cells : dict of str to (dict of str to int)
        Per module, how many cells of each type it holds itself; submodules and memory macros are types too.
    memories : list of Memory
        The memories found, with their instances.
    logic_depth : int
        Cells on the longest path between registers, memories or ports.
    depth_start : str
        The net that path starts from.
    netlist : str
        The flattened structural Verilog for timing analysis; empty unless it was asked for.
    """

    top: str
    flat: bool
    goal: str
    cells: dict[str, dict[str, int]]
    memories: list[Memory]
    logic_depth: int
    depth_start: str
    netlist: str

    def instances(self) -> dict[str, int]:
        """Return how often each module and memory macro occurs under the top, the top once, parents first."""
        counts = {self.top: 1}
        for name in _parents_first(self.top, self.cells):
            for kind, number in self.cells[name].items():
                if kind in self.cells or kind.startswith("memory_"):
                    counts[kind] = counts.get(kind, 0) + counts[name] * number
        return counts


def _parents_first(top: str, cells: dict[str, dict[str, int]]) -> list[str]:
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        seen.add(name)
        for child in cells[name]:
            if child in cells and child not in seen:
                visit(child)
        order.append(name)

    visit(top)
    return order[::-1]


def map_design(
    verilog: str,
    top: str,
    library: Library,
    *,
    flat: bool = True,
    goal: str = "area",
    memory_threshold: int = DEFAULT_THRESHOLD_BITS,
    netlist: bool = False,
    progress: Progress | None = None,
) -> Mapped:
    """Return ``verilog`` mapped to the cells of ``library``.

    Parameters
    ----------
    verilog : str
        Source text that holds ``top`` and every module below it.
    top : str
        The top module's name.
    flat : bool
        Dissolve the hierarchy first: slower and smaller, because constants and unused outputs cross it.
    goal : str
        ``"area"``, or ``"speed"`` (mapped for delay, then buffered and sized).
    memory_threshold : int
        Bits; a larger memory with a write port stays a macro, a smaller one becomes flip-flops.
    netlist : bool
        Also return the flattened netlist.
    progress : callable
        Called with the name of each stage as it starts.

    Raises
    ------
    YosysError
        If yosys fails, dies in abc, or leaves cells that the library does not have.
    ParameterError
        If ``goal``, ``top`` or the threshold is not allowed.
    """
    check_choice("goal", goal, GOALS)
    check_range("memory_threshold", memory_threshold, 0)
    if not re.fullmatch(r"[A-Za-z_]\w*", top):
        raise ParameterError("top", top, "the name of a Verilog module")
    report = progress or (lambda stage: None)
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as name:
        scratch = Path(name)
        shutil.copyfile(library.path, scratch / "cells.lib")  # a path with blanks would split the script
        (scratch / "in.v").write_text(verilog)
        report(f"read {top}" + (" and flatten it" if flat else ""))
        memories = _coarse(scratch, top, flat, memory_threshold)
        report(f"map {top} to {library.name}")
        log = _fine(scratch, top, library, goal, memories, netlist)
        cells = _read_cells(scratch / "stat.json")
        text = for_opensta((scratch / "netlist.v").read_text()) if netlist else ""
    depth, start = _read_depth(log, top)
    mapped = Mapped(
        top=top,
        flat=flat,
        goal=goal,
        cells=cells,
        memories=[],
        logic_depth=depth,
        depth_start=start,
        netlist=text,
    )
    _check_mapped(mapped, library, memories)
    counts = mapped.instances()
    counted = [replace(m, instances=counts.get(m.macro, 0) if m.kept else m.instances) for m in memories]
    return replace(mapped, memories=counted)


def _coarse(scratch: Path, top: str, flat: bool, threshold: int) -> list[Memory]:
    """Read, optimize word-level logic, and return the memories found."""
    flags = f"-top {top} {_SYNTH}" + (" -flatten" if flat else "")
    run_yosys(
        [
            f"read_verilog {scratch}/in.v",
            f"synth {flags} -run begin:fine",
            "chformal -remove",
            "delete t:$scopeinfo t:$print",
            f"tee -q -o {scratch}/memories.il dump t:$mem_v2",
            f"write_rtlil {scratch}/coarse.il",
        ],
        outputs=[scratch / "coarse.il"],
    )
    return find_memories((scratch / "memories.il").read_text(), threshold)


def _fine(scratch: Path, top: str, library: Library, goal: str, memories: list[Memory], netlist: bool) -> str:
    """Map to cells, write the statistics (and the netlist), and return ``ltp``'s text."""
    lib = f"{scratch}/cells.lib"
    black_boxes = scratch / "memories.v"
    black_boxes.write_text("".join(memory.black_box() for memory in memories if memory.kept))
    storage = " ".join(f"t:{name} %d" for name in [*library.flip_flops, *library.latches])
    # Chains of full adders ripple: for speed abc builds its own.
    adder = find_full_adder(library) if goal == "area" else None
    adders = []
    if adder is not None:
        (scratch / "chains.v").write_text(CHAINS)
        (scratch / "cells.v").write_text(cell_map(adder))
        black_boxes.write_text(black_boxes.read_text() + BIT)
        adders = adder_script(f"{scratch}/chains.v", f"{scratch}/cells.v")
    script = [
        f"read_rtlil {scratch}/coarse.il",
        f"read_verilog -lib {black_boxes}",
        # Full-adder cells are there before the others are chosen.
        f"read_liberty -lib -ignore_miss_func {lib}",
        *keep_script(memories),
        *adders,
        f"synth -top {top} {_SYNTH} -run fine:check",
        # Power-up values: a reset sets those that matter, and no cell here has one.
        "setattr -unset init",
        f"dfflibmap -liberty {lib}",
        "opt",
        f"abc -liberty {lib} -script {_ABC[goal]}",
        "opt_clean",
        f"tee -q -o {scratch}/stat.json stat -json",
        "flatten -noscopeinfo",
        f"select -set logic * {storage} t:memory_* %d",
        f"tee -q -o {scratch}/ltp.txt ltp @logic",
    ]
    outputs = [scratch / "stat.json", scratch / "ltp.txt"]
    if netlist:
        script += [
            "rename -wire",
            # Every port of a dissolved instance leaves a second name of its net behind.
            "opt_clean -purge",
            # Not "weight[0]": OpenSTA would take it for a bit of a bus, and Amaranth may have a net of that name.
            "splitnets -ports -format @",
            f"write_verilog -noattr -noexpr -nohex -nodec {scratch}/netlist.v",
        ]
        outputs.append(scratch / "netlist.v")
    run_yosys(script, outputs=outputs)
    return (scratch / "ltp.txt").read_text()


def _read_cells(path: Path) -> dict[str, dict[str, int]]:
    data: dict[str, Any] = json.loads(path.read_text())
    return {
        name.removeprefix("\\"): {
            kind.removeprefix("\\"): number for kind, number in module["num_cells_by_type"].items()
        }
        for name, module in data["modules"].items()
    }


def _read_depth(log: str, top: str) -> tuple[int, str]:
    match = re.search(
        rf"Longest topological path in {re.escape(top)} \(length=(\d+)\):\n\s*0: (\S+(?: \[\d+\])?)", log
    )
    if match is None:
        # No path at all: a design of registers alone.
        return 0, ""
    return int(match[1]), match[2].removeprefix("\\").replace(" ", "")


def _check_mapped(mapped: Mapped, library: Library, memories: list[Memory]) -> None:
    """Refuse what is no cell, no module and no macro: abc can die without an exit code."""
    known = {*library.cells, *mapped.cells, *(memory.macro for memory in memories if memory.kept)}
    left = {kind for cells in mapped.cells.values() for kind in cells} - known
    if left:
        raise YosysError(
            f"synthesis of {mapped.top} left cells that the library {library.name} does not have: "
            + ", ".join(sorted(left))
        )
    if mapped.top not in mapped.cells:
        raise YosysError(f"synthesis wrote no statistics of the module {mapped.top}")
