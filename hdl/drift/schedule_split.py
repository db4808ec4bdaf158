"""What a split costs: the cycles of its four regions, one split per cycle."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.schedule_cycles import ChunkCount, StripCycles, each_bits
from bitfabric.hdl.drift.schedule_quotients import QuotientTable

CYCLES_BITS = 48  # of a number of cycles; all ones: no groups for the work, or no fewer than that


def split_layout(config: DriftConfig) -> data.StructLayout:
    """Return a split: columns of the left half, upper rows of the left and of the right half."""
    rows = config.rows.bit_length()
    return data.StructLayout({"columns": config.columns.bit_length(), "rows_left": rows, "rows_right": rows})


class RegionCycles(Block):
    """Multiply a strip by the N tiles of a region. Latency 2 cycles, one region a cycle.

    ``cycles = tiles * each + once + columns - 2``, with transit registers 1 more, with single buffering
    ``tiles * each`` [derived]; 0 if ``idle``, otherwise all ones if the region is empty, and saturated to that.

    Parameters
    ----------
    config : DriftConfig
        Gives the fabric and its buffering.

    Members
    -------
    each, once, empty : In
        Of the strip, see ``StripCycles``.
    tiles : In(GRANULE_BITS)
        N tiles.
    columns : In(range(C + 1))
        Columns of the region.
    idle : In(1)
        There is no work; stable.
    cycles : Out(CYCLES_BITS)
        Cycles of the region.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "each": In(each_bits(config)),
                "once": In(range(2 * config.rows + 1)),
                "empty": In(1),
                "tiles": In(GRANULE_BITS),
                "columns": In(range(config.columns + 1)),
                "idle": In(1),
                "cycles": Out(CYCLES_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Multiply, then add and saturate."""
        m = Module()
        config = self._config
        # At most 15 partial products: no deeper than a 16-bit square.
        product = Signal(len(self.each) + GRANULE_BITS, reset_less=True)
        offset = Signal(range(2 * config.rows + config.columns + 1), reset_less=True)
        empty = Signal(reset_less=True)
        m.d.sync += [product.eq(self.each * self.tiles), empty.eq(self.empty | (self.columns == 0))]
        if config.weight_buffering == "single":
            m.d.comb += offset.eq(0)
        else:
            # ``once`` is at least 2 where the region is not empty [derived]: the difference is not negative there.
            constant = 1 if config.weight_buffering == "transit" else 2
            m.d.sync += offset.eq(self.once + self.columns - constant)
        total = Signal(max(len(product), CYCLES_BITS) + 1)
        cycles = Signal(CYCLES_BITS, reset_less=True)
        infinite = Signal()
        m.d.comb += [
            total.eq(product + offset),
            infinite.eq(empty | (total[CYCLES_BITS:] != 0)),
            self.cycles.eq(cycles),
        ]
        m.d.sync += cycles.eq(Mux(self.idle, 0, total[:CYCLES_BITS] | infinite.replicate(CYCLES_BITS)))
        return m


class SplitCycles(Block):
    """Tell for any split how long the slower array of either half takes. Latency 6 cycles, one split per cycle.

    Quotients come from tables. With the scan's one row for both halves a strip serves a row of both, since it does
    not depend on the columns, except with single buffering.

    Parameters
    ----------
    config : DriftConfig
        The fabric, its buffering and scheduler.

    Members
    -------
    clear : In(1)
        Drop the tables.
    tabulate : In(1)
        Begin new tables; see ``QuotientTable``.
    q_high, q_low, g_high, g_low : In
        Nibbles and granules, stable from then on.
    ready : Out(1)
        The tables are complete.
    m_high, m_low : In(16)
        Activation rows, stable from the cycle before the first split on.
    split : In(split_layout(config))
        What is asked for; the scan's two row splits are equal.
    left, right : Out(CYCLES_BITS)
        Maxima over the regions of either half, of the split of 6 cycles ago.
    """

    LATENCY: ClassVar[int] = 6

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._halves = 1 if config.scheduler == "scan" else 2  # with row splits of their own
        super().__init__(
            {
                "clear": In(1),
                "tabulate": In(1),
                "q_high": In(NIBBLES_BITS),
                "q_low": In(NIBBLES_BITS),
                "g_high": In(GRANULE_BITS),
                "g_low": In(GRANULE_BITS),
                "ready": Out(1),
                "m_high": In(DIMENSION_BITS),
                "m_low": In(DIMENSION_BITS),
                "split": In(split_layout(config)),
                "left": Out(CYCLES_BITS),
                "right": Out(CYCLES_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Look up, time the strips, multiply by the N tiles, take the maxima."""
        m = Module()
        config = self._config
        by_rows = place(m, "k_tiles", QuotientTable(NIBBLES_BITS, config.rows, self._halves))
        by_columns = place(m, "n_tiles", QuotientTable(GRANULE_BITS, config.columns))
        m.d.comb += [
            by_rows.clear.eq(self.clear),
            by_columns.clear.eq(self.clear),
            by_rows.start.eq(self.tabulate),
            by_rows.high.eq(self.q_high),
            by_rows.low.eq(self.q_low),
            by_columns.start.eq(self.tabulate),
            by_columns.high.eq(self.g_high),
            by_columns.low.eq(self.g_low),
            by_columns.address[0].eq(self.split.columns),
            self.ready.eq(by_rows.ready & by_columns.ready),
        ]
        for half, rows in enumerate((self.split.rows_left, self.split.rows_right)[: self._halves]):
            m.d.comb += by_rows.address[half].eq(rows)
        chunks = []
        for act, rows in (("high", self.m_high), ("low", self.m_low)):
            count = place(m, f"chunks_{act}", ChunkCount(config))
            m.d.comb += count.m.eq(rows)
            chunks.append(count.chunks)

        # As wide as the looked-up tiles are late.
        columns = Signal(range(config.columns + 1), reset_less=True)
        m.d.sync += columns.eq(self.split.columns)
        right = Signal.like(columns)
        m.d.comb += right.eq(config.columns - columns)
        shared = self._halves == 1 and config.weight_buffering != "single"
        halves: list[list[StripCycles]] = []
        for half, width in enumerate((columns, right)):
            strips = [] if half and shared else self._strips(m, by_rows, half, width, chunks)
            halves.append(strips or halves[0])
        weights = (
            (by_columns.tiles_high[0], columns, self.g_high),
            (by_columns.tiles_low[0], right, self.g_low),
        )
        for half, out in enumerate((self.left, self.right)):
            m.d.comb += out.eq(self._half(m, half, halves[half], *weights[half]))
        return m

    def _strips(
        self, m: Module, by_rows: QuotientTable, half: int, columns: Value, chunks: list[Value]
    ) -> list[StripCycles]:
        """Return the upper and the lower strip of a half."""
        config = self._config
        side = ("left", "right")[half]
        port = min(half, self._halves - 1)
        upper = Signal(range(config.rows + 1), name=f"upper_{side}", reset_less=True)
        lower = Signal(range(config.rows + 1), name=f"lower_{side}")
        m.d.sync += upper.eq((self.split.rows_left, self.split.rows_right)[port])
        m.d.comb += lower.eq(config.rows - upper)
        strips = []
        for act, rows, tiles, parts in (
            ("high", upper, by_rows.tiles_high[port], chunks[0]),
            ("low", lower, by_rows.tiles_low[port], chunks[1]),
        ):
            strip = place(m, f"strip_{act}_{side}", StripCycles(config))
            m.d.comb += [
                strip.rows.eq(rows),
                strip.tiles.eq(tiles),
                strip.chunks.eq(parts.as_value()),
            ]
            if config.weight_buffering == "single":
                m.d.comb += strip.columns.eq(columns)
            strips.append(strip)
        return strips

    def _half(
        self, m: Module, half: int, strips: list[StripCycles], tiles: Value, columns: Value, granules: Value
    ) -> Value:
        """Return the maximum over a half's regions; ``tiles`` and ``columns`` are 2 cycles ahead of the strips."""
        side = ("left", "right")[half]
        for stage in range(2):
            later = [
                Signal(value.shape(), name=f"{name}_{side}_{stage}", reset_less=True)
                for name, value in (("tiles", tiles), ("columns", columns))
            ]
            m.d.sync += [later[0].eq(tiles), later[1].eq(columns)]
            tiles, columns = later
        cycles = []
        for act, strip, rows in zip(("high", "low"), strips, (self.m_high, self.m_low), strict=True):
            region = place(m, f"region_{act}_{side}", RegionCycles(self._config))
            m.d.comb += [
                region.each.eq(strip.each),
                region.once.eq(strip.once),
                region.empty.eq(strip.empty),
                region.tiles.eq(tiles),
                region.columns.eq(columns),
                region.idle.eq((rows == 0) | (granules == 0)),
            ]
            cycles.append(region.cycles)
        slower = Signal(CYCLES_BITS, name=f"slower_{side}", reset_less=True)
        m.d.sync += slower.eq(Mux(cycles[0] < cycles[1], cycles[1], cycles[0]))
        return slower
