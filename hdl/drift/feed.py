"""The head of s_axis: activations to the intake, what follows them to the weight loader."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig


class Feed(Block):
    """Lead the first ``m`` x ``beats`` beats of a packet to the intake and the rest to the loader.

    No latency; which of the two takes a beat depends on registers only.

    Parameters
    ----------
    config : DriftConfig
        Gives the width.

    Members
    -------
    start : In(1)
        A layer starts; ``skip`` and the dimensions are stable from now on.
    skip : In(1)
        There are no activations in the packet.
    m, beats : In(16)
        Rows, and beats of one.
    i : In(stream of beat_layout)
        The packet.
    acts : Out(stream of axis_data_bits)
        Activations.
    rest : Out(stream of beat_layout)
        What follows.
    passed : Out(1)
        Strobe: the activations have been taken, or there are none.
    framing_error : Out(1)
        ``last`` came with an activation; stays.
    """

    def __init__(self, config: DriftConfig) -> None:
        width = config.axis_data_bits
        super().__init__(
            {
                "start": In(1),
                "skip": In(1),
                "m": In(DIMENSION_BITS),
                "beats": In(DIMENSION_BITS),
                "i": In(stream.Signature(beat_layout(width))),
                "acts": Out(stream.Signature(width)),
                "rest": Out(stream.Signature(beat_layout(width))),
                "passed": Out(1),
                "framing_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count rows and beats."""
        m = Module()
        acts, rest = Signal(), Signal()
        row, beat = Signal(DIMENSION_BITS, reset_less=True), Signal(DIMENSION_BITS, reset_less=True)
        taken, last_beat = Signal(), Signal()
        m.d.comb += [
            self.acts.valid.eq(acts & self.i.valid),
            self.acts.payload.eq(self.i.payload.data),
            self.rest.valid.eq(rest & self.i.valid),
            self.rest.payload.eq(self.i.payload.as_value()),
            self.i.ready.eq((acts & self.acts.ready) | (rest & self.rest.ready)),
            taken.eq(self.acts.valid & self.acts.ready),
            last_beat.eq(beat + 1 == self.beats),
            self.passed.eq((self.start & self.skip) | (taken & last_beat & (row + 1 == self.m))),
        ]
        with m.If(self.start):
            m.d.sync += [acts.eq(~self.skip), row.eq(0), beat.eq(0)]
        with m.If(taken):
            m.d.sync += beat.eq(beat + 1)
            with m.If(last_beat):
                m.d.sync += [beat.eq(0), row.eq(row + 1)]
            with m.If(self.i.payload.last):
                m.d.sync += self.framing_error.eq(1)
        with m.If(self.passed):
            m.d.sync += [acts.eq(0), rest.eq(1)]
        return m
