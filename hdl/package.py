"""Write what a user takes away: the Verilog and, beside it, the JSON that describes it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import bitfabric
from bitfabric.hdl.block import Block
from bitfabric.hdl.config import DesignConfig
from bitfabric.hdl.emit import Emitted, emit
from bitfabric.hdl.registry import Entry
from bitfabric.quant.errors import BitfabricError


def describe(entry: Entry, config: DesignConfig, block: Block, emitted: Emitted) -> dict[str, Any]:
    """Return what ``<design>.json`` holds.

    It has the name, the configuration with every field's meaning and what follows from it, the ports, the registers of a design with
    a bus, the latencies, the module and class that each Verilog module was made from, and the tools' versions.
    """
    fields = {
        field.name: {
            "value": getattr(config, field.name),
            **{key: field.metadata[key] for key in ("unit", "tag", "doc")},
        }
        for field in dataclasses.fields(config)
    }
    registers = getattr(block, "register_map", None)
    latency = getattr(block, "latency", None)
    return {
        "name": entry.name,
        "summary": entry.summary,
        "config": config.to_dict(),
        "parameters": fields,
        "derived": config.derived(),
        "ports": emitted.ports,
        "latency": latency() if callable(latency) else {"pipeline": getattr(block, "LATENCY", None)},
        "registers": registers.to_dict() if registers is not None else None,
        "modules": [dataclasses.asdict(module) for module in emitted.modules],
        "tools": {
            "bitfabric": bitfabric.__version__,
            **{name: metadata.version(name) for name in ("amaranth", "pyosys")},
        },
    }


def write_design(entry: Entry, config: DesignConfig, directory: Path) -> list[Path]:
    """Emit a design or block into ``directory`` and return the two files, both written or neither.

    Raises
    ------
    BitfabricError
        If the directory cannot be written.
    """
    require_writable(directory)
    block = entry.make(config)
    emitted = emit(block, entry.name)
    text = json.dumps(describe(entry, config, block, emitted), indent=2, sort_keys=True) + "\n"
    return write_together(
        {directory / f"{entry.name}.v": emitted.verilog, directory / f"{entry.name}.json": text}
    )


def require_writable(directory: Path) -> None:
    """Make ``directory``, or refuse before any work is done.

    Raises
    ------
    BitfabricError
        If it is not a directory that can be written.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise BitfabricError(f"{directory} cannot be written: {error.strerror}") from error


def write_together(texts: dict[Path, str]) -> list[Path]:
    """Write files beside their targets first and move them into place when all are complete.

    Raises
    ------
    BitfabricError
        If one cannot be written; none is then left half written.
    """
    waiting: list[tuple[str, Path]] = []
    for path in texts:
        if path.is_dir():
            raise BitfabricError(f"{path} cannot be written: Is a directory")
    try:
        for path, text in texts.items():
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            waiting.append((name, path))
            with os.fdopen(handle, "w") as file:
                file.write(text)
            os.chmod(name, 0o644)
        for name, path in waiting:
            os.replace(name, path)
    except OSError as error:
        raise BitfabricError(f"{', '.join(map(str, texts))} cannot be written: {error.strerror}") from error
    finally:
        for name, _ in waiting:
            with contextlib.suppress(OSError):
                os.unlink(name)
    return list(texts)
