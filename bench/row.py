"""One row of the table, and medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Progress = Callable[[str], None]
Group = Callable[[bool, Progress], Iterator["Row"]]


@dataclass(frozen=True, kw_only=True)
class Row:
    """Hold one figure.

    Members
    -------
    what, target, reached : str
        Cells of the table; a row without a target stands beside the others for comparison.
    workload : str
        What was run, and the command that runs it by itself if there is one.
    met : bool, optional
        Whether the target was reached.
    figures : dict
        The numbers behind ``reached``, for ``--json``.
    """

    what: str
    target: str = ""
    reached: str
    workload: str
    met: bool | None = None
    figures: dict[str, Any] = field(default_factory=dict)


def _seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def medians(repeats: int, *actions: Callable[[], Any]) -> list[float]:
    """Return the median seconds of each action, run in turn, so that what else the machine does hits all alike."""
    taken = [[_seconds(action) for action in actions] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*taken, strict=True)]
