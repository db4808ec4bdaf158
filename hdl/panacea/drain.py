"""The drain: reads complete psum blocks from the PEAs, joins what belongs together, and compensates."""

from __future__ import annotations

from amaranth.hdl import Array, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.config import CHANNEL_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.job import JOB
from bitfabric.hdl.panacea.loop import PanaceaLoop, vectors_of
from bitfabric.hdl.panacea.operators import LANES
from bitfabric.hdl.panacea.output import block_layout
from bitfabric.hdl.panacea.pea import psum_layout
from bitfabric.hdl.panacea.work import psum_words

LATENCY = 3  # cycles from a block's read to its offer: memory, selection, compensation


class Drain(Block):
    """Bring the blocks of an output tile in the order of the next layer's sub-tiles.

    For every output tile (of both weight tiles with DTP), for every half of T_K output channels, for every group of
    tokens, for every PEA of the half: ``(path 0 + path 1 - r·compensation·16^k) << (l-4)``: the weighted sum of the
    partial GEMMs less the compensation [paper, eq. 6]. The shift of DBS is the same for all partial GEMMs, so that
    it is applied here, once [ours]. One block per cycle, latency 3; the pipeline holds while a block waits.

    Parameters
    ----------
    config : PanaceaConfig
        Gives sizes.

    Members
    -------
    job : In(JOB), start : In(1)
        The layer.
    ready : In(1)
        The oldest psum bank of every PEA is complete.
    read_en : Out(1).array(peas), read_bank, read_word : Out
        Read a block of a PEA; latency 1.
    data : In(psum_layout).array(peas)
        Blocks.
    drained : Out(1)
        The bank has been read and none of its blocks stands in the PEAs' registers any more.
    params_en, params_addr, params_data, params_release
        The parameters of the M step's PEAs; read latency 1.
    o : Out(stream.Signature(block_layout))
        Blocks for the post-processing unit.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "ready": In(1),
                "read_en": Out(1).array(config.peas),
                "read_bank": Out(1),
                "read_word": Out(address_bits(psum_words(config))),
                "data": In(psum_layout(config)).array(config.peas),
                "drained": Out(1),
                "params_en": Out(1),
                "params_addr": Out(address_bits(2 * config.peas)),
                "params_data": In(VECTOR * CHANNEL_BITS),
                "params_release": Out(1),
                "o": Out(stream.Signature(block_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk over an output tile's blocks; three stages behind that."""
        m = Module()
        config, job = self._config, self.job
        en = Signal()  # the pipeline moves
        loop = place(m, "loop", PanaceaLoop(config))
        tile = loop.tile
        m.d.comb += [loop.job.eq(job), loop.start.eq(self.start)]
        second, running = Signal(), Signal()
        half = Signal(range(max(config.halves, 2)))
        group = Signal(range(max(config.groups, 2)))
        pea = Signal(range(config.peas))  # of the tile
        in_half = Signal(range(config.tile_k // VECTOR))
        bank = Signal()

        rows, columns = Signal.like(tile.rows_a), Signal.like(tile.columns)
        peas, groups = vectors_of(rows), vectors_of(columns)
        rows_left = Signal(signed(len(rows) + 1))  # from this PEA on
        columns_left = Signal.like(columns)
        last_pea, last_in_half, last_group, last_half = (Signal() for _ in range(4))
        half_base = Signal(len(rows))
        m.d.comb += [
            rows.eq(Mux(second, tile.rows_b, tile.rows_a)),
            columns.eq(tile.columns),
            rows_left.eq(rows - (pea << 2)),
            columns_left.eq(columns - (group << 2)),
            last_pea.eq(pea == peas - 1),
            last_in_half.eq(last_pea | (in_half == config.tile_k // VECTOR - 1)),
            last_group.eq(group == groups - 1),
            half_base.eq(half * config.tile_k),
            last_half.eq(rows - half_base <= config.tile_k),
        ]
        left_in_half = Signal(len(rows))
        m.d.comb += left_in_half.eq(rows - half_base)
        more = Signal()  # the second weight tile follows
        reads, tile_ends = Signal(), Signal()
        m.d.comb += [
            more.eq(~second & (tile.rows_b != 0)),
            reads.eq(running & en),
            tile_ends.eq(reads & last_in_half & last_group & last_half & ~more),
        ]
        with m.If(reads):
            m.d.sync += [pea.eq(pea + 1), in_half.eq(in_half + 1)]
            with m.If(last_in_half):
                m.d.sync += [in_half.eq(0), pea.eq(half * (config.tile_k // VECTOR)), group.eq(group + 1)]
                with m.If(last_group):
                    m.d.sync += [group.eq(0), half.eq(half + 1), pea.eq(pea + 1)]
                    with m.If(last_half):
                        m.d.sync += [half.eq(0), pea.eq(0), second.eq(more)]
        # All K tiles of an output tile are one here.
        skipping = Signal()
        m.d.comb += [
            skipping.eq(loop.active & ~tile.last_k & ~self.start),
            loop.step.eq(skipping | tile_ends),
        ]
        # Until a bank is given back, `ready` may still speak of it.
        owed = Signal()
        with m.If(~running):
            m.d.sync += running.eq(self.ready & loop.active & tile.last_k & ~owed)
        with m.Elif(tile_ends):
            m.d.sync += [running.eq(0), bank.eq(~bank), owed.eq(1)]
        with m.If(self.drained):
            m.d.sync += owed.eq(0)
        for index in range(config.peas):
            m.d.comb += self.read_en[index].eq(reads & (pea == index))
        m.d.comb += [
            self.read_bank.eq(bank),
            self.read_word.eq(group + Mux(second, config.groups, 0)),
            self.params_en.eq(reads),
            self.params_addr.eq(pea + Mux(second, config.peas, 0)),
            self.params_release.eq(tile_ends & tile.last_n),
        ]
        flags = Signal(
            data.StructLayout(
                {
                    "rows": 3,
                    "columns": 3,
                    "first_of_group": 1,
                    "last_of_group": 1,
                    "last_of_record": 1,
                    "last": 1,
                    "k_valid": config.tile_k.bit_length(),
                }
            )
        )
        m.d.comb += [
            flags.rows.eq(Mux(rows_left > VECTOR, VECTOR, rows_left)),
            flags.columns.eq(Mux(columns_left > VECTOR, VECTOR, columns_left)),
            flags.first_of_group.eq(in_half == 0),
            flags.last_of_group.eq(last_in_half),
            flags.last_of_record.eq(last_in_half & last_group),
            flags.last.eq(tile_ends & tile.last_m & tile.last_n),
            flags.k_valid.eq(Mux(left_in_half > config.tile_k, config.tile_k, left_in_half)),
        ]
        self._combine(m, en, reads, tile_ends, pea, flags)
        return m

    def _combine(
        self, m: Module, en: Signal, reads: Value, tile_ends: Value, pea: Signal, flags: Signal
    ) -> None:
        """Select, add and compensate; every stage holds while the block ahead waits."""
        config, job = self._config, self.job
        valid = [Signal(name=f"valid{stage}") for stage in (1, 2, 3)]
        m.d.comb += en.eq(~valid[2] | self.o.ready)
        pea1 = Signal.like(pea, reset_less=True)
        flags1, flags2, flags3 = (Signal(flags.shape(), name=f"flags{i}", reset_less=True) for i in (1, 2, 3))
        ends1 = Signal()
        block = Signal(psum_layout(config), reset_less=True)
        params2, params3 = (Signal(VECTOR * CHANNEL_BITS, name=f"params{i}", reset_less=True) for i in (2, 3))
        accs = [Signal(signed(config.acc_bits), name=f"acc{lane}", reset_less=True) for lane in range(LANES)]
        with m.If(en):
            m.d.sync += [
                valid[0].eq(reads),
                valid[1].eq(valid[0]),
                valid[2].eq(valid[1]),
                pea1.eq(pea),
                flags1.eq(flags),
                flags2.eq(flags1),
                flags3.eq(flags2),
                ends1.eq(tile_ends),
                block.eq(Array(self.data)[pea1]),
                params2.eq(self.params_data),
                params3.eq(params2),
            ]
        m.d.comb += self.drained.eq(en & valid[0] & ends1)
        for row in range(VECTOR):
            compensation = Signal(signed(config.acc_bits), name=f"compensation{row}")
            # 16^k of the HO slice: twice the shift with three slices; without an HO slice the sum is 0.
            product = block.weights[row] * job.skipped
            m.d.comb += compensation.eq(Mux(job.act_slices == 3, product << 8, product << 4))
            for column in range(VECTOR):
                lane = VECTOR * row + column
                total = Signal(signed(config.acc_bits), name=f"total{lane}")
                m.d.comb += total.eq(block.psums[lane] + block.psums[LANES + lane] - compensation)
                with m.If(en):
                    m.d.sync += accs[lane].eq(
                        Mux(job.drop == 2, total << 2, Mux(job.drop == 1, total << 1, total))
                    )
        payload = self.o.payload
        m.d.comb += self.o.valid.eq(valid[2])
        m.d.comb += [payload[name].eq(flags3[name]) for name, _ in flags.shape()]
        for lane in range(LANES):
            m.d.comb += payload.acc[lane].eq(accs[lane])
        for row in range(VECTOR):
            channel = params3[CHANNEL_BITS * row : CHANNEL_BITS * (row + 1)]
            m.d.comb += [
                payload.channels[row].bias.eq(channel[:32].as_signed()),
                payload.channels[row].multiplier.eq(channel[32:63]),
                payload.channels[row].shift.eq(channel[64:70]),
            ]
