"""Where builds are kept: one directory per hash of everything that a build depends on, made by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bitfabric.quant.errors import BitfabricError


class SimulationError(BitfabricError):
    """Report a build or a run that did not come to a verdict."""


def build_root() -> Path:
    """Return where builds are kept: ``$BITFABRIC_BUILD`` or ``build/sim`` in the working directory."""
    return Path(os.environ.get("BITFABRIC_BUILD", Path("build", "sim"))).absolute()


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Let one process at a time build in ``directory``."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        lock = directory.with_suffix(".lock").open("w")
    except OSError as error:
        raise SimulationError(
            f"{directory.parent} cannot be written: {error.strerror}; BITFABRIC_BUILD names another place for builds"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_directory(kind: str, *parts: str) -> Path:
    """Return the directory of a build that depends on ``parts``."""
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
    return build_root() / f"{kind}-{digest}"


@contextlib.contextmanager
def fresh_build(directory: Path, log: Path) -> Iterator[bool]:
    """Enter a build directory; yield False if it holds a finished build, else True for it to be made.

    A build that fails leaves nothing behind that looks finished.

    Raises
    ------
    SimulationError
        If the build fails, with the end of its log.
    """
    done = directory / "finished"
    with locked(directory):
        if done.exists():
            yield False
            return
        shutil.rmtree(directory, ignore_errors=True)
        try:
            directory.mkdir(parents=True)
        except OSError as error:
            raise SimulationError(f"{directory} cannot be written: {error.strerror}") from error
        try:
            yield True
        except (RuntimeError, SystemExit, OSError) as error:
            tail = (
                "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else str(error)
            )
            raise SimulationError(f"the build in {directory} failed:\n{tail}") from error
        done.touch()
