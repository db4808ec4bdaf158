"""Read the few things that area reports need from Liberty files, tolerantly."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from bitfabric.quant.errors import BitfabricError

_TOKEN = re.compile(
    r"/\*.*?\*/|//[^\n]*|\\\r?\n|\s+"  # skipped
    r"|(?P<token>\"[^\"]*\"|[{}();:,]|[^\s{}();:,\"\\]+|\\)",
    re.DOTALL,
)


class LibraryError(BitfabricError):
    """Report a cell library that is missing, unreadable or lacks a cell that synthesis needs."""


@dataclass
class Group:
    """Hold one Liberty group: ``name (arguments) { attributes, groups }``."""

    name: str
    arguments: list[str]
    attributes: dict[str, str] = field(default_factory=dict)
    groups: list[Group] = field(default_factory=list)

    def children(self, name: str) -> Iterator[Group]:
        """Yield the direct child groups called ``name``."""
        return (group for group in self.groups if group.name == name)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """Hold one library cell.

    Members
    -------
    name : str
        Its name.
    area : float
        In the library's own unit.
    inputs : tuple of str
        Input pins.
    clocks : tuple of str
        Those of them that clock a flip-flop or open a latch.
    functions : mapping of str to str
        Liberty function of each output pin that has one.
    kind : str
        ``"logic"``, ``"ff"`` or ``"latch"``.
    bits : int
        Storage bits: more than one for a bank of flip-flops.
    """

    name: str
    area: float
    inputs: tuple[str, ...]
    clocks: tuple[str, ...]
    functions: Mapping[str, str]
    kind: str
    bits: int


def parse_liberty(text: str) -> Group:
    """Return the ``library`` group of ``text``.

    Raises
    ------
    LibraryError
        If the text is not Liberty: no library group, or groups that are not closed.
    """
    tokens: list[str] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise LibraryError(f"not Liberty: cannot read {text[position : position + 20]!r}")
        if match["token"]:
            tokens.append(match["token"])
        position = match.end()
    root = Group("", [])
    end = _parse_body(tokens, 0, root)
    libraries = list(root.children("library"))
    if end < len(tokens) or not libraries:
        raise LibraryError("not Liberty: it has no complete library (...) {...} group")
    return libraries[0]


def _parse_body(tokens: list[str], index: int, root: Group) -> int:
    """Fill ``root`` from ``tokens[index:]``; return the index after the last token taken."""
    stack = [root]
    while index < len(tokens):
        token = tokens[index]
        following = tokens[index + 1] if index + 1 < len(tokens) else ""
        if token == "}":
            stack.pop()
            index += 1
            if not stack:
                raise LibraryError("not Liberty: a closing brace too many")
        elif token == ";":
            index += 1
        elif following == ":":
            index, value = _until_end(tokens, index + 2)
            stack[-1].attributes[token] = value
        elif following == "(":
            try:
                close = tokens.index(")", index)
            except ValueError:
                raise LibraryError(f"not Liberty: the parenthesis after {token!r} is not closed") from None
            arguments = [t.strip('"') for t in tokens[index + 2 : close] if t != ","]
            index = close + 1
            if index < len(tokens) and tokens[index] == "{":
                group = Group(token, arguments)
                stack[-1].groups.append(group)
                stack.append(group)
                index += 1
            else:
                stack[-1].attributes[token] = ", ".join(arguments)
        else:
            raise LibraryError(f"not Liberty: {token!r} is neither an attribute nor a group")
    if len(stack) != 1:
        raise LibraryError(f"not Liberty: the group {stack[-1].name!r} is not closed (a file cut short?)")
    return index


def _until_end(tokens: list[str], index: int) -> tuple[int, str]:
    start = index
    # A value ends at its semicolon; some vendors leave out the last one before a brace.
    while index < len(tokens) and tokens[index] not in ";}":
        if tokens[index] == ":":
            return index - 1, " ".join(tokens[start : index - 1])
        index += 1
    return index, " ".join(tokens[start:index]).strip('"')


def read_cells(library: Group) -> dict[str, Cell]:
    """Return the cells of a library group that have an area, by name.

    Raises
    ------
    LibraryError
        If an area is not a number.
    """
    cells: dict[str, Cell] = {}
    for group in library.children("cell"):
        name = group.arguments[0] if group.arguments else ""
        try:
            area = float(group.attributes.get("area", "nan"))
        except ValueError as error:
            raise LibraryError(f"cell {name}: area {group.attributes['area']!r} is not a number") from error
        if math.isnan(area) or not name:
            continue
        inputs, functions = [], {}
        for pin in group.children("pin"):
            for pin_name in pin.arguments:
                if pin.attributes.get("direction") == "input":
                    inputs.append(pin_name)
                elif "function" in pin.attributes:
                    functions[pin_name] = pin.attributes["function"]
        kind, bits, clocked = "logic", 0, ""
        for storage in group.groups:
            if storage.name in ("ff", "ff_bank", "latch", "latch_bank", "statetable"):
                kind = "latch" if storage.name.startswith("latch") else "ff"
                bits += int(storage.arguments[2]) if storage.name.endswith("_bank") else 1
                for attribute in ("clocked_on", "clocked_on_also", "enable"):
                    clocked += " " + storage.attributes.get(attribute, "")
        cells[name] = Cell(
            name=name,
            area=area,
            inputs=tuple(inputs),
            clocks=tuple(pin for pin in inputs if pin in re.findall(r"\w+", clocked)),
            functions=functions,
            kind=kind,
            bits=bits,
        )
    return cells
