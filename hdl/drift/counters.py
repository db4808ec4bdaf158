"""The counters of a layer: every cycle in one of five, and those of the four arrays."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.hdl.drift.registers import ARRAY_COUNTERS, COUNTERS

COUNT_BITS = 32


class Counters(Block):
    """Count a layer's cycles; see ``registers.COUNTERS``.

    Members
    -------
    start : In(1)
        A layer's first cycle, the one that is not counted: begin from 0.
    busy : In(1)
        A layer runs.
    active : In(4)
        Arrays that load or compute.
    waiting : In(1)
        Nothing but the split is missing.
    *_cycles : Out(32)
        A counter each.
    """

    def __init__(self) -> None:
        names = (*COUNTERS, *ARRAY_COUNTERS)
        super().__init__(
            {
                "start": In(1),
                "busy": In(1),
                "active": In(4),
                "waiting": In(1),
                **{f"{name}_cycles": Out(COUNT_BITS) for name in names},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Put every cycle into one counter; what looked like the end becomes a stall when work goes on."""
        m = Module()
        counts = {
            name: Signal(COUNT_BITS, name=f"{name}_count", reset_less=True)
            for name in (*COUNTERS, *ARRAY_COUNTERS)
        }
        for name, count in counts.items():
            m.d.comb += getattr(self, f"{name}_cycles").eq(count)
        opened = Signal()
        with m.If(self.start):
            m.d.sync += [opened.eq(0), *(count.eq(0) for count in counts.values())]
        with m.Elif(self.busy):
            m.d.sync += counts["total"].eq(counts["total"] + 1)
            for index, region in enumerate(REGIONS):
                count = counts[f"array_{region}"]
                m.d.sync += count.eq(count + self.active[index])
            with m.If(self.active.any()):
                m.d.sync += [
                    opened.eq(1),
                    counts["compute"].eq(counts["compute"] + 1),
                    counts["stalled"].eq(counts["stalled"] + counts["drain"]),
                    counts["drain"].eq(0),
                ]
            with m.Elif(opened):
                m.d.sync += counts["drain"].eq(counts["drain"] + 1)
            with m.Elif(self.waiting):
                m.d.sync += counts["schedule"].eq(counts["schedule"] + 1)
            with m.Else():
                m.d.sync += counts["load"].eq(counts["load"] + 1)
        return m
