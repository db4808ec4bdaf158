"""What the commands share: options, output, and finding a design."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from bitfabric.hdl.config import DesignConfig
from bitfabric.hdl.registry import DESIGNS, Entry
from bitfabric.quant.errors import ParameterError

# A table that goes into a file or a pipe is not cut to the 80 columns that are assumed there.
out = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err = Console(stderr=True, soft_wrap=True)

Preset = Annotated[str | None, typer.Option(help="Named parameters: tiny, small, paper ...; see `list`.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a parameter; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
DesignName = Annotated[str, typer.Argument(metavar="DESIGN", help="A design; see `list`.")]
BlockName = Annotated[str, typer.Argument(metavar="DESIGN", help="A design or block; see `list`.")]


def progress(message: str) -> None:
    """Say on stderr what takes a while."""
    err.print(f"{message} ...", style="dim")


def configure(
    found: Entry, preset: str | None, settings: list[str] | None, default: str = "small"
) -> DesignConfig:
    """Return the configuration that the options ask for."""
    return found.config.preset(preset or default, **found.config.parse_settings(settings or []))


def design_entry(name: str) -> Entry:
    """Return a design, not a block."""
    if name not in DESIGNS:
        raise ParameterError("design", name, f"one of {', '.join(DESIGNS)}")
    return DESIGNS[name]


def print_json(data: Any) -> None:
    """Print ``data`` as JSON."""
    print(json.dumps(data, indent=2))


def parse_gemm(text: str) -> tuple[int, int, int]:
    """Return ``M,K,N`` as integers."""
    try:
        m, k, n = (int(part) for part in text.split(","))
    except ValueError as error:
        raise ParameterError("--gemm", text, "M,K,N: three integers joined by commas") from error
    return m, k, n


def check_dimensions(config: Any, text: str) -> tuple[int, int, int]:
    """Return the dimensions that ``text`` names if ``config`` can compute them."""
    dimensions = parse_gemm(text)
    config.check_gemm(*dimensions)
    return dimensions
