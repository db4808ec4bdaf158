"""The AQS-GEMM core: PEAs, the global activation buffer, and the fetchers that feed them."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream
from amaranth.lib.wiring import In, Member, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.act_buffer import ActBuffer
from bitfabric.hdl.panacea.config import CHANNEL_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.drain import Drain
from bitfabric.hdl.panacea.fetcher import Fetcher
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.loop import PanaceaLoop, vectors_of
from bitfabric.hdl.panacea.output import block_layout
from bitfabric.hdl.panacea.pea import Pea


class PanaceaCore(Block):
    """Compute a layer's psums from the compressed tiles of WMEM and AMEM [paper, III-D].

    Two fetchers walk over the tiles, each as far ahead as its buffers allow; the PEAs go at their own pace; the
    drain takes an output tile when all of them have finished it.

    Parameters
    ----------
    config : PanaceaConfig
        Gives everything.

    Members
    -------
    job : In(JOB), start : In(1)
        The layer.
    wmem_*, amem_*
        Read ports of the two ``SliceMemory``.
    params_*
        Read port of the parameters, see ``Drain``.
    o : Out(stream.Signature(block_layout))
        Psum blocks.
    working : Out(1)
        A PEA issued products, two cycles ago.
    static_products, dynamic_products, wmem_reads, amem_reads : Out
        Products and slice-vectors of a cycle, to be counted.
    wmem_starving, amem_starving : Out(1)
        A fetcher waits for a tile.
    error : Out(1)
        A compressed tile contradicts itself.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        memories: dict[str, Member] = {}
        for name, words in (("wmem", config.wmem_words), ("amem", config.amem_words)):
            address = address_bits(words)
            memories |= {
                f"{name}_tile_ready": In(1),
                f"{name}_base": In(address),
                f"{name}_read_en": Out(1),
                f"{name}_read_addr": Out(address),
                f"{name}_read_data": In(config.axis_data_bits),
                f"{name}_tile_done": Out(1),
                f"{name}_tile_words": Out(range(words + 1)),
                f"{name}_tile_free": Out(1),
                f"{name}_rewind": Out(1),
                f"{name}_starving": Out(1),
                f"{name}_reads": Out(range(config.lanes + config.quads * config.quad + 1)),
            }
        products = range(config.peas * config.operators + 1)
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                **memories,
                "params_en": Out(1),
                "params_addr": Out(address_bits(2 * config.peas)),
                "params_data": In(VECTOR * CHANNEL_BITS),
                "params_release": Out(1),
                "o": Out(stream.Signature(block_layout(config))),
                "working": Out(1),
                "static_products": Out(products),
                "dynamic_products": Out(products),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place everything."""
        m = Module()
        config = self._config
        peas = [place(m, f"pea_{index}", Pea(config)) for index in range(config.peas)]
        for index, pea in enumerate(peas):
            m.d.comb += [
                pea.pea.eq(index),
                pea.weight_slices.eq(self.job.weight_slices),
                pea.act_slices.eq(self.job.act_slices),
            ]
        weight_error = self._fetch_weights(m, peas)
        act_error = self._fetch_acts(m, peas)
        self._drain(m, peas)
        working, static, dynamic = (
            Signal(),
            Signal.like(self.static_products),
            Signal.like(self.dynamic_products),
        )
        m.d.sync += [
            working.eq(Cat((pea.static_products != 0) | (pea.dynamic_products != 0) for pea in peas).any()),
            static.eq(balanced_sum([pea.static_products for pea in peas])),
            dynamic.eq(balanced_sum([pea.dynamic_products for pea in peas])),
            self.error.eq(weight_error | act_error),
        ]
        m.d.comb += [
            self.working.eq(working),
            self.static_products.eq(static),
            self.dynamic_products.eq(dynamic),
        ]
        return m

    def _fetch_weights(self, m: Module, peas: list[Pea]) -> Value:
        """Walk over the weight tiles: all K tiles of an M step for every N tile."""
        config, job = self._config, self.job
        tiles = 2 if config.dtp else 1
        loop = place(m, "weight_loop", PanaceaLoop(config))
        tile = loop.tile
        fetcher = place(m, "weight_fetcher", Fetcher(config, config.peas, config.wmem_words))
        second, landing_second = Signal(), Signal()
        more = Signal()
        m.d.comb += more.eq(~second & (tile.rows_b != 0))
        with m.If(fetcher.done):
            m.d.sync += second.eq(more)
        m.d.sync += landing_second.eq(second)
        m.d.comb += [
            loop.job.eq(job),
            loop.start.eq(self.start),
            loop.step.eq(fetcher.done & ~more),
            fetcher.want.eq(loop.active),
            fetcher.count.eq(vectors_of(Mux(second, tile.rows_b, tile.rows_a))),
            fetcher.k_valid.eq(tile.k_valid),
            fetcher.slices.eq(job.weight_slices),
            fetcher.skipped.eq(0),
            self.wmem_tile_free.eq(tile.last_n | job.stream_weights),
            self.wmem_rewind.eq(~job.stream_weights & ~tile.last_n & tile.last_k & ~more),
        ]
        self._connect_memory(m, "wmem", fetcher)
        free = []
        for number in range(tiles):
            free.append(Array(pea.weights_free[number] for pea in peas)[fetcher.group])
        m.d.comb += fetcher.free.eq(Mux(second, free[-1], free[0]) if config.dtp else free[0])
        for index, pea in enumerate(peas):
            m.d.comb += pea.i.eq(fetcher.o)
            for number in range(tiles):
                mine = (second == number) if config.dtp else Const(1)
                lands = (landing_second == number) if config.dtp else Const(1)
                m.d.comb += [
                    pea.weights_claim[number].eq(fetcher.claim & mine & (fetcher.group == index)),
                    pea.weights_landing[number].eq(fetcher.landing & lands & (fetcher.o.group == index)),
                ]
        return fetcher.error

    def _fetch_acts(self, m: Module, peas: list[Pea]) -> Value:
        """Walk over the activation tiles, for every M step anew."""
        config, job = self._config, self.job
        loop = place(m, "act_loop", PanaceaLoop(config))
        tile = loop.tile
        fetcher = place(m, "act_fetcher", Fetcher(config, config.groups, config.amem_words))
        buffer = place(m, "act_buffer", ActBuffer(config))
        m.d.comb += [
            loop.job.eq(job),
            loop.start.eq(self.start),
            loop.step.eq(fetcher.done),
            fetcher.want.eq(loop.active),
            fetcher.count.eq(vectors_of(tile.columns)),
            fetcher.k_valid.eq(tile.k_valid),
            fetcher.slices.eq(job.act_slices),
            fetcher.skipped.eq(job.skipped),
            fetcher.free.eq(buffer.free),
            self.amem_tile_free.eq(tile.last_m | ~job.resident),
            self.amem_rewind.eq(job.resident & ~tile.last_m & tile.last_n & tile.last_k),
            buffer.claim.eq(fetcher.claim),
            buffer.info.peas_a.eq(vectors_of(tile.rows_a)),
            buffer.info.peas_b.eq(vectors_of(tile.rows_b)),
            buffer.info.k_valid.eq(tile.k_valid),
            buffer.info.last_group.eq(fetcher.group == fetcher.count - 1),
            buffer.info.last_k.eq(tile.last_k),
            buffer.landing.eq(fetcher.landing),
            buffer.i.eq(fetcher.o),
        ]
        self._connect_memory(m, "amem", fetcher)
        for index, pea in enumerate(peas):
            m.d.comb += [
                pea.filled.eq(buffer.filled),
                buffer.release[index].eq(pea.slot_release),
                *(pea.slots[slot].eq(buffer.slots[slot]) for slot in range(config.act_slots)),
            ]
        return fetcher.error

    def _connect_memory(self, m: Module, name: str, fetcher: Fetcher) -> None:
        def port(what: str) -> Value:
            return getattr(self, f"{name}_{what}")

        m.d.comb += [
            fetcher.tile_ready.eq(port("tile_ready")),
            fetcher.base.eq(port("base")),
            fetcher.read_data.eq(port("read_data")),
            port("read_en").eq(fetcher.read_en),
            port("read_addr").eq(fetcher.read_addr),
            port("tile_done").eq(fetcher.done),
            port("tile_words").eq(fetcher.tile_words),
            port("starving").eq(fetcher.starving),
            port("reads").eq(fetcher.reads),
        ]

    def _drain(self, m: Module, peas: list[Pea]) -> None:
        """Let the drain read when every PEA has finished its oldest output tile."""
        config = self._config
        drain = place(m, "drain", Drain(config))
        complete = []
        for index, pea in enumerate(peas):
            outputs = Signal(range(3), name=f"outputs{index}")
            m.d.sync += outputs.eq(outputs + pea.output_done - drain.drained)
            complete.append(outputs != 0)
            m.d.comb += [
                pea.drained.eq(drain.drained),
                pea.read_en.eq(drain.read_en[index]),
                pea.read_bank.eq(drain.read_bank),
                pea.read_word.eq(drain.read_word),
                drain.data[index].eq(pea.data),
            ]
        m.d.comb += [
            drain.job.eq(self.job),
            drain.start.eq(self.start),
            drain.ready.eq(Cat(*complete).all()),
            self.params_en.eq(drain.params_en),
            self.params_addr.eq(drain.params_addr),
            drain.params_data.eq(self.params_data),
            self.params_release.eq(drain.params_release),
            self.o.payload.eq(drain.o.payload),
            self.o.valid.eq(drain.o.valid),
            drain.o.ready.eq(self.o.ready),
        ]
