"""The scheduler: chooses the lines that cut the fabric in four, so that the slowest array is as fast as can be."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.schedule_greedy import GreedySearch
from bitfabric.hdl.drift.schedule_scan import ScanSearch
from bitfabric.hdl.drift.schedule_split import CYCLES_BITS, SplitCycles


class Scheduler(Block):
    """Minimise the maximum of the four arrays' cycles [paper, eq. 8], as ``sim.cycles.drift_schedule`` does.

    Tables take ``max(9 * (R + 1), 8 * (C + 1)) + 2`` cycles from ``tabulate`` to ``ready`` and need not know how many
    rows of activations are of either precision. The search begins with ``start``, or with ``ready`` if that comes later, and
    ``done`` comes ``(R + 1) * (C + 1) + 9`` cycles after that with ``scheduler="scan"``, ``3 + bits + 15 * steps``
    with ``"greedy"``, see ``ScanSearch`` and ``GreedySearch``.

    Parameters
    ----------
    config : DriftConfig
        Gives R, C, ``acc_depth``, ``weight_buffering`` and ``scheduler``.

    Members
    -------
    clear : In(1)
        Drop what is under way, tables included; from the next cycle on the block is as after reset. Not with
        ``start`` or ``tabulate``.
    tabulate : In(1)
        Begin new tables; not while a search is under way, unless ``clear`` has ended it.
    q_high, q_low : In(NIBBLES_BITS)
        Nibbles of a row's string of activation bits, from 1, stable from ``tabulate`` to ``done``.
    g_high, g_low : In(GRANULE_BITS)
        Granules of 8-bit and of 4-bit channels, stable likewise.
    ready : Out(1)
        The tables are complete.
    start : In(1)
        Search; waits for tables that are not ready. Not while ``busy``. Tables serve any number of searches.
    m_high, m_low : In(16)
        Activation rows of either precision, stable from ``start`` to ``done``.
    busy : Out(1)
        From the cycle after ``start`` to the one before ``done``.
    done : Out(1)
        For one cycle: the results are there, until the next ``start``.
    columns_left : Out(range(C + 1))
        Columns of the left half, which has the 8-bit weights.
    rows_left, rows_right : Out(range(R + 1))
        Upper rows of either half, which have the high-precision activations.
    cycles : Out(CYCLES_BITS)
        Cycles of the slowest array, saturated; all ones also if no split gives groups to all work.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "clear": In(1),
                "tabulate": In(1),
                "q_high": In(NIBBLES_BITS),
                "q_low": In(NIBBLES_BITS),
                "g_high": In(GRANULE_BITS),
                "g_low": In(GRANULE_BITS),
                "ready": Out(1),
                "start": In(1),
                "m_high": In(DIMENSION_BITS),
                "m_low": In(DIMENSION_BITS),
                "busy": Out(1),
                "done": Out(1),
                "columns_left": Out(range(config.columns + 1)),
                "rows_left": Out(range(config.rows + 1)),
                "rows_right": Out(range(config.rows + 1)),
                "cycles": Out(CYCLES_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect the search with what answers it, and begin it in time."""
        m = Module()
        config = self._config
        split = place(m, "split", SplitCycles(config))
        search = self._search(m)
        busy, waiting, go = Signal(), Signal(), Signal()
        m.d.comb += [
            go.eq((self.start | waiting) & split.ready & ~self.tabulate),
            search.go.eq(go),
            search.clear.eq(self.clear),
            self.busy.eq(busy & ~search.done),
            self.done.eq(search.done),
            self.ready.eq(split.ready),
            split.tabulate.eq(self.tabulate),
            split.clear.eq(self.clear),
            split.split.eq(search.split.as_value()),
            search.left.eq(split.left),
            search.right.eq(split.right),
            self.columns_left.eq(search.best.columns),
            self.rows_left.eq(search.best.rows_left),
            self.rows_right.eq(search.best.rows_right),
            self.cycles.eq(search.cycles),
        ]
        for name in ("q_high", "q_low", "g_high", "g_low", "m_high", "m_low"):
            m.d.comb += getattr(split, name).eq(getattr(self, name))
        m.d.sync += [
            waiting.eq((waiting | self.start) & ~go & ~self.clear),
            busy.eq(((busy & ~search.done) | self.start) & ~self.clear),
        ]
        return m

    def _search(self, m: Module) -> ScanSearch | GreedySearch:
        if self._config.scheduler == "scan":
            return place(m, "search", ScanSearch(self._config))
        search = place(m, "search", GreedySearch(self._config))
        for name in ("m_high", "m_low", "q_high", "q_low", "g_high", "g_low"):
            m.d.comb += getattr(search, name).eq(getattr(self, name))
        return search
