"""Run yosys scripts in a process of their own, because a yosys error ends the process it happens in."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bitfabric.quant.errors import BitfabricError

_DRIVER = """
import sys
from pyosys import libyosys as ys
design = ys.Design()
for line in sys.stdin.read().splitlines():
    if line.strip():
        ys.run_pass(line, design)
print("bitfabric: script finished")
"""


class YosysError(BitfabricError):
    """Report a yosys run that failed or left an output unwritten."""


def run_yosys(script: Sequence[str], *, outputs: Sequence[Path] = (), timeout: float | None = None) -> str:
    """Run ``script``, one command per item, and return the log.

    Parameters
    ----------
    script : sequence of str
        Yosys commands.
    outputs : sequence of Path
        Files that the script must have written anew; the exit code alone is not trusted.
    timeout : float
        Seconds after which the run is given up.

    Raises
    ------
    YosysError
        If yosys fails, dies, or leaves one of ``outputs`` missing or empty.
    """
    for path in outputs:
        path.unlink(missing_ok=True)
    try:
        # Yosys and abc leave files behind, a cache that grows with every run among them.
        with tempfile.TemporaryDirectory(prefix="bitfabric-yosys-") as scratch:
            result = subprocess.run(
                [sys.executable, "-c", _DRIVER],
                input="\n".join(script),
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
                env={**os.environ, "TMPDIR": scratch},
            )
    except subprocess.TimeoutExpired as error:
        raise YosysError(f"yosys did not finish within {timeout} s") from error
    log = result.stdout
    if result.returncode != 0 or "bitfabric: script finished" not in log:
        tail = [line for line in (result.stderr + log).splitlines() if "ERROR" in line] or log.splitlines()[
            -3:
        ]
        raise YosysError(f"yosys failed (exit code {result.returncode}): {' '.join(tail)}")
    for path in outputs:
        if not path.is_file() or path.stat().st_size == 0:
            raise YosysError(f"yosys finished but did not write {path}")
    return log
