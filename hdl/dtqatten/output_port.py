"""An unload port's side of the results: requantize a band's rows, keep its bytes, give them channel by channel."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig

MULTIPLIER_BITS = 18  # of a query's row factor
SHIFT_BITS = 6
RESULT_LOW, RESULT_HIGH = -128, 127


class OutputPort(Block):
    """Requantize the rows of results that leave at a port, and keep their bytes until the sender reads them.

    A row is one channel for the C queries of a band. A lane per query computes
    ``clip((acc * multiplier + (1 << (shift - 1))) >> shift, -128, 127)`` with the query's own row factor (halves
    round towards plus infinity) and puts the byte into its own memory, whose words are the R channels of a tile:
    rows come as channels and leave as tokens [ours]. A row that is on the bus in cycle s is written in s +
    ``LATENCY`` and may be read a cycle later; throughput is a row per cycle. Bytes of rows that are not valid keep
    what was there, lanes beyond the band's queries hold anything.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    i_next_band : In
        Band of the row that is on the bus in the next cycle.
    i_valid, i_row_valid : In(1)
        One of the R rows of a tile is on the bus; it lies inside the tile.
    i_band, i_tile, i_row : In
        Its band; the channel tile's place among the port's (number // P); its channel in the tile.
    i_last : In(1)
        It is the tile's last row.
    i_data : In(C * acc_bits)
        Accumulators, query 0 lowest.
    factor_en, factor_band, factor_lane, factor_multiplier, factor_shift : In
        Write a query's row factor. Written in cycle w it holds for the rows from cycle w + 2 on. Shifts are from 1.
    tile_done, tile_done_band : Out
        Strobe in the cycle after the write of a tile's last row, and the tile's band.
    read_en, read_band, read_tile, read_lane : In
        Ask for a word: the R bytes that a tile has of a query.
    read_advance : In(1)
        Let the read pipeline advance; while low it keeps everything, and ``read_en`` asks for nothing.
    read_data : Out(8 * R)
        The word, ``READ_LATENCY`` advancing cycles after it was asked for. What is not asked for gives anything.
    """

    LATENCY: ClassVar[int] = Requantizer.LATENCY
    READ_LATENCY: ClassVar[int] = 2  # memory, choice of the lane

    def __init__(self, config: DtqattenConfig) -> None:
        self._config = config
        band, tile = address_bits(config.bands_max), address_bits(config.port_tiles_max)
        lane = address_bits(config.columns)
        super().__init__(
            {
                "i_next_band": In(band),
                "i_valid": In(1),
                "i_row_valid": In(1),
                "i_band": In(band),
                "i_tile": In(tile),
                "i_row": In(address_bits(config.rows)),
                "i_last": In(1),
                "i_data": In(config.columns * config.acc_bits),
                "factor_en": In(1),
                "factor_band": In(band),
                "factor_lane": In(lane),
                "factor_multiplier": In(MULTIPLIER_BITS),
                "factor_shift": In(SHIFT_BITS),
                "tile_done": Out(1),
                "tile_done_band": Out(band),
                "read_en": In(1),
                "read_band": In(band),
                "read_tile": In(tile),
                "read_lane": In(lane),
                "read_advance": In(1),
                "read_data": Out(8 * config.rows),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Connect factors, lanes and their memories."""
        m = Module()
        config = self._config
        factors = self._factors(m)
        size = config.acc_bits
        address = Signal(address_bits(config.bands_max * config.port_tiles_max))
        channels, done = Signal(config.rows), Signal()
        m.d.comb += [
            address.eq(self._word(self.i_band, self.i_tile)),
            channels.eq(
                Cat(self.i_row == row for row in range(config.rows))
                & (self.i_valid & self.i_row_valid).replicate(config.rows)
            ),
            done.eq(self.i_valid & self.i_last),
        ]
        write_address = _delay(m, "write_address", address, self.LATENCY, reset_less=True)
        write_en = _delay(m, "write_en", channels, self.LATENCY)
        m.d.comb += [
            self.tile_done.eq(_delay(m, "tile_done", done, self.LATENCY + 1)),
            self.tile_done_band.eq(
                _delay(m, "tile_done_band", self.i_band, self.LATENCY + 1, reset_less=True)
            ),
        ]
        read_address, read_lane = Signal.like(address), Signal.like(self.read_lane, reset_less=True)
        m.d.comb += read_address.eq(self._word(self.read_band, self.read_tile))
        words = []
        for lane in range(config.columns):
            requantizer = place(
                m,
                f"requantizer_{lane}",
                Requantizer(acc_bits=size, multiplier_bits=MULTIPLIER_BITS, shift_bits=SHIFT_BITS),
            )
            ram = place(
                m,
                f"bytes_{lane}",
                Ram(8 * config.rows, config.bands_max * config.port_tiles_max, granularity=8),
            )
            multiplier, shift = factors[lane]
            m.d.comb += [
                requantizer.en.eq(1),
                requantizer.acc.eq(self.i_data[lane * size : (lane + 1) * size].as_signed()),
                requantizer.multiplier.eq(multiplier),
                requantizer.shift.eq(shift),
                requantizer.low.eq(RESULT_LOW),
                requantizer.high.eq(RESULT_HIGH),
                ram.write_en.eq(write_en),
                ram.write_addr.eq(write_address),
                ram.write_data.eq(requantizer.out[:8].replicate(config.rows)),
                ram.read_en.eq(self.read_en & self.read_advance & (self.read_lane == lane)),
                ram.read_addr.eq(read_address),
            ]
            words.append(ram.read_data)
        word = Signal(8 * config.rows, reset_less=True)
        with m.If(self.read_advance):
            m.d.sync += [read_lane.eq(self.read_lane), word.eq(choose(words, read_lane))]
        m.d.comb += self.read_data.eq(word)
        return m

    def _word(self, band: Value, tile: Value) -> Value:
        """Return the address of a tile of a band in every lane's memory."""
        return band * self._config.port_tiles_max + tile

    def _factors(self, m: Module) -> list[tuple[Value, Value]]:
        """Return each lane's multiplier and shift for the row that is on the bus."""
        config = self._config
        size = MULTIPLIER_BITS + SHIFT_BITS
        ram = place(m, "factors", Ram(config.columns * size, config.bands_max, granularity=size))
        m.d.comb += [
            ram.write_en.eq(
                Cat(self.factor_en & (self.factor_lane == lane) for lane in range(config.columns))
            ),
            ram.write_addr.eq(self.factor_band),
            ram.write_data.eq(Cat(self.factor_multiplier, self.factor_shift).replicate(config.columns)),
            ram.read_en.eq(1),
            ram.read_addr.eq(self.i_next_band),
        ]
        both = [ram.read_data[lane * size : (lane + 1) * size] for lane in range(config.columns)]
        return [(word[:MULTIPLIER_BITS], word[MULTIPLIER_BITS:]) for word in both]


def _delay(m: Module, name: str, value: Signal, stages: int, *, reset_less: bool = False) -> Signal:
    """Return ``value`` as it was ``stages`` cycles ago."""
    for stage in range(1, stages + 1):
        register = Signal(len(value), name=f"{name}_{stage}", reset_less=reset_less)
        m.d.sync += register.eq(value)
        value = register
    return value
