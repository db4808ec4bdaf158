"""The one way to build emitted Verilog for a simulator and to run a testbench on it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cocotb_tools import runner as cocotb_runner

from bitfabric.hdl.emit import Emitted
from bitfabric.quant.errors import ParameterError, check_choice
from bitfabric.sim.builds import SimulationError, build_directory, fresh_build
from bitfabric.sim.toolchain import (
    FAST,
    OPTIMIZE,
    SIMULATORS,
    make_environment,
    require_icarus,
    require_verilator,
)

Progress = Callable[[str], None]


def quiet(message: str) -> None:
    """Swallow progress messages."""


WAVES_SUFFIX = {"icarus": ".fst", "verilator": ".vcd"}


def check_waves(path: Path, simulator: str) -> None:
    """Refuse a file for signal traces that cannot be written or whose name belies its format.

    Raises
    ------
    ParameterError
        If the suffix is not the format's, or the path is a directory.
    SimulationError
        If the folder cannot be written.
    """
    suffix = WAVES_SUFFIX[simulator]
    if path.suffix != suffix or path.is_dir():
        raise ParameterError("waves", str(path), f"the name of a file that ends in {suffix} with {simulator}")
    if not os.access(path.absolute().parent, os.W_OK):
        raise SimulationError(f"{path} cannot be written: no such folder, or no permission")


@dataclass(frozen=True, kw_only=True)
class Build:
    """Name a compiled model.

    Members
    -------
    simulator, top : str
        What it was built for, and its top module.
    directory : Path
        Holds it; named by a hash of the Verilog and everything else that it depends on.
    waves : bool
        Signal traces are recorded.
    """

    simulator: str
    top: str
    directory: Path
    waves: bool


def ports_control_file(emitted: Emitted) -> str:
    """Return the Verilator control file that makes the top's ports, and nothing else, visible to cocotb.

    With everything public, as cocotb's runner asks for, Verilator optimizes across nothing: a 16x16 array runs at
    a quarter of the speed and compiles in more than twice the time.
    """
    lines = ["`verilator_config"]
    for port in emitted.ports:
        lines.append(f'public_flat_rw -module "{emitted.name}" -var "{port["name"]}"')
    return "\n".join(lines) + "\n"


class _PortsOnlyVerilator(cocotb_runner.Verilator):
    """Run the Verilator that was found, with the control file in place of ``--public-flat-rw``."""

    optimize = FAST

    def _simulator_in_path_build_only(self) -> None:
        found = require_verilator()
        self.executable = found.executable
        self.env.update({**found.environment, **make_environment(self.optimize)})

    def _build_command(self) -> list[Any]:
        return [
            [part for part in command if part != "--public-flat-rw"] for command in super()._build_command()
        ]


def _runner(simulator: str) -> Any:
    if simulator == "verilator":
        require_verilator()
        return _PortsOnlyVerilator()
    require_icarus()
    return cocotb_runner.get_runner("icarus")


def build(
    emitted: Emitted,
    simulator: str,
    *,
    waves: bool = False,
    optimize: str = FAST,
    progress: Progress = quiet,
) -> Build:
    """Compile ``emitted`` for a simulator, or find it compiled.

    ``optimize``, one of ``toolchain.OPTIMIZE``, is for Verilator's C++.

    Raises
    ------
    ParameterError
        If an argument is not allowed.
    MissingToolError
        If the simulator is not installed.
    SimulationError
        If it does not compile.
    """
    check_choice("simulator", simulator, SIMULATORS)
    check_choice("optimize", optimize, OPTIMIZE)
    runner = _runner(simulator)
    parts = [emitted.verilog, emitted.name, str(waves)]
    control = ""
    if simulator == "verilator":
        runner.optimize = optimize
        control = ports_control_file(emitted)
        parts += [control, require_verilator().version, optimize]
    directory = build_directory(simulator, *parts)
    log = directory / "build.log"
    with fresh_build(directory, log) as needed:
        if needed:
            progress(f"building {emitted.name} for {simulator}")
            source = directory / f"{emitted.name}.v"
            source.write_text(emitted.verilog)
            sources = [source]
            arguments: list[str] = []
            if simulator == "verilator":
                sources.append(directory / "ports.vlt")
                sources[-1].write_text(control)
                # Warnings are the lint test's business; here they would stop the build.
                arguments = ["-Wno-fatal", "-Wno-lint", "-O3", "--x-assign", "fast", "--no-timing"]
            runner.build(
                sources=sources,
                hdl_toplevel=emitted.name,
                build_dir=directory,
                build_args=arguments,
                timescale=("1ns", "1ps"),
                waves=waves,
                log_file=log,
            )
    return Build(simulator=simulator, top=emitted.name, directory=directory, waves=waves)


def run(
    built: Build,
    testbench: str,
    environment: dict[str, str],
    *,
    waves_to: Path | None = None,
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Run the cocotb module ``testbench`` and return the verdict that it writes.

    Parameters
    ----------
    built : Build
        What to run it on.
    testbench : str
        A module that writes JSON to the file named by ``BITFABRIC_VERDICT``.
    environment : dict
        Further variables for it.
    waves_to : Path, optional
        Where the signal trace goes.
    progress : callable
        Told the cycles run so far, every few seconds, if the testbench writes them to ``BITFABRIC_PROGRESS``.

    Raises
    ------
    SimulationError
        If the run ends without a verdict.
    """
    runner = _runner(built.simulator)
    with tempfile.TemporaryDirectory(prefix="bitfabric-") as scratch:
        verdict, log, cycles = (Path(scratch, name) for name in ("verdict.json", "run.log", "cycles"))
        error: BaseException | None = None
        try:
            with _watching(cycles, progress):
                # `test` reads what `build` remembers; the model itself was built before, perhaps by another process.
                runner.waves = built.waves
                runner.test(
                    test_module=testbench,
                    hdl_toplevel=built.top,
                    hdl_toplevel_lang="verilog",
                    build_dir=built.directory,
                    test_dir=scratch,
                    results_xml=str(Path(scratch, "results.xml")),
                    extra_env={
                        **environment,
                        "BITFABRIC_VERDICT": str(verdict),
                        "BITFABRIC_PROGRESS": str(cycles),
                        "COCOTB_LOG_LEVEL": "WARNING",
                    },
                    waves=built.waves,
                    timescale=("1ns", "1ps"),
                    log_file=log,
                )
        except (RuntimeError, SystemExit, OSError) as caught:
            error = caught
        if not verdict.exists():
            tail = "\n".join(log.read_text(errors="replace").splitlines()[-25:]) if log.exists() else ""
            raise SimulationError(f"the {built.simulator} run gave no verdict ({error}):\n{tail}")
        if waves_to is not None:
            _keep_waves(Path(scratch), built, waves_to)
        result: dict[str, Any] = json.loads(verdict.read_text())
        return result


@contextlib.contextmanager
def _watching(cycles: Path, progress: Progress, seconds: float = 5.0) -> Iterator[None]:
    """Pass on what a testbench says of its progress while it runs."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(seconds):
            if cycles.exists() and (text := cycles.read_text()):
                progress(f"{text} cycles run")

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep_waves(scratch: Path, built: Build, target: Path) -> None:
    for folder in (scratch, built.directory):
        for pattern in ("*.fst", "dump.vcd", "*.vcd"):
            for trace in sorted(folder.glob(pattern)):
                shutil.copyfile(trace, target)
                return
    raise SimulationError("the simulator left no signal trace")
