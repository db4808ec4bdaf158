"""Write the reference pages that follow from declarations: parameters and registers of every design."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from bitfabric.hdl.config import DesignConfig
from bitfabric.hdl.registry import BLOCKS, DESIGNS, Entry


def _allowed(field: dataclasses.Field[object]) -> str:
    choices, low, high = (field.metadata[key] for key in ("choices", "low", "high"))
    if choices is not None:
        return ", ".join(str(choice) for choice in choices)
    if isinstance(field.default, bool):
        return "true, false"
    return f"{low} to {high}"


def parameters_page(config: type[DesignConfig]) -> str:
    """Return the table of a configuration's fields, with their value in each preset."""
    fields = dataclasses.fields(config)
    if not fields:
        return "No parameters.\n"
    presets = {name: config.preset(name).to_dict() for name in config.PRESETS}
    lines = [
        f"| parameter | {' | '.join(presets)} | allowed | unit | origin | meaning |",
        "|---" * (len(presets) + 5) + "|",
    ]
    for field in fields:
        values = " | ".join(str(preset[field.name]) for preset in presets.values())
        unit, tag, doc = (field.metadata[key] for key in ("unit", "tag", "doc"))
        lines.append(f"| `{field.name}` | {values} | {_allowed(field)} | {unit} | {tag} | {doc} |")
    return "\n".join(lines) + "\n"


def design_page(entry: Entry) -> str:
    """Return the reference page of a design or block."""
    block = entry.make(entry.config.preset("small"))
    block._MustUse__used = True  # read, not elaborated
    text = f"# `{entry.name}`\n\n{entry.summary[0].upper()}{entry.summary[1:]}.\n\n## Parameters\n\n"
    text += parameters_page(entry.config)
    registers = getattr(block, "register_map", None)
    if registers is not None:
        text += f"\n## Registers\n\n{registers.markdown()}"
    return text


def reference_pages() -> dict[str, str]:
    """Return every page by its file name."""
    pages = {f"{entry.name}.md": design_page(entry) for entry in (*DESIGNS.values(), *BLOCKS.values())}
    index = ["# Reference\n", "Made by `make docs` from the declarations in `hdl/`; a test compares.\n"]
    index += [
        f"- [`{entry.name}`]({entry.name}.md): {entry.summary}"
        for entry in (*DESIGNS.values(), *BLOCKS.values())
    ]
    return {**pages, "README.md": "\n".join(index) + "\n"}


def write_reference(directory: Path) -> None:
    """Write the pages into ``directory``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in reference_pages().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    write_reference(Path("docs", "reference"))
