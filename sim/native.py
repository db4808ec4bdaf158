"""Run emitted Verilog under a C++ main made from its port list: for long runs, without Python in the loop."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import jinja2

from bitfabric.hdl.emit import Emitted
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.sim.builds import SimulationError, build_directory, fresh_build
from bitfabric.sim.job import Job
from bitfabric.sim.runner import Progress, quiet
from bitfabric.sim.toolchain import FAST, MAKE_VARIABLES, OPTIMIZE, require_verilator
from bitfabric.sim.verdict import judge

# Measured: see `python -m bench simulation`. Lint is the lint test's business; assertions are compiled out.
_VERILATOR_FLAGS = (
    "-Wno-fatal",
    "-Wno-lint",
    "-O3",
    "--x-assign",
    "fast",
    "--x-initial",
    "fast",
    "--noassert",
)

# What a top's AXI ports are called; a stream without its packets' ends is none of ours.
_AXI_PORTS = frozenset(
    ["aclk", "aresetn"]
    + [f"s_axil_{channel}{wire}" for channel in ("aw", "w", "b", "ar", "r") for wire in ("valid", "ready")]
    + ["s_axil_awaddr", "s_axil_araddr", "s_axil_wdata", "s_axil_wstrb", "s_axil_rdata"]
    + [f"{stream}_t{wire}" for stream in ("s_axis", "m_axis") for wire in ("data", "valid", "ready", "last")]
)


def cpp_name(port: str) -> str:
    """Return what Verilator calls a port in C++, where it keeps double underscores for itself."""
    return port.replace("__", "___05F")


def render(template: str, emitted: Emitted, **values: Any) -> str:
    """Return a testbench's C++ text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(top=emitted.name, **values)


def native_build(
    emitted: Emitted, main: str, *, waves: bool = False, optimize: str = FAST, progress: Progress = quiet
) -> Path:
    """Compile ``emitted`` with the C++ text ``main``, or find it compiled; return the program.

    ``optimize`` is one of ``toolchain.OPTIMIZE``.

    Raises
    ------
    ParameterError
        If ``optimize`` is neither.
    MissingToolError
        If Verilator or a C++ compiler is not installed.
    SimulationError
        If it does not compile.
    """
    check_choice("optimize", optimize, OPTIMIZE)
    verilator = require_verilator()
    flags = [*_VERILATOR_FLAGS, *(["--trace-vcd"] if waves else [])]
    variables = {**MAKE_VARIABLES, "OPT_FAST": optimize, "OPT_SLOW": "-O0", "OPT_GLOBAL": optimize}
    directory = build_directory(
        "native", emitted.verilog, emitted.name, main, verilator.version, *flags, str(variables)
    )
    log = directory / "build.log"
    program = directory / "Vmodel"
    with fresh_build(directory, log) as needed:
        if needed:
            progress(f"building {emitted.name} for C++")
            (directory / "design.v").write_text(emitted.verilog)
            (directory / "main.cpp").write_text(main)
            # MAKEFLAGS of a make that runs us, `make bench`, names file descriptors that are not inherited.
            environment = {
                k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
            }
            environment.update(verilator.environment)
            verilate = [verilator.executable, "--cc", "--exe", *flags, "-Mdir", str(directory)]
            verilate += ["--top-module", emitted.name, "--prefix", "Vmodel", "design.v", "main.cpp"]
            make = ["make", "-f", "Vmodel.mk", "-j2", *(f"{k}={v}" for k, v in variables.items())]
            with log.open("w") as file:
                for step in (verilate, make):
                    subprocess.run(
                        step,
                        cwd=directory,
                        env=environment,
                        stdout=file,
                        stderr=subprocess.STDOUT,
                        check=False,
                    )
            if not program.exists():
                raise RuntimeError("no program was built")
    return program


def execute(program: Path, job: Path, result: Path, waves_to: Path | None = None) -> None:
    """Run a program of ``native_build`` on a binary job.

    Raises
    ------
    SimulationError
        If it fails, with what it said.
    """
    trace = result.with_suffix(".vcd")
    done = subprocess.run(
        [str(program), str(job), str(result), str(trace)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or not result.exists():
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise SimulationError(f"the native run gave no verdict (exit {done.returncode}):\n{tail}")
    if waves_to is not None:
        shutil.copyfile(trace, waves_to)


def native_main(emitted: Emitted, *, waves: bool = False) -> str:
    """Return the C++ text that runs jobs on an AXI top.

    Raises
    ------
    ParameterError
        If ``emitted`` has not the ports of one.
    """
    widths = {port["name"]: port["width"] for port in emitted.ports}
    missing = sorted(_AXI_PORTS - widths.keys())
    if missing:
        raise ParameterError("design", emitted.name, f"an AXI top; it has no {', '.join(missing)}")
    return render(
        "native_main.cpp.j2",
        emitted,
        waves=waves,
        clock="aclk",
        in_bytes=widths["s_axis_tdata"] // 8,
        out_bytes=widths["m_axis_tdata"] // 8,
        dma="m_axis_desc_tdata" in widths,
        all_ones=[name for name in ("s_axis_tkeep", "s_axis_tstrb") if name in widths],
    )


def run_native(
    emitted: Emitted,
    job: Job,
    *,
    waves_to: Path | None = None,
    optimize: str = FAST,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Run ``job`` on an AXI top and return the verdict that the Python testbench would give.

    Parameters
    ----------
    emitted : Emitted
        The top.
    job : Job
        What to run.
    waves_to : Path, optional
        Where the signal trace goes, as ``.vcd``; it is built apart, as tracing slows a model down.
    optimize : str
        One of ``toolchain.OPTIMIZE``.
    progress : callable
        Told what is being done.

    Returns
    -------
    dict
        ``steps`` as in ``runner.run``; ``cycles`` simulated, reset and register accesses included; ``seconds``
        that they took, the build not included.

    Raises
    ------
    ParameterError
        If ``emitted`` is no AXI top.
    MissingToolError, SimulationError
        If a tool is missing, or the run comes to no verdict.
    """
    main = native_main(emitted, waves=waves_to is not None)
    program = native_build(emitted, main, waves=waves_to is not None, optimize=optimize, progress=progress)
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
        path, result = Path(scratch, "job.bin"), Path(scratch, "result.bin")
        job.save_binary(path)
        progress(f"running {len(job.steps)} step{'s' if len(job.steps) != 1 else ''}")
        execute(program, path, result, waves_to)
        return _judge_all(job, result.read_bytes())


def _judge_all(job: Job, result: bytes) -> dict[str, Any]:
    """Read what native_main.cpp.j2 wrote."""
    at = 0
    verdicts: list[dict[str, Any]] = []
    for step in job.steps:
        (follows,) = struct.unpack_from("<Q", result, at)
        if not follows:
            break
        _, ended, size = struct.unpack_from("<3Q", result, at)
        at += 24
        received = result[at : at + size] if ended else None
        at += size
        values = struct.unpack_from(f"<{len(step.reads)}Q", result, at)
        at += 8 * len(values)
        # A counter's mismatch does not stop the program, but it is the last step that is told.
        if not verdicts or verdicts[-1]["passed"]:
            registers = dict(zip(step.reads, values, strict=True))
            verdicts.append(judge(step, received, registers, stalled=job.stall > 0))
    _, cycles, seconds = struct.unpack_from("<2Qd", result, at)
    return {"steps": verdicts, "cycles": cycles, "seconds": seconds}
