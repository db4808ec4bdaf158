"""The packer: activations squeezed to their stored width and laid end to end in words of a store."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import ACT_BITS, DriftConfig

UNITS = ACT_BITS  # a word is so many times the bits that one bit of every byte of a beat makes

# What becomes of a beat: its stored width, the units that its row has left in the word before it, whether a word is
# complete with it, whether it is no beat but the rest of the row before, its precision, whether it ends the layer.
PACKING = data.StructLayout({"bits": 4, "fill": 3, "write": 1, "flush": 1, "low": 1, "end": 1})


class Packer(Block):
    """Append ``bits`` bits of every byte of a beat to a row's string, and write the words that it fills.

    The string is little-endian: bit 0 of element 0 first. A row starts on a word and its last word is filled up with
    zeros. Rows of a precision follow each other in their store, so that row ``rank`` is at ``rank·stride``, with
    ``stride = ceil(beats·bits/8)``. A beat of B bytes brings ``bits`` units of B bits and a word has eight units, so that
    what is left over has one of eight places [derived]. A beat per cycle; words are written 2 cycles after the
    beat that completes them.

    Parameters
    ----------
    config : DriftConfig
        Gives width, alignment and the words of the stores.

    Members
    -------
    start : In(1)
        Write from word 0 of both stores on.
    valid, beat, packing : In
        Beat, see ``PACKING``; ``fill`` is 0 for a row's first beat.
    high_en, high_address, low_en, low_address, word : Out
        Write ports of the stores.
    done : Out(1)
        Strobe: the word of ``end`` was written in the cycle before.
    store_error : Out(1)
        A word found its store full and was dropped; stays.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "start": In(1),
                "valid": In(1),
                "beat": In(config.axis_data_bits),
                "packing": In(PACKING),
                "high_en": Out(1),
                "high_address": Out(address_bits(config.high_words)),
                "low_en": Out(1),
                "low_address": Out(address_bits(config.low_words)),
                "word": Out(config.axis_data_bits),
                "done": Out(1),
                "store_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Squeeze, append, write: a stage each."""
        m = Module()
        size, width = self._config.beat_bytes, self._config.axis_data_bits
        squeezed = Signal(width, reset_less=True)
        valid, packing = Signal(), Signal(PACKING, reset_less=True)
        m.d.sync += [valid.eq(self.valid), packing.eq(self.packing), squeezed.eq(self._squeeze(m))]
        with m.If(self.packing.flush):
            m.d.sync += squeezed.eq(0)

        moved: Value = squeezed
        # With nibble alignment a word is half full or empty.
        for bit in (2,) if self._config.alignment == "nibble" else range(3):
            moved = Mux(packing.fill[bit], moved << (size << bit), moved)
        held = Signal(width - size, reset_less=True)
        string = Signal(2 * width - size)
        m.d.comb += string.eq(moved | (held & (packing.fill != 0).replicate(len(held))))
        word, written, low, end = (
            Signal.like(self.word, reset_less=True),
            Signal(),
            Signal(reset_less=True),
            Signal(reset_less=True),
        )
        with m.If(valid):
            m.d.sync += held.eq(Mux(packing.write, string[width:], string[: len(held)]))
        m.d.sync += [
            word.eq(string[:width]),
            written.eq(valid & packing.write),
            low.eq(packing.low),
            end.eq(packing.end),
            self.done.eq(written & end),
        ]
        m.d.comb += self.word.eq(word)
        self._write(m, "high", written & ~low, self._config.high_words)
        self._write(m, "low", written & low, self._config.low_words)
        return m

    def _squeeze(self, m: Module) -> Signal:
        """Return the low ``bits`` bits of every byte without gaps, and zeros."""
        count = self._config.beat_bytes
        squeezed = Signal(self._config.axis_data_bits, name="squeezed_beat")
        starts = range(0, ACT_BITS * count, ACT_BITS)
        narrow = (4,) if self._config.alignment == "nibble" else range(1, ACT_BITS)
        with m.Switch(self.packing.bits):
            for bits in narrow:
                with m.Case(bits):
                    m.d.comb += squeezed.eq(Cat(self.beat[start : start + bits] for start in starts))
            with m.Default():
                m.d.comb += squeezed.eq(self.beat)
        return squeezed

    def _write(self, m: Module, name: str, enable: Value, words: int) -> None:
        """Append to a store unless it is full."""
        place = Signal(range(words + 1), name=f"{name}_next")
        room = Signal(name=f"{name}_room")
        taken: Signal = getattr(self, f"{name}_en")
        address: Signal = getattr(self, f"{name}_address")
        m.d.comb += [room.eq(place != words), taken.eq(enable & room), address.eq(place)]
        with m.If(self.start):
            m.d.sync += place.eq(0)
        with m.Elif(taken):
            m.d.sync += place.eq(place + 1)
        with m.If(enable & ~room):
            m.d.sync += self.store_error.eq(1)
