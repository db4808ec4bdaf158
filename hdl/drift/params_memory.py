"""The channels' parameters: a record for each granule, in as many banks as granules are drained per cycle."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.drift.config import CHANNEL, CHANNELS, DIMENSION_BITS, GRANULE_BITS, DriftConfig

SHIFT_BITS = 6  # of the requantizer
# What a lane needs of a record; its shift is of the requantizer, its clip of the multiplication by 2^lc.
SCALING = data.StructLayout({"bias": signed(32), "multiplier": 31, "shift": SHIFT_BITS})
CLIP_BITS = 4


class ParamsMemory(Block):
    """Keep the parameters of every channel, and give those of ``word_granules`` neighbouring granules per cycle.

    Granules of 8-bit weights come first, those of 4-bit ones from the next multiple of ``word_granules`` on. Bank l
    holds the granules whose number is l modulo ``word_granules``, so that a word of them may begin at any granule:
    the banks below ``rotation`` read one entry further. Clips come a cycle after their address, the rest two.

    Parameters
    ----------
    config : DriftConfig
        Gives ``granules_max`` and ``lanes``.

    Members
    -------
    n_high, n_low, granules_high : In
        Channels of either half, granules of the high one; constant from the cycle before the first write on.
    write_en, write_granule, write_low, write_data : In
        Write a granule's four CHANNEL records, ``write_low`` of the half of 4-bit weights.
    bad_index : Out(1)
        A cycle later: a channel that exists has a precision that is not its half's (5 to 8 bits, 1 to 4 bits),
        or its precision and clip exceed 8 bits together.
    low : In(1)
        Read of the half of 4-bit weights.
    entry, rotation : In
        The granule of the word's first lane, divided by ``word_granules``: quotient and remainder.
    clips : Out(4).array(lanes)
        Of bank l's channel c at ``4*l + c``; latency 1.
    scalings : Out(SCALING).array(lanes)
        Likewise; latency 2.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        self._per_word = config.word_granules
        self._depth = -(-config.granules_max // self._per_word)
        super().__init__(
            {
                "n_high": In(DIMENSION_BITS),
                "n_low": In(DIMENSION_BITS),
                "granules_high": In(GRANULE_BITS),
                "write_en": In(1),
                "write_granule": In(GRANULE_BITS),
                "write_low": In(1),
                "write_data": In(data.ArrayLayout(CHANNEL, CHANNELS)),
                "bad_index": Out(1),
                "low": In(1),
                "entry": In(GRANULE_BITS),
                "rotation": In(address_bits(self._per_word)),
                "clips": Out(CLIP_BITS).array(config.lanes),
                "scalings": Out(SCALING).array(config.lanes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the banks; look at what is written."""
        m = Module()
        bits = self._per_word.bit_length() - 1
        low_entry = Signal(range(self._depth + 1), reset_less=True)  # of the first granule of 4-bit weights
        m.d.sync += low_entry.eq((self.granules_high + self._per_word - 1) >> bits)

        def address(entry: Value, low: Value) -> Value:
            return entry + Mux(low, low_entry, 0)

        write_entry, entry = Signal(address_bits(self._depth)), Signal(address_bits(self._depth))
        m.d.comb += [
            write_entry.eq(address(self.write_granule[bits:], self.write_low)),
            entry.eq(address(self.entry, self.low)),
        ]
        for bank in range(self._per_word):
            here = Signal.like(entry, name=f"entry_{bank}")
            later = Signal.like(entry, name=f"later_{bank}", reset_less=True)
            chosen = Signal(name=f"write_{bank}")
            clips = place(m, f"clips_{bank}", Ram(CHANNELS * CLIP_BITS, self._depth))
            scalings = place(m, f"scalings_{bank}", Ram(CHANNELS * SCALING.size, self._depth))
            m.d.comb += [
                here.eq(entry + (bank < self.rotation) if bits else entry),
                chosen.eq(self.write_en & (self.write_granule[:bits] == bank)),
                clips.write_data.eq(Cat(self.write_data[c].clip for c in range(CHANNELS))),
                scalings.write_data.eq(
                    Cat(
                        Cat(record.bias, record.multiplier, record.shift[:SHIFT_BITS])
                        for record in (self.write_data[c] for c in range(CHANNELS))
                    )
                ),
                clips.read_addr.eq(here),
                scalings.read_addr.eq(later),
            ]
            m.d.sync += later.eq(here)
            for ram in (clips, scalings):
                m.d.comb += [ram.write_en.eq(chosen), ram.write_addr.eq(write_entry), ram.read_en.eq(1)]
            for channel in range(CHANNELS):
                lane = CHANNELS * bank + channel
                m.d.comb += [
                    self.clips[lane].eq(clips.read_data[CLIP_BITS * channel : CLIP_BITS * (channel + 1)]),
                    Value.cast(self.scalings[lane]).eq(
                        scalings.read_data[SCALING.size * channel : SCALING.size * (channel + 1)]
                    ),
                ]
        self._check(m)
        return m

    def _check(self, m: Module) -> None:
        low, channels = self.write_low, Signal(DIMENSION_BITS + 2)
        wrong = Signal(CHANNELS)
        m.d.comb += channels.eq(Mux(low, self.write_granule << 2, self.write_granule << 1))
        for channel in range(CHANNELS):
            record = self.write_data[channel]
            used, fits = Signal(name=f"used_{channel}"), Signal(name=f"fits_{channel}")
            high_exists = (channels + channel < self.n_high) if channel < CHANNELS // 2 else 0
            m.d.comb += [
                used.eq(Mux(low, channels + channel < self.n_low, high_exists)),
                fits.eq(
                    Mux(low, (record.bits >= 1) & (record.bits <= 4), (record.bits >= 5) & (record.bits <= 8))
                    & (record.bits + record.clip <= 8)
                ),
                wrong[channel].eq(used & ~fits),
            ]
        m.d.sync += self.bad_index.eq(self.write_en & wrong.any())
