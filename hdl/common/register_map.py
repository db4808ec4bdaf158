"""One declaration of a block's registers, from which hardware, documentation and driver are made."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bitfabric.quant.errors import ParameterError, check_choice, check_range

ACCESSES = ("rw", "ro", "pulse", "w1c")
REGISTER_BITS = 32
_MEANING = {
    "rw": "read, write",
    "ro": "read only",
    "pulse": "writing 1 gives a strobe of one cycle; reads 0",
    "w1c": "set by hardware, cleared by writing 1",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def _check_name(what: str, name: object) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ParameterError(what, name, "lower_case letters and digits joined by single underscores")


@dataclass(frozen=True)
class Field:
    """Declare adjacent bits of a register.

    Parameters
    ----------
    name : str
        Lower-case name.
    width : int
        Bits, 1 to 32.
    access : str
        ``rw``; ``ro``, driven by hardware; ``pulse``, writing 1 gives a strobe of one cycle and reading gives 0;
        ``w1c``, set bit by bit by a hardware strobe and cleared by writing 1 (a strobe in the same cycle wins).
    doc : str
        Meaning. It does not change the hardware, so equal blocks may differ in it.
    reset : int
        Value after reset of an ``rw`` field; 0 in others.
    lsb : int
        Lowest bit; by default the one above the field before.

    Raises
    ------
    ParameterError
        If one of these is not allowed.
    """

    name: str
    width: int
    access: str
    doc: str = field(repr=False)
    reset: int = 0
    lsb: int | None = None

    def __post_init__(self) -> None:
        _check_name("field", self.name)
        check_range("width", self.width, 1, REGISTER_BITS)
        check_choice("access", self.access, ACCESSES)
        check_range("reset", self.reset, 0, (1 << self.width) - 1 if self.access == "rw" else 0)
        if self.lsb is not None:
            check_range("lsb", self.lsb, 0, REGISTER_BITS - self.width)


@dataclass(frozen=True)
class Register:
    """Declare a 32-bit register; its fields are packed from bit 0 upwards in their order.

    Parameters
    ----------
    name, doc : str
        Lower-case name and meaning.
    fields : sequence of Field
        Its fields.
    offset : int
        Byte offset, a multiple of 4; by default the one after the register before.

    Raises
    ------
    ParameterError
        If fields overlap, share a name or do not fit.
    """

    name: str
    doc: str = field(repr=False)
    fields: Sequence[Field]
    offset: int | None = None

    def __post_init__(self) -> None:
        _check_name("register", self.name)
        object.__setattr__(self, "fields", tuple(self.fields))
        check_range(f"{self.name}: number of fields", len(self.fields), 1)
        if self.offset is not None:
            check_range("offset", self.offset, 0)
            if self.offset % 4:
                raise ParameterError("offset", self.offset, "a multiple of 4")
        taken: dict[int, str] = {}
        names: set[str] = set()
        for item, lsb in self.placed():
            if item.name in names:
                raise ParameterError("field", item.name, f"a name used once in {self.name}")
            names.add(item.name)
            if lsb + item.width > REGISTER_BITS:
                raise ParameterError(
                    f"{self.name}.{item.name}: highest bit", lsb + item.width - 1, "at most bit 31"
                )
            for bit in range(lsb, lsb + item.width):
                if bit in taken:
                    raise ParameterError(
                        f"{self.name}.{item.name}: lsb", lsb, f"outside the bits of {taken[bit]}"
                    )
                taken[bit] = item.name

    @classmethod
    def value(
        cls,
        name: str,
        access: str,
        doc: str,
        *,
        width: int = REGISTER_BITS,
        reset: int = 0,
        offset: int | None = None,
    ) -> Register:
        """Return a register whose only field is called ``value``, so that its port has the register's name."""
        return cls(name, doc, [Field("value", width, access, doc, reset)], offset)

    def placed(self) -> Iterator[tuple[Field, int]]:
        """Yield every field with its lowest bit."""
        free = 0
        for item in self.fields:
            lsb = free if item.lsb is None else item.lsb
            yield item, lsb
            free = lsb + item.width

    def port(self, item: Field) -> str:
        """Return the name of the port of ``item``, one of the fields."""
        return self.name if [item.name] == ["value"] * len(self.fields) else f"{self.name}_{item.name}"


