"""Rewrite yosys' structural Verilog into the subset that OpenSTA reads."""

from __future__ import annotations

import re

_SIGNED = re.compile(r"^(  (?:input|output|inout|wire)) signed\b", re.MULTILINE)
_CONCATENATION = re.compile(r"^  assign \{(.*?)\} = (.*?);$", re.MULTILINE)
_ITEM = re.compile(r"\\\S+ |(\d+)'b([01xz]+)|[A-Za-z_][\w$]*")


def for_opensta(verilog: str) -> str:
    """Return ``verilog`` without ``signed`` and with one assignment per bit; ports and nets are split already."""
    return _CONCATENATION.sub(_one_per_bit, _SIGNED.sub(r"\1", verilog))


def _one_per_bit(match: re.Match[str]) -> str:
    left, right = _bits(match[1]), _bits(match[2])
    assert len(left) == len(right), match[0]
    return "\n".join(f"  assign {a} = {b};" for a, b in zip(left, right, strict=True))


def _bits(text: str) -> list[str]:
    bits: list[str] = []
    for item in _ITEM.finditer(text):
        if item[2]:
            bits += [f"1'b{bit}" for bit in item[2].rjust(int(item[1]), "0")]
        else:
            bits.append(item[0])
    return bits
