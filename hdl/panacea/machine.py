"""Memories, core and output side of the machine: all that starts anew with every layer."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.panacea.config import CHANNEL_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.core import PanaceaCore
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.loader import Loader
from bitfabric.hdl.panacea.output import PanaceaOutput
from bitfabric.hdl.panacea.slice_memory import SliceMemory

ERROR_PORTS = ("framing_error", "rle_error", "wmem_overflow", "amem_overflow", "omem_overflow")


class PanaceaMachine(Block):
    """Run one layer after each reset.

    Parameters
    ----------
    config : PanaceaConfig
        Gives everything.

    Members
    -------
    job : In(JOB), start : In(1)
        The layer, and its only start.
    i, o : In(stream), Out(stream)
        Beats in and out.
    table_en, table_addr, table_data : In
        Write port of the piecewise-linear function's table; needs no start.
    done : Out(1)
        The layer's last beat has left ``o``, or its last word stands in OMEM.
    framing_error, rle_error, wmem_overflow, amem_overflow, omem_overflow : Out(1)
        The layer cannot be finished.
    working, static_products, dynamic_products, wmem_reads, amem_reads, ppu_stalled : Out
        What happens in a cycle, to be counted.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        words = config.pwl
        products = range(config.peas * config.operators + 1)
        reads = range(config.lanes + config.quads * config.quad + 1)
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "i": In(stream.Signature(beat_layout(config.axis_data_bits))),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
                "table_en": In(1),
                "table_addr": In((config.segments - 1).bit_length()),
                "table_data": In(words.slope_bits + words.offset_bits),
                "done": Out(1),
                **{name: Out(1) for name in ERROR_PORTS},
                "working": Out(1),
                "static_products": Out(products),
                "dynamic_products": Out(products),
                "wmem_reads": Out(reads),
                "amem_reads": Out(reads),
                "ppu_stalled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire loader, memories, core and output."""
        m = Module()
        config = self._config
        loader = place(m, "loader", Loader(config))
        core = place(m, "core", PanaceaCore(config))
        output = place(m, "output", PanaceaOutput(config))
        params = place(m, "params", DoubleBuffer(VECTOR * CHANNEL_BITS, 2 * config.peas))
        connect_stream(m, self.i, loader.i)
        connect_stream(m, output.source, loader.kept)
        connect_stream(m, core.o, output.i)
        connect_stream(m, output.o, self.o)
        for unit in (loader, core, output):
            m.d.comb += [unit.job.eq(self.job), unit.start.eq(self.start)]
        m.d.comb += [
            output.source_start.eq(self.start & self.job.from_omem),
            output.table_en.eq(self.table_en),
            output.table_addr.eq(self.table_addr),
            output.table_data.eq(self.table_data),
            loader.params_free.eq(params.write_free),
            params.write_en.eq(loader.params_en),
            params.write_addr.eq(loader.params_addr),
            params.write_data.eq(loader.params_data),
            params.write_done.eq(loader.params_done),
            params.read_en.eq(core.params_en),
            params.read_addr.eq(core.params_addr),
            core.params_data.eq(params.read_data),
            params.read_done.eq(core.params_release),
            self.done.eq(output.done),
            self.framing_error.eq(loader.framing_error),
            self.rle_error.eq(core.error),
            self.omem_overflow.eq(output.omem_overflow),
            self.working.eq(core.working),
            self.static_products.eq(core.static_products),
            self.dynamic_products.eq(core.dynamic_products),
            self.wmem_reads.eq(core.wmem_reads),
            self.amem_reads.eq(core.amem_reads),
            self.ppu_stalled.eq(output.stalled),
        ]
        for name, words, wants in (
            ("wmem", config.wmem_words, loader.wants_weights),
            ("amem", config.amem_words, loader.wants_acts),
        ):
            memory = place(m, name, SliceMemory(config.axis_data_bits, words))
            m.d.comb += [
                getattr(loader, f"{name}_ready").eq(memory.write_ready),
                memory.write_en.eq(getattr(loader, f"{name}_en")),
                memory.write_data.eq(loader.data),
                memory.write_tile.eq(getattr(loader, f"{name}_tile")),
                memory.tile_done.eq(getattr(core, f"{name}_tile_done")),
                memory.tile_words.eq(getattr(core, f"{name}_tile_words")),
                memory.tile_free.eq(getattr(core, f"{name}_tile_free")),
                memory.rewind.eq(getattr(core, f"{name}_rewind")),
                getattr(core, f"{name}_tile_ready").eq(memory.tile_ready),
                getattr(core, f"{name}_base").eq(memory.base),
                memory.read_en.eq(getattr(core, f"{name}_read_en")),
                memory.read_addr.eq(getattr(core, f"{name}_read_addr")),
                getattr(core, f"{name}_read_data").eq(memory.read_data),
            ]
            # Nothing will free the room that a word waits for: the reader itself waits for that tile.
            stuck = Signal(name=f"{name}_stuck")
            m.d.comb += stuck.eq(memory.full & wants & getattr(core, f"{name}_starving"))
            m.d.comb += getattr(self, f"{name}_overflow").eq(stuck)
        return m
