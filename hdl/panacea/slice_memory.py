"""WMEM and AMEM: a ring of compressed tiles that can be read more than once before its space is free again."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.quant.errors import check_range


def ring_add(address: Value, step: Value, words: int) -> Value:
    """Return ``(address + step) mod words`` for a step of at most ``words``."""
    total = address + step
    return Mux(total >= words, total - words, total)[: address_bits(words)]


class SliceMemory(Block):
    """Hold compressed tiles in a ring: the memory manager of one operand [paper, III-D; ours in its form].

    Tiles are written once, word by word. The reader goes through the tiles it holds in their order; a tile is freed
    when it has been read for the last time, or the reader goes back to the oldest one. Only what the stream brings
    is stored: kept and forced vectors with their indices. Read latency is 1 cycle; a tile completed in cycle t can
    be seen in t + 1, and so can space freed.

    Parameters
    ----------
    width, words : int
        Bits of a word; words.

    Members
    -------
    write_ready : Out(1)
        There is room for a word.
    write_en, write_data, write_tile : In
        Write the next word; ``write_tile`` with the last one of a tile.
    tile_ready : Out(1)
        A complete tile has not been read in this pass.
    base : Out(address)
        Where that tile starts.
    read_en, read_addr, read_data : In, In, Out
        Read port; the data stay until the next ``read_en``.
    tile_done : In(1)
        The reader leaves the tile.
    tile_words : In
        Its words, with ``tile_done``.
    tile_free : In(1)
        Its space is free, with ``tile_done``; else it stays.
    rewind : In(1)
        With ``tile_done``: the next tile to read is the oldest one held.
    full : Out(1)
        No word is free.

    Raises
    ------
    ParameterError
        If ``width`` or ``words`` is not positive.
    """

    def __init__(self, width: int, words: int):
        self._width = check_range("width", width, 1)
        self._words = check_range("words", words, 2)
        address = address_bits(words)
        super().__init__(
            {
                "write_ready": Out(1),
                "write_en": In(1),
                "write_data": In(width),
                "write_tile": In(1),
                "tile_ready": Out(1),
                "base": Out(address),
                "read_en": In(1),
                "read_addr": In(address),
                "read_data": Out(width),
                "tile_done": In(1),
                "tile_words": In(range(words + 1)),
                "tile_free": In(1),
                "rewind": In(1),
                "full": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Keep the ring's pointers and two counts: words used, tiles held."""
        m = Module()
        words = self._words
        ram = place(m, "ram", Ram(self._width, words))
        write_at = Signal(address_bits(words))
        oldest = Signal(address_bits(words))  # start of the oldest tile held
        reading = Signal(address_bits(words))  # start of the tile to be read next
        used = Signal(range(words + 1))
        held = Signal(range(words + 1))
        passed = Signal(range(words + 1))  # of those held, the tiles read in this pass
        after = Signal(address_bits(words))
        m.d.comb += [
            after.eq(ring_add(reading, self.tile_words, words)),
            self.full.eq(used == words),
            self.write_ready.eq(~self.full),
            self.tile_ready.eq(held != passed),
            self.base.eq(reading),
            ram.write_en.eq(self.write_en),
            ram.write_addr.eq(write_at),
            ram.write_data.eq(self.write_data),
            ram.read_en.eq(self.read_en),
            ram.read_addr.eq(self.read_addr),
            self.read_data.eq(ram.read_data),
        ]
        with m.If(self.write_en):
            m.d.sync += write_at.eq(Mux(write_at == words - 1, 0, write_at + 1))
        freed = Signal()
        m.d.comb += freed.eq(self.tile_done & self.tile_free)
        m.d.sync += [
            used.eq(used + self.write_en - Mux(freed, self.tile_words, 0)),
            held.eq(held + (self.write_en & self.write_tile) - freed),
        ]
        with m.If(self.tile_done):
            with m.If(self.tile_free):
                m.d.sync += [oldest.eq(after), reading.eq(after)]
            with m.Elif(self.rewind):
                m.d.sync += [reading.eq(oldest), passed.eq(0)]
            with m.Else():
                m.d.sync += [reading.eq(after), passed.eq(passed + 1)]
        return m
