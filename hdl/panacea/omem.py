"""OMEM: keeps the outputs for the next layer in one half, or passes them on to the stream through two buffers."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.axi_stream import beat_layout
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.directory import Directory
from bitfabric.hdl.panacea.encoder import size_layout
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.omem_reader import RecordReader, omem_depth


class Omem(Block):
    """Hold records in two halves (ping-pong), each with a memory of dense words and one of headers and HO words.

    The half written last by a layer that kept its outputs is read by ``source``; the other one is written. A layer
    that does not keep has two buffers of a record there, and a record streams out while the next one is
    written. Which half is kept survives a reset, as do memories and directory; nothing else does.

    Timing: a buffered record's first word is at ``o`` 3 cycles after ``complete``, the first word of ``source`` 4
    cycles after ``source_start``; both then give a word a cycle, without gaps while there is a record.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the memories' sizes.

    Members
    -------
    job : In(JOB)
        The layer.
    start, source_start : In(1)
        For one cycle, at the layer's start: begin to write; read what was kept as well.
    free, begin : Out(1), In(1)
        There is room for a record; its writing begins.
    dense_en, dense_offset, dense_data, ho_en, ho_offset, ho_data, complete, size : In
        Words of the record and its end, see ``RecordEncoder``.
    o : Out(stream of beat_layout)
        Records, if they are not kept.
    source : Out(stream of words)
        The records kept by an earlier layer, in the order of ``Directory``.
    kept : Out(1)
        In this cycle the last record of a layer that keeps them is complete.
    overflow : Out(1)
        In this cycle a word or a record does not fit.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        self._depth = omem_depth(config)
        size = size_layout(config)
        word = config.axis_data_bits
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "source_start": In(1),
                "free": Out(1),
                "begin": In(1),
                "dense_en": In(1),
                "dense_offset": In(size["dense_words"].shape),
                "dense_data": In(word),
                "ho_en": In(1),
                "ho_offset": In(size["ho_words"].shape),
                "ho_data": In(word),
                "complete": In(1),
                "size": In(size),
                "o": Out(stream.Signature(beat_layout(word))),
                "source": Out(stream.Signature(word)),
                "kept": Out(1),
                "overflow": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place memories, readers and directory."""
        m = Module()
        half = Signal(reset_less=True)  # the one that is kept
        out = place(m, "out_reader", RecordReader(self._config))
        source = place(m, "source_reader", RecordReader(self._config))
        directory = place(m, "directory", Directory(self._config))
        kept = Signal()  # a record is complete and stays
        buffer = self._buffers(m, out)
        m.d.comb += [kept.eq(self.job.keep & self.complete), self.kept.eq(kept & self.size.last)]
        with m.If(self.kept):
            m.d.sync += half.eq(~half)

        too_long = []
        for name in ("dense", "ho"):
            base, fits = self._base(m, name, buffer, kept)
            m.d.comb += directory.entry[f"{name}_addr"].eq(base)
            enable, offset = getattr(self, f"{name}_en"), getattr(self, f"{name}_offset")
            address = Signal(self._address + 1, name=f"{name}_address")
            m.d.comb += [address.eq(base + offset)]
            too_long.append(enable & ~fits)
            self._memories(m, name, half, enable & fits, address, (out, source))
        m.d.comb += [
            directory.job.eq(self.job),
            directory.start.eq(self.start),
            directory.source_start.eq(self.source_start),
            directory.half.eq(half),
            directory.write.eq(kept),
            directory.entry.size.eq(self.size),
            self.overflow.eq(Cat(*too_long).any() | directory.overflow),
            self.source.payload.eq(source.o.payload.data),
            self.source.valid.eq(source.o.valid),
            source.o.ready.eq(self.source.ready),
        ]
        connect_stream(m, directory.record, source.record)
        connect_stream(m, out.o, self.o)
        return m

    @property
    def _address(self) -> int:
        return address_bits(self._depth)

    def _base(self, m: Module, name: str, buffer: Signal, kept: Signal) -> tuple[Signal, Signal]:
        """Return where the record's words begin in a memory, and whether the one that is written fits."""
        keep, size = self.job.keep, self.size[f"{name}_words"]
        offset = getattr(self, f"{name}_offset")
        end = Signal(self._address + 1, name=f"{name}_end")
        base, fits = Signal(end.shape(), name=f"{name}_base"), Signal(name=f"{name}_fits")
        half = self._depth // 2
        m.d.comb += [
            base.eq(Mux(keep, end, Mux(buffer, half, 0))),
            fits.eq(Mux(keep, end + offset < self._depth, offset < half)),
        ]
        with m.If(kept):
            m.d.sync += end.eq(end + size)
        return base, fits

    def _memories(
        self,
        m: Module,
        name: str,
        half: Signal,
        enable: Value,
        address: Signal,
        readers: tuple[RecordReader, RecordReader],
    ) -> None:
        """Place the dense or the HO memory of each half: the kept half is read by the second reader."""
        stores = []
        for index in range(2):
            kept = half == index
            store = place(m, f"{name}_{index}", Ram(self._config.axis_data_bits, self._depth))
            wanted, where = (
                [getattr(reader, f"{name}_{port}") for reader in readers] for port in ("en", "addr")
            )
            m.d.comb += [
                store.write_en.eq(enable & ~kept),
                store.write_addr.eq(address),
                store.write_data.eq(getattr(self, f"{name}_data")),
                store.read_en.eq(Mux(kept, wanted[1], wanted[0])),
                store.read_addr.eq(Mux(kept, where[1], where[0])),
            ]
            stores.append(store)
        out, source = (getattr(reader, f"{name}_data") for reader in readers)
        first, second = stores[0].read_data, stores[1].read_data
        m.d.comb += [out.eq(Mux(half, first, second)), source.eq(Mux(half, second, first))]

    def _buffers(self, m: Module, reader: RecordReader) -> Signal:
        """Offer the two buffers' records to the reader in turn; return the one that is written."""
        streams, half = ~self.job.keep, self._depth // 2
        buffer, read_buffer, waits = Signal(), Signal(), Signal(2)
        used = Signal(2)
        sizes = [Signal(self.size.shape(), name=f"size_{index}", reset_less=True) for index in range(2)]
        record = reader.record
        m.d.comb += [
            self.free.eq(used != 2),
            record.valid.eq(Mux(read_buffer, waits[1], waits[0])),
            record.payload.dense_addr.eq(Mux(read_buffer, half, 0)),
            record.payload.ho_addr.eq(Mux(read_buffer, half, 0)),
            record.payload.size.eq(Mux(read_buffer, Value.cast(sizes[1]), Value.cast(sizes[0]))),
        ]
        m.d.sync += used.eq(used + (self.begin & streams) - reader.release)
        with m.If(record.valid & record.ready):
            m.d.sync += [read_buffer.eq(~read_buffer), waits.bit_select(read_buffer, 1).eq(0)]
        with m.If(self.complete & streams):
            m.d.sync += [buffer.eq(~buffer), waits.bit_select(buffer, 1).eq(1)]
            for index in range(2):
                with m.If(buffer == index):
                    m.d.sync += sizes[index].eq(self.size)
        return buffer
