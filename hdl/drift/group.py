"""Drift's PE: a BitGroup whose activations come from west or east and whose psums leave to north or south."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import COLUMNS, ROWS, BitGroupCore
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import LINK


class DriftGroup(Block):
    """Hold a group's weights, add its sums to the psums that pass, and pass on activations both ways.

    Latency 1 cycle, one step per cycle, exact. Source: Drift section 4 (bidirectional links) [paper]; weights from
    either edge, two or three weight registers [ours], design section 6.

    Parameters
    ----------
    config : DriftConfig
        ``alignment``, ``rows`` (width of the psums) and ``weight_buffering`` have a part in it.

    Members
    -------
    west, east : In(LINK)
        Activation bits and swap as the neighbours pass them on. Single buffering ignores the swap.
    from_east : In(1)
        Take those of the east; part of the right half, whose weights are 4-bit.
    link_out : Out(LINK)
        What was taken, a cycle later, for both neighbours; without swap if single-buffered.
    upper : In(1)
        Part of an upper region: weights, load and copy are those of the north, else those of the south.
    stationary_north, stationary_south : In(config.stationary)
        The load chain as the neighbours, or the edges, pass it on.
    stationary_out : Out(config.stationary)
        The chain's register: with single buffering the weights held, with double buffering the next ones, with a
        transit register that.
    load_north, load_south : In(1)
        The chain moves by a group.
    copy_north, copy_south : In(1)
        Transit buffering only: what the transit register holds (before a load of the same cycle) becomes next.
    psum_north_in, psum_south_in : In(config.psum)
        The neighbours' psums.
    take_north, take_south : In(1)
        Add to those of the north, or of the south; to 0 if neither is given. Never both.
    psum_out : Out(config.psum)
        The psums taken plus the products of the activations taken with the weights held, a cycle later, for both
        neighbours. Odd columns hold ``odd_psum_bits(rows)`` bits and wrap there.

    A ``swap`` taken in cycle t makes the next weights (also those that become next in cycle t) the held ones of
    cycle t + 1. With single buffering a load in cycle t does so.
    """

    def __init__(self, config: DriftConfig) -> None:
        self.config = config
        stationary, psum = config.stationary, config.psum
        members = {
            "west": In(LINK),
            "east": In(LINK),
            "link_out": Out(LINK),
            "from_east": In(1),
            "upper": In(1),
            "stationary_north": In(stationary),
            "stationary_south": In(stationary),
            "stationary_out": Out(stationary),
            "load_north": In(1),
            "load_south": In(1),
            "psum_north_in": In(psum),
            "psum_south_in": In(psum),
            "psum_out": Out(psum),
            "take_north": In(1),
            "take_south": In(1),
        }
        if config.weight_buffering == "transit":
            members |= {"copy_north": In(1), "copy_south": In(1)}
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Return links, weights and psums around the multipliers."""
        m = Module()
        core = place(m, "core", BitGroupCore(self.config.group))
        # No reset but the swap's: what leaves the fabric before weights and activations came is not used.
        act_taken = Signal(ROWS)
        act = Signal(ROWS, reset_less=True)
        m.d.comb += [
            act_taken.eq(Mux(self.from_east, self.east.act, self.west.act)),
            self.link_out.act.eq(act),
            core.act.eq(act_taken),
        ]
        m.d.sync += act.eq(act_taken)
        swap_taken = Signal()
        if self.config.weight_buffering != "single":
            swap = Signal()
            m.d.comb += [
                swap_taken.eq(Mux(self.from_east, self.east.swap, self.west.swap)),
                self.link_out.swap.eq(swap),
            ]
            m.d.sync += swap.eq(swap_taken)
        weights = Signal(self.config.stationary)
        m.d.comb += [weights.eq(self._weights(m, swap_taken)), core.stationary.wide.eq(~self.from_east)]
        for name, _ in self.config.stationary:
            m.d.comb += Value.cast(core.stationary[name]).eq(Value.cast(weights[name]))
        self._psums(m, core)
        return m

    def _weights(self, m: Module, swap: Value) -> Value:
        """Return the weights held, behind the chain that brings them."""
        layout = self.config.stationary
        bits = layout.size
        load, arriving = Signal(), Signal(bits)
        chain = Signal(bits, reset_less=True)
        m.d.comb += [
            load.eq(Mux(self.upper, self.load_north, self.load_south)),
            arriving.eq(Mux(self.upper, self.stationary_north.as_value(), self.stationary_south.as_value())),
            self.stationary_out.eq(chain),
        ]
        if self.config.weight_buffering == "single":
            with m.If(load):
                m.d.sync += chain.eq(arriving)
            return chain
        following, weights = Signal(bits), Signal(bits, reset_less=True)
        with m.If(swap):
            m.d.sync += weights.eq(following)
        if self.config.weight_buffering == "double":
            m.d.comb += following.eq(Mux(load, arriving, chain))
            m.d.sync += chain.eq(following)
            return weights
        copy, held = Signal(), Signal(bits, reset_less=True)
        m.d.comb += [
            copy.eq(Mux(self.upper, self.copy_north, self.copy_south)),
            following.eq(Mux(copy, chain, held)),
        ]
        m.d.sync += held.eq(following)
        with m.If(load):
            m.d.sync += chain.eq(arriving)
        return weights

    def _psums(self, m: Module, core: BitGroupCore) -> None:
        """Add each column's sum to the psum that is taken: two gates per bit, since one or none is."""
        for column in range(COLUMNS):
            bits = self.config.group.held_psum_bits(column)
            taken = Signal(signed(bits), name=f"taken_{column}")
            psum = Signal(signed(bits), name=f"psum_{column}", reset_less=True)
            north, south = (port[column].as_unsigned() for port in (self.psum_north_in, self.psum_south_in))
            m.d.comb += [
                taken.eq(
                    (north[:bits] & self.take_north.replicate(bits))
                    | (south[:bits] & self.take_south.replicate(bits))
                ),
                self.psum_out[column].eq(psum),
            ]
            m.d.sync += psum.eq(taken + core.sums[column])
