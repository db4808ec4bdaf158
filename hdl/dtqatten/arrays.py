"""The arrays between the operand bus and the unload ports."""

from __future__ import annotations

from amaranth.hdl import Cat, Module
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.tile import tag_layout
from bitfabric.hdl.vssa.array import VssaArray
from bitfabric.hdl.vssa.counters import COUNTER_BITS


def vssa_array(config: DtqattenConfig) -> VssaArray:
    """Return one of the machine's arrays."""
    return VssaArray(
        config.rows,
        config.columns,
        config.line_elements,
        config.tile_words,
        config.acc_bits,
        tag_layout(config).size,
        config.pe_counters,
    )


class Arrays(Block):
    """Place the arrays, each of which works by itself.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    write_en, write_address, first, length, tag : In
        See ``Dealer``.
    row_data, row_high, column_data, column_high : In
        See ``Operands``.
    released, full : Out(arrays)
        A bit for each.
    tags, data, working, stalled : Out
        Of each, one after the other.
    take : In(arrays)
        Arrays that are unloaded from now on.
    qk, pv : Out(arrays)
        Arrays that compute scores, and results.
    """

    def __init__(self, config: DtqattenConfig):
        self._config = config
        rows, columns, elements = config.rows, config.columns, config.line_elements
        count = config.arrays
        super().__init__(
            {
                "write_en": In(count),
                "write_address": In(address_bits(config.tile_words)),
                "first": In(1),
                "length": In(max(config.count_bits, config.head_size_max.bit_length())),
                "tag": In(tag_layout(config).size),
                "row_data": In(8 * rows * elements),
                "row_high": In(rows * elements),
                "column_data": In(8 * columns * elements),
                "column_high": In(columns * elements),
                "released": Out(count),
                "full": Out(count),
                "tags": Out(count * tag_layout(config).size),
                "data": Out(count * columns * config.acc_bits),
                "working": Out(count * COUNTER_BITS),
                "stalled": Out(count * COUNTER_BITS),
                "take": In(count),
                "qk": Out(count),
                "pv": Out(count),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Give every array the same word; one of them takes it."""
        m = Module()
        config = self._config
        layout = tag_layout(config)
        tile = layout(self.tag)
        arrays = [place(m, f"array_{index}", vssa_array(config)) for index in range(config.arrays)]
        for index, array in enumerate(arrays):
            m.d.comb += [
                array.write_en.eq(self.write_en[index]),
                array.write_address.eq(self.write_address),
                array.row_data.eq(self.row_data),
                array.row_high.eq(self.row_high),
                array.column_data.eq(self.column_data),
                array.column_high.eq(self.column_high),
                array.tile_en.eq(self.write_en[index] & self.first),
                array.tile_length.eq(self.length),
                array.tile_rows.eq(tile.rows),
                array.tile_columns.eq(tile.columns),
                array.tile_floor.eq(tile.floor),
                array.tile_a_unsigned.eq(0),
                array.tile_b_unsigned.eq(tile.pv),  # numerators
                array.tile_tag.eq(self.tag),
                array.take.eq(self.take[index]),
                self.qk[index].eq(array.computing & ~layout(array.computing_tag).pv),
                self.pv[index].eq(array.computing & layout(array.computing_tag).pv),
            ]
        for name, port in (
            ("released", "released"),
            ("full", "full"),
            ("tags", "full_tag"),
            ("data", "o_data"),
            ("working", "working"),
            ("stalled", "stalled"),
        ):
            m.d.comb += getattr(self, name).eq(Cat(getattr(array, port) for array in arrays))
        return m
