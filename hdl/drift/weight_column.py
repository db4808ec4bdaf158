"""A column's part of Drift's weight buffer: it feeds the load chains at both edges of the column."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitgroup import ROWS
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.controls import weight_control

GRANULE = 16  # bits of a granule for each k


class WeightEdge(Block):
    """Keep a column's weights for one edge and send rows of them into the chain there.

    Control that is present in cycle t reads the memory in cycle t (with ``load`` only, and only what is valid);
    ``stationary``, ``load`` and ``copy`` are at the fabric in cycle t + 2, ``control_out`` is at the neighbours in
    cycle t + 1. A row per cycle. Source: design section 6 [ours].

    Parameters
    ----------
    config : DriftConfig
        With bit alignment even and odd words have a memory each, since a row may reach into the next word.

    Members
    -------
    write_en, write_address, write_data : In
        Write port; a word is ``word_weights`` consecutive k of 16 bits, the first one lowest.
    left : In(1)
        The column belongs to the left half: the control is the west's. Constant.
    control_west, control_east : In(weight_control(config))
        From the neighbours. With bit alignment row j's ``offset`` is at most j.
    control_out : Out(weight_control(config))
        What was taken, a cycle later, for both neighbours.
    stationary : Out(config.stationary)
        The row of weights, kept until the next one.
    load : Out(1)
        It is to be taken.
    copy : Out(1)
        Transit buffering only: the copy of the control.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        control = weight_control(config)
        members = {
            "write_en": In(1),
            "write_address": In(config.weight_address_bits),
            "write_data": In(config.axis_data_bits),
            "left": In(1),
            "control_west": In(control),
            "control_east": In(control),
            "control_out": Out(control),
            "stationary": Out(config.stationary),
            "load": Out(1),
        }
        if config.weight_buffering == "transit":
            members["copy"] = Out(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Read, choose and register."""
        m = Module()
        config = self._config
        control = Signal(weight_control(config))
        m.d.comb += control.eq(Mux(self.left, self.control_west.as_value(), self.control_east.as_value()))
        guarded = Signal(weight_control(config), reset_less=True)
        loading = Signal()
        m.d.sync += [loading.eq(control.load), self.load.eq(loading), guarded.eq(control)]
        m.d.comb += [self.control_out.eq(guarded), self.control_out.load.eq(loading)]
        if config.weight_buffering == "transit":
            copying = Signal()
            m.d.sync += [copying.eq(control.copy), self.copy.eq(copying)]
            m.d.comb += self.control_out.copy.eq(copying)
        else:
            m.d.comb += self.control_out.copy.eq(0)
        stationary = Signal(config.stationary, reset_less=True)
        m.d.comb += self.stationary.eq(stationary)
        if config.alignment == "nibble":
            weights = self._read_word(m, control, guarded)
            rest = stationary.high.eq(guarded.high)
        else:
            weights = Cat(self._read_words(m, control, guarded))
            rest = stationary.significance.eq(guarded.significance)
        with m.If(loading):
            m.d.sync += [
                stationary.weights.eq(weights),
                stationary.sign.eq(guarded.sign),
                rest,
            ]
        return m

    def _read_word(self, m: Module, control: data.View, guarded: data.View) -> Value:
        """Return the 16 bits at ``position`` of the word read, nibble alignment."""
        config = self._config
        ram = place(m, "ram", Ram(config.axis_data_bits, config.weight_words))
        m.d.comb += [
            ram.write_en.eq(self.write_en),
            ram.write_addr.eq(self.write_address),
            ram.write_data.eq(self.write_data),
            ram.read_en.eq(control.load & control.valid),
            ram.read_addr.eq(control.address),
        ]
        return choose(_granules(ram.read_data), guarded.position) & guarded.valid.replicate(GRANULE)

    def _read_words(self, m: Module, control: data.View, guarded: data.View) -> list[Value]:
        """Return the 16 bits at ``position + offset`` of each row, bit alignment."""
        config = self._config
        count = config.word_weights
        # A row reaches into the next word, but not from the last one, behind which nothing may be addressed.
        reading, both, first_odd = Signal(), Signal(), Signal()
        m.d.comb += [
            reading.eq(control.load & control.valid[0]),
            both.eq((control.position > count - ROWS) & (control.address != config.weight_words - 1)),
            first_odd.eq(guarded.address[0]),
        ]
        rams = []
        for parity, name in enumerate(("even", "odd")):
            first = control.address[0] == parity
            half = control.address[1:]
            ram = place(
                m, f"ram_{name}", Ram(config.axis_data_bits, max(1, (config.weight_words + 1 - parity) // 2))
            )
            m.d.comb += [
                ram.write_en.eq(self.write_en & (self.write_address[0] == parity)),
                ram.write_addr.eq(self.write_address[1:]),
                ram.write_data.eq(self.write_data),
                ram.read_en.eq(reading & (first | both)),
                # The next word of an odd one is one further among the even ones.
                ram.read_addr.eq(half if parity else half + control.address[0]),
            ]
            rams.append(ram)
        even, odd = (ram.read_data for ram in rams)
        first_word, next_word = Signal(config.axis_data_bits), Signal((ROWS - 1) * GRANULE)
        m.d.comb += [
            first_word.eq(Mux(first_odd, odd, even)),
            next_word.eq(Mux(first_odd, even, odd)),
        ]
        granules = [*_granules(first_word), *_granules(next_word)]
        window = [Signal(GRANULE, name=f"window_{offset}") for offset in range(ROWS)]
        for offset, granule in enumerate(window):
            m.d.comb += granule.eq(choose(granules[offset : offset + count], guarded.position))
        return [
            choose(window[: row + 1], guarded.offset[row]) & guarded.valid[row].replicate(GRANULE)
            for row in range(ROWS)
        ]


def _granules(word: Value) -> list[Value]:
    return [word[start : start + GRANULE] for start in range(0, len(word), GRANULE)]


class WeightColumn(Block):
    """Keep the weights of a physical column once for each edge and feed both of its load chains.

    Timing and words as ``WeightEdge``. Two copies, so that both edges load at their own cadence.

    Parameters
    ----------
    config : DriftConfig

    Members
    -------
    write_en, write_address, write_data, left : In
        See ``WeightEdge``; both copies are written.
    north_control_west, north_control_east, south_control_west, south_control_east : In(weight_control(config))
    north_control_out, south_control_out : Out(weight_control(config))
    north_stationary, south_stationary : Out(config.stationary)
    north_load, south_load : Out(1)
    north_copy, south_copy : Out(1)
        Transit buffering only.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        control = weight_control(config)
        members = {
            "write_en": In(1),
            "write_address": In(config.weight_address_bits),
            "write_data": In(config.axis_data_bits),
            "left": In(1),
        }
        for edge in ("north", "south"):
            members |= {
                f"{edge}_control_west": In(control),
                f"{edge}_control_east": In(control),
                f"{edge}_control_out": Out(control),
                f"{edge}_stationary": Out(config.stationary),
                f"{edge}_load": Out(1),
            }
            if config.weight_buffering == "transit":
                members[f"{edge}_copy"] = Out(1)
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Place the two copies."""
        m = Module()
        outputs = ["control_out", "stationary", "load"]
        if self._config.weight_buffering == "transit":
            outputs.append("copy")
        for name in ("north", "south"):
            edge = place(m, name, WeightEdge(self._config))
            for port in ("write_en", "write_address", "write_data", "left"):
                m.d.comb += getattr(edge, port).eq(getattr(self, port))
            for port in ("control_west", "control_east"):
                m.d.comb += getattr(edge, port).eq(getattr(self, f"{name}_{port}"))
            for port in outputs:
                m.d.comb += getattr(self, f"{name}_{port}").eq(getattr(edge, port))
        return m
