"""The reader of records: sends a record's words out of OMEM in the order of the stream."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.encoder import size_layout


def omem_depth(config: PanaceaConfig) -> int:
    """Return the words of each of the two memories of a half."""
    return max(config.omem_words // 4, 2)


def record_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return where a record lies in the memories of a half, and its size."""
    address = address_bits(omem_depth(config))
    return data.StructLayout({"dense_addr": address, "ho_addr": address, "size": size_layout(config)})


class RecordReader(Block):
    """Read records: the header, the dense words, the HO words.

    A record's first word is at ``o`` two cycles after the record is taken; then a word every cycle, from
    record to record without a gap while there is one.

    Parameters
    ----------
    config : PanaceaConfig
        Gives memories and record sizes.

    Members
    -------
    record : In(stream of record_layout)
        Records; one is taken with the last read of the one before.
    dense_en, dense_addr, ho_en, ho_addr : Out
        Read ports of the memories; read latency 1, data held while not enabled.
    dense_data, ho_data : In
        Words.
    release : Out(1)
        A record's last word is read in this cycle: its words may be overwritten from the next one on.
    o : Out(stream of beat_layout)
        Words; ``last`` with the last one of a record that has ``size.last``.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        address = address_bits(omem_depth(config))
        super().__init__(
            {
                "record": In(stream.Signature(record_layout(config))),
                "dense_en": Out(1),
                "dense_addr": Out(address),
                "dense_data": In(config.axis_data_bits),
                "ho_en": Out(1),
                "ho_addr": Out(address),
                "ho_data": In(config.axis_data_bits),
                "release": Out(1),
                "o": Out(stream.Signature(beat_layout(config.axis_data_bits))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count down what is left of the dense and of the HO words."""
        m = Module()
        present = Signal(record_layout(self._config), reset_less=True)
        left = present.size
        busy, head, en, go = Signal(), Signal(), Signal(), Signal()
        dense, no_dense, ends = Signal(), Signal(), Signal()
        valid, last, from_ho = Signal(), Signal(reset_less=True), Signal(reset_less=True)
        m.d.comb += [
            en.eq(self.o.ready | ~valid),
            go.eq(busy & en),
            no_dense.eq(left.dense_words == 0),
            dense.eq(~head & ~no_dense),
            # The last word left, whichever memory it is in.
            ends.eq(~head & (left.dense_words + left.ho_words == 1)),
            self.dense_en.eq(go & dense),
            self.ho_en.eq(go & ~dense),
            self.dense_addr.eq(present.dense_addr),
            self.ho_addr.eq(present.ho_addr),
            self.release.eq(go & ends),
            self.record.ready.eq(~busy | self.release),
            self.o.valid.eq(valid),
            self.o.payload.data.eq(Mux(from_ho, self.ho_data, self.dense_data)),
            self.o.payload.last.eq(last),
        ]
        with m.If(en):
            m.d.sync += [valid.eq(busy), last.eq(ends & left.last), from_ho.eq(~dense)]
        with m.If(self.record.ready):
            m.d.sync += [busy.eq(self.record.valid), present.eq(self.record.payload), head.eq(1)]
        with m.Elif(go):
            m.d.sync += head.eq(0)
            with m.If(dense):
                m.d.sync += [
                    present.dense_addr.eq(present.dense_addr + 1),
                    left.dense_words.eq(left.dense_words - 1),
                ]
            with m.Else():
                m.d.sync += [
                    present.ho_addr.eq(present.ho_addr + 1),
                    left.ho_words.eq(left.ho_words - 1),
                ]
        return m
