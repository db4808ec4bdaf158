"""The writer of V: its vectors in words of R channels, as the arrays take them."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Signal
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.gearbox import Gearbox, packet_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.dtqatten.config import DtqattenConfig


def value_outputs(config: DtqattenConfig) -> dict[str, Member]:
    """Return the ports that write V; see ``ValueWriter``."""
    return {
        "v_en": Out(1),
        "v_bank": Out(1),
        "v_position": Out(config.id_bits),
        "v_tile": Out(address_bits(config.channel_tiles_max)),
        "v_data": Out(8 * config.rows),
        "v_loaded": Out(1),
    }


class ValueWriter(Block):
    """Cut each position's V into words of R channels and write them at once; zeros behind the last channel.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    kept : In
        Level: positions of a head.
    i : In(stream.Signature(packet_layout(S)))
        A packet a position.
    v_en, v_bank, v_position, v_tile, v_data : Out
        R channels, tile ``v_tile`` of them, of a position, for the head's parity.
    v_loaded : Out(1)
        Strobe: a head's last word was written in the cycle before.
    """

    LOADED_LATENCY: ClassVar[int] = 1

    def __init__(self, config: DtqattenConfig):
        self._config = config
        super().__init__(
            {
                "kept": In(config.count_bits),
                "i": In(stream.Signature(packet_layout(config.axis_bytes))),
                **value_outputs(config),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count words, positions and heads behind the gearbox."""
        m = Module()
        config = self._config
        gearbox = place(m, "gearbox", Gearbox(config.axis_bytes, config.rows))
        connect_stream(m, self.i, gearbox.i)
        last = Signal()
        m.d.comb += [
            gearbox.o.ready.eq(1),
            self.v_en.eq(gearbox.o.valid),
            self.v_data.eq(gearbox.o.payload.data),
            last.eq(self.v_position == self.kept - 1),
        ]
        m.d.sync += self.v_loaded.eq(self.v_en & gearbox.o.payload.last & last)
        with m.If(self.v_en):
            m.d.sync += self.v_tile.eq(self.v_tile + 1)
            with m.If(gearbox.o.payload.last):
                m.d.sync += [self.v_tile.eq(0), self.v_position.eq(self.v_position + 1)]
                with m.If(last):
                    m.d.sync += [self.v_position.eq(0), self.v_bank.eq(~self.v_bank)]
        return m
