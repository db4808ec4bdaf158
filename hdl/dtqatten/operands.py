"""The line buffers of queries, keys, values and numerators, and the operand bus to the arrays."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.line_buffer import PositionBuffer, TokenBuffer
from bitfabric.hdl.dtqatten.operand_flags import OperandFlags


class Operands(Block):
    """Answer a command with a word for the arrays' rows and one for their columns, ``LATENCY`` cycles later.

    Scores take keys in rows and queries in columns, results take values in rows and numerators in columns. Keys,
    queries and values have two banks, as the next head's come while the arrays work on this one's. A write is seen by
    commands from the next cycle on; a command in its own cycle gets the old word.

    Parameters
    ----------
    config : DtqattenConfig
        Every parameter of the design.

    Members
    -------
    scan_en, scan_high, scan_tile, scan_lane, scan_band, scan_band_lane, scan_group, scan_slot : In
        Tell a token's precision, see ``OperandFlags``.
    kq_en : In(2)
        Write S channels of a token: bit 0 as a key, bit 1 as a query.
    kq_bank, kq_word : In
        The head's bank; channels ``kq_word * S`` and up.
    kq_tile, kq_lane, kq_band, kq_band_lane : In
        Where the token is, as a key and as a query.
    kq_data : In(8 * S)
        Integers, the first channel lowest.
    v_en, v_bank, v_tile, v_position, v_data : In
        Write a tile of R channels of the value at a position, the first channel lowest.
    a_en, a_band, a_position, a_data : In
        Write the numerators of a band's C queries for a position, column 0 lowest.
    read_en : In(1)
        Command.
    read_pv, read_bank, read_tile, read_band, read_group : In
        Results or scores; the head's bank; tile of keys or of channels; band; word of E elements of the contraction.
    row_data, column_data : Out(8 * R * E), Out(8 * C * E)
        Element e of lane l at byte ``e * lanes + l``, kept until the next command's.
    row_high, column_high : Out(R * E), Out(C * E)
        Likewise a bit for each: it has 8 bits. Numerators always have.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DtqattenConfig):
        self._config = config
        rows, columns, elements = config.rows, config.columns, config.line_elements
        tile, band = address_bits(config.tiles_max), address_bits(config.bands_max)
        lane, band_lane = address_bits(rows), address_bits(columns)
        channel_tile = address_bits(config.channel_tiles_max)
        super().__init__(
            {
                "scan_en": In(1),
                "scan_high": In(1),
                "scan_tile": In(tile),
                "scan_lane": In(lane),
                "scan_band": In(band),
                "scan_band_lane": In(band_lane),
                "scan_group": In(address_bits(config.token_groups_max)),
                "scan_slot": In(address_bits(elements)),
                "kq_en": In(2),
                "kq_bank": In(1),
                "kq_tile": In(tile),
                "kq_lane": In(lane),
                "kq_band": In(band),
                "kq_band_lane": In(band_lane),
                "kq_word": In(address_bits(-(-config.head_size_max // config.axis_bytes))),
                "kq_data": In(8 * config.axis_bytes),
                "v_en": In(1),
                "v_bank": In(1),
                "v_tile": In(channel_tile),
                "v_position": In(config.id_bits),
                "v_data": In(8 * rows),
                "a_en": In(1),
                "a_band": In(band),
                "a_position": In(config.id_bits),
                "a_data": In(8 * columns),
                "read_en": In(1),
                "read_pv": In(1),
                "read_bank": In(1),
                "read_tile": In(max(tile, channel_tile)),
                "read_band": In(band),
                "read_group": In(address_bits(config.tile_words)),
                "row_data": Out(8 * rows * elements),
                "row_high": Out(rows * elements),
                "column_data": Out(8 * columns * elements),
                "column_high": Out(columns * elements),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Read what the command is about, then choose and register."""
        m = Module()
        config = self._config
        rows, columns, elements = config.rows, config.columns, config.line_elements
        keys, queries = self._tokens(m)
        values, numerators = self._positions(m)
        flags = place(m, "flags", OperandFlags(config))
        for name in ("en", "high", "tile", "lane", "band", "band_lane", "group", "slot"):
            m.d.comb += getattr(flags, f"scan_{name}").eq(getattr(self, f"scan_{name}"))
        m.d.comb += [
            flags.read_en.eq(self.read_en),
            flags.read_pv.eq(self.read_pv),
            flags.read_tile.eq(self.read_tile),
            flags.read_band.eq(self.read_band),
            flags.read_group.eq(self.read_group),
        ]
        answering, pv = Signal(), Signal(reset_less=True)
        m.d.sync += [answering.eq(self.read_en), pv.eq(self.read_pv)]
        row_high = Mux(
            pv, Cat(flag.replicate(rows) for flag in flags.group_high), flags.tile_high.replicate(elements)
        )
        column_high = flags.band_high.replicate(elements) | pv.replicate(columns * elements)
        for port, value in (
            (self.row_data, Mux(pv, values.read_data, keys.read_data)),
            (self.column_data, Mux(pv, numerators.read_data, queries.read_data)),
            (self.row_high, row_high),
            (self.column_high, column_high),
        ):
            register = Signal(len(port), name=f"{port.name}_bus", reset_less=True)
            with m.If(answering):
                m.d.sync += register.eq(value)
            m.d.comb += port.eq(register)
        return m

    def _tokens(self, m: Module) -> tuple[TokenBuffer, TokenBuffer]:
        """Place the buffers of keys and queries."""
        config = self._config
        size = config.line_elements, config.axis_bytes
        keys = place(m, "keys", TokenBuffer(config.rows, *size, config.tiles_max, config.head_size_max))
        queries = place(
            m, "queries", TokenBuffer(config.columns, *size, config.bands_max, config.head_size_max)
        )
        for buffer, enable, tile, lane, read_tile in (
            (keys, self.kq_en[0], self.kq_tile, self.kq_lane, self.read_tile),
            (queries, self.kq_en[1], self.kq_band, self.kq_band_lane, self.read_band),
        ):
            m.d.comb += [
                buffer.write_en.eq(enable),
                buffer.write_bank.eq(self.kq_bank),
                buffer.write_tile.eq(tile),
                buffer.write_lane.eq(lane),
                buffer.write_word.eq(self.kq_word),
                buffer.write_data.eq(self.kq_data),
                buffer.read_en.eq(self.read_en & ~self.read_pv),
                buffer.read_bank.eq(self.read_bank),
                buffer.read_tile.eq(read_tile),
                buffer.read_group.eq(self.read_group),
            ]
        return keys, queries

    def _positions(self, m: Module) -> tuple[PositionBuffer, PositionBuffer]:
        """Place the buffers of values and numerators."""
        config = self._config
        elements, tokens = config.line_elements, config.tokens_max
        values = place(
            m, "values", PositionBuffer(config.rows, elements, config.channel_tiles_max, tokens, 2)
        )
        numerators = place(
            m, "numerators", PositionBuffer(config.columns, elements, config.bands_max, tokens)
        )
        m.d.comb += [values.write_bank.eq(self.v_bank), values.read_bank.eq(self.read_bank)]
        for buffer, enable, tile, position, word, read_tile in (
            (values, self.v_en, self.v_tile, self.v_position, self.v_data, self.read_tile),
            (numerators, self.a_en, self.a_band, self.a_position, self.a_data, self.read_band),
        ):
            m.d.comb += [
                buffer.write_en.eq(enable),
                buffer.write_tile.eq(tile),
                buffer.write_position.eq(position),
                buffer.write_data.eq(word),
                buffer.read_en.eq(self.read_en & self.read_pv),
                buffer.read_tile.eq(read_tile),
                buffer.read_group.eq(self.read_group),
            ]
        return values, numerators
