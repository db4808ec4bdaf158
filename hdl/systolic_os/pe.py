"""Processing element of the output-stationary array."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_range


def west_layout(act_bits: int) -> data.StructLayout:
    """Return what enters a row from the west.

    Fields: ``act``; ``valid`` (accumulate); ``first`` (start a new sum); ``capture`` (the sum before is complete,
    move it to the drain chain).
    """
    return data.StructLayout({"act": signed(act_bits), "valid": 1, "first": 1, "capture": 1})


class SystolicOsPe(Block):
    """Accumulate the products of the activations and weights that pass.

    Latency 1 cycle west to east and north to south, one product per cycle. The drain chain moves a captured sum
    south by one PE per ``shift``.

    Parameters
    ----------
    act_bits, weight_bits, acc_bits : int
        Widths, two's complement. The accumulator wraps: size it with ``acc_bits_needed``.

    Members
    -------
    west, east : In / Out(west_layout)
        Activation and control.
    weight_in, weight_out : In / Out(signed(weight_bits))
        North, south.
    chain_in, chain_out : In / Out(signed(acc_bits))
        Drain chain, north to south.
    shift_in, shift_out : In / Out(1)
        Shift enable of the drain chain, west to east; a capture wins over it.

    Raises
    ------
    ParameterError
        If a width is below 2 or the accumulator is narrower than a product.
    """

    def __init__(self, act_bits: int, weight_bits: int, acc_bits: int):
        self._act_bits = check_range("act_bits", act_bits, 2)
        self._weight_bits = check_range("weight_bits", weight_bits, 2)
        self._acc_bits = check_range("acc_bits", acc_bits, act_bits + weight_bits)
        super().__init__(
            {
                "west": In(west_layout(act_bits)),
                "east": Out(west_layout(act_bits)),
                "weight_in": In(signed(weight_bits)),
                "weight_out": Out(signed(weight_bits)),
                "chain_in": In(signed(acc_bits)),
                "chain_out": Out(signed(acc_bits)),
                "shift_in": In(1),
                "shift_out": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Register what crosses the edges; only the control has a reset."""
        m = Module()
        act = Signal(signed(self._act_bits), reset_less=True)
        weight = Signal(signed(self._weight_bits), reset_less=True)
        acc = Signal(signed(self._acc_bits), reset_less=True)
        chain = Signal(signed(self._acc_bits), reset_less=True)
        first, capture, valid = Signal(reset_less=True), Signal(), Signal()
        m.d.sync += [
            act.eq(self.west.act),
            weight.eq(self.weight_in),
            first.eq(self.west.first),
            valid.eq(self.west.valid),
            capture.eq(self.west.capture),
            self.shift_out.eq(self.shift_in),
        ]
        m.d.comb += [
            self.east.act.eq(act),
            self.east.first.eq(first),
            self.east.valid.eq(valid),
            self.east.capture.eq(capture),
            self.weight_out.eq(weight),
            self.chain_out.eq(chain),
        ]
        with m.If(self.west.valid):
            m.d.sync += acc.eq(Mux(self.west.first, 0, acc) + self.west.act * self.weight_in)
        with m.If(self.west.capture):
            m.d.sync += chain.eq(acc)
        with m.Elif(self.shift_in):
            m.d.sync += chain.eq(self.chain_in)
        return m
