"""Find the critical path and Fmax of a mapped design with OpenSTA."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.synth.fanout import MAX_LOADS, FanOut, buffer_nets
from bitfabric.synth.libraries import Library
from bitfabric.synth.mapping import Mapped, Progress, map_design
from bitfabric.synth.memories import DEFAULT_THRESHOLD_BITS

NOT_FOUND = "OpenSTA not found (Debian package opensta)"
CLOCKS = ("clk", "aclk")

# Any period will do: the worst slack is subtracted from it.
_PERIOD = 1000.0
_STEP = re.compile(r"^ +(-?[\d.]+) +(-?[\d.]+) [v^] (\S+) \((\S+)\)$")
_SLACK = re.compile(r"^ +(-?[\d.]+) +slack \(", re.MULTILINE)
# yosys names a flip-flop after the net it drives and its type.
_TYPE_SUFFIX = re.compile(r"\\+\w+$")
# What map_design writes for a bit of a port.
_BIT = re.compile(r"@(\d+)")


class TimingError(BitfabricError):
    """Report that timing analysis is not possible, or failed."""


@dataclass(frozen=True, kw_only=True)
class PathStep:
    """Hold one pin of a path: the delay up to it from the pin before, and its arrival time, in ns."""

    pin: str
    cell: str
    delay_ns: float
    arrival_ns: float


@dataclass(frozen=True, kw_only=True)
class TimingReport:
    """Hold the slowest path of a design.

    Members
    -------
    top, library, goal : str
        What was analysed.
    flat : bool
        Whether it was optimized flat; the netlist analysed is flattened in any case.
    period_ns : float
        The shortest clock period: arrival at the endpoint plus its setup time. Wires and clock skew weigh nothing.
    fmax_mhz : float
        Its inverse.
    startpoint, endpoint : str
        RTL register or port, with its bit.
    path : list of PathStep
        Cell outputs and the endpoint, in order.
    fan_out : FanOut
        Buffers inserted for this analysis; the area report does not count them.
    notes : list of str
        What the figures leave out.
    """

    top: str
    library: str
    goal: str
    flat: bool
    period_ns: float
    fmax_mhz: float
    startpoint: str
    endpoint: str
    path: list[PathStep]
    fan_out: FanOut
    notes: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        return asdict(self)


def sta_path() -> str | None:
    """Return OpenSTA's executable, or None where it is not installed."""
    return shutil.which("sta")


def timing(
    verilog: str,
    top: str,
    library: Library,
    flat: bool = True,
    *,
    goal: str = "area",
    memory_threshold: int = DEFAULT_THRESHOLD_BITS,
    progress: Progress | None = None,
) -> TimingReport:
    """Synthesize ``top`` and return its slowest path; parameters and errors as in ``map_design``.

    Raises
    ------
    TimingError
        If OpenSTA is missing or fails, or the design has no path.
    """
    if sta_path() is None:
        raise TimingError(NOT_FOUND)
    mapped = map_design(
        verilog,
        top,
        library,
        flat=flat,
        goal=goal,
        memory_threshold=memory_threshold,
        netlist=True,
        progress=progress,
    )
    return analyse(mapped, library, progress=progress)


def analyse(mapped: Mapped, library: Library, *, progress: Progress | None = None) -> TimingReport:
    """Return the slowest path of ``mapped``, which must hold its netlist.

    Inputs arrive at the clock edge and outputs are taken at the next one, so paths from and to ports count. Nets of
    too many loads, as modules mapped one by one leave them at their ports, are buffered first.
    """
    executable = sta_path()
    if executable is None:
        raise TimingError(NOT_FOUND)
    if not mapped.netlist:
        raise ParameterError("netlist", False, "true in map_design for timing analysis")
    if progress:
        progress(f"time {mapped.top}")
    netlist, fan_out = buffer_nets(mapped.netlist, library)
    clock = next(
        (name for name in CLOCKS if re.search(rf"^  input {name};", mapped.netlist, re.MULTILINE)), ""
    )
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as name:
        scratch = Path(name)
        shutil.copyfile(library.path, scratch / "cells.lib")
        (scratch / "netlist.v").write_text(netlist)
        (scratch / "run.tcl").write_text(_script(mapped.top, clock))
        result = subprocess.run(
            [executable, "-no_init", "-no_splash", "-exit", "run.tcl"],
            cwd=scratch,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
    return _parse(mapped, library, fan_out, result.stdout + result.stderr)


def _script(top: str, clock: str) -> str:
    target = f" [get_ports {clock}]" if clock else ""
    return "\n".join(
        [
            "read_liberty cells.lib",
            "read_verilog netlist.v",
            f"link_design {top}",
            f"create_clock -name clock -period {_PERIOD:g}{target}",
            "set_input_delay 0 -clock clock [all_inputs]",
            "set_output_delay 0 -clock clock [all_outputs]",
            "report_checks -path_delay max -format full -digits 4",
            "puts {bitfabric: finished}",
            "exit",
            "",
        ]
    )


def _parse(mapped: Mapped, library: Library, fan_out: FanOut, text: str) -> TimingReport:
    errors = [line for line in text.splitlines() if line.startswith("Error")]
    if errors or "bitfabric: finished" not in text:
        raise TimingError("OpenSTA failed: " + " ".join(errors or text.splitlines()[-3:] or ["no output"]))
    slack = _SLACK.search(text)
    start = re.search(r"^Startpoint: (\S+)", text, re.MULTILINE)
    end = re.search(r"^Endpoint: (\S+)", text, re.MULTILINE)
    if slack is None or start is None or end is None:
        raise TimingError(f"{mapped.top} has no path to time: nothing lies between its registers and ports")
    period = _PERIOD - float(slack[1])
    if period <= 0:
        raise TimingError(f"{mapped.top} has no path to time: its outputs are wires")
    steps = [_STEP.match(line) for line in text[: text.index("data arrival time")].splitlines()]
    notes = ["wires, clock skew and the drive of input ports weigh nothing", *_buffer_notes(fan_out, library)]
    if any(memory.kept for memory in mapped.memories):
        notes.append("paths are cut at memory macros: their access time is not known")
    if library.nominal_delays:
        notes.append(
            f"the delays of {library.name} are nominal (fan-out-of-4 inverter 100 ps): compare, do not quote"
        )
    return TimingReport(
        top=mapped.top,
        library=library.name,
        goal=mapped.goal,
        flat=mapped.flat,
        period_ns=round(period, 4),
        fmax_mhz=1000.0 / period,
        startpoint=_register(start[1]),
        endpoint=_register(end[1]),
        path=[
            PathStep(pin=_BIT.sub(r"[\1]", m[3]), cell=m[4], delay_ns=float(m[1]), arrival_ns=float(m[2]))
            for m in steps
            if m is not None
        ],
        fan_out=fan_out,
        notes=notes,
    )


def _buffer_notes(fan_out: FanOut, library: Library) -> list[str]:
    if not fan_out.nets:
        return []
    which = f"{fan_out.nets:,} nets of more than {MAX_LOADS} loads"
    if not fan_out.cell:
        return [f"{which} stay unbuffered: the library {library.name} has no buffer"]
    return [
        f"{which} were buffered for timing: {fan_out.buffers:,} x {fan_out.cell}, "
        f"{fan_out.area / library.nand2.area:,.0f} NAND2-equivalents, not counted in the area"
    ]


def _register(name: str) -> str:
    return _BIT.sub(r"[\1]", _TYPE_SUFFIX.sub("", name))
