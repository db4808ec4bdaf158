"""The counters of a block: every cycle in one of four, those of either product, and those of the PEs."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.registers import COUNTERS, PE_COUNTERS
from bitfabric.hdl.vssa.counters import COUNTER_BITS as COUNT_BITS


class Counters(Block):
    """Count a block's cycles; see ``registers.COUNTERS`` and ``PE_COUNTERS``.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        A block's first cycle, the one that is not counted: begin from 0.
    busy : In(1)
        A block runs.
    qk_arrays, pv_arrays : In
        Arrays that compute scores, and results: a bit each.
    selecting : In(1)
        The importance is complete, the next tokens are not known.
    pv_left : In(1)
        The importance is complete, results are still in arrays.
    tile_en, tile_pv, tile_floor, tile_working, tile_stalled : In
        Of each unload port, one after the other: a tile has left, and what its PEs did.
    {name}_count : Out(32)
        A counter each.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        ports = config.unload_ports
        self._names = [*COUNTERS, *(PE_COUNTERS if config.pe_counters else {})]
        super().__init__(
            {
                "start": In(1),
                "busy": In(1),
                "qk_arrays": In(config.arrays),
                "pv_arrays": In(config.arrays),
                "selecting": In(1),
                "pv_left": In(1),
                "tile_en": In(ports),
                "tile_pv": In(ports),
                "tile_floor": In(2 * ports),
                "tile_working": In(COUNT_BITS * ports),
                "tile_stalled": In(COUNT_BITS * ports),
                **{f"{name}_count": Out(COUNT_BITS) for name in self._names},
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Add to each counter what the cycle brings; what looked like the end is a stall when work goes on."""
        m = Module()
        config = self._config
        counts = {name: Signal(COUNT_BITS, name=f"{name}_now", reset_less=True) for name in self._names}
        for name, count in counts.items():
            m.d.comb += getattr(self, f"{name}_count").eq(count)
        opened, active = Signal(), Signal()
        m.d.comb += active.eq(self.qk_arrays.any() | self.pv_arrays.any())
        with m.If(self.start):
            m.d.sync += [opened.eq(0), *(count.eq(0) for count in counts.values())]
        with m.Elif(self.busy):
            added = {
                "total": 1,
                "qk": self.qk_arrays.any(),
                "pv": self.pv_arrays.any(),
                "qk_array": sum(self.qk_arrays, start=0),
                "pv_array": sum(self.pv_arrays, start=0),
                "select": self.selecting,
                "pv_left": self.pv_left,
            }
            m.d.sync += [counts[name].eq(counts[name] + value) for name, value in added.items()]
            with m.If(active):
                m.d.sync += [
                    opened.eq(1),
                    counts["compute"].eq(counts["compute"] + 1),
                    counts["stalled"].eq(counts["stalled"] + counts["drain"]),
                    counts["drain"].eq(0),
                ]
            with m.Elif(opened):
                m.d.sync += counts["drain"].eq(counts["drain"] + 1)
            with m.Else():
                m.d.sync += counts["load"].eq(counts["load"] + 1)
            if config.pe_counters:
                self._tiles(m, counts)
        return m

    def _tiles(self, m: Module, counts: dict[str, Signal]) -> None:
        """Add what tiles that leave have counted; both ports may bring one."""
        added: dict[str, Any] = dict.fromkeys(PE_COUNTERS, 0)
        for port in range(self._config.unload_ports):
            floor = self.tile_floor[2 * port : 2 * port + 2]
            working, stalled = (
                values[COUNT_BITS * port : COUNT_BITS * (port + 1)]
                for values in (self.tile_working, self.tile_stalled)
            )
            scores, results = (
                self.tile_en[port] & ~self.tile_pv[port],
                self.tile_en[port] & self.tile_pv[port],
            )

            def when(condition: Value, value: Value) -> Value:
                return value & condition.replicate(COUNT_BITS)

            for power in range(3):
                added[f"qk_tiles_{1 << power}"] += scores & (floor == power)
            added["qk_working"] += when(scores, working)
            for power in (1, 2):
                added[f"qk_stalled_{1 << power}"] += when(scores & (floor == power), stalled)
            added["pv_working"] += when(results, working)
            added["pv_stalled"] += when(results, stalled)
        m.d.sync += [counts[name].eq(counts[name] + value) for name, value in added.items()]
