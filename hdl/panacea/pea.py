"""A processing element array (PEA): v output channels of a tile."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.accumulator_banks import AccumulatorBanks
from bitfabric.hdl.panacea.act_buffer import slot_layout
from bitfabric.hdl.panacea.compensator import Compensator
from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.fetcher import fetch_layout
from bitfabric.hdl.panacea.flexible_scheduler import FlexibleScheduler
from bitfabric.hdl.panacea.operand_mux import OperandMux
from bitfabric.hdl.panacea.operators import LANES, Operators, sum_bits
from bitfabric.hdl.panacea.scheduler import WorkloadScheduler
from bitfabric.hdl.panacea.weight_buffer import WeightBuffer
from bitfabric.hdl.panacea.work import place_layout, psum_words

# Cycles from the scheduler's decision to its product's sum in memory: decision, operands, products, addition.
PIPELINE = 4


def psum_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return what a PEA gives of a sub-tile: both paths' psums and the sums of its compensator."""
    return data.StructLayout(
        {
            "psums": data.ArrayLayout(signed(config.acc_bits), 2 * LANES),
            "weights": data.ArrayLayout(signed(compensation_bits(config)), VECTOR),
        }
    )


def compensation_bits(config: PanaceaConfig) -> int:
    """Return the width of a compensator's sums: they are used times 16 at least, modulo 2^acc_bits."""
    return config.acc_bits - 4


