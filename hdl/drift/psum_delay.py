"""The way of a row's psum control from its issue to the edge, as long as the psum's through the fabric."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.sequencer import TO_FABRIC
from bitfabric.hdl.gemm.accumulator import south_layout


class PsumDelay(Block):
    """Delay a region's psum control until the psum is at the edge: ``TO_FABRIC`` + ``rows`` cycles.

    Parameters
    ----------
    config : DriftConfig
        Gives R and the banks' depth.

    Members
    -------
    rows : In(range(R + 1))
        Rows of the region; constant during a GEMM.
    i, o : In, Out(south_layout(acc_depth))
        Control as the row is issued, and as its psum reaches the edge of column 0.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._layout = south_layout(config.acc_depth)
        super().__init__({"rows": In(range(config.rows + 1)), "i": In(self._layout), "o": Out(self._layout)})

    def elaborate(self, platform: object) -> Module:
        """Chain registers, with a tap for every number of rows."""
        m = Module()
        control: Value = Value.cast(self.i)
        taps: list[Value] = []
        for stage in range(1, TO_FABRIC + self._config.rows):
            delayed = Signal(self._layout, name=f"stage_{stage}", reset_less=True)
            valid = Signal(name=f"valid_{stage}")
            m.d.sync += [delayed.eq(control), valid.eq(control[0])]
            out = Signal(self._layout, name=f"out_{stage}")
            m.d.comb += [out.eq(delayed), out.valid.eq(valid)]
            control = Value.cast(out)
            if stage >= TO_FABRIC:
                taps.append(control)
        last, valid = Signal(self._layout, reset_less=True), Signal()
        chosen = Signal(self._layout)
        # Tap r - 1 and the register behind it make r; there is none for a region without rows.
        m.d.comb += chosen.eq(Array([taps[0], *taps])[self.rows])
        m.d.sync += [last.eq(chosen), valid.eq(chosen.valid)]
        m.d.comb += [self.o.eq(last), self.o.valid.eq(valid)]
        return m
