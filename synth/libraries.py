"""Choose the cell library that a design is mapped to: ours, Debian's OSU 0.18 um, or any Liberty file."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

from bitfabric.synth.functions import computes
from bitfabric.synth.liberty import Cell, LibraryError, parse_liberty, read_cells

BUILTIN = Path(__file__).resolve().parent / "libs" / "builtin.lib"
OSU018 = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")


@dataclass(frozen=True, kw_only=True)
class Library:
    """Hold what synthesis and its reports need to know of one Liberty file.

    Members
    -------
    name : str
        ``builtin``, ``osu018`` or the file's own library name.
    path : Path
        The Liberty file.
    cells : dict of str to Cell
        Its cells that have an area.
    nand2 : Cell
        Its smallest two-input NAND: the unit of ``nand2_equivalents``.
    nominal_delays : bool
        True where the delays are scaled from theory and not characterised: compare them, do not quote them.
    """

    name: str
    path: Path
    cells: dict[str, Cell]
    nand2: Cell
    nominal_delays: bool = False

    @property
    def flip_flops(self) -> list[str]:
        """Return the names of its flip-flops."""
        return [cell.name for cell in self.cells.values() if cell.kind == "ff"]

    @property
    def latches(self) -> list[str]:
        """Return the names of its latches."""
        return [cell.name for cell in self.cells.values() if cell.kind == "latch"]


def library(spec: str | Path = "builtin") -> Library:
    """Return the library ``spec`` names.

    Parameters
    ----------
    spec : str or Path
        ``"builtin"`` (NAND2-relative areas, needs nothing installed), ``"osu018"`` (Debian's package
        qflow-tech-osu018) or the path of a Liberty file.

    Raises
    ------
    LibraryError
        If the file is missing, unreadable, not Liberty, or has no NAND2, inverter or flip-flop.
    """
    if spec == "builtin":
        path = BUILTIN
    elif spec == "osu018":
        path = OSU018
        if not path.is_file():
            raise LibraryError(
                f"the library osu018 needs Debian's package qflow-tech-osu018: {path} is missing"
            )
    else:
        path = Path(spec)
        if not path.is_file():
            raise LibraryError(
                f"library {str(spec)!r} is neither builtin, nor osu018, nor a file that exists"
            )
    return _load(path.resolve(), str(spec) if spec in ("builtin", "osu018") else "")


@functools.lru_cache(maxsize=8)
def _load(path: Path, name: str) -> Library:
    try:
        group = parse_liberty(path.read_text(encoding="utf-8", errors="strict"))
        cells = read_cells(group)
    except (OSError, UnicodeDecodeError) as error:
        raise LibraryError(f"cannot read the library {path}: {error}") from error
    except LibraryError as error:
        raise LibraryError(f"library {path}: {error}") from error
    if not any(cell.kind == "ff" for cell in cells.values()):
        raise LibraryError(f"library {path}: it has no flip-flop")
    logic = [
        cell for cell in cells.values() if cell.kind == "logic" and len(cell.functions) == 1 and cell.area > 0
    ]

    def smallest(what: str, pins: int) -> Cell:
        found = [
            cell
            for cell in logic
            if len(cell.inputs) == pins
            and all(computes(f, cell.inputs, lambda values: not all(values)) for f in cell.functions.values())
        ]
        if not found:
            raise LibraryError(f"library {path}: it has no {what} with an area (cells are found by function)")
        return min(found, key=lambda cell: cell.area)

    smallest("inverter", 1)
    return Library(
        name=name or (group.arguments[0] if group.arguments else path.stem),
        path=path,
        cells=cells,
        nand2=smallest("two-input NAND", 2),
        nominal_delays=name == "builtin",
    )
