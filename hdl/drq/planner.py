"""Multiply a layer's sizes out, and refuse what does not fit."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drq.config import DIMENSION_BITS, ROW_MAX, DrqConfig
from bitfabric.hdl.drq.layer import layer_layout, plan_layout


class Planner(Block):
    """Compute a layer's sizes in elements with one multiplier, a product per cycle.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Strobe: a layer is there.
    layer : In(layer_layout)
        It; a level.
    plan : Out(plan_layout)
        Its sizes, from ``done`` on.
    done : Out(1)
        Strobe, ``LATENCY`` cycles after ``start``: it fits.
    bad : Out(1)
        The same, but it does not.
    """

    LATENCY: ClassVar[int] = 8

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "layer": In(layer_layout()),
                "plan": Out(plan_layout(config)),
                "done": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Step through the products; each is checked a cycle later."""
        m = Module()
        config, layer, plan = self._config, self.layer, self.plan
        row_words = (plan.row + (config.axis_bytes - 1)) >> (config.axis_bytes.bit_length() - 1)
        # Factors, the most that their product may be, and where it goes; later ones need results of the first.
        products = [
            (layer.kernel_width, layer.channels, config.k_max, plan.segment),
            (layer.width, layer.channels, ROW_MAX, plan.row),
            (layer.stride, layer.channels, ROW_MAX, plan.step),
            (layer.padding, layer.channels, ROW_MAX, plan.border),
            (layer.kernel_height, plan.segment, config.k_max, plan.depth),
            (layer.height, row_words, config.map_words, None),
        ]
        step = Signal(range(len(products) + 2))  # 0: idle
        left, right = (Signal(DIMENSION_BITS, name=name) for name in ("left", "right"))
        product = Signal(2 * DIMENSION_BITS, reset_less=True)
        failed, too_large = Signal(), Signal()
        running = step != 0
        index = Mux(running, step - 1, 0)
        m.d.comb += [
            left.eq(Array(factor for factor, _, _, _ in products)[index]),
            right.eq(Array(factor for _, factor, _, _ in products)[index]),
        ]
        m.d.sync += [product.eq(left * right), self.done.eq(0), self.bad.eq(0)]
        with m.Switch(step):
            for place, (_, _, most, result) in enumerate(products):
                with m.Case(place + 2):
                    m.d.comb += too_large.eq(product > most)
                    if result is not None:
                        m.d.sync += result.eq(product)
        with m.If(self.start):
            m.d.sync += [step.eq(1), failed.eq(self._outside())]
        with m.Elif(running):
            m.d.sync += [step.eq(step + 1), failed.eq(failed | too_large)]
            with m.If(step == len(products) + 1):
                bad = failed | too_large
                m.d.sync += [step.eq(0), self.done.eq(~bad), self.bad.eq(bad)]
        return m

    def _outside(self) -> object:
        """Return whether a size alone, or a kernel and its map, are not allowed."""
        layer = self.layer
        bad = layer.height > self._config.height_max
        for name in (
            "height",
            "width",
            "channels",
            "n",
            "region_height",
            "region_width",
            "kernel_height",
            "kernel_width",
            "stride",
        ):
            bad |= layer[name] == 0
        for side in ("height", "width"):
            bad |= layer[f"kernel_{side}"] > layer[side] + (layer.padding << 1)
        return bad
