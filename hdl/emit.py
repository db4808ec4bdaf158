"""The one way from a component to Verilog: convert each block type once, then one yosys recipe for all."""

from __future__ import annotations

import contextlib
import gc
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.back import rtlil
from amaranth.hdl import ClockSignal, Instance, ResetSignal

from bitfabric.hdl.block import Block, flat_ports, placing, snake_case
from bitfabric.hdl.yosys import YosysError, run_yosys

# Amaranth joins the names of nested modules with dots, which Verilog tools only take escaped.
_MODULE_NAME = re.compile(r"^(module|  cell) \\(\S+\.\S+)", re.MULTILINE)
_CLEARED_MEMORY = re.compile(
    r"^  initial begin\n    (?P<name>\w+)\[0\] = (?P<zero>\d+'[dh]0+);\n(?:    (?P=name)\[\d+\] = (?P=zero);\n)+  end\n",
    re.MULTILINE,
)
_INPUT = re.compile(r"^  wire (?:width \d+ )?(?:signed )?input \d+ +(?:signed )?\\(clk|rst)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class ModuleInfo:
    """Name the origin of one emitted Verilog module.

    Members
    -------
    name : str
        The Verilog module's name.
    component : str
        The Python class it was converted from, with its arguments.
    instances : int
        How often its type was placed, counted per converted parent.
    """

    name: str
    component: str
    instances: int


@dataclass
class _Module:
    name: str
    block: Block
    clocks: frozenset[str] = frozenset()
    rtlil: str = ""
    instances: int = 0


@dataclass
class Emitter:
    """Convert a top block and, once each, the block types below it.

    Parameters
    ----------
    prefix : str
        Name of the top module; the others are named ``<prefix>_<class>``, so that two designs can share a chip.
    """

    prefix: str
    modules: dict[tuple[type, str], _Module] = field(default_factory=dict)

    def place(self, block: Block) -> Any:
        """Return an Instance of the block's module, converting its type if it is new."""
        block._MustUse__used = True  # its type's module stands for it
        key = block.block_key
        if key not in self.modules:
            self._convert(block, self._fresh_name(type(block)))
        module = self.modules[key]
        module.instances += 1
        ports: list[tuple[str, str, Any]] = [
            ("i" if is_input else "o", name, value) for name, is_input, value in flat_ports(block)
        ]
        if "clk" in module.clocks:
            ports.append(("i", "clk", ClockSignal()))
        if "rst" in module.clocks:
            ports.append(("i", "rst", ResetSignal()))
        return Instance(module.name, *ports)

    def convert_top(self, block: Block) -> str:
        """Return the RTLIL text of ``block`` and everything below it."""
        with placing(self), _collector_at_rest():
            self._convert(block, self.prefix)
        # Children were finished before their parents; the top comes last.
        return "\n".join(module.rtlil for module in self.modules.values())

    def _fresh_name(self, cls: type) -> str:
        stem = snake_case(cls.__name__)
        if not f"{stem}_".startswith(f"{self.prefix}_"):
            stem = f"{self.prefix}_{stem}"
        taken = {module.name for module in self.modules.values()} | {self.prefix}
        name, number = stem, 1
        while name in taken:
            number += 1
            name = f"{stem}_{number}"
        return name

    def _convert(self, block: Block, name: str) -> None:
        module = _Module(name, block)
        self.modules[block.block_key] = module  # taken now, so that children get other names
        text = rtlil.convert(block, name=name, emit_src=False)
        module.rtlil = _MODULE_NAME.sub(lambda m: f"{m[1]} \\{m[2].replace('.', '__')}", text)
        top = module.rtlil[module.rtlil.index(f"module \\{name}\n") :]
        module.clocks = frozenset(_INPUT.findall(top[: top.index("\nend\n")]))

    def info(self) -> list[ModuleInfo]:
        """Return the origin of every module, the top first."""
        return [
            ModuleInfo(
                name=module.name,
                component=f"{key[0].__module__}.{key[0].__qualname__}({key[1]})",
                instances=module.instances,
            )
            for key, module in self.modules.items()
        ]


@contextlib.contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Keep Python from looking for garbage meanwhile.

    A conversion makes millions of objects that live until its end; looking through them again and again takes a sixth
    of its time for small designs and a third for large ones.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(frozen=True, kw_only=True)
class Emitted:
    """Hold the Verilog of one block, where its modules came from, and its ports, ``clk`` and ``rst`` included."""

    name: str
    verilog: str
    modules: list[ModuleInfo]
    ports: list[dict[str, Any]]


def emit(block: Block, name: str) -> Emitted:
    """Return the Verilog of ``block`` as module ``name``; the same block gives the same bytes.

    The recipe is ``proc; memory_collect; opt_clean; write_verilog -noattr``: without ``proc`` the ``always @*``
    of signals that never change leaves them X in Icarus; ``-norename`` and ``-sv`` trip Icarus 11.

    Raises
    ------
    YosysError
        If yosys fails.
    """
    emitter = Emitter(name)
    text = emitter.convert_top(block)
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
        source, target = Path(scratch, "in.il"), Path(scratch, "out.v")
        try:
            source.write_text(text)
        except OSError as error:  # a full disk, most often
            raise YosysError(f"{source} cannot be written: {error.strerror}") from error
        run_yosys(
            [
                f"read_rtlil {source}",
                "proc",
                "memory_collect",
                "opt_clean",
                f"write_verilog -noattr {target}",
            ],
            outputs=[target],
        )
        verilog = target.read_text()
    # The first line names the yosys build; the JSON beside the Verilog does that.
    verilog = _CLEARED_MEMORY.sub(_clear_in_a_loop, verilog[verilog.index("\n") + 1 :].lstrip())
    return Emitted(name=name, verilog=verilog, modules=emitter.info(), ports=_all_ports(block, emitter))


def _clear_in_a_loop(block: re.Match[str]) -> str:
    """Return the loop that clears a memory in place of one assignment per word.

    At 8192 words the assignments are nine tenths of a file.
    """
    lines = block[0].splitlines()[1:-1]
    name, zero = block["name"], block["zero"]
    if lines != [f"    {name}[{index}] = {zero};" for index in range(len(lines))]:
        return block[0]
    return (
        f"  initial begin : {name}_clear\n    integer i;\n"
        f"    for (i = 0; i < {len(lines)}; i = i + 1)\n      {name}[i] = {zero};\n  end\n"
    )


def _all_ports(block: Block, emitter: Emitter) -> list[dict[str, Any]]:
    # Blocks other than the AXI tops leave their clock to whoever places them, and so have these two besides.
    clocks = [
        {"name": name, "direction": "input", "width": 1, "signed": False}
        for name in emitter.modules[block.block_key].clocks
    ]
    return sorted(port_list(block) + clocks, key=lambda port: str(port["name"]))


def port_list(block: Block) -> list[dict[str, Any]]:
    """Return the block's own ports as plain data: name, direction, width in bits, signedness."""
    ports = [
        {
            "name": name,
            "direction": "input" if is_input else "output",
            "width": len(value),
            "signed": value.shape().signed,
        }
        for name, is_input, value in flat_ports(block)
    ]
    return sorted(ports, key=lambda port: str(port["name"]))
