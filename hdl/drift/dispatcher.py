"""The dispatcher: four streams of activation windows, skewed and led to the rows of either edge."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import ROWS
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import LINK


class SkewedStream(Block):
    """Delay the nibbles of a window, local row i by i cycles; the swap goes along.

    Parameters
    ----------
    rows : int
        R.

    Members
    -------
    window : In(4).array(rows)
        Nibbles of an activation row, local row 0 first.
    swap : In(1)
        Swap of local row 0.
    o : Out(LINK).array(rows)
        Local row i of what came i cycles ago.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        super().__init__({"window": In(ROWS).array(rows), "swap": In(1), "o": Out(LINK).array(rows)})

    def elaborate(self, platform: object) -> Module:
        """Chain registers."""
        m = Module()
        swap: Value = self.swap
        for row in range(self._rows):
            act: Value = self.window[row]
            for stage in range(row):
                delayed = Signal(ROWS, name=f"act_{row}_{stage}", reset_less=True)
                m.d.sync += delayed.eq(act)
                act = delayed
            if row:
                later = Signal(name=f"swap_{row}")
                m.d.sync += later.eq(swap)
                swap = later
            m.d.comb += [self.o[row].act.eq(act), self.o[row].swap.eq(swap)]
        return m


class EdgeRouter(Block):
    """Lead the upper and the lower stream of a half to the rows of the fabric.

    Local row i of the upper stream goes to row ``split - 1 - i``, of the lower one to row ``split + i``: a window of
    R of both streams laid end to end, which moves with the split. Latency 1 cycle.

    Parameters
    ----------
    rows : int
        R.

    Members
    -------
    split : In(range(rows + 1))
        Rows of the upper region; constant during a GEMM.
    upper, lower : In(LINK).array(rows)
        Skewed streams.
    o : Out(LINK).array(rows)
        The fabric's edge.
    """

    def __init__(self, rows: int) -> None:
        self._rows = rows
        super().__init__(
            {
                "split": In(range(rows + 1)),
                "upper": In(LINK).array(rows),
                "lower": In(LINK).array(rows),
                "o": Out(LINK).array(rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift by R - split lanes, the largest step first."""
        m = Module()
        rows, width = self._rows, LINK.size
        shift = Signal(range(rows + 1))
        m.d.sync += shift.eq(rows - self.split)
        # Row p of the edge is lane p + R - split.
        lanes: list[Value] = [Value.cast(self.upper[rows - 1 - lane]) for lane in range(rows)]
        lanes += [Value.cast(self.lower[lane]) for lane in range(rows)]
        for level in reversed(range(len(shift))):
            step = 1 << level
            needed = rows + step - 1  # the steps still to come reach so far
            stage = [Signal(width, name=f"lane_{step}_{i}") for i in range(min(needed, len(lanes)))]
            for i, signal in enumerate(stage):
                far = lanes[i + step] if i + step < len(lanes) else lanes[i]
                m.d.comb += signal.eq(Mux(shift[level], far, lanes[i]))
            lanes = list(stage)
        for row in range(rows):
            act = Signal(ROWS, name=f"act_{row}", reset_less=True)
            swap = Signal(name=f"swap_{row}")
            m.d.sync += [act.eq(lanes[row][:ROWS]), swap.eq(lanes[row][ROWS])]
            m.d.comb += Value.cast(self.o[row]).eq(Cat(act, swap))
        return m


class Dispatcher(Block):
    """Skew the four streams and lead them to the west and the east edge.

    A window that comes in cycle t has local row i at the edge in cycle t + 1 + i.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    rows_left, rows_right : In(range(rows + 1))
        Upper rows of either half; constant during a GEMM.
    windows : In(4).array(4, rows)
        Nibbles of the regions hh, hl, lh, ll.
    swaps : In(4)
        Their swaps, with local row 0.
    west, east : Out(LINK).array(rows)
        The fabric's edges.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._rows = config.rows
        split = range(config.rows + 1)
        super().__init__(
            {
                "rows_left": In(split),
                "rows_right": In(split),
                "windows": In(ROWS).array(4, config.rows),
                "swaps": In(4),
                "west": Out(LINK).array(config.rows),
                "east": Out(LINK).array(config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the streams and a router per half."""
        m = Module()
        streams = []
        for region in range(4):
            stream = place(m, f"skew_{region}", SkewedStream(self._rows))
            m.d.comb += stream.swap.eq(self.swaps[region])
            for row in range(self._rows):
                m.d.comb += stream.window[row].eq(self.windows[region][row])
            streams.append(stream)
        for half, (name, split, edge) in enumerate(
            (("west", self.rows_left, self.west), ("east", self.rows_right, self.east))
        ):
            router = place(m, f"route_{name}", EdgeRouter(self._rows))
            m.d.comb += router.split.eq(split)
            for row in range(self._rows):
                m.d.comb += [
                    router.upper[row].eq(streams[half].o[row].as_value()),
                    router.lower[row].eq(streams[2 + half].o[row].as_value()),
                    edge[row].eq(router.o[row].as_value()),
                ]
        return m
