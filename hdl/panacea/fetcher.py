"""The tile fetcher: reads compressed tiles from WMEM or AMEM and hands them on group by group."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.config import ENTRY_BITS, VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.index_decoder import IndexDecoder
from bitfabric.hdl.panacea.records import dense_words, quads_of
from bitfabric.hdl.panacea.slice_memory import ring_add
from bitfabric.quant.errors import check_range


def fetch_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return what lands in a buffer in one cycle.

    Fields: ``group`` (its destination); ``first``, ``last`` (of the group's landings); ``dense_en``, ``dense``
    (``lanes`` vectors), ``slice``, ``chunk`` (which dense slice, which ``lanes`` positions of it); ``mask``,
    ``vectors`` (HO vectors at their positions, and which of them land).
    """
    groups = max(config.peas, config.groups)
    return data.StructLayout(
        {
            "group": max(1, (groups - 1).bit_length()),
            "first": 1,
            "last": 1,
            "dense_en": 1,
            "dense": config.lanes * 16,
            "slice": 1,
            "chunk": max(1, (config.tile_k // config.lanes - 1).bit_length()),
            "mask": config.tile_k,
            "vectors": config.tile_k * VECTOR_BITS,
        }
    )


class Fetcher(Block):
    """Fetch one compressed tile at a time.

    A tile takes 2 cycles for its header and then a cycle for every word: each of its groups its dense words and those HO
    words that no group before it had. HO words come first; each is decoded in the cycle after its read. A group does
    not start before ``free``. What is read lands one cycle later, HO vectors one cycle after their decoding.

    Parameters
    ----------
    config : PanaceaConfig
        Gives the form of a tile.
    groups, words : int
        Most groups of a tile; words of the memory.

    Members
    -------
    want : In(1)
        A tile is to be fetched; the other inputs of it are stable until ``done``.
    count : In
        Its groups.
    k_valid, slices, skipped : In
        Its K positions, the operand's slices, the slice value that is skipped.
    tile_ready, base, read_en, read_addr, read_data
        The memory.
    group : Out
        The group that is about to start or going on.
    free : In(1)
        Its destination is free.
    claim : Out(1)
        It starts.
    landing : Out(1), o : Out(fetch_layout)
        Something lands.
    done : Out(1), tile_words : Out
        The tile's last word has been issued; how many words it has.
    starving : Out(1)
        A tile is wanted and not there.
    reads : Out
        Slice-vectors read in this cycle.
    error : Out(1)
        An index or a count leads out of its sub-tile.
    """

    def __init__(self, config: PanaceaConfig, groups: int, words: int):
        self._config = config
        self._groups = check_range("groups", groups, 1)
        self._words = check_range("words", words, 1)
        address = address_bits(words)
        super().__init__(
            {
                "want": In(1),
                "count": In(range(groups + 1)),
                "k_valid": In(range(config.tile_k + 1)),
                "slices": In(2),
                "skipped": In(4),
                "tile_ready": In(1),
                "base": In(address),
                "read_en": Out(1),
                "read_addr": Out(address),
                "read_data": In(config.axis_data_bits),
                "group": Out(max(1, (groups - 1).bit_length())),
                "free": In(1),
                "claim": Out(1),
                "landing": Out(1),
                "o": Out(fetch_layout(config)),
                "done": Out(1),
                "tile_words": Out(range(words + 1)),
                "starving": Out(1),
                "reads": Out(range(config.lanes + config.quads * config.quad + 1)),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Step through header and groups; decode behind the memory."""
        m = Module()
        config = self._config
        dense = Signal(2)  # dense slices of the operand
        chunks = Signal(range(config.tile_k // config.lanes + 1))
        m.d.comb += [
            dense.eq(Mux(self.slices == 3, 2, 1)),
            chunks.eq(dense_words(config, self.k_valid)),
        ]
        counts = Array(
            Signal(config.count_bits, name=f"count{index}", reset_less=True) for index in range(self._groups)
        )
        most_quads = -(-config.tile_k // config.quad)
        dense_at, ho_at = (Signal(address_bits(self._words), name=name) for name in ("dense_at", "ho_at"))
        used = Signal(range(self._words + 1), reset_less=True)  # words of the tile read so far
        group = Signal(self.group.shape(), reset_less=True)
        slice_, chunk = Signal(1), Signal(range(max(config.tile_k // config.lanes, 2)))
        dense_left = Signal(range(2 * config.tile_k // config.lanes + 1))
        stored_left = Signal(config.count_bits)  # entries of the group not yet decoded
        word_left = Signal(range(config.quads + 1))  # quads of the present HO word not yet decoded
        started = Signal()  # the group's destination is claimed

        dense_all = Signal.like(dense_left)
        m.d.comb += [dense_all.eq(Mux(dense == 2, chunks << 1, chunks)), self.group.eq(group)]
        going, need_word, take_dense, take_ho, ends = (Signal() for _ in range(5))
        state_groups = Signal()
        quads_left = Signal(range(most_quads + 1))
        quads_taken = Signal(range(config.quads + 1))
        stored_after, word_after = Signal.like(stored_left), Signal.like(word_left)
        all_taken = Signal()
        m.d.comb += [
            quads_left.eq(quads_of(config, stored_left)),
            going.eq(state_groups & (started | self.free)),
            self.claim.eq(going & ~started),
            take_ho.eq(going & (stored_left != 0) & (word_left != 0)),
            all_taken.eq(quads_left <= word_left),
            quads_taken.eq(Mux(take_ho, Mux(all_taken, quads_left, word_left), 0)),
            stored_after.eq(
                Mux(take_ho, Mux(all_taken, 0, stored_left - word_left * config.quad), stored_left)
            ),
            word_after.eq(word_left - quads_taken),
            need_word.eq(going & (stored_after != 0) & (word_after == 0)),
            take_dense.eq(going & ~need_word & (dense_left != 0)),
            ends.eq(going & ~need_word & (dense_left <= 1) & (stored_after == 0)),
        ]
        last_group, bad_header = Signal(), Signal()
        m.d.comb += last_group.eq(group == self.count - 1)
        next_count = Array(counts)[(group + 1)[: len(group)]]
        with m.FSM():
            with m.State("WAIT"):
                m.d.comb += [
                    self.starving.eq(self.want & ~self.tile_ready),
                    self.read_en.eq(self.want & self.tile_ready),
                    self.read_addr.eq(self.base),
                ]
                m.d.sync += [dense_at.eq(ring_add(self.base, 1, self._words)), used.eq(1), group.eq(0)]
                with m.If(self.want & self.tile_ready):
                    m.next = "HEADER"
            with m.State("HEADER"):
                for index in range(self._groups):
                    low = index * config.count_bits
                    m.d.sync += counts[index].eq(self.read_data[low : low + config.count_bits])
                # A count where there is no group, or no HO slice, would shift all that follows.
                m.d.comb += bad_header.eq(
                    Cat(
                        (self.read_data[low : low + config.count_bits] != 0)
                        & ((self.count <= index) | (self.slices == 1))
                        for index, low in enumerate(
                            range(0, max(config.peas, config.groups) * config.count_bits, config.count_bits)
                        )
                    ).any()
                )
                all_dense = Signal(range(self._groups * 2 * (config.tile_k // config.lanes) + 1))
                m.d.comb += all_dense.eq(self.count * dense_all)
                m.d.sync += [
                    ho_at.eq(ring_add(dense_at, all_dense, self._words)),
                    dense_left.eq(dense_all),
                    stored_left.eq(self.read_data[: config.count_bits]),
                    word_left.eq(0),
                    slice_.eq(0),
                    chunk.eq(0),
                    started.eq(0),
                ]
                m.next = "GROUPS"
            with m.State("GROUPS"):
                m.d.comb += [
                    state_groups.eq(1),
                    self.read_en.eq(need_word | take_dense),
                    self.read_addr.eq(Mux(need_word, ho_at, dense_at)),
                ]
                with m.If(self.read_en):
                    m.d.sync += used.eq(used + 1)
                with m.If(going):
                    m.d.sync += started.eq(1)
                m.d.sync += [stored_left.eq(stored_after), word_left.eq(word_after)]
                with m.If(need_word):
                    m.d.sync += [ho_at.eq(ring_add(ho_at, 1, self._words)), word_left.eq(config.quads)]
                with m.If(take_dense):
                    m.d.sync += [
                        dense_at.eq(ring_add(dense_at, 1, self._words)),
                        dense_left.eq(dense_left - 1),
                        chunk.eq(chunk + 1),
                    ]
                    with m.If(chunk == chunks - 1):
                        m.d.sync += [chunk.eq(0), slice_.eq(1)]
                with m.If(ends):
                    m.d.sync += [
                        group.eq(group + 1),
                        dense_left.eq(dense_all),
                        stored_left.eq(next_count),
                        slice_.eq(0),
                        chunk.eq(0),
                        started.eq(0),
                    ]
                    with m.If(last_group):
                        m.d.comb += self.done.eq(1)
                        m.next = "WAIT"
        m.d.comb += self.tile_words.eq(used + self.read_en)
        bad_count = Signal()
        m.d.comb += bad_count.eq(state_groups & ~started & (stored_left > self.k_valid))
        decoder = self._decode(m, need_word, take_ho, word_left, stored_left, stored_after)
        entries = Signal(range(config.quads * config.quad + 1))
        m.d.comb += entries.eq(Mux(take_ho, stored_left - stored_after, 0))
        self._land(m, decoder, going, take_dense, ends, group, started, slice_, chunk, entries)
        m.d.comb += self.error.eq(decoder.error | bad_count | bad_header)
        return m

    def _decode(
        self,
        m: Module,
        need_word: Value,
        take_ho: Value,
        word_left: Value,
        stored_left: Value,
        stored_after: Value,
    ) -> IndexDecoder:
        """Keep the HO word, of which the next group may have a part, and decode the present group's."""
        config = self._config
        kept = Signal(config.quads * config.quad * ENTRY_BITS, reset_less=True)
        word = Signal.like(kept, name="word")
        fresh = Signal()  # an HO word stands on read_data
        m.d.sync += fresh.eq(need_word)
        m.d.comb += word.eq(Mux(fresh, self.read_data[: len(word)], kept))
        with m.If(fresh):
            m.d.sync += kept.eq(word)
        resumed = Signal()  # the group had a word before
        with m.If(take_ho):
            m.d.sync += resumed.eq(stored_after != 0)
        decoder = place(m, "decoder", IndexDecoder(config))
        m.d.comb += [
            decoder.en.eq(take_ho),
            decoder.first.eq(~resumed),
            decoder.start.eq(config.quads - word_left),
            decoder.left.eq(stored_left),
            decoder.skipped.eq(self.skipped),
            decoder.k_valid.eq(self.k_valid),
            decoder.word.eq(word),
        ]
        return decoder

    def _land(
        self,
        m: Module,
        decoder: IndexDecoder,
        going: Value,
        take_dense: Value,
        ends: Value,
        group: Value,
        started: Value,
        slice_: Value,
        chunk: Value,
        entries: Value,
    ) -> None:
        """Register what lands beside the dense word that the memory gives a cycle later; count the vectors."""
        config = self._config
        landed = self.o
        m.d.sync += self.landing.eq(going)
        control = Cat(group, ~started, ends, take_dense, slice_, chunk)
        held = Signal(len(control), reset_less=True)
        mask = Signal(config.tile_k)
        vectors = Signal(config.tile_k * VECTOR_BITS, reset_less=True)
        m.d.sync += [held.eq(control), mask.eq(decoder.mask)]
        with m.If(decoder.en):
            m.d.sync += vectors.eq(decoder.vectors)
        widths = (len(group), 1, 1, 1, 1, len(chunk))
        parts, low = [], 0
        for width in widths:
            parts.append(held[low : low + width])
            low += width
        m.d.comb += [
            landed.group.eq(parts[0]),
            landed.first.eq(parts[1]),
            landed.last.eq(parts[2]),
            landed.dense_en.eq(parts[3] & self.landing),
            landed.dense.eq(self.read_data[: config.lanes * 16]),
            landed.slice.eq(parts[4]),
            landed.chunk.eq(parts[5]),
        ]
        m.d.comb += [landed.mask.eq(mask), landed.vectors.eq(vectors)]
        left = Signal(range(config.tile_k + 1))  # positions of the chunk and behind it
        count = Signal(range(config.lanes + 1))
        shift = config.lanes.bit_length() - 1
        m.d.comb += [
            left.eq(self.k_valid - (chunk << shift)),
            count.eq(Mux(take_dense, Mux(left > config.lanes, config.lanes, left), 0)),
        ]
        m.d.sync += self.reads.eq(count + entries)
