"""Connect ports that are called alike."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def copies(target: Any, source: Any, names: Iterable[str], into: str = "", of: str = "") -> list[Any]:
    """Return the assignments of ``source``'s ports to ``target``'s.

    Parameters
    ----------
    target, source : Block
        Port ``into + name`` of the first takes port ``of + name`` of the second.
    names : iterable of str
        Their names behind the prefixes.
    into, of : str
        The prefixes.
    """
    return [getattr(target, into + name).eq(getattr(source, of + name)) for name in names]
