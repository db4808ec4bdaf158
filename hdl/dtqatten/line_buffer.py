"""Line buffers: what arrives a token at a time, or a position at a time, leaves as words for an edge of the arrays."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.common.flat_index import flat_index
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.quant.errors import ParameterError, check_range


class TokenBuffer(Block):
    """Hold keys or queries: a write is several words' share of one token, a read a word of all lanes of a tile.

    A token's channels come S at a time, which is ``S/E`` words of E; as many memories take them at once. Read
    latency 1 cycle, a write and a read per cycle.

    Parameters
    ----------
    lanes : int
        Tokens of a tile.
    line_elements : int
        Elements of a token in a word, E, a power of two.
    write_elements : int
        Elements that are written at a time, S: E or a power of two above.
    tiles : int
        Tiles in each of the two banks.
    channels : int
        Channels of a token.

    Members
    -------
    write_en, write_bank, write_tile, write_lane, write_word : In
        Write channels ``write_word * S`` and up of a token.
    write_data : In(8 * write_elements)
        They, the first one lowest.
    read_en, read_bank, read_tile, read_group : In
        Read channels ``read_group * E`` and up of a tile's tokens.
    read_data : Out(8 * lanes * line_elements)
        Element e of lane l at byte ``e * lanes + l``, kept until the next read.

    Raises
    ------
    ParameterError
        If a parameter is out of its range.
    """

    def __init__(self, lanes: int, line_elements: int, write_elements: int, tiles: int, channels: int):
        self._lanes = check_range("lanes", lanes, 1)
        self._elements = _power("line_elements", line_elements)
        self._tiles = check_range("tiles", tiles, 1)
        channels = check_range("channels", channels, 1)
        write_elements = _power("write_elements", write_elements)
        self._rams = check_range("write_elements", write_elements, line_elements) // line_elements
        self._words = -(-channels // write_elements)
        super().__init__(
            {
                "write_en": In(1),
                "write_bank": In(1),
                "write_tile": In(address_bits(tiles)),
                "write_lane": In(address_bits(lanes)),
                "write_word": In(address_bits(self._words)),
                "write_data": In(8 * write_elements),
                "read_en": In(1),
                "read_bank": In(1),
                "read_tile": In(address_bits(tiles)),
                "read_group": In(address_bits(self._words * self._rams)),
                "read_data": Out(8 * lanes * line_elements),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Write all memories in one lane, read one."""
        m = Module()
        lanes, elements = self._lanes, self._elements
        lane_bits = 8 * elements
        select_bits = exact_log2(self._rams)
        depth = 2 * self._tiles * self._words
        write_en = Signal(lanes)
        m.d.comb += write_en.eq(Cat(self.write_en & (self.write_lane == lane) for lane in range(lanes)))
        write_address, read_address = (
            self._address(bank, tile, word)[: address_bits(depth)]
            for bank, tile, word in (
                (self.write_bank, self.write_tile, self.write_word),
                (self.read_bank, self.read_tile, self.read_group[select_bits:]),
            )
        )
        select, answering = self.read_group[:select_bits], Signal(select_bits, reset_less=True)
        with m.If(self.read_en):
            m.d.sync += answering.eq(select)
        words = []
        for index in range(self._rams):
            ram = place(m, f"words_{index}", Ram(lanes * lane_bits, depth, granularity=lane_bits))
            m.d.comb += [
                ram.write_en.eq(write_en),
                ram.write_addr.eq(write_address),
                ram.write_data.eq(self.write_data.word_select(index, lane_bits).replicate(lanes)),
                ram.read_en.eq(self.read_en & (select == index)),
                ram.read_addr.eq(read_address),
            ]
            words.append(ram.read_data)
        chosen = Signal(lanes * lane_bits)
        m.d.comb += [
            chosen.eq(choose(words, answering)),
            self.read_data.eq(
                Cat(
                    chosen.word_select(lane * elements + e, 8)
                    for e in range(elements)
                    for lane in range(lanes)
                )
            ),
        ]
        return m

    def _address(self, bank: Value, tile: Value, word: Value) -> Value:
        return flat_index((bank, 2), (tile, self._tiles), (word, self._words))


class PositionBuffer(Block):
    """Hold values or numerators: a write is one position of a tile's lanes, a read a word of E positions.

    Read latency 1 cycle, a write and a read per cycle.

    Parameters
    ----------
    lanes : int
        Channels or queries of a tile.
    line_elements : int
        Positions in a word, E, a power of two.
    tiles : int
        Tiles in a bank.
    positions : int
        Positions.
    banks : int
        Banks.

    Members
    -------
    write_en, write_bank, write_tile, write_position : In
        Write a position of a tile.
    write_data : In(8 * lanes)
        It, lane 0 lowest.
    read_en, read_bank, read_tile, read_group : In
        Read positions ``read_group * E`` and up of a tile.
    read_data : Out(8 * lanes * line_elements)
        Element e of lane l at byte ``e * lanes + l``, kept until the next read.

    Raises
    ------
    ParameterError
        If a parameter is out of its range.
    """

    def __init__(self, lanes: int, line_elements: int, tiles: int, positions: int, banks: int = 1):
        self._lanes = check_range("lanes", lanes, 1)
        self._elements = _power("line_elements", line_elements)
        self._tiles = check_range("tiles", tiles, 1)
        self._groups = -(-check_range("positions", positions, 1) // line_elements)
        self._banks = check_range("banks", banks, 1)
        super().__init__(
            {
                "write_en": In(1),
                "write_bank": In(address_bits(banks)),
                "write_tile": In(address_bits(tiles)),
                "write_position": In(address_bits(positions)),
                "write_data": In(8 * lanes),
                "read_en": In(1),
                "read_bank": In(address_bits(banks)),
                "read_tile": In(address_bits(tiles)),
                "read_group": In(address_bits(self._groups)),
                "read_data": Out(8 * lanes * line_elements),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Write a part of a word, read a word."""
        m = Module()
        bits, elements = 8 * self._lanes, self._elements
        slot_bits = exact_log2(elements)
        slot, group = self.write_position[:slot_bits], self.write_position[slot_bits:]
        ram = place(
            m, "words", Ram(elements * bits, self._banks * self._tiles * self._groups, granularity=bits)
        )
        m.d.comb += [
            ram.write_en.eq(Cat(self.write_en & (slot == e) for e in range(elements))),
            ram.write_addr.eq(self._address(self.write_bank, self.write_tile, group)),
            ram.write_data.eq(self.write_data.replicate(elements)),
            ram.read_en.eq(self.read_en),
            ram.read_addr.eq(self._address(self.read_bank, self.read_tile, self.read_group)),
            self.read_data.eq(ram.read_data),
        ]
        return m

    def _address(self, bank: Value, tile: Value, group: Value) -> Value:
        outer = [(bank, self._banks)] if self._banks > 1 else []
        return flat_index(*outer, (tile, self._tiles), (group, self._groups))


def _power(name: str, value: int) -> int:
    if check_range(name, value, 1) & (value - 1):
        raise ParameterError(name, value, "a power of two")
    return value