@dataclass(frozen=True)
class RegisterMap:
    """Declare the registers of a block.

    Parameters
    ----------
    name : str
        Lower-case name of the map.
    registers : sequence of Register
        The registers; those without an offset follow the one before, the first at 0.

    Raises
    ------
    ParameterError
        If two registers share an offset or a name, or two fields would share a port.
    """

    name: str
    registers: Sequence[Register]

    def __post_init__(self) -> None:
        _check_name("register map", self.name)
        object.__setattr__(self, "registers", tuple(self.registers))
        check_range(f"{self.name}: number of registers", len(self.registers), 1)
        offsets: dict[int, str] = {}
        names: set[str] = set()
        ports: dict[str, str] = {}
        for register, offset in self.placed():
            if register.name in names:
                raise ParameterError("register", register.name, f"a name used once in {self.name}")
            names.add(register.name)
            if offset in offsets:
                raise ParameterError(
                    f"{register.name}: offset", offset, f"another one than that of {offsets[offset]}"
                )
            offsets[offset] = register.name
            for item in register.fields:
                where = f"{register.name}.{item.name}"
                used = [register.port(item)]
                if item.access == "w1c":
                    used.append(f"{used[0]}_state")
                for port in used:
                    if port in ports:
                        raise ParameterError(
                            f"{where}: port", port, f"another one than that of {ports[port]}"
                        )
                    ports[port] = where

    def placed(self) -> Iterator[tuple[Register, int]]:
        """Yield every register with its byte offset."""
        free = 0
        for register in self.registers:
            offset = free if register.offset is None else register.offset
            yield register, offset
            free = offset + 4

    @property
    def size(self) -> int:
        """Return the bytes from offset 0 to the end of the highest register."""
        return max(offset for _, offset in self.placed()) + 4

    def offset(self, register: str) -> int:
        """Return the byte offset of a register.

        Raises
        ------
        ParameterError
            If there is none of that name.
        """
        offsets = {item.name: offset for item, offset in self.placed()}
        return offsets[check_choice("register", register, tuple(offsets))]

    def to_dict(self) -> dict[str, Any]:
        """Return the map as plain data."""
        return {
            "name": self.name,
            "registers": [
                {
                    "name": register.name,
                    "offset": offset,
                    "doc": register.doc,
                    "fields": [
                        {
                            "name": item.name,
                            "lsb": lsb,
                            "width": item.width,
                            "access": item.access,
                            "reset": item.reset,
                            "doc": item.doc,
                        }
                        for item, lsb in register.placed()
                    ],
                }
                for register, offset in self.placed()
            ],
        }

    def constants(self) -> dict[str, int]:
        """Return the driver's constants.

        They are ``<REGISTER>_OFFSET`` in bytes and, for each field, ``<REGISTER>_<FIELD>_SHIFT`` and
        ``<REGISTER>_<FIELD>_MASK`` (the mask in place); for a field ``value``, ``<REGISTER>_SHIFT`` and so on.
        """
        result: dict[str, int] = {}
        for register, offset in self.placed():
            result[f"{register.name.upper()}_OFFSET"] = offset
            for item, lsb in register.placed():
                stem = register.port(item).upper()
                result[f"{stem}_SHIFT"] = lsb
                result[f"{stem}_MASK"] = ((1 << item.width) - 1) << lsb
        return result

    def markdown(self) -> str:
        """Return the table that documents the registers."""
        lines = [
            "| offset | register | bits | field | access | reset | meaning |",
            "|---|---|---|---|---|---|---|",
        ]
        for register, offset in self.placed():
            lines.append(f"| 0x{offset:03x} | `{register.name}` | | | | | {register.doc} |")
            for item, lsb in register.placed():
                reset = f"{item.reset:#x}" if item.access == "rw" else ""
                bits = str(lsb) if item.width == 1 else f"{lsb + item.width - 1}:{lsb}"
                lines.append(f"| | | {bits} | `{item.name}` | {item.access} | {reset} | {item.doc} |")
        used = {item.access for register in self.registers for item in register.fields}
        legend = [f"{access}: {_MEANING[access]}." for access in ACCESSES if access in used]
        return "\n".join([*lines, "", " ".join(legend)]) + "\n"