class Pea(Block):
    """Multiply a weight sub-tile by all the activation sub-tiles of a tile [paper, III-D].

    Scheduler, operand multiplexers, operators and accumulators are one pipeline: a product decided on in cycle t is
    in its psum bank from t + 4 on. Output stationary: two psum banks, of which one is read out while the other fills.

    Parameters
    ----------
    config : PanaceaConfig
        Gives everything.

    Members
    -------
    pea, weight_slices, act_slices : In
        Which PEA this is; the layer's slices.
    slots, filled, slot_release : In, In, Out
        The global activation buffer.
    weights_free, weights_claim, weights_landing, i
        What comes from WMEM; ``i`` is the fetcher's.
    output_done : Out(1)
        A psum bank is complete; the banks complete in turn.
    drained : In(1)
        It has been read out.
    read_en, read_bank, read_word : In
        Read a block of psums and empty it.
    data : Out(psum_layout)
        The block, a cycle later, kept until the next ``read_en``.
    static_products, dynamic_products : Out
        Products decided on in the cycle before.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        tiles = 2 if config.dtp else 1
        super().__init__(
            {
                "pea": In(config.peas.bit_length()),
                "weight_slices": In(2),
                "act_slices": In(2),
                "slots": In(slot_layout(config)).array(config.act_slots),
                "filled": In(1),
                "slot_release": Out(1),
                "weights_free": Out(1).array(tiles),
                "weights_claim": In(1).array(tiles),
                "weights_landing": In(1).array(tiles),
                "i": In(fetch_layout(config)),
                "output_done": Out(1),
                "drained": In(1),
                "read_en": In(1),
                "read_bank": In(1),
                "read_word": In(address_bits(psum_words(config))),
                "data": Out(psum_layout(config)),
                "static_products": Out(config.operators.bit_length()),
                "dynamic_products": Out(config.operators.bit_length()),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Wire the pipeline."""
        m = Module()
        config = self._config
        tiles = 2 if config.dtp else 1
        buffer = place(m, "wbuf", WeightBuffer(config))
        kind = FlexibleScheduler if config.flexible else WorkloadScheduler
        scheduler = place(m, "scheduler", kind(config))
        mux = place(m, "operand_mux", OperandMux(config))
        operators = place(m, "operators", Operators(config))
        m.d.comb += [
            buffer.i.eq(self.i),
            scheduler.pea.eq(self.pea),
            scheduler.weight_slices.eq(self.weight_slices),
            scheduler.act_slices.eq(self.act_slices),
            scheduler.filled.eq(self.filled),
            scheduler.drained.eq(self.drained),
            self.slot_release.eq(scheduler.slot_release),
            mux.work.eq(scheduler.work),
            mux.weight_slices.eq(self.weight_slices),
            mux.act_slices.eq(self.act_slices),
            self.static_products.eq(scheduler.work.static),
            self.dynamic_products.eq(scheduler.work.dynamic),
        ]
        for tile in range(tiles):
            m.d.comb += [
                self.weights_free[tile].eq(buffer.free[tile]),
                buffer.claim[tile].eq(self.weights_claim[tile]),
                buffer.landing[tile].eq(self.weights_landing[tile]),
                buffer.release[tile].eq(scheduler.weights_release[tile]),
                scheduler.weights_filled[tile].eq(buffer.filled[tile]),
            ]
        for index in range(2 * tiles):
            m.d.comb += [
                scheduler.weight_masks[index].eq(buffer.masks[index]),
                mux.banks[index].eq(buffer.banks[index]),
            ]
        for index in range(config.act_slots):
            m.d.comb += [
                scheduler.infos[index].eq(self.slots[index].info),
                scheduler.act_masks[index].eq(self.slots[index].mask),
                mux.slots[index].eq(self.slots[index]),
            ]
        second = Signal(config.operators, reset_less=True)
        m.d.sync += second.eq(scheduler.work.second)
        m.d.comb += [
            operators.second.eq(second),
            *(a.eq(b) for a, b in zip(operators.i, mux.o, strict=True)),
        ]
        self._accumulate(m, scheduler, mux, operators)
        done = scheduler.output_done
        for stage in range(PIPELINE - 1):
            later = Signal(name=f"done{stage}")
            m.d.sync += later.eq(done)
            done = later
        m.d.comb += self.output_done.eq(done)
        return m

    def _accumulate(
        self, m: Module, scheduler: WorkloadScheduler, mux: OperandMux, operators: Operators
    ) -> None:
        """Add the paths' sums to their psums, and the compensator's to CSBUF."""
        config = self._config
        words = psum_words(config)
        weight_slices = (config.max_weight_bits - 4) // 3 + 1
        # HO activations only meet the dynamic operators, or any in the flexible form.
        first = 0 if config.flexible else config.static_operators
        compensator = place(m, "compensator", Compensator(config.operators - first, weight_slices))
        for index in range(first, config.operators):
            operand = mux.o[index]
            m.d.comb += [
                compensator.weights[index - first].eq(operand.weights),
                compensator.takes[index - first].eq(operand.act_top),
                compensator.slice[index - first].eq(operand.weight_index),
            ]
        kept_bits = min(compensator.sum_bits, compensation_bits(config))
        sums = [Signal(signed(kept_bits), name=f"weights{r}", reset_less=True) for r in range(VECTOR)]
        m.d.sync += [a.eq(b) for a, b in zip(sums, compensator.sums, strict=True)]
        banks = [
            place(m, f"psum_{path}", AccumulatorBanks(LANES, config.acc_bits, sum_bits(config), words))
            for path in range(2)
        ]
        csbuf = place(m, "csbuf", AccumulatorBanks(VECTOR, compensation_bits(config), kept_bits, words))
        places = []
        for path in range(2):
            where = Signal(place_layout(config), name=f"place{path}", reset_less=True)
            en = Signal(name=f"en{path}")
            m.d.sync += [where.eq(scheduler.work.places[path]), en.eq(scheduler.work.places[path].en)]
            places.append((where, en))
            for lane in range(LANES):
                m.d.comb += banks[path].values[lane].eq(operators.sums[path * LANES + lane])
        users = [(banks[0], 0), (banks[1], 1), (csbuf, 0 if config.flexible else 1)]
        for unit, path in users:
            where, en = places[path]
            m.d.comb += [
                unit.en.eq(en),
                unit.bank.eq(where.bank),
                unit.word.eq(where.word),
                unit.read_en.eq(self.read_en),
                unit.read_bank.eq(self.read_bank),
                unit.read_word.eq(self.read_word),
            ]
        m.d.comb += [a.eq(b) for a, b in zip(csbuf.values, sums, strict=True)]
        for path in range(2):
            for lane in range(LANES):
                m.d.comb += self.data.psums[path * LANES + lane].eq(banks[path].data[lane])
        m.d.comb += [self.data.weights[row].eq(csbuf.data[row]) for row in range(VECTOR)]
