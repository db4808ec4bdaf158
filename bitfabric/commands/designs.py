"""``list`` and ``verilog``: what there is, and its RTL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bitfabric.commands.options import BlockName, Json, Preset, Settings, configure, out, print_json, progress
from bitfabric.hdl.package import write_design
from bitfabric.hdl.registry import BLOCKS, DESIGNS, Entry, entry
from bitfabric.quant import FORMATS, SCHEMES


def list_command(as_json: Json = False) -> None:
    """List designs and blocks with their presets, and quantization schemes and formats."""

    def plain(entries: dict[str, Entry]) -> dict[str, Any]:
        return {
            name: {"summary": found.summary, "presets": list(found.config.PRESETS)}
            for name, found in entries.items()
        }

    if as_json:
        print_json(
            {"designs": plain(DESIGNS), "blocks": plain(BLOCKS), "schemes": SCHEMES, "formats": FORMATS}
        )
        return
    for title, entries in (("designs", DESIGNS), ("blocks", BLOCKS)):
        table = Table(title=title, title_justify="left", box=None)
        for column in ("name", "presets", "what it is"):
            table.add_column(column, no_wrap=column == "name")
        for found in entries.values():
            table.add_row(found.name, " ".join(found.config.PRESETS), found.summary)
        out.print(table)
    for title, texts in (("schemes", SCHEMES), ("formats", FORMATS)):
        table = Table(title=title, title_justify="left", box=None, show_header=False)
        for name, text in texts.items():
            table.add_row(name, text)
        out.print(table)


def verilog_command(
    design: BlockName,
    directory: Annotated[Path, typer.Option("-o", "--output", help="Directory to write into.")] = Path(
        "build/verilog"
    ),
    preset: Preset = None,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Write DESIGN's Verilog and the JSON that describes it."""
    found = entry(design)
    config = configure(found, preset, settings)
    progress(f"emitting {design}")
    files = write_design(found, config, directory)
    if as_json:
        print_json({"design": design, "config": config.to_dict(), "files": [str(file) for file in files]})
        return
    for file in files:
        out.print(f"{file}  {file.stat().st_size} bytes", highlight=False)
