"""The drain's addresses: where in the output memory the bytes of a word of accumulators belong."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DIMENSION_BITS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.drain_lanes import delay
from bitfabric.hdl.drift.job import GEMM


class DrainAddress(Block):
    """Find word, byte and number of the bytes of a word of granules.

    Token t has the words from ``t * ceil(N / B)`` on, B bytes each; as accumulators from four times that on, byte p
    of all channels ``p * ceil(N / B)`` words further. High channel n is byte n of the row, low channel n byte
    ``n_high + n``. Latency ``LATENCY`` cycles, one word per cycle.

    Parameters
    ----------
    config : DriftConfig
        Gives B, ``lanes`` and ``out_words``.

    Members
    -------
    gemm : In(GEMM)
        Of the layer; constant.
    right : In(1)
        The granules are of 4-bit weights.
    granule, used : In
        The first one among those of its precision; how many there are.
    plane : In(2)
        Byte of the accumulators.
    token : In(16)
        Of the row.
    address, offset, count : Out
        Word and byte of the first byte, bytes. Those of channels that do not exist are left out.
    beyond : Out(1)
        Not all of the bytes are within the memory.
    """

    LATENCY: ClassVar[int] = 4

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "gemm": In(GEMM),
                "right": In(1),
                "granule": In(GRANULE_BITS),
                "used": In(range(config.word_granules + 1)),
                "plane": In(2),
                "token": In(DIMENSION_BITS),
                "address": Out(address_bits(config.out_words)),
                "offset": Out(address_bits(config.beat_bytes)),
                "count": Out(range(config.lanes + 1)),
                "beyond": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Find the place in the row and the row's place, add them, see if they exist."""
        m = Module()
        config, gemm, right = self._config, self.gemm, self.right
        byte_bits = config.beat_bytes.bit_length() - 1
        channels = Signal(DIMENSION_BITS, reset_less=True)
        row_words = Signal(DIMENSION_BITS, reset_less=True)
        row_stride = Signal(DIMENSION_BITS, reset_less=True)
        m.d.sync += [
            channels.eq(gemm.n_high + gemm.n_low),
            row_words.eq((channels + config.beat_bytes - 1) >> byte_bits),
            row_stride.eq(Mux(gemm.accumulators, row_words << 2, row_words)),
        ]
        # Among the half's channels: the first one of the word, how many it has room for, how many there still are.
        start = Signal(GRANULE_BITS + 2)
        most = Signal(range(config.lanes + 1))
        rest = Signal(GRANULE_BITS + 2)
        position = Signal(DIMENSION_BITS, reset_less=True)
        count = Signal(range(config.lanes + 1), reset_less=True)
        m.d.comb += [
            start.eq(Mux(right, self.granule << 2, self.granule << 1)),
            most.eq(Mux(right, self.used << 2, self.used << 1)),
            rest.eq(Mux(right, gemm.n_low, gemm.n_high) - start),
        ]
        m.d.sync += [
            position.eq(Mux(right, gemm.n_high, 0) + start),
            count.eq(Mux(rest < most, rest, most)),
        ]
        # A row beyond the memory is as good as one just behind it: a narrow sum will do.
        product = Signal(2 * DIMENSION_BITS, reset_less=True)
        base = Signal(range(config.out_words + 1), reset_less=True)
        within_row = Signal(DIMENSION_BITS, reset_less=True)
        plane = delay(m, "plane", self.plane, 1)
        planes = Mux(plane[0], row_words, 0) + Mux(plane[1], row_words << 1, 0)
        m.d.sync += [
            product.eq(self.token * row_stride),
            base.eq(Mux(product > config.out_words, config.out_words, product)),
            within_row.eq((position >> byte_bits) + planes),
        ]
        address = Signal(range(config.out_words + (1 << DIMENSION_BITS)), reset_less=True)
        offset, count = delay(m, "offset", position[:byte_bits], 2), delay(m, "count", count, 2)
        last = Signal(len(address) + 1)
        beyond = Signal(reset_less=True)
        m.d.comb += last.eq(address + (offset + count > config.beat_bytes))
        m.d.sync += [address.eq(base + within_row), beyond.eq(last >= config.out_words)]
        m.d.comb += [
            self.address.eq(delay(m, "address", address[: len(self.address)], 1)),
            self.offset.eq(delay(m, "offset_out", offset, 1)),
            self.count.eq(delay(m, "count_out", count, 1)),
            self.beyond.eq(beyond),
        ]
        return m
