"""The output side of the machine: accumulators as beats, or through PPU and encoder into OMEM."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.encoder import RecordEncoder
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.omem import Omem
from bitfabric.hdl.panacea.ppu import LANES, PostProcessor, block_layout

__all__ = ["AccumulatorBeats", "PanaceaOutput", "block_layout"]


class AccumulatorBeats(Block):
    """Add the bias to a block of psums and send it as 16 words of 32 bits, lane 0 lowest, in whole beats.

    Sums wrap to 32 bits; lanes past the valid rows and columns are 0. A block's first beat is at ``o`` 1 cycle
    after it is taken, then a beat a cycle; the next block is taken with its last one. ``i.ready`` depends on
    ``o.ready``.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the width of psums and beats.

    Members
    -------
    i : In(stream of block_layout)
        Blocks.
    o : Out(stream of beat_layout)
        Beats; ``last`` with the last one of a block that has ``last``.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "i": In(stream.Signature(block_layout(config))),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Shift a register of sums out."""
        m = Module()
        block, bits = self.i.payload, self._config.axis_data_bits
        beats = 32 * LANES // bits
        sums = Signal(32 * LANES, reset_less=True)
        last = Signal(reset_less=True)
        valid, ends = Signal(), Signal()
        left = Signal(range(max(beats, 2)), reset_less=True)  # beats behind the present one
        values = []
        for lane in range(LANES):
            row, column = divmod(lane, VECTOR)
            total = Signal(32, name=f"sum_{lane}")
            m.d.comb += total.eq(block.acc[lane] + block.channels[row].bias)
            values.append(Mux((block.rows > row) & (block.columns > column), total, 0))
        m.d.comb += [
            ends.eq(left == 0),
            self.i.ready.eq(~valid | (self.o.ready & ends)),
            self.o.valid.eq(valid),
            self.o.payload.data.eq(sums[:bits]),
            self.o.payload.last.eq(last & ends),
        ]
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), sums.eq(Cat(*values)), last.eq(block.last)]
            m.d.sync += left.eq(beats - 1)
        with m.Elif(self.o.ready):
            m.d.sync += [sums.eq(sums >> bits), left.eq(left - 1)]
        return m


class PanaceaOutput(Block):
    """Turn blocks of finished psums into the layer's outputs: beats of 32-bit accumulators, or records in OMEM.

    Blocks come, per output tile, by half, then group of tokens, then PEA: a group's blocks are the K positions of
    the next layer in order, and a half of an output tile is one record of the next layer's activations.
    With ``job.codes`` a block reaches the encoder ``PostProcessor.LATENCY`` cycles after it was taken; rates and
    the rest of the timing are in ``RecordEncoder``, ``Omem`` and ``AccumulatorBeats``.

    Parameters
    ----------
    config : PanaceaConfig
        The machine.

    Members
    -------
    job : In(JOB)
        The layer, constant from ``start`` on.
    start : In(1)
        For one cycle at the layer's start; the block comes out of reset before.
    source_start : In(1)
        Together with ``start`` if the layer reads what OMEM kept.
    table_en, table_addr, table_data : In
        Write port of the piecewise-linear function's table, see ``PiecewiseLinear``.
    i : In(stream of block_layout)
        Psums with weight sums, compensation and DBS shift applied, the bias not.
    o : Out(stream of beat_layout)
        Outputs that are not kept; ``last`` with the layer's last beat.
    source : Out(stream of words)
        Kept records, see ``Omem``.
    done : Out(1)
        In this cycle the last beat is taken, or the last word is kept.
    omem_overflow : Out(1)
        In this cycle a word or record does not fit OMEM.
    stalled : Out(1)
        A block waits.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        fmt = config.pwl
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "source_start": In(1),
                "table_en": In(1),
                "table_addr": In((fmt.segments - 1).bit_length()),
                "table_data": In(fmt.slope_bits + fmt.offset_bits),
                "i": In(stream.Signature(block_layout(config))),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "source": Out(stream.Signature(config.axis_data_bits)),
                "done": Out(1),
                "omem_overflow": Out(1),
                "stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Join the two ways."""
        m = Module()
        config, job = self._config, self.job
        beats = place(m, "beats", AccumulatorBeats(config))
        ppu = place(m, "ppu", PostProcessor(config))
        encoder = place(m, "encoder", RecordEncoder(config))
        omem = place(m, "omem", Omem(config))
        m.d.comb += [
            beats.i.payload.eq(self.i.payload),
            ppu.i.payload.eq(self.i.payload),
            beats.i.valid.eq(self.i.valid & ~job.codes),
            ppu.i.valid.eq(self.i.valid & job.codes),
            self.i.ready.eq(Mux(job.codes, ppu.i.ready, beats.i.ready)),
            self.stalled.eq(self.i.valid & ~self.i.ready),
            ppu.slices.eq(job.next_slices),
            ppu.drop.eq(job.next_drop),
            ppu.skipped.eq(job.next_skipped),
            ppu.table_en.eq(self.table_en),
            ppu.table_addr.eq(self.table_addr),
            ppu.table_data.eq(self.table_data),
            encoder.slices.eq(job.next_slices),
            encoder.skipped.eq(job.next_skipped),
            encoder.free.eq(omem.free),
            omem.job.eq(job),
            omem.start.eq(self.start),
            omem.source_start.eq(self.source_start),
            self.omem_overflow.eq(omem.overflow),
            self.o.valid.eq(Mux(job.codes, omem.o.valid, beats.o.valid)),
            self.o.payload.eq(Mux(job.codes, omem.o.payload.as_value(), beats.o.payload.as_value())),
            omem.o.ready.eq(self.o.ready & job.codes),
            beats.o.ready.eq(self.o.ready & ~job.codes),
            self.done.eq((self.o.valid & self.o.ready & self.o.payload.last) | omem.kept),
        ]
        for name in ("begin", "dense_en", "dense_offset", "dense_data", "ho_en", "ho_offset", "ho_data"):
            m.d.comb += getattr(omem, name).eq(getattr(encoder, name))
        m.d.comb += [omem.complete.eq(encoder.complete), omem.size.eq(encoder.size)]
        connect_stream(m, ppu.o, encoder.i)
        connect_stream(m, omem.source, self.source)
        return m
