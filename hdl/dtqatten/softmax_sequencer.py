"""The softmax unit's sequencer of the second pass: bands whose reciprocals are there, one after the other."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig


class SoftmaxSequencer(Block):
    """Walk over the keys of a band once it is ready and the band before it is through, a key a cycle.

    With ``ready`` in cycle s the walk begins in s + 2, or when the one before has ended.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    positions : In
        m, from 1; constant while a band waits or is walked over.
    ready, ready_band, ready_columns : In
        Strobe, a band and its queries; never while one waits, nor in the cycle of its ``begins``.
    begins : Out(1)
        Strobe in the cycle before the walk's first.
    running, first, last : Out(1)
        A key, the band's first one, its last.
    position, band, columns : Out
        The key; the band and its queries.
    """

    def __init__(self, config: DtqattenConfig) -> None:
        band, columns = address_bits(config.bands_max), config.columns.bit_length()
        super().__init__(
            {
                "positions": In(config.count_bits),
                "ready": In(1),
                "ready_band": In(band),
                "ready_columns": In(columns),
                "begins": Out(1),
                "running": Out(1),
                "first": Out(1),
                "last": Out(1),
                "position": Out(config.id_bits),
                "band": Out(band),
                "columns": Out(columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the band that waits, count."""
        m = Module()
        waits, running = Signal(), Signal(name="walking")
        position = Signal.like(self.position, name="key", reset_less=True)
        waiting_band, band = (
            Signal.like(self.band, name=f"{n}_band", reset_less=True) for n in ("waiting", "walked")
        )
        waiting_columns, columns = (
            Signal.like(self.columns, name=f"{n}_columns", reset_less=True) for n in ("waiting", "walked")
        )
        m.d.comb += [
            self.begins.eq(waits & (~running | self.last)),
            self.running.eq(running),
            self.first.eq(running & (position == 0)),
            self.last.eq(running & (position + 1 == self.positions)),
            self.position.eq(position),
            self.band.eq(band),
            self.columns.eq(columns),
        ]
        with m.If(self.ready):
            m.d.sync += [
                waits.eq(1),
                waiting_band.eq(self.ready_band),
                waiting_columns.eq(self.ready_columns),
            ]
        with m.Elif(self.begins):
            m.d.sync += waits.eq(0)
        with m.If(self.begins):
            m.d.sync += [running.eq(1), position.eq(0), band.eq(waiting_band), columns.eq(waiting_columns)]
        with m.Elif(running):
            m.d.sync += [running.eq(~self.last), position.eq(position + 1)]
        return m
