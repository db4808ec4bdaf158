"""The counters of a convolution."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.registers import COUNTERS, PE_COUNTERS

COUNT_BITS = 32


class Counters(Block):
    """Count a convolution's cycles; see ``registers.COUNTERS`` and ``PE_COUNTERS``.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        A convolution's first cycle, the one that is not counted: begin from 0.
    busy : In(1)
        One runs.
    computing, steps_en, steps, pes_en, working, stalled, sensitive_count : In
        See ``DrqMachine``.
    {name}_now : Out(32)
        A counter each.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        self._names = [*COUNTERS, *(PE_COUNTERS if config.pe_counters else {})]
        super().__init__(
            {
                "start": In(1),
                "busy": In(1),
                "computing": In(1),
                "steps_en": In(1),
                "steps": In(range(config.k_max + config.rows + config.columns)),
                "pes_en": In(1),
                "working": In(COUNT_BITS),
                "stalled": In(COUNT_BITS),
                "sensitive_count": In(COUNT_BITS),
                **{f"{name}_now": Out(COUNT_BITS) for name in self._names},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Add to each counter what the cycle brings; what looked like the end is a stall when work goes on.

        The array's cycles are 2 for a step, or 4: so their number tells those of 4 [derived].
        """
        m = Module()
        kept = [name for name in self._names if name not in ("steps_2", "steps_4")]
        counts = {name: Signal(COUNT_BITS, name=f"{name}_count", reset_less=True) for name in kept}
        steps = Signal(COUNT_BITS, name="steps_count", reset_less=True)
        opened = Signal()
        for name, count in counts.items():
            m.d.comb += getattr(self, f"{name}_now").eq(count)
        m.d.comb += [
            self.steps_4_now.eq((counts["compute_cycles"] >> 1) - steps),
            self.steps_2_now.eq(steps - self.steps_4_now),
        ]
        with m.If(self.start):
            m.d.sync += [opened.eq(0), steps.eq(0), *(count.eq(0) for count in counts.values())]
        with m.Elif(self.busy):
            m.d.sync += [
                counts["total_cycles"].eq(counts["total_cycles"] + 1),
                counts["sensitive"].eq(self.sensitive_count),
            ]
            with m.If(self.computing):
                m.d.sync += [
                    opened.eq(1),
                    counts["compute_cycles"].eq(counts["compute_cycles"] + 1),
                    counts["stalled_cycles"].eq(counts["stalled_cycles"] + counts["drain_cycles"]),
                    counts["drain_cycles"].eq(0),
                ]
            with m.Elif(opened):
                m.d.sync += counts["drain_cycles"].eq(counts["drain_cycles"] + 1)
            with m.Else():
                m.d.sync += counts["load_cycles"].eq(counts["load_cycles"] + 1)
            with m.If(self.steps_en):
                m.d.sync += steps.eq(steps + self.steps)
            if self._config.pe_counters:
                with m.If(self.pes_en):
                    m.d.sync += [
                        counts["pe_working"].eq(counts["pe_working"] + self.working),
                        counts["pe_stalled"].eq(counts["pe_stalled"] + self.stalled),
                    ]
        return m
