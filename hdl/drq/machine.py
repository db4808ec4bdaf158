"""All of the DRQ machine that a convolution starts anew: from the stream in to the stream out."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, signed
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.double_buffer import DoubleBuffer
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.common.tagged_buffer import TaggedBuffer
from bitfabric.hdl.drq.config import ELEMENT_BITS, OPERAND_BITS, DrqConfig
from bitfabric.hdl.drq.dealer import Dealer, result_tag
from bitfabric.hdl.drq.im2col import Im2col, tile_tag
from bitfabric.hdl.drq.intake import Intake
from bitfabric.hdl.drq.layer import layer_layout
from bitfabric.hdl.drq.loader import Loader
from bitfabric.hdl.drq.planner import Planner
from bitfabric.hdl.drq.unload import Unload
from bitfabric.hdl.gemm.drain import Drain
from bitfabric.hdl.gemm.loader import params_layout
from bitfabric.hdl.vssa.array import VssaArray

FLOOR = 1  # weights have 8 bits: a step takes two cycles at least
ERRORS = ("bad_dimension", "overrun", "framing")
POST = {"low": signed(9), "high": signed(9), "zero_point": signed(9)}


class DrqMachine(Block):
    """Load a feature map and predict its regions; then convolve it with the weights of one N tile after the other.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Strobe in the first cycle after a reset.
    layer, requantize, low, high, zero_point : In
        What to compute, levels.
    i, o : In / Out(stream)
        Beats.
    {name}_error : Out(1)
        Strobe: it cannot go on.
    computing, steps_en, steps : Out
        The array computes; a tile comes, of so many steps.
    pes_en, working, stalled : Out
        A tile has left the array, and what its PEs did.
    sensitive_count : Out(32)
        Sensitive regions so far.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        beats = stream.Signature(beat_layout(config.axis_data_bits))
        super().__init__(
            {
                "start": In(1),
                "layer": In(layer_layout()),
                "requantize": In(1),
                **{name: In(shape) for name, shape in POST.items()},
                "i": In(beats),
                "o": Out(beats),
                **{f"{name}_error": Out(1) for name in ERRORS},
                "computing": Out(1),
                "steps_en": Out(1),
                "steps": Out(range(config.k_max + config.rows + config.columns)),
                "pes_en": Out(1),
                "working": Out(32),
                "stalled": Out(32),
                "sensitive_count": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the units in the order of the data."""
        m = Module()
        config = self._config
        planner = place(m, "planner", Planner(config))
        loader = place(m, "loader", Loader(config))
        intake = place(m, "intake", Intake(config))
        im2col = place(m, "im2col", Im2col(config))
        connect_stream(m, self.i, loader.i)
        m.d.comb += [
            planner.start.eq(self.start),
            planner.layer.eq(self.layer),
            loader.n.eq(self.layer.n),
            loader.depth.eq(planner.plan.depth),
            loader.requantize.eq(self.requantize),
            loader.start.eq(planner.done),
            loader.map_ready.eq(intake.ready),
            loader.map_last.eq(intake.last),
            intake.layer.eq(self.layer),
            intake.row.eq(planner.plan.row),
            intake.en.eq(loader.map_en),
            intake.data.eq(loader.map_data),
            im2col.layer.eq(self.layer),
            im2col.plan.eq(planner.plan),
            im2col.start.eq(intake.done),
            *(
                getattr(im2col, f"{memory}_{what}").eq(getattr(intake, f"{memory}_{what}"))
                for memory, value in (("map", "data"), ("flag", "data"), ("row", "place"))
                for what in ("en", "address", value)
            ),
            self.bad_dimension_error.eq(planner.bad),
            self.overrun_error.eq(intake.overrun),
            self.framing_error.eq(loader.framing_error),
            self.sensitive_count.eq(intake.sensitive_count),
        ]
        array, unload = self._array(m, planner, loader, im2col)
        self._results(m, loader, array, unload)
        return m

    def _array(self, m: Module, planner: Planner, loader: Loader, im2col: Im2col) -> tuple[VssaArray, Unload]:
        """Place the array between the buffers of both operands and the unload."""
        config = self._config
        dealer = place(m, "dealer", Dealer(config))
        weights_bits = config.columns * OPERAND_BITS
        weights = place(
            m,
            "weights",
            DoubleBuffer(weights_bits * config.line_elements, config.tile_words, weights_bits),
        )
        line_bits = config.axis_bytes * ELEMENT_BITS
        acts = place(
            m,
            "acts",
            TaggedBuffer(config.rows * line_bits, config.lines, tile_tag(config).size, line_bits),
        )
        array = place(
            m,
            "array",
            VssaArray(
                config.rows,
                config.columns,
                config.line_elements,
                config.tile_words,
                config.acc_bits,
                result_tag(config).size,
                config.pe_counters,
            ),
        )
        unload = place(m, "unload", Unload(config))
        m.d.comb += [
            loader.weights_free.eq(weights.write_free),
            weights.write_en.eq(loader.weights_en),
            weights.write_addr.eq(loader.weights_address),
            weights.write_data.eq(loader.weights_data),
            weights.write_done.eq(loader.weights_done),
            weights.read_en.eq(dealer.weights_en),
            weights.read_addr.eq(dealer.weights_address),
            weights.read_done.eq(dealer.weights_done),
            acts.write_en.eq(im2col.write_en),
            acts.write_addr.eq(im2col.write_address),
            acts.write_data.eq(im2col.write_data.replicate(config.rows)),
            acts.write_done.eq(im2col.write_done),
            acts.write_tag.eq(im2col.write_tag),
            acts.read_en.eq(dealer.acts_en),
            acts.read_addr.eq(dealer.acts_address),
            acts.read_done.eq(dealer.acts_done),
            im2col.released.eq(dealer.acts_done),
            dealer.start.eq(planner.done),
            dealer.n.eq(self.layer.n),
            dealer.depth.eq(planner.plan.depth),
            dealer.acts_full.eq(acts.read_full),
            dealer.acts_tag.eq(acts.read_tag),
            dealer.acts_data.eq(acts.read_data),
            dealer.weights_full.eq(weights.read_full),
            dealer.released.eq(array.released),
            *(
                getattr(array, name).eq(getattr(dealer, name))
                for name in (
                    *("write_en", "write_address", "row_data", "row_high"),
                    *("tile_en", "tile_rows", "tile_columns", "tile_tag"),
                )
            ),
            array.column_data.eq(weights.read_data),
            array.column_high.eq(~0),
            array.tile_length.eq(planner.plan.depth),
            array.tile_floor.eq(FLOOR),
            array.take.eq(unload.take),
            unload.full.eq(array.full),
            unload.full_tag.eq(array.full_tag),
            self.computing.eq(array.computing),
            self.steps_en.eq(dealer.tile_en),
            self.steps.eq(planner.plan.depth + dealer.tile_rows + dealer.tile_columns - 2),
            self.pes_en.eq(unload.counted),
            self.working.eq(array.working),
            self.stalled.eq(array.stalled),
        ]
        return array, unload

    def _results(self, m: Module, loader: Loader, array: VssaArray, unload: Unload) -> None:
        """Place the result buffer and the drain, with the parameters of two N tiles."""
        config = self._config
        results = place(
            m,
            "results",
            TaggedBuffer(config.columns * config.acc_bits, config.rows, result_tag(config).size),
        )
        params = place(
            m,
            "params",
            DoubleBuffer(params_layout(config).size, -(-config.columns // config.drain_lanes)),
        )
        drain = place(m, "drain", Drain(config, config.rows))
        tag: Any = result_tag(config)(results.read_tag)
        m.d.comb += [
            unload.write_free.eq(results.write_free),
            results.write_en.eq(unload.write_en),
            results.write_addr.eq(unload.write_address),
            results.write_data.eq(array.o_data),
            results.write_done.eq(unload.write_done),
            results.write_tag.eq(unload.write_tag),
            results.read_en.eq(drain.drain_en),
            results.read_addr.eq(drain.drain_row),
            # The last row stays in the memory's register, whatever is written meanwhile.
            results.read_done.eq(drain.release),
            drain.full.eq(results.read_full),
            *(drain.info[name].eq(tag[name]) for name in ("m_valid", "n_valid", "last")),
            *(
                lane.eq(results.read_data.word_select(index, config.acc_bits).as_signed())
                for index, lane in enumerate(drain.drain_data)
            ),
            drain.requantize.eq(self.requantize),
            *(getattr(drain, name).eq(getattr(self, name)) for name in POST),
            loader.params_free.eq(params.write_free),
            params.write_en.eq(loader.params_en),
            params.write_addr.eq(loader.params_address),
            params.write_data.eq(loader.params_data),
            params.write_done.eq(loader.params_done),
            params.read_en.eq(drain.params_en),
            params.read_addr.eq(drain.params_addr),
            drain.params_data.eq(params.read_data),
            params.read_done.eq(drain.params_release & tag.last_m),
        ]
        connect_stream(m, drain.o, self.o)
