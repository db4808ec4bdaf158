"""The scheduler's client: a split for the layer that runs, or beforehand for the one that comes."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, NIBBLES_BITS, DriftConfig
from bitfabric.hdl.drift.scheduler import Scheduler

# What a split is chosen for, next to the counts of activation rows.
WORK = data.StructLayout(
    {
        "k": DIMENSION_BITS,
        "nibbles_high": NIBBLES_BITS,
        "nibbles_low": NIBBLES_BITS,
        "granules_high": GRANULE_BITS,
        "granules_low": GRANULE_BITS,
    }
)


class Splitter(Block):
    """Have the split of a layer chosen, and that of the next one under it.

    A layer's quotients are tabulated from its start, under the loading of its activations; the scan begins when the
    counts of their rows are known. For a layer whose activations are in the buffer already the host may ask
    beforehand (``prepare``): the scheduler then works under the layer before and the layer starts with its split.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        A layer starts; ``work`` is stable from now on.
    work : In(WORK)
        Its work.
    reuse : In(1)
        With ``start``: its activations are those in the buffer, so that a prepared split may serve.
    counted : In(1)
        The counts of the layer's rows are there, a level.
    rows_high, rows_low : In(16)
        The counts; those of the activations in the buffer where no layer runs.
    prepare : In(1)
        A split is wanted for ``prepare_work`` and the activations in the buffer.
    prepare_work : In(WORK)
        Stable from the cycle after ``prepare`` until the split is chosen.
    settled : In(1)
        The activations in the buffer are there and stay, a level.
    forget : In(1)
        They are not there any more: drop what was prepared.
    valid : Out(1)
        The layer's split is there, from at least a cycle after its start to the next one.
    columns_left, rows_left, rows_right : Out
        The layer's split, registers.
    impossible : Out(1)
        With ``valid``: no split gives groups to all the work, as where a single column has both precisions.
    prepared : Out(1)
        A split is there for the layer that comes.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        split = range(config.rows + 1)
        super().__init__(
            {
                "start": In(1),
                "work": In(WORK),
                "reuse": In(1),
                "counted": In(1),
                "rows_high": In(DIMENSION_BITS),
                "rows_low": In(DIMENSION_BITS),
                "prepare": In(1),
                "prepare_work": In(WORK),
                "settled": In(1),
                "forget": In(1),
                "valid": Out(1),
                "columns_left": Out(range(config.columns + 1)),
                "rows_left": Out(split),
                "rows_right": Out(split),
                "impossible": Out(1),
                "prepared": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Serve the running layer first; a request that comes in between waits."""
        m = Module()
        scheduler = place(m, "scheduler", Scheduler(self._config))

        layer, ahead, wanted = (
            Signal(),
            Signal(),
            Signal(),
        )  # work for the layer, beforehand; it was asked for
        tabulate, begun = Signal(), Signal()
        prepared = Signal()
        prepared_for = Signal(WORK, reset_less=True)
        key = Signal(WORK, reset_less=True)  # what the scheduler works for
        best = ("columns_left", "rows_left", "rows_right", "impossible")
        impossible = Signal()
        kept = {name: Signal.like(getattr(self, name), name=f"kept_{name}", reset_less=True) for name in best}
        go = Signal()
        found = {name: getattr(scheduler, name) for name in best[:3]} | {"impossible": impossible}
        m.d.comb += [
            impossible.eq(scheduler.cycles.all()),
            self.prepared.eq(prepared),
            scheduler.tabulate.eq(tabulate),
            scheduler.q_high.eq(key.nibbles_high),
            scheduler.q_low.eq(key.nibbles_low),
            scheduler.g_high.eq(key.granules_high),
            scheduler.g_low.eq(key.granules_low),
            scheduler.m_high.eq(self.rows_high),
            scheduler.m_low.eq(self.rows_low),
            scheduler.start.eq(go),
            go.eq(~begun & ~tabulate & ((layer & self.counted) | ahead)),
        ]
        m.d.sync += tabulate.eq(0)
        with m.If(go):
            m.d.sync += begun.eq(1)
        with m.If(scheduler.done):
            m.d.sync += [layer.eq(0), ahead.eq(0)]
            with m.If(layer):
                m.d.sync += self.valid.eq(1)
                m.d.sync += [getattr(self, name).eq(found[name]) for name in best]
            with m.Elif(ahead):
                m.d.sync += [prepared.eq(1), prepared_for.eq(key)]
                m.d.sync += [kept[name].eq(found[name]) for name in best]
        with m.If(self.prepare):
            m.d.sync += wanted.eq(1)
        # Between layers, or under one that has its split.
        with m.Elif(wanted & self.settled & ~layer & ~ahead & ~self.start):
            m.d.sync += [wanted.eq(0), ahead.eq(1), key.eq(self.prepare_work), tabulate.eq(1), begun.eq(0)]
            m.d.sync += prepared.eq(0)
            m.d.comb += scheduler.clear.eq(1)
        with m.If(self.start):
            m.d.sync += [self.valid.eq(0), wanted.eq(0), prepared.eq(0)]
            with m.If(self.reuse & prepared & (prepared_for == self.work)):
                m.d.sync += self.valid.eq(1)
                m.d.sync += [getattr(self, name).eq(kept[name]) for name in best]
            with m.Elif(self.reuse & ahead & (key == self.work)):
                with m.If(scheduler.done):
                    m.d.sync += self.valid.eq(1)
                    m.d.sync += [getattr(self, name).eq(found[name]) for name in best]
                with m.Else():
                    m.d.sync += [layer.eq(1), ahead.eq(0)]
            with m.Else():
                m.d.sync += [layer.eq(1), ahead.eq(0), key.eq(self.work), tabulate.eq(1), begun.eq(0)]
                m.d.comb += scheduler.clear.eq(1)
        with m.If(self.forget):
            m.d.sync += [prepared.eq(0), ahead.eq(0)]
        return m
