"""The encoder: blocks of slices become the words of compressed tile records, HO vectors run-length encoded."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.stream import connect_stream
from bitfabric.hdl.panacea.config import ENTRY_BITS, VECTOR, VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.ppu import slices_layout
from bitfabric.hdl.panacea.records import dense_words
from bitfabric.hdl.panacea.run_length import SLOTS, RunLengthEncoder


def record_words(config: PanaceaConfig) -> tuple[int, int]:
    """Return the most dense words of a record, and the most of its header and HO words."""
    quads = config.groups * -(-config.tile_k // config.quad)
    return 2 * config.groups * (config.tile_k // config.lanes), 1 + -(-quads // config.quads)


def size_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a record's size: ``dense_words``, ``ho_words`` (with the header), and whether it is the layer's last."""
    dense, ho = record_words(config)
    return data.StructLayout({"dense_words": dense.bit_length(), "ho_words": ho.bit_length(), "last": 1})


class RecordEncoder(Block):
    """Write the words of records in the form of ``hdl.panacea.records``.

    A vector's index counts the vectors skipped in front of it; a run of more than 15 in front of a kept vector
    stores its 16th as a forced one, a run that ends the group nothing [paper]: as ``quant.rle.encode`` with the
    group as sub-tile. The header, known last, is written last.

    A block is encoded in one cycle, then takes n cycles in which words are written, a quad of HO vectors and a dense
    word in each: n is the larger of 1 or 2 dense words that it completes, and of the quads that it
    completes (at least 1), plus 1 for the header if it ends the record. Only the first of these cycles can be shared
    with the next block's encoding, so that the rate is one block every n cycles: mostly one a cycle.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the form of records.

    Members
    -------
    slices, skipped : In
        The next layer's slices and r.
    i : In(stream of slices_layout)
        Blocks, in the order of the record.
    free : In(1)
        There is room for another record; looked at before its first block is taken to be written.
    begin : Out(1)
        That happens in this cycle.
    dense_en, dense_offset, dense_data, ho_en, ho_offset, ho_data : Out
        Words and where they lie in the record; the header is HO word 0.
    complete, size : Out
        The record's last word is written in this cycle; what it holds.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        self._sizes = size_layout(config)
        word = config.axis_data_bits
        super().__init__(
            {
                "slices": In(2),
                "skipped": In(4),
                "i": In(stream.Signature(slices_layout(config))),
                "free": In(1),
                "begin": Out(1),
                "dense_en": Out(1),
                "dense_offset": Out(self._sizes["dense_words"].shape),
                "dense_data": Out(word),
                "ho_en": Out(1),
                "ho_offset": Out(self._sizes["ho_words"].shape),
                "ho_data": Out(word),
                "complete": Out(1),
                "size": Out(self._sizes),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Encode into entries; collect entries to quads and words, and blocks to dense words."""
        m = Module()
        take, done, valid = Signal(), Signal(), Signal()  # of the block that is written
        encoder = place(m, "run_lengths", RunLengthEncoder(self._config))
        m.d.comb += [encoder.skipped.eq(self.skipped), encoder.o.ready.eq(take)]
        connect_stream(m, self.i, encoder.i)
        encoded = encoder.o.payload
        block = Signal(slices_layout(self._config), reset_less=True)
        starts = Signal(init=1)  # the next block is the first one of a record
        step = Signal(2)  # of the block: 0, 1, and 2 from then on
        m.d.comb += [
            take.eq(encoder.o.valid & (done | ~valid) & (self.free | ~starts)),
            self.begin.eq(take & starts),
        ]
        with m.If(take):
            m.d.sync += [
                block.eq(encoded.block),
                starts.eq(encoded.block.last_of_record),
                valid.eq(1),
                step.eq(0),
            ]
        with m.Elif(done):
            m.d.sync += valid.eq(0)
        with m.Elif(step != 2):
            m.d.sync += step.eq(step + 1)
        dense_over = self._write_dense(m, block, valid, step, done)
        ho_over = self._write_ho(m, block, valid, step, done, take, encoded)
        m.d.comb += [
            done.eq(valid & dense_over & ho_over),
            self.complete.eq(done & block.last_of_record),
            self.size.last.eq(block.last),
        ]
        return m

    def _write_dense(self, m: Module, block: data.View, valid: Signal, step: Signal, done: Signal) -> Signal:
        """Collect the blocks of a word of each dense slice; return whether the block's words are written."""
        config = self._config
        blocks = config.lanes // VECTOR
        size = VECTOR * VECTOR_BITS
        place_in_word = Signal(range(max(blocks, 2)))
        address = Signal(self.dense_offset.shape())
        ends, two, second = Signal(name="dense_ends"), Signal(name="two_dense"), Signal(name="second_dense")
        chunks = Signal((config.tile_k // config.lanes).bit_length())  # of a group's slice
        following = Signal(self.dense_offset.shape())
        over = Signal(name="dense_over")
        m.d.comb += [
            ends.eq(block.last_of_group | (place_in_word == blocks - 1)),
            two.eq(self.slices == 3),
            second.eq(step == 1),
            chunks.eq(dense_words(config, block.k_valid)),
            # Behind a group's last word of slice 0 lie the words of slice 1.
            following.eq(address + 1 + Mux(two & block.last_of_group, chunks, 0)),
            over.eq(~ends | ~two | (step != 0)),
            self.dense_en.eq(valid & ends & ((step == 0) | (second & two))),
            self.dense_offset.eq(Mux(second, address + chunks, address)),
            self.size.dense_words.eq(following),
        ]
        words = []
        for index in range(2):
            built = [
                Signal(size, name=f"built_{index}_{k}", reset_less=True) for k in range(max(blocks - 1, 0))
            ]
            here = block.dense[index].as_value()
            parts = []
            for k in range(blocks):
                kept = Mux(place_in_word > k, built[k], 0) if k < len(built) else Const(0, size)
                parts.append(Mux(place_in_word == k, here, kept))
            words.append(Cat(*parts))
            with m.If(done):
                m.d.sync += [register.eq(parts[k]) for k, register in enumerate(built)]
        m.d.comb += self.dense_data.eq(Mux(second, words[1], words[0]))
        with m.If(done):
            m.d.sync += place_in_word.eq(Mux(ends, 0, place_in_word + 1))
            with m.If(block.last_of_record):
                m.d.sync += address.eq(0)
            with m.Elif(ends):
                m.d.sync += address.eq(following)
        return over

    def _write_ho(
        self,
        m: Module,
        block: data.View,
        valid: Signal,
        step: Signal,
        done: Signal,
        take: Signal,
        encoded: data.View,
    ) -> Signal:
        """Collect entries to quads and words; return whether the block's words are written, a header among them."""
        config = self._config
        size, quads = config.quad, config.quads
        most = size - 1 + SLOTS
        work = [Signal(ENTRY_BITS, name=f"work_{index}") for index in range(most)]
        held, left = Signal(range(most + 1)), Signal(range(most + 1))
        emit, quads_over, heading, over = Signal(), Signal(), Signal(), Signal(name="ho_over")
        m.d.comb += [
            emit.eq(valid & ((held >= size) | (block.last_of_group & (held != 0)))),
            left.eq(Mux(emit, Mux(held > size, held - size, 0), held)),
            quads_over.eq((left < size) & (~block.last_of_group | (left == 0))),
            over.eq(Mux(block.last_of_record, heading, quads_over)),
        ]
        m.d.sync += [
            held.eq(Mux(take, left + encoded.count, left)),
            heading.eq(valid & block.last_of_record & quads_over & ~done),
        ]
        for index in range(most):
            moved = Mux(emit, work[index + size] if index + size < most else 0, work[index])
            for offset in range(min(size, index + 1)):
                if index - offset < SLOTS:
                    moved = moved | Mux(take & (left == offset), encoded.entries[index - offset], 0)
            m.d.sync += work[index].eq(moved)

        # What lies beyond the entries held is 0, so that a group's last quad is filled up with zeros.
        position = Signal(range(max(quads, 2)))
        address = Signal(self.ho_offset.shape(), init=1)
        word_ends, final = Signal(), Signal()
        parts = []
        for index in range(quads):
            part = Signal(size * ENTRY_BITS, name=f"part_{index}", reset_less=True)
            merged = Signal(part.shape(), name=f"merged_{index}")
            before = Mux(position > index, part, 0)
            m.d.comb += merged.eq(Mux(emit & (position == index), Cat(*work[:size]), before))
            m.d.sync += part.eq(merged)
            parts.append(merged)
        m.d.comb += [
            final.eq(valid & block.last_of_record & quads_over & ~heading),
            word_ends.eq((emit & (position == quads - 1)) | (final & (emit | (position != 0)))),
            self.ho_en.eq(word_ends | heading),
            self.ho_offset.eq(Mux(heading, 0, address)),
            self.size.ho_words.eq(address),
        ]
        with m.If(word_ends):
            m.d.sync += [position.eq(0), address.eq(address + 1)]
        with m.Elif(emit):
            m.d.sync += position.eq(position + 1)
        with m.If(heading):
            m.d.sync += address.eq(1)

        header = Signal(config.groups * config.count_bits)
        group = Signal(range(max(config.groups, 2)))
        stored = Signal(config.count_bits, reset_less=True)
        m.d.comb += self.ho_data.eq(Mux(heading, header, Cat(*parts)))
        with m.If(take):
            m.d.sync += stored.eq(Mux(encoded.block.first_of_group, 0, stored) + encoded.count)
        with m.If(valid & block.last_of_group & (step == 0)):
            for index in range(config.groups):
                with m.If(group == index):
                    m.d.sync += header[index * config.count_bits : (index + 1) * config.count_bits].eq(stored)
        with m.If(heading):
            m.d.sync += [header.eq(0), group.eq(0)]
        with m.Elif(done & block.last_of_group):
            m.d.sync += group.eq(group + 1)
        return over
