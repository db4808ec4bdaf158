"""The two accumulator banks of a region: claimed, filled, drained in turn."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import drain_layout


class RegionBanks(Block):
    """Track which of a region's two banks are claimed, complete and drained.

    A bank is claimed with what the drain has to know of it; ``last`` says that its last psum was asked for, and
    ``delay`` cycles later it is complete. Banks are used in turn.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    free : Out(1)
        The next bank can be claimed.
    bank : Out(1)
        Which it is.
    claim, claim_info : In
        Claim it in this cycle.
    last, last_bank, delay : In
        The last activation row of ``last_bank`` is issued in this cycle; it is complete ``delay`` (from 1) cycles
        later.
    full, full_bank, info : Out
        The oldest bank that was not taken is complete; which it is; what was said when it was claimed.
    take : In(1)
        The drain has begun with it.
    freed : In(1)
        The bank taken first may be claimed again (after its ``take``, or with it).
    idle : Out(1)
        No bank is claimed.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._info = drain_layout(config)
        self._delay_bits = (2 * config.rows + config.columns + 8).bit_length()
        super().__init__(
            {
                "free": Out(1),
                "bank": Out(1),
                "claim": In(1),
                "claim_info": In(self._info),
                "last": In(1),
                "last_bank": In(1),
                "delay": In(self._delay_bits),
                "full": Out(1),
                "full_bank": Out(1),
                "info": Out(self._info),
                "take": In(1),
                "freed": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep a state per bank."""
        m = Module()
        used = Array(Signal(name=f"used_{i}") for i in range(2))
        full = Array(Signal(name=f"full_{i}") for i in range(2))
        infos = [Signal(self._info, name=f"info_{i}", reset_less=True) for i in range(2)]
        claimed, taken, free = Signal(), Signal(), Signal()
        m.d.comb += [
            self.bank.eq(claimed),
            self.free.eq(~used[claimed]),
            self.full.eq(full[taken]),
            self.full_bank.eq(taken),
            self.info.eq(Mux(taken, infos[1].as_value(), infos[0].as_value())),
            self.idle.eq(~used[0] & ~used[1]),
        ]
        for index in range(2):
            left = Signal(self._delay_bits, name=f"left_{index}")
            with m.If(left != 0):
                m.d.sync += left.eq(left - 1)
            with m.If(left == 1):
                m.d.sync += full[index].eq(1)
            with m.If(self.last & (self.last_bank == index)):
                m.d.sync += left.eq(self.delay)
            with m.If(self.claim & (claimed == index)):
                m.d.sync += [used[index].eq(1), infos[index].eq(self.claim_info)]
            with m.If(self.take & (taken == index)):
                m.d.sync += full[index].eq(0)
            with m.If(self.freed & (free == index)):
                m.d.sync += used[index].eq(0)
        m.d.sync += [
            claimed.eq(claimed ^ self.claim),
            taken.eq(taken ^ self.take),
            free.eq(free ^ self.freed),
        ]
        return m
