"""The command line: `bitfabric COMMAND`."""

from __future__ import annotations

import sys
from typing import Annotated, NoReturn

import typer

import bitfabric
from bitfabric.commands.costs import area_command, formal_command
from bitfabric.commands.designs import list_command, verilog_command
from bitfabric.commands.options import err
from bitfabric.commands.runs import cycles_command, simulate_command
from bitfabric.quant.errors import BitfabricError

app = typer.Typer(
    help="Synthesizable RTL for neural-network accelerators whose precision changes at run time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("list")(list_command)
app.command("verilog")(verilog_command)
app.command("simulate")(simulate_command)
app.command("cycles")(cycles_command)
app.command("area")(area_command)
app.command("formal")(formal_command)


def version(asked: bool) -> None:
    """Print the version and stop."""
    if asked:
        print(bitfabric.__version__)
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool, typer.Option("--version", callback=version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Hold the options that stand before a command."""


def fail(message: str) -> NoReturn:
    """Print one line and leave with 1."""
    err.print(f"error: {message}", style="red", markup=False, highlight=False)
    sys.exit(1)


def main() -> None:
    """Run the command line; what the user can mend is one line on stderr."""
    try:
        app()
    except BitfabricError as error:
        fail(str(error))
    except KeyboardInterrupt:
        fail("interrupted")


if __name__ == "__main__":
    main()
