"""Buffer the nets of a structural netlist that drive too many loads.

abc buffers inside a module and sees neither what a port drives in other instances nor the cells outside its logic.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from bitfabric.synth.functions import computes
from bitfabric.synth.liberty import Cell
from bitfabric.synth.libraries import Library
from bitfabric.synth.memories import MACRO_CLOCKS, MACRO_OUTPUT

MAX_LOADS = 16  # as in abc's script, see mapping.py

_INSTANCE = re.compile(r"^  (\w+) .*\($")
_PIN = re.compile(r"^    \.(\w+)\((.*)\)(,?)$")
_ASSIGN = re.compile(r"^  assign (\\\S+|\w+) *= (\\\S+|\d+'b[01xz]|\w+) *;$")
_NET = re.compile(r"(\\\S+|\d+'b[01xz]+|\w+) ?")


@dataclass(frozen=True, kw_only=True)
class FanOut:
    """Hold what was inserted.

    Members
    -------
    nets : int
        Nets with more than ``MAX_LOADS`` loads, clocks not included.
    cell : str
        The library's buffer; empty if it has none, and then the nets stay as they are.
    buffers : int
        Buffers inserted.
    area : float
        Theirs, in the library's unit.
    """

    nets: int
    cell: str
    buffers: int
    area: float


def find_buffer(library: Library) -> Cell | None:
    """Return the library's smallest buffer, found by its function, or None."""
    buffers = (
        cell
        for cell in library.cells.values()
        if cell.kind == "logic" and len(cell.inputs) == len(cell.functions) == 1 and cell.area > 0
        if all(
            computes(function, cell.inputs, lambda values: values[0]) for function in cell.functions.values()
        )
    )
    return min(buffers, key=lambda cell: cell.area, default=None)


def buffer_nets(netlist: str, library: Library) -> tuple[str, FanOut]:
    """Return ``netlist`` with a tree of buffers on every net of more than ``MAX_LOADS`` loads, and what that took.

    A load is an input pin of a cell, or a port of a memory macro however many of its bits the net drives. Output
    ports weigh nothing. Nets that reach a clock pin stay as they are: clock trees are made with the layout.

    Parameters
    ----------
    netlist : str
        What ``map_design`` writes: one module, one line per pin, one net per bit.
    library : Library
        Gives the cells' pins and the buffer.
    """
    lines = netlist.split("\n")
    nets = _Nets(lines, library)
    wide = nets.wide()
    cell = find_buffer(library)
    if cell is None or not wide:
        return netlist, FanOut(nets=len(wide), cell=cell.name if cell else "", buffers=0, area=0.0)
    (input_pin,), (output_pin,) = cell.inputs, cell.functions
    wires: list[str] = []
    instances: list[str] = []
    for net, pins in wide.items():
        for sink, source in _tree(net, pins, nets.names).items():
            if isinstance(sink, int):
                lines[sink] = nets.moved(lines[sink], net, source)
            else:
                wires.append(f"  wire {sink} ;")
                instances += [
                    # A backslash before the type, as yosys names flip-flops: it keeps nets and cells apart.
                    f"  {cell.name} {sink}\\{cell.name}  (",
                    f"    .{input_pin}({source} ),",
                    f"    .{output_pin}({sink} )",
                    "  );",
                ]
    lines[nets.end : nets.end] = instances
    lines[nets.first : nets.first] = wires
    return "\n".join(lines), FanOut(
        nets=len(wide), cell=cell.name, buffers=len(wires), area=len(wires) * cell.area
    )


def _tree(net: str, pins: list[int], names: set[str]) -> dict[int | str, str]:
    """Return the net that drives each pin and each buffer; buffers are called after the net they drive.

    Neighbours in the netlist, which often lie in one module, share a buffer.
    """
    sources: dict[int | str, str] = {}
    level: list[int | str] = [*pins]
    number = 0
    while len(level) > MAX_LOADS:
        parts = -(-len(level) // MAX_LOADS)
        above: list[int | str] = []
        for part in range(parts):
            while (name := f"\\{net.removeprefix(chr(92))}_fanout_{number}") in names:
                number += 1
            number += 1
            above.append(name)
            for sink in level[part * len(level) // parts : (part + 1) * len(level) // parts]:
                sources[sink] = name
        level = above
    return sources | dict.fromkeys(level, net)


class _Nets:
    """Know the loads of each net, as lines; nets that an assignment joins are one, called after its source."""

    def __init__(self, lines: list[str], library: Library):
        self.names: set[str] = set()
        self.first = self.end = 0
        self._aliases: dict[str, str] = {}
        self._loads: dict[str, list[int]] = defaultdict(list)
        self._clocks: set[str] = set()
        inputs: set[str] | None = None
        clocks: set[str] = set()
        for number, line in enumerate(lines):
            if line.startswith("    ."):
                match = _PIN.match(line)
                assert match is not None, line
                used = set(_NET.findall(match[2]))
                self.names |= used
                if match[1] in clocks:
                    self._clocks |= used
                elif match[1] in inputs if inputs is not None else match[1] != MACRO_OUTPUT:
                    for net in used:
                        self._loads[net].append(number)
            elif match := _INSTANCE.match(line):
                self.first = self.first or number
                cell = library.cells.get(match[1])
                inputs = set(cell.inputs) if cell else None
                clocks = set(cell.clocks if cell else MACRO_CLOCKS)
            elif match := _ASSIGN.match(line):
                self.names |= {match[1], match[2]}
                self._aliases[match[1]] = match[2]
            elif line == "endmodule":
                self.end = number

    def source(self, net: str) -> str:
        """Return the net that ``net`` is assigned from, through any number of assignments."""
        while net in self._aliases:
            net = self._aliases[net]
        return net

    def wide(self) -> dict[str, list[int]]:
        """Return the lines of the loads of each net that has too many."""
        clocks = {self.source(net) for net in self._clocks}
        joined: dict[str, list[int]] = defaultdict(list)
        for net, pins in self._loads.items():
            joined[self.source(net)] += pins
        return {
            net: sorted(set(pins))
            for net, pins in joined.items()
            if len(set(pins)) > MAX_LOADS and net not in clocks and "'" not in net
        }

    def moved(self, line: str, net: str, source: str) -> str:
        """Return a pin's line with ``source`` in the place of ``net``."""
        match = _PIN.match(line)
        assert match is not None, line
        value = _NET.sub(lambda item: f"{source} " if self.source(item[1]) == net else item[0], match[2])
        return f"    .{match[1]}({value}){match[3]}"
