"""The drain: complete banks of accumulators of the four arrays become rows of results in the output memory."""

from __future__ import annotations

import itertools
from typing import ClassVar

from amaranth.hdl import Cat, Module, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import CHANNEL_BITS, CHANNELS, DIMENSION_BITS, GRANULE_BITS, DriftConfig
from bitfabric.hdl.drift.controls import drain_layout
from bitfabric.hdl.drift.drain_address import DrainAddress
from bitfabric.hdl.drift.drain_lanes import DrainLanes, delay
from bitfabric.hdl.drift.drain_select import DrainSelect
from bitfabric.hdl.drift.drain_walk import PLANES, DrainWalk
from bitfabric.hdl.drift.job import GEMM
from bitfabric.hdl.drift.out_memory import OutMemory
from bitfabric.hdl.drift.params_memory import ParamsMemory

__all__ = ["PLANES", "Drain"]


class Drain(Block):
    """Drain a bank at a time, row by row, ``word_granules`` columns of it per cycle, without gaps.

    ``DrainWalk`` says when a bank is picked, when its words are taken and when it is freed, ``DrainAddress`` where a
    word's bytes go. A word taken in t is written in t + ``LATENCY`` and can be read from the cycle after on; ``busy``
    falls ``LATENCY`` cycles after the last word was taken, with its writing. Bytes beyond N in a row's last word are
    not written.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    gemm : In(GEMM)
        The layer; constant from some cycles before the first bank is full on.
    full, bank, info : In
        A region's oldest complete bank that was not taken: that there is one, which it is, what it holds.
    take : Out(4)
        It is picked; the next one is shown from the next cycle on.
    freed : Out(4)
        The last word of the region's bank has been taken: it may be claimed again.
    read_en, read_region, read_bank, read_row : Out
        Read a row of accumulators; it is there in the next cycle and stays until the next read.
    north_data, south_data : In(signed(acc_bits)).array(4 * C)
        The row, accumulator i of column x at ``4*x + i``.
    index_rank, index_low : Out
        Row of either precision that the read row is, to the index buffer.
    index_token, index_shift : In
        Its token and its lc, in the next cycle.
    params_en, params_granule, params_low, params_data, bad_index
        Write port of the channels' parameters, see ``ParamsMemory``.
    table_en, table_addr, table_data : In
        Write port of the function's tables.
    out_read_en, out_read_address, read_data
        Read port of the results, see ``OutMemory``.
    busy : Out(1)
        A bank is drained, or a word is on its way.
    output_error : Out(1)
        A word of results did not fit the memory and was not written.
    """

    LATENCY: ClassVar[int] = 2 + DrainLanes.LATENCY

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        fmt = config.pwl
        row = In(signed(config.acc_bits)).array(CHANNELS * config.columns)
        super().__init__(
            {
                "gemm": In(GEMM),
                "full": In(4),
                "bank": In(4),
                "info": In(drain_layout(config)).array(4),
                "take": Out(4),
                "freed": Out(4),
                "read_en": Out(1),
                "read_region": Out(2),
                "read_bank": Out(1),
                "read_row": Out(address_bits(config.acc_depth)),
                "north_data": row,
                "south_data": row,
                "index_rank": Out(DIMENSION_BITS),
                "index_low": Out(1),
                "index_token": In(DIMENSION_BITS),
                "index_shift": In(4),
                "params_en": In(1),
                "params_granule": In(GRANULE_BITS),
                "params_low": In(1),
                "params_data": In(CHANNELS * CHANNEL_BITS),
                "bad_index": Out(1),
                "table_en": In(1),
                "table_addr": In((fmt.segments - 1).bit_length()),
                "table_data": In(fmt.slope_bits + fmt.offset_bits),
                "out_read_en": In(1),
                "out_read_address": In(address_bits(config.out_words)),
                "read_data": Out(config.axis_data_bits),
                "busy": Out(1),
                "output_error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Walk the banks; let selection, parameters, lanes and addresses follow at their distances."""
        m = Module()
        config = self._config
        walk = place(m, "walk", DrainWalk(config))
        m.d.comb += walk.accumulators.eq(self.gemm.accumulators)
        for name in ("full", "bank"):
            m.d.comb += getattr(walk, name).eq(getattr(self, name))
        for index in range(4):
            m.d.comb += Value.cast(walk.info[index]).eq(Value.cast(self.info[index]))
        for name in (
            "take",
            "freed",
            "read_en",
            "read_region",
            "read_bank",
            "read_row",
            "index_rank",
            "index_low",
        ):
            m.d.comb += getattr(self, name).eq(getattr(walk, name))
        valids = [walk.running, *(Signal(name=f"valid_{stage}") for stage in range(1, self.LATENCY + 1))]
        m.d.sync += [after.eq(before) for before, after in itertools.pairwise(valids)]
        m.d.comb += self.busy.eq(Cat(valids[:-1]).any())

        # A cycle after a word was taken; what is known of its row has come from the index buffer by then.
        shift, token = Signal(4, reset_less=True), Signal(DIMENSION_BITS, reset_less=True)
        with m.If(walk.row_starts):
            m.d.sync += [shift.eq(self.index_shift), token.eq(self.index_token)]
        right, granule = delay(m, "right", walk.region[0], 1), delay(m, "granule", walk.granule, 1)
        plane, used = delay(m, "plane", walk.plane, 1), delay(m, "used", walk.used, 1)

        select = place(m, "select", DrainSelect(config))
        for index in range(CHANNELS * config.columns):
            m.d.comb += [
                select.north_data[index].eq(self.north_data[index]),
                select.south_data[index].eq(self.south_data[index]),
            ]
        bits = config.word_granules.bit_length() - 1
        rotation = granule[:bits]
        m.d.comb += [
            select.south.eq(walk.region[1]),
            select.right.eq(walk.region[0]),
            select.word.eq(walk.word),
            select.rotation.eq(rotation),
        ]
        params = self._params(m, right, granule[bits:], rotation)
        lanes = place(m, "lanes", DrainLanes(config))
        m.d.comb += [
            lanes.gemm.eq(self.gemm.as_value()),
            lanes.right.eq(delay(m, "lanes_right", right, 1)),
            lanes.plane.eq(delay(m, "lanes_plane", plane, 1)),
            lanes.shift.eq(delay(m, "lanes_shift", shift, 1)),
            lanes.table_en.eq(self.table_en),
            lanes.table_addr.eq(self.table_addr),
            lanes.table_data.eq(self.table_data),
        ]
        for lane in range(config.lanes):
            m.d.comb += [
                lanes.values[lane].eq(select.values[lane]),
                lanes.clips[lane].eq(params.clips[lane]),
                Value.cast(lanes.scalings[lane]).eq(Value.cast(params.scalings[lane])),
            ]
        address = place(m, "address", DrainAddress(config))
        m.d.comb += [
            address.gemm.eq(self.gemm.as_value()),
            address.right.eq(right),
            address.granule.eq(granule),
            address.used.eq(used),
            address.plane.eq(plane),
            address.token.eq(token),
        ]
        self._memory(m, lanes, address, valids[-1])
        return m

    def _params(self, m: Module, low: Value, entry: Value, rotation: Value) -> ParamsMemory:
        """Place the parameters and read those of a word."""
        params = place(m, "params", ParamsMemory(self._config))
        m.d.comb += [
            params.n_high.eq(self.gemm.n_high),
            params.n_low.eq(self.gemm.n_low),
            params.granules_high.eq(self.gemm.granules_high),
            params.write_en.eq(self.params_en),
            params.write_granule.eq(self.params_granule),
            params.write_low.eq(self.params_low),
            Value.cast(params.write_data).eq(self.params_data),
            self.bad_index.eq(params.bad_index),
            params.low.eq(low),
            params.entry.eq(entry),
            params.rotation.eq(rotation),
        ]
        return params

    def _memory(self, m: Module, lanes: DrainLanes, address: DrainAddress, valid: Signal) -> None:
        """Write what comes out of the lanes, with the place that waited for it."""
        memory = place(m, "memory", OutMemory(self._config))
        # Addresses start a cycle after the word was taken, lanes two.
        wait = self.LATENCY - 1 - DrainAddress.LATENCY
        beyond = delay(m, "beyond", address.beyond, wait)
        m.d.comb += [
            memory.write_en.eq(valid & ~beyond),
            memory.write_address.eq(delay(m, "write_address", address.address, wait)),
            memory.write_offset.eq(delay(m, "write_offset", address.offset, wait)),
            memory.write_count.eq(delay(m, "write_count", address.count, wait)),
            memory.write_data.eq(lanes.out),
            self.output_error.eq(valid & beyond),
            memory.read_en.eq(self.out_read_en),
            memory.read_address.eq(self.out_read_address),
            self.read_data.eq(memory.read_data),
        ]
