"""What an array core shows to the machine around it, and the counting of its cycles."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.gemm.accumulator import drain_layout, south_layout
from bitfabric.hdl.gemm.config import DIMENSION_BITS, GemmConfig

FEED_LATENCY = (
    2  # cycles from a buffer's read to the array's boundary: the memory and the skew's first register
)


def core_members(config: GemmConfig, psum_bits: int) -> dict[str, Any]:
    """Return the ports that every array core has.

    Members
    -------
    m, k, n, resident, start : In
        The GEMM; ``start`` for one cycle.
    weights_full, weights_en, weights_addr, weights_data, weights_release
        Read side of the weight ``DoubleBuffer``.
    acts_ready, acts_taken, acts_en, acts_addr, acts_data, acts_release
        Read side of the ``ActBuffer``.
    acc_free, claim, claim_info
        Claims an accumulator bank for an (M, N) tile.
    psum, south : Out
        The array's south edge and the control of its column 0, aligned.
    window : Out(1)
        High in every cycle between the first one that the array works in and the last one, as seen from the
        array's boundary.
    stalled : Out(1)
        High in the cycles of ``window`` by which a buffer delays the array.
    """
    return {
        "m": In(DIMENSION_BITS),
        "k": In(DIMENSION_BITS),
        "n": In(DIMENSION_BITS),
        "resident": In(1),
        "start": In(1),
        "weights_full": In(1),
        "weights_en": Out(1),
        "weights_addr": Out(address_bits(config.k_step)),
        "weights_data": In(config.columns * config.weight_bits),
        "weights_release": Out(1),
        "acts_ready": In(1),
        "acts_taken": Out(1),
        "acts_en": Out(1),
        "acts_addr": Out(address_bits(config.act_depth)),
        "acts_data": In(config.rows * config.act_bits),
        "acts_release": Out(1),
        "acc_free": In(1),
        "claim": Out(1),
        "claim_info": Out(drain_layout(config.m_step, config.columns)),
        "psum": Out(signed(psum_bits)).array(config.columns),
        "south": Out(south_layout(config.m_step)),
        "window": Out(1),
        "stalled": Out(1),
    }


def delay(m: Module, name: str, value: Value, stages: int, *, reset_less: bool = False) -> Value:
    """Return ``value`` as it was ``stages`` cycles ago."""
    for stage in range(stages):
        register = Signal(value.shape(), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value


class CycleWindow:
    """Count the window of an array's work and the stalls in it.

    Everything is counted where tiles are issued, a constant number of cycles before the array's boundary.

    Parameters
    ----------
    m : Module
        Gets the counters.
    begin : Value
        The array's first cycle.
    last : Value
        The cycle that issues the GEMM's last activation.
    tail : int
        Cycles until it has crossed the array: ``rows + columns - 2``.
    """

    def __init__(self, m: Module, *, begin: Value, last: Value, tail: int):
        self._m = m
        self.window = Signal()
        running, finishing = Signal(), Signal()
        left = Signal(range(tail + 1), reset_less=True)
        self.opens = Signal()
        m.d.comb += [
            self.opens.eq(begin & ~running),
            self.window.eq(begin | (running & ~(finishing & (left == 0)))),
        ]
        with m.If(begin):
            m.d.sync += running.eq(1)
        with m.If(finishing):
            m.d.sync += left.eq(left - 1)
            with m.If(left == 0):
                m.d.sync += [running.eq(0), finishing.eq(0)]
        with m.If(last):
            m.d.sync += [running.eq(1), finishing.eq(1), left.eq(tail)]

    def pace(self, *, first: int | None, issue: Value, cycles: Value, pending: Value) -> Signal:
        """Return the signal that the array waits although it could have gone on.

        Parameters
        ----------
        first : int, optional
            Cycles from the window's opening to the first issue; None if the first issue opens the window.
        issue : Value
            A tile's first issue.
        cycles : Value
            Cycles from this issue to the next one if no buffer delays it.
        pending : Value
            Another tile has to be issued.
        """
        m = self._m
        left = Signal(max(len(cycles), bits_for(first or 0)), reset_less=True)
        stalled = Signal()
        m.d.comb += stalled.eq(self.window & ~self.opens & ~issue & pending & (left == 0))
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        if first is not None:
            with m.If(self.opens):
                m.d.sync += left.eq(first - 1)
        with m.If(issue):
            m.d.sync += left.eq(cycles - 1)
        return stalled
