"""The core: fabric, weight buffer, accumulators, activation stores, and a sequencer for each of the four arrays."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.act_store import ActStore
from bitfabric.hdl.drift.config import CHANNELS, DIMENSION_BITS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.controls import drain_layout, weight_control
from bitfabric.hdl.drift.dispatcher import Dispatcher
from bitfabric.hdl.drift.edge import EdgeColumn
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.hdl.drift.job import GEMM, REGIONS
from bitfabric.hdl.drift.psum_delay import PsumDelay
from bitfabric.hdl.drift.sequencer import TO_FABRIC, Sequencer
from bitfabric.hdl.drift.weight_column import WeightColumn


class DriftCore(Block):
    """Run the four arrays of a split, each on its own part of a GEMM.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    start : In(1)
        Begin; ``gemm``, split, ``slots``, ``slot_words`` and the counts are stable from the cycle before on.
    gemm : In(GEMM)
        The work.
    rows_high, rows_low : In(16)
        Activation rows of either precision.
    columns_left, rows_left, rows_right : In
        The split.
    slots, slot_words : In
        N tiles in the weight buffer, words of a granule.
    high_en, high_address, low_en, low_address, act_data : In
        Write ports of the activation stores.
    weight_en, weight_address, weight_data : In
        Write port of the weight buffer, an enable per column.
    ready_left, ready_right : In(GRANULE_BITS)
        N tiles of either half that are in the weight buffer.
    consumed : Out(GRANULE_BITS).array(4)
        N tiles that a region has done with; all, if it has no work.
    full, full_bank, info, take, freed
        See ``RegionBanks``, for each region.
    read_en, read_region, read_bank, read_row : In
        Read a row of accumulators.
    north_data, south_data : Out(signed(acc_bits)).array(4 * C)
        The row, a cycle later, until the column's next read.
    active : Out(4)
        Arrays that load or compute.
    done : Out(1)
        All arrays are done and drained.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        split, acc = range(config.rows + 1), signed(config.acc_bits)
        super().__init__(
            {
                "start": In(1),
                "gemm": In(GEMM),
                "rows_high": In(DIMENSION_BITS),
                "rows_low": In(DIMENSION_BITS),
                "columns_left": In(range(config.columns + 1)),
                "rows_left": In(split),
                "rows_right": In(split),
                "slots": In(4),
                "slot_words": In(config.weight_words.bit_length()),
                "high_en": In(1),
                "high_address": In(address_bits(config.high_words)),
                "low_en": In(1),
                "low_address": In(address_bits(config.low_words)),
                "act_data": In(config.axis_data_bits),
                "weight_en": In(config.columns),
                "weight_address": In(config.weight_address_bits),
                "weight_data": In(config.axis_data_bits),
                "ready_left": In(GRANULE_BITS),
                "ready_right": In(GRANULE_BITS),
                "consumed": Out(GRANULE_BITS).array(4),
                "full": Out(4),
                "full_bank": Out(4),
                "info": Out(drain_layout(config)).array(4),
                "take": In(4),
                "freed": In(4),
                "read_en": In(1),
                "read_region": In(2),
                "read_bank": In(1),
                "read_row": In(address_bits(config.acc_depth)),
                "north_data": Out(acc).array(CHANNELS * config.columns),
                "south_data": Out(acc).array(CHANNELS * config.columns),
                "active": Out(4),
                "done": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the parts and lead controls to both ends of every chain."""
        m = Module()
        config = self._config
        fabric = place(m, "fabric", DriftFabric(config))
        dispatcher = place(m, "dispatcher", Dispatcher(config))
        m.d.comb += [
            fabric.columns_left.eq(self.columns_left),
            fabric.rows_left.eq(self.rows_left),
            fabric.rows_right.eq(self.rows_right),
            dispatcher.rows_left.eq(self.rows_left),
            dispatcher.rows_right.eq(self.rows_right),
        ]
        for row in range(config.rows):
            m.d.comb += [
                Value.cast(fabric.west[row]).eq(Value.cast(dispatcher.west[row])),
                Value.cast(fabric.east[row]).eq(Value.cast(dispatcher.east[row])),
            ]
        sequencers = [self._sequencer(m, index) for index in range(4)]
        m.d.comb += self.done.eq(
            sequencers[0].done & sequencers[1].done & sequencers[2].done & sequencers[3].done
        )
        self._stores(m, sequencers, dispatcher)
        left = Signal(config.columns)
        for column in range(config.columns):
            m.d.sync += left[column].eq(self.columns_left > column)
        self._columns(m, sequencers, fabric, left)
        for edge, name in enumerate(("north", "south")):
            self._edges(m, name, sequencers[2 * edge : 2 * edge + 2], fabric, left, edge)
        return m

    def _sequencer(self, m: Module, index: int) -> Sequencer:
        config, gemm = self._config, self.gemm
        upper, left = index < 2, index % 2 == 0
        words = config.high_words if upper else config.low_words
        act, weight = ("high" if upper else "low"), ("high" if left else "low")
        sequencer = place(m, f"sequencer_{REGIONS[index]}", Sequencer(config, words))
        split = self.rows_left if left else self.rows_right
        rows = Signal(range(config.rows + 1), name=f"rows_{REGIONS[index]}")
        columns = Signal(range(config.columns + 1), name=f"columns_{REGIONS[index]}")
        idle = Signal(name=f"idle_{REGIONS[index]}")
        count = self.rows_high if upper else self.rows_low
        granules = gemm[f"granules_{weight}"]
        m.d.sync += [
            rows.eq(split if upper else config.rows - split),
            columns.eq(self.columns_left if left else config.columns - self.columns_left),
        ]
        m.d.comb += [
            idle.eq(count == 0),
            sequencer.start.eq(self.start),
            sequencer.rows.eq(rows),
            sequencer.columns.eq(columns),
            sequencer.m.eq(count),
            sequencer.granules.eq(granules),
            sequencer.nibbles.eq(gemm[f"nibbles_{act}"]),
            sequencer.stride.eq(gemm[f"stride_{act}"]),
            sequencer.slots.eq(self.slots),
            sequencer.slot_words.eq(self.slot_words),
            sequencer.k.eq(gemm.k),
            sequencer.bits.eq(gemm[f"bits_{act}"]),
            sequencer.ready.eq(self.ready_left if left else self.ready_right),
            self.consumed[index].eq(sequencer.consumed | idle.replicate(GRANULE_BITS)),
            self.full[index].eq(sequencer.full),
            self.full_bank[index].eq(sequencer.full_bank),
            Value.cast(self.info[index]).eq(Value.cast(sequencer.info)),
            sequencer.take.eq(self.take[index]),
            sequencer.freed.eq(self.freed[index]),
            self.active[index].eq(sequencer.active),
        ]
        return sequencer

    def _stores(self, m: Module, sequencers: list[Sequencer], dispatcher: Dispatcher) -> None:
        """Give each half a read port of either store."""
        config = self._config
        stores = [
            place(m, f"store_{name}", ActStore(config, words))
            for name, words in (("high", config.high_words), ("low", config.low_words))
        ]
        ports = ((self.high_en, self.high_address), (self.low_en, self.low_address))
        for store, (enable, address) in zip(stores, ports, strict=True):
            m.d.comb += [
                store.write_en.eq(enable),
                store.write_address.eq(address),
                store.write_data.eq(self.act_data),
            ]
        for index, sequencer in enumerate(sequencers):
            store, half = stores[index // 2], index % 2
            m.d.comb += Value.cast(store.request[half]).eq(Value.cast(sequencer.read))
            for row in range(config.rows):
                m.d.comb += dispatcher.windows[index][row].eq(store.window[half][row])
            swap: Value = sequencer.read.swap
            for stage in range(TO_FABRIC - 1):  # as long as the window takes
                later = Signal(name=f"swap_{REGIONS[index]}_{stage}")
                m.d.sync += later.eq(swap)
                swap = later
            m.d.comb += dispatcher.swaps[index].eq(swap)

    def _columns(self, m: Module, sequencers: list[Sequencer], fabric: DriftFabric, left: Signal) -> None:
        """Chain the columns of the weight buffer in both directions, for both edges."""
        config = self._config
        columns = [place(m, f"weights_{i}", WeightColumn(config)) for i in range(config.columns)]
        ends = []
        for index, sequencer in enumerate(sequencers):
            control = Signal(weight_control(config), name=f"control_{REGIONS[index]}", reset_less=True)
            load, copy = (Signal(name=f"{name}_{REGIONS[index]}") for name in ("load", "copy"))
            m.d.sync += [
                control.eq(sequencer.weights),
                load.eq(sequencer.weights.load),
                copy.eq(sequencer.weights.copy),
            ]
            end = Signal(weight_control(config), name=f"end_{REGIONS[index]}")
            m.d.comb += [end.eq(control), end.load.eq(load), end.copy.eq(copy)]
            ends.append(end)
        for index, column in enumerate(columns):
            m.d.comb += [
                column.write_en.eq(self.weight_en[index]),
                column.write_address.eq(self.weight_address),
                column.write_data.eq(self.weight_data),
                column.left.eq(left[index]),
            ]
            for edge, name in enumerate(("north", "south")):
                west: Any = getattr(columns[index - 1], f"{name}_control_out") if index else ends[2 * edge]
                last = index == config.columns - 1
                east: Any = ends[2 * edge + 1] if last else getattr(columns[index + 1], f"{name}_control_out")
                m.d.comb += [
                    Value.cast(getattr(column, f"{name}_control_west")).eq(Value.cast(west)),
                    Value.cast(getattr(column, f"{name}_control_east")).eq(Value.cast(east)),
                    Value.cast(getattr(fabric, f"{name}_weights")[index]).eq(
                        Value.cast(getattr(column, f"{name}_stationary"))
                    ),
                    getattr(fabric, f"{name}_load")[index].eq(getattr(column, f"{name}_load")),
                ]
                if config.weight_buffering == "transit":
                    m.d.comb += getattr(fabric, f"{name}_copy")[index].eq(getattr(column, f"{name}_copy"))

    def _edges(
        self,
        m: Module,
        name: str,
        sequencers: list[Sequencer],
        fabric: DriftFabric,
        left: Signal,
        edge: int,
    ) -> None:
        """Chain an edge's accumulators in both directions and read those of a region."""
        config = self._config
        ends = []
        for half, sequencer in enumerate(sequencers):
            delay = place(m, f"psums_{REGIONS[2 * edge + half]}", PsumDelay(config))
            m.d.comb += [
                delay.rows.eq(sequencer.rows),
                Value.cast(delay.i).eq(Value.cast(sequencer.psum)),
            ]
            ends.append(delay.o)
        columns = [place(m, f"{name}_{i}", EdgeColumn(config)) for i in range(config.columns)]
        data = getattr(self, f"{name}_data")
        for index, column in enumerate(columns):
            west = columns[index - 1].control_out if index else ends[0]
            east = ends[1] if index == config.columns - 1 else columns[index + 1].control_out
            m.d.comb += [
                column.left.eq(left[index]),
                Value.cast(column.control_west).eq(Value.cast(west)),
                Value.cast(column.control_east).eq(Value.cast(east)),
                Value.cast(column.psum).eq(Value.cast(getattr(fabric, f"{name}_psum")[index])),
            ]
            for half in range(2):
                m.d.comb += [
                    column.drain_en[half].eq(self.read_en & (self.read_region == 2 * edge + half)),
                    column.drain_bank[half].eq(self.read_bank),
                    column.drain_row[half].eq(self.read_row),
                ]
            for channel in range(CHANNELS):
                m.d.comb += data[CHANNELS * index + channel].eq(column.data[channel])
