"""The staging memory, in which a sub-tensor waits for its precision, and the walk over its rows and beats."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig


class RowWalk(Block):
    """Count beats, rows and sub-tensors of activations in the order in which they come.

    The outputs describe the present beat and depend on the counters and the job only.

    Members
    -------
    start : In(1)
        Go to the first beat; the dimensions are stable from then on.
    m, beats, subtensor_rows : In(16)
        Rows, beats of one, rows of a sub-tensor, each from 1; see ``INTAKE``.
    step : In(1)
        Go to the next beat; behind the last one the first follows.
    row : Out(16)
        The beat's row.
    row_end, subtensor_end, end : Out(1)
        The beat is the last of its row, of its sub-tensor, of all.
    tail : Out(1)
        With ``subtensor_end``: the sub-tensor has fewer than ``subtensor_rows`` rows.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "start": In(1),
                "m": In(DIMENSION_BITS),
                "beats": In(DIMENSION_BITS),
                "subtensor_rows": In(DIMENSION_BITS),
                "step": In(1),
                "row": Out(DIMENSION_BITS),
                "row_end": Out(1),
                "subtensor_end": Out(1),
                "tail": Out(1),
                "end": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Nest three counters."""
        m = Module()
        beat, row, within = (
            Signal(DIMENSION_BITS, name=name, reset_less=True) for name in ("beat", "row_now", "within")
        )
        whole, last_row = Signal(), Signal()
        m.d.comb += [
            whole.eq(within + 1 == self.subtensor_rows),
            last_row.eq(row + 1 == self.m),
            self.row.eq(row),
            self.row_end.eq(beat + 1 == self.beats),
            self.subtensor_end.eq(self.row_end & (whole | last_row)),
            self.tail.eq(~whole),
            self.end.eq(self.row_end & last_row),
        ]
        with m.If(self.step):
            m.d.sync += beat.eq(beat + 1)
            with m.If(self.row_end):
                m.d.sync += [beat.eq(0), row.eq(row + 1), within.eq(within + 1)]
            with m.If(self.subtensor_end):
                m.d.sync += within.eq(0)
            with m.If(self.end):
                m.d.sync += row.eq(0)
        with m.If(self.start):
            m.d.sync += [beat.eq(0), row.eq(0), within.eq(0)]
        return m


class Staging(Block):
    """Hold beats in the order in which they came, in a circular memory with a word for each.

    A place is taken when the beat is, though the beat is written later. Read latency is 1 cycle; a place that is
    read in cycle t can be taken from t + 1 on. One write and one read per cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives ``staging_beats`` words of ``axis_data_bits``.

    Members
    -------
    ready : Out(1)
        There is a place; depends on flip-flops only.
    take : In(1)
        Take it.
    write_en, write_data : In
        Write the next beat.
    read_en : In(1)
        Read the oldest beat, which has been written in an earlier cycle, and give its place back.
    read_data : Out(axis_data_bits)
        The beat, a cycle later.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        width = config.axis_data_bits
        super().__init__(
            {
                "ready": Out(1),
                "take": In(1),
                "write_en": In(1),
                "write_data": In(width),
                "read_en": In(1),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the memory; move a pointer at each end."""
        m = Module()
        depth = self._config.staging_beats
        ram = place(m, "ram", Ram(self._config.axis_data_bits, depth))
        level = Signal(range(depth + 1))
        write_addr, read_addr = Signal(ram.address_bits), Signal(ram.address_bits)
        m.d.comb += [
            self.ready.eq(level != depth),
            ram.write_en.eq(self.write_en),
            ram.write_addr.eq(write_addr),
            ram.write_data.eq(self.write_data),
            ram.read_en.eq(self.read_en),
            ram.read_addr.eq(read_addr),
            self.read_data.eq(ram.read_data),
        ]
        m.d.sync += level.eq(level + self.take - self.read_en)
        for address, step in ((write_addr, self.write_en), (read_addr, self.read_en)):
            with m.If(step):
                # Depths need not be powers of two.
                with m.If(address == depth - 1):
                    m.d.sync += address.eq(0)
                with m.Else():
                    m.d.sync += address.eq(address + 1)
        return m
