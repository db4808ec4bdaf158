"""Decide which memories become macros and which become flip-flops."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

# Under about a kilobit the periphery of a compiled SRAM outweighs its cells [ours]; such buffers are built of
# flip-flops or latches in practice.
DEFAULT_THRESHOLD_BITS = 1024

# Ports of yosys' memory cell, and so of the macros.
MACRO_OUTPUT = "RD_DATA"
MACRO_CLOCKS = ("RD_CLK", "WR_CLK")

_CELL = re.compile(r"^\s*cell \$mem_v2 .*?^\s*end$", re.MULTILINE | re.DOTALL)
_PARAMETERS = """
    MEMID SIZE OFFSET ABITS WIDTH INIT RD_PORTS RD_WIDE_CONTINUATION RD_CLK_ENABLE RD_CLK_POLARITY
    RD_TRANSPARENCY_MASK RD_COLLISION_X_MASK RD_CE_OVER_SRST RD_ARST_VALUE RD_SRST_VALUE RD_INIT_VALUE
    WR_PORTS WR_WIDE_CONTINUATION WR_CLK_ENABLE WR_CLK_POLARITY WR_PRIORITY_MASK
"""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Describe one memory geometry of a design.

    Members
    -------
    depth, width : int
        Words, and bits per word.
    read_ports, write_ports : int
        Ports; none to write makes it a table of constants, which becomes logic.
    address_bits : int
        Width of an address.
    instances : int
        How often it occurs in the design.
    kept : bool
        True where it stays a macro, False where it was mapped to cells.
    """

    depth: int
    width: int
    read_ports: int
    write_ports: int
    address_bits: int
    instances: int = 0
    kept: bool = False

    @property
    def bits(self) -> int:
        """Return the bits of one instance."""
        return self.depth * self.width

    @property
    def macro(self) -> str:
        """Return the name of the macro's module."""
        ports = f"{self.read_ports}r{self.write_ports}w"
        return f"memory_{self.depth}x{self.width}_{ports}_a{self.address_bits}"

    def select(self) -> str:
        """Return the yosys selection of the cells with this geometry."""
        wanted = {
            "SIZE": self.depth,
            "WIDTH": self.width,
            "RD_PORTS": self.read_ports,
            "WR_PORTS": self.write_ports,
            "ABITS": self.address_bits,
        }
        return "t:$mem_v2 " + " ".join(f"r:{name}={value} %i" for name, value in wanted.items())

    def black_box(self) -> str:
        """Return the Verilog of the macro's empty module, with the ports of yosys' own memory cell."""
        reads, writes = self.read_ports, self.write_ports
        inputs = {"RD_CLK": reads, "RD_EN": reads, "RD_ARST": reads, "RD_SRST": reads}
        inputs |= {"RD_ADDR": reads * self.address_bits, "WR_CLK": writes, "WR_EN": writes * self.width}
        inputs |= {"WR_ADDR": writes * self.address_bits, "WR_DATA": writes * self.width}
        ports = [f"input [{max(bits, 1) - 1}:0] {name}" for name, bits in inputs.items()]
        ports.append(f"output [{reads * self.width - 1}:0] {MACRO_OUTPUT}")
        return f"(* blackbox *) module {self.macro}({', '.join(ports)}); endmodule\n"


def find_memories(dump: str, threshold: int) -> list[Memory]:
    """Return the geometries in yosys' ``dump t:$mem_v2``; more than ``threshold`` bits with a write port is kept."""
    found: set[Memory] = set()
    for match in _CELL.finditer(dump):
        values = dict(re.findall(r"parameter (?:signed )?\\(\w+) (\d+)$", match[0], re.MULTILINE))
        memory = Memory(
            depth=int(values["SIZE"]),
            width=int(values["WIDTH"]),
            read_ports=int(values["RD_PORTS"]),
            write_ports=int(values["WR_PORTS"]),
            address_bits=int(values["ABITS"]),
        )
        kept = memory.bits > threshold and memory.write_ports > 0 and memory.read_ports > 0
        found.add(replace(memory, kept=kept))
    return sorted(found, key=lambda memory: (memory.bits, memory.macro))


def keep_script(memories: Iterable[Memory]) -> list[str]:
    """Return the yosys commands that turn the kept memories into instances of their macros."""
    script = []
    for memory in memories:
        if memory.kept:
            script += [f"select -set chosen {memory.select()}"]
            script += [f"chtype -set {memory.macro} @chosen"]
            script += [f"setparam -unset {name} @chosen" for name in _PARAMETERS.split()]
    return script
