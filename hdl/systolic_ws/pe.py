"""Processing element of the weight-stationary array."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import check_choice, check_range


class SystolicWsPe(Block):
    """Multiply the passing activation by the stationary weight and add the product to the passing psum.

    Latency 1 cycle west to east and north to south, one product per cycle.

    Parameters
    ----------
    act_bits, weight_bits, psum_bits : int
        Widths, two's complement. The psum does not saturate: size it with ``acc_bits_needed``.
    weight_buffering : str
        ``single``: the weight register is itself the load chain, shifting south while ``load``.
        ``double``: a chain register shifts south while ``load``; ``swap`` copies what stands *before* it (the
        chain register of the PE above) into the weight register, so that no bypass is needed and the next tile's
        load may begin behind the swap in the cycle in which the swap enters the row below.

    Members
    -------
    act_in, act_out, psum_in, psum_out : In / Out
        West, east, north, south; one register each.
    weight_in, weight_out : In / Out
        The load chain, north to south.
    load_in, load_out, swap_in, swap_out : In / Out
        Control, west to east, one register each. ``swap`` runs one cycle ahead of the tile's first activation and
        exists with ``double`` only.

    Raises
    ------
    ParameterError
        If a width is below 2 or the buffering is unknown.
    """

    def __init__(self, act_bits: int, weight_bits: int, psum_bits: int, weight_buffering: str):
        self._act_bits = check_range("act_bits", act_bits, 2)
        self._weight_bits = check_range("weight_bits", weight_bits, 2)
        self._psum_bits = check_range("psum_bits", psum_bits, act_bits + weight_bits)
        self._double = check_choice("weight_buffering", weight_buffering, ("single", "double")) == "double"
        members = {
            "act_in": In(signed(act_bits)),
            "act_out": Out(signed(act_bits)),
            "weight_in": In(signed(weight_bits)),
            "weight_out": Out(signed(weight_bits)),
            "psum_in": In(signed(psum_bits)),
            "psum_out": Out(signed(psum_bits)),
            "load_in": In(1),
            "load_out": Out(1),
        }
        if self._double:
            members |= {"swap_in": In(1), "swap_out": Out(1)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Register everything that crosses a PE's edge; nothing but the control has a reset."""
        m = Module()
        act = Signal(signed(self._act_bits), reset_less=True)
        psum = Signal(signed(self._psum_bits), reset_less=True)
        weight = Signal(signed(self._weight_bits), reset_less=True)
        m.d.sync += [
            act.eq(self.act_in),
            psum.eq(self.psum_in + self.act_in * weight),
            self.load_out.eq(self.load_in),
        ]
        m.d.comb += [self.act_out.eq(act), self.psum_out.eq(psum)]
        if self._double:
            chain = Signal(signed(self._weight_bits), reset_less=True)
            with m.If(self.load_in):
                m.d.sync += chain.eq(self.weight_in)
            with m.If(self.swap_in):
                m.d.sync += weight.eq(self.weight_in)
            m.d.comb += self.weight_out.eq(chain)
            m.d.sync += self.swap_out.eq(self.swap_in)
        else:
            with m.If(self.load_in):
                m.d.sync += weight.eq(self.weight_in)
            m.d.comb += self.weight_out.eq(weight)
        return m
