"""The softmax unit's reader: bands in order, their maxima and scores from the ports that hold them."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import SCORE_BITS, DtqattenConfig
from bitfabric.quant.errors import ParameterError


class SoftmaxReader(Block):
    """Take bands, read the maxima of each, then its scores, a key a cycle.

    Key position t is row ``t % R`` of tile ``t // R``; port ``tile % P`` holds it in slot ``tile // P * R + t % R``. Of a band
    taken in cycle a, the maxima are asked for in a + 1 and stand, over the ports, from a + 3; position t is asked for in
    a + ``LATENCY`` + t, and its scores stand a cycle later. The next band may be taken ``interval`` cycles after this one,
    ``interval = max(m, C' + 2)``: the reciprocals of a band's queries are then not in the way of the band's before it.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    positions : In
        m, from 1; constant while there are bands.
    band_valid, band, band_columns, band_ready
        The stream of bands, C' at most m.
    free : In(1)
        There is room for the exponents of a band that is taken now.
    taken : Out(1)
        A band is taken.
    max_en, max_band : Out
        Ask for a band's maxima.
    max_data, max_valid : In
        Those of the ports a cycle later, query 0 of port 0 lowest, and whether a port has any; port 0 always has.
    read_en : Out(P)
        Ask a port for scores.
    read_band, read_slot : Out
        Where they stand.
    read_data : In
        Scores of the ports a cycle later.
    maximum, score : Out(C * 24)
        What the lanes take; the maxima stand until the last score.
    last : Out(1)
        The band's last position is asked for.
    columns : Out
        C' of that band, which is ``read_band``.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        lanes, ports = config.columns * SCORE_BITS, config.unload_ports
        if ports > 2:
            raise ParameterError("unload_ports", ports, "1 or 2")
        self._columns_bits = config.columns.bit_length()
        band = address_bits(config.bands_max)
        super().__init__(
            {
                "positions": In(config.count_bits),
                "band_valid": In(1),
                "band": In(band),
                "band_columns": In(self._columns_bits),
                "band_ready": Out(1),
                "free": In(1),
                "taken": Out(1),
                "max_en": Out(1),
                "max_band": Out(band),
                "max_data": In(ports * lanes),
                "max_valid": In(ports),
                "read_en": Out(ports),
                "read_band": Out(band),
                "read_slot": Out(address_bits(config.slots_max)),
                "read_data": In(ports * lanes),
                "maximum": Out(lanes),
                "score": Out(lanes),
                "last": Out(1),
                "columns": Out(self._columns_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Take a band, then count."""
        m = Module()
        wait = Signal(range(max(self._config.tokens_max, self._config.columns + 2)))
        most, least = Signal.like(wait), Signal.like(wait)
        band = Signal.like(self.band, reset_less=True)
        columns = Signal.like(self.band_columns, reset_less=True)
        m.d.comb += [
            self.band_ready.eq((wait == 0) & self.free),
            self.taken.eq(self.band_valid & self.band_ready),
            most.eq(self.positions - 1),
            least.eq(self.band_columns + 1),
            self.max_band.eq(band),
        ]
        m.d.sync += self.max_en.eq(self.taken)
        with m.If(self.taken):
            m.d.sync += [
                wait.eq(Mux(most > least, most, least)),
                band.eq(self.band),
                columns.eq(self.band_columns),
            ]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        self._walk(m, band, columns)
        self._maxima(m)
        return m

    def _walk(self, m: Module, band: Signal, columns: Signal) -> None:
        """Ask for the scores of every position."""
        rows, ports = self._config.rows, self._config.unload_ports
        running = Signal()
        left = Signal(self._config.count_bits, reset_less=True)
        row = Signal(range(rows), reset_less=True)
        slot, base = (Signal.like(self.read_slot, name=name, reset_less=True) for name in ("slot", "base"))
        port = Signal(reset_less=True)
        held_band = Signal.like(band, reset_less=True)
        held_columns = Signal.like(columns, reset_less=True)
        ends = Signal()
        m.d.comb += [
            self.last.eq(running & (left == 1)),
            self.read_en.eq(Cat(running & (port == number) for number in range(ports))),
            self.read_band.eq(held_band),
            self.columns.eq(held_columns),
            self.read_slot.eq(slot),
            ends.eq(row == rows - 1),
        ]
        with m.If(self.max_en):
            m.d.sync += [
                running.eq(1),
                left.eq(self.positions),
                row.eq(0),
                slot.eq(0),
                base.eq(0),
                port.eq(0),
            ]
            m.d.sync += [held_band.eq(band), held_columns.eq(columns)]
        with m.Elif(running):
            m.d.sync += [running.eq(~self.last), left.eq(left - 1)]
            with m.If(ends):
                m.d.sync += row.eq(0)
            with m.Else():
                m.d.sync += row.eq(row + 1)
            if ports == 1:
                m.d.sync += slot.eq(slot + 1)
            else:
                with m.If(ends & ~port):  # the same slots of the other port
                    m.d.sync += [port.eq(1), slot.eq(base)]
                with m.Else():
                    m.d.sync += slot.eq(slot + 1)
                    with m.If(ends):
                        m.d.sync += [port.eq(0), base.eq(slot + 1)]
        if ports == 1:
            m.d.comb += self.score.eq(self.read_data)
        else:
            answering = Signal(reset_less=True)
            m.d.sync += answering.eq(port)
            first, second = (
                self.read_data[len(self.score) * number :][: len(self.score)] for number in (0, 1)
            )
            m.d.comb += self.score.eq(Mux(answering, second, first))

    def _maxima(self, m: Module) -> None:
        """Keep the ports' maxima until the next band's come."""
        ports = self._config.unload_ports
        asked = Signal()
        maximum = Signal.like(self.maximum, reset_less=True)
        found: list[Value] = []
        for lane in range(self._config.columns):
            parts = [
                self.max_data[SCORE_BITS * (self._config.columns * number + lane) :][:SCORE_BITS].as_signed()
                for number in range(ports)
            ]
            if ports == 1:
                found.append(parts[0])
                continue
            first, second = (Signal(signed(SCORE_BITS), name=f"maximum_{lane}_{number}") for number in (0, 1))
            m.d.comb += [first.eq(parts[0]), second.eq(parts[1])]
            # Port 0 has a tile of every band, its first.
            found.append(Mux(self.max_valid[1] & (second > first), second, first))
        m.d.sync += asked.eq(self.max_en)
        with m.If(asked):
            m.d.sync += maximum.eq(Cat(found))
        m.d.comb += self.maximum.eq(maximum)
