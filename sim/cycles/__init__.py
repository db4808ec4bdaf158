"""Cycle models: one module per design, each equal to its RTL to the cycle."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Cycles:
    """Hold what a GEMM costs.

    Members
    -------
    array_cycles : int
        Weight load and compute at the array's boundary; what buffers add is not in it.
    total : int
        From the start to the last beat out, when the streams do not stall.
    utilization : float
        Products per multiplier and array cycle.
    machine_utilization : float
        Products per multiplier and cycle of the total: what buffers and buses cost is in it.
    breakdown : dict
        ``load + compute + stalled + drain == total``; each is a counter of the RTL.
    traffic : dict
        Words over streams and memories, of the designs that count them.
    """

    array_cycles: int
    total: int
    utilization: float
    machine_utilization: float
    breakdown: dict[str, int]
    traffic: dict[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return asdict(self)
