"""The VSSA array: tile buffer, skew, PEs, step control; one tile after the other."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import Ram, address_bits
from bitfabric.hdl.vssa.control import VssaControl
from bitfabric.hdl.vssa.counters import COUNTER_BITS, VssaCounters
from bitfabric.hdl.vssa.feed import VssaFeed, check_line_elements
from bitfabric.hdl.vssa.pe import OPERAND_BITS, check_acc_bits
from bitfabric.hdl.vssa.row import VssaRow
from bitfabric.quant.errors import check_range


class VssaArray(Block):
    """Multiply tiles (R' x K) x (K x C') of 4- and 8-bit elements, a 4-bit MAC per product.

    Timing, in cycles: words are written from w0 on, one per cycle, without a pause, the tile's description with word
    0. It starts in T = max(w0 + 3, u + 2), u being when the tile before was taken, and has N = K + R' + C' - 2
    steps; in step s element e is in the PEs (r, c) with r + c = s - e. A step lasts 2^floor cycles at least, and
    four if operands of two 8-bit elements meet in any PE [paper]; with ``tile_floor`` 0 the caller sees to it that
    no element is high. Element 0 enters the array at the end of T - 1, element e at the end of step e - 1.
    ``released`` is high in the cycle in which the tile's last word is read: T - 2, or the one in which element
    (W' - 1)E - 1 of W' words enters. The last step ends in cycle F.

    Source: design section 8; the step rule [paper], the cycles [ours].

    Parameters
    ----------
    rows, columns : int
        R, C.
    line_elements : int
        E, elements of each lane in a word of the tile buffer, a power of two.
    words : int
        Depth of the tile buffer: K is W * E at most.
    acc_bits : int
        Width of the accumulators, 17 to 32; they wrap.
    tag_bits : int
        Width of a tile's tag, which means nothing here.
    pe_counters : bool
        Whether to count PE-cycles; the outputs are 0 otherwise.

    Members
    -------
    write_en, write_address : In(1), In(range(words))
        Write a word; from the cycle after ``released`` on for the next tile.
    row_data, row_high : In(rows * line_elements * 8), In(rows * line_elements)
        Element e of row r: byte and bit ``e * rows + r``; a 4-bit element in the byte's high-order half, its
        other half 0 or not, and not ``high``.
    column_data, column_high : In(columns * line_elements * 8), In(columns * line_elements)
        The same for columns.
    tile_en : In(1)
        With the write of word 0: take the following.
    tile_length : In(range(words * line_elements + 1))
        K, at least 1; what stands beyond it is ignored, as are further lanes.
    tile_rows, tile_columns : In(range(rows + 1)), In(range(columns + 1))
        R', C', at least 1.
    tile_floor : In(2)
        0, 1, 2: steps of at least 1, 2, 4 cycles.
    tile_a_unsigned, tile_b_unsigned : In(1)
        Rows', columns' elements are 0 to 255 (0 to 15) instead of two's complement.
    tile_tag : In(tag_bits)
    released : Out(1)
        Strobe: the buffer may be written from the next cycle on.
    full, full_tag : Out(1), Out(tag_bits)
        From F + 1 until the tile is taken; low in the cycle after ``take``.
    take : In(1)
        Strobe, only while ``full`` and at least R cycles after the last one: ``o_data`` is row R - 1 in this cycle and row R - 1 - k in the k-th cycle
        after. Lanes beyond R', C' are 0.
    o_data : Out(columns * acc_bits)
        The sums of one row, column 0 lowest, out of registers.
    computing, computing_tag : Out(1), Out(tag_bits)
        High in the cycles T to F, with the tile's tag.
    working, stalled : Out(32)
        The tile's PE-cycles with valid operands, the MAC at work or idle. To be read in cycle u + 2, two cycles after
        the tile was taken: they are complete from F + 3 on and change in u + 3 at the earliest.

    Raises
    ------
    ParameterError
        If a parameter is not allowed.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        line_elements: int,
        words: int,
        acc_bits: int,
        tag_bits: int,
        pe_counters: bool = True,
    ):
        self._rows = check_range("rows", rows, 1)
        self._columns = check_range("columns", columns, 1)
        self._line_elements = check_line_elements(line_elements)
        self._words = check_range("words", words, 1)
        self._acc_bits = check_acc_bits(acc_bits)
        self._tag_bits = check_range("tag_bits", tag_bits, 1)
        self._pe_counters = bool(pe_counters)
        super().__init__(
            {
                "write_en": In(1),
                "write_address": In(address_bits(words)),
                "row_data": In(rows * line_elements * OPERAND_BITS),
                "row_high": In(rows * line_elements),
                "column_data": In(columns * line_elements * OPERAND_BITS),
                "column_high": In(columns * line_elements),
                "tile_en": In(1),
                "tile_length": In(range(words * line_elements + 1)),
                "tile_rows": In(range(rows + 1)),
                "tile_columns": In(range(columns + 1)),
                "tile_floor": In(2),
                "tile_a_unsigned": In(1),
                "tile_b_unsigned": In(1),
                "tile_tag": In(tag_bits),
                "released": Out(1),
                "full": Out(1),
                "full_tag": Out(tag_bits),
                "take": In(1),
                "o_data": Out(columns * acc_bits),
                "computing": Out(1),
                "computing_tag": Out(tag_bits),
                "working": Out(COUNTER_BITS),
                "stalled": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Join the parts."""
        m = Module()
        control = place(
            m,
            "control",
            VssaControl(self._rows, self._columns, self._line_elements, self._words, self._tag_bits),
        )
        m.d.comb += [
            control.tile_en.eq(self.tile_en),
            control.tile.last.eq(self.tile_length - 1),
            *(
                getattr(control.tile, name).eq(getattr(self, f"tile_{name}"))
                for name in ("rows", "columns", "floor", "a_unsigned", "b_unsigned", "tag")
            ),
            control.take.eq(self.take),
            self.released.eq(control.released),
            self.full.eq(control.full),
            self.full_tag.eq(control.running.tag),
            self.computing.eq(control.computing),
            self.computing_tag.eq(control.running.tag),
        ]
        rows = self._grid(m, control, self._feeds(m, control))
        m.d.comb += control.any_high.eq(Cat(row.any_high for row in rows).any())
        if self._pe_counters:
            self._count(m, control, rows)
        return m

    def _feeds(self, m: Module, control: VssaControl) -> dict[str, Signal]:
        """Return what enters the rows and columns by port: ``row_data`` and so on."""
        lanes = {"row": self._rows, "column": self._columns}
        ports = [(f"{side}_{what}", count, bits) for side, count in lanes.items() for what, bits in
                 (("data", OPERAND_BITS), ("high", 1))]  # fmt: skip
        width = (self._rows + self._columns) * self._line_elements * (OPERAND_BITS + 1)
        buffer = place(m, "tile_buffer", Ram(width, self._words))
        m.d.comb += [
            buffer.write_en.eq(self.write_en),
            buffer.write_addr.eq(self.write_address),
            buffer.write_data.eq(Cat(getattr(self, name) for name, _, _ in ports)),
            buffer.read_en.eq(control.read_en),
            buffer.read_addr.eq(control.read_word),
        ]
        entering, offset = {}, 0
        for name, count, bits in ports:
            feed = place(m, f"{name}_feed", VssaFeed(count, self._line_elements, bits))
            m.d.comb += [
                feed.word.eq(buffer.read_data[offset : offset + len(feed.word)]),
                feed.element.eq(control.element),
                feed.advance.eq(control.advance),
            ]
            offset += len(feed.word)
            entering[name] = feed.o
        return entering

    def _grid(self, m: Module, control: VssaControl, entering: dict[str, Signal]) -> list[VssaRow]:
        """Stack the rows."""
        columns = self._columns
        rows: list[VssaRow] = []
        # Row r shifts r + 1 times from `take` on, from the cycle after a reset too, which clears it.
        shift, north = self.take, None
        for index in range(self._rows):
            row = place(m, f"row_{index}", VssaRow(columns, self._acc_bits, self._pe_counters))
            shifting, before = Signal(name=f"shift_{index}"), Signal(name=f"shifted_{index}", init=1)
            m.d.sync += before.eq(shift if index else 0)
            m.d.comb += shifting.eq(self.take | before)
            on = control.column_on & control.row_on[index].replicate(columns)
            m.d.comb += [
                row.a_in.eq(entering["row_data"].word_select(index, OPERAND_BITS)),
                row.a_high.eq(entering["row_high"][index]),
                row.b_in.eq(entering["column_data"] if north is None else north.b_out),
                row.b_high_in.eq(entering["column_high"] if north is None else north.b_high_out),
                row.advance.eq(control.advance),
                row.phase.eq(control.phase),
                row.a_unsigned.eq(control.running.a_unsigned),
                row.b_unsigned.eq(control.running.b_unsigned),
                row.valid.eq(control.diagonals[index : index + columns] & on),
                row.shift.eq(shifting),
                row.acc_in.eq(0 if north is None else north.acc_out),
            ]
            shift, north = shifting, row
            rows.append(row)
        m.d.comb += self.o_data.eq(rows[-1].acc_out)
        return rows

    def _count(self, m: Module, control: VssaControl, rows: list[VssaRow]) -> None:
        counters = place(
            m, "counters", VssaCounters(self._rows, self._columns, self._line_elements * self._words)
        )
        at_work = Signal(range(self._rows * self._columns + 1), reset_less=True)
        m.d.sync += at_work.eq(balanced_sum([row.at_work for row in rows]))
        m.d.comb += [counters.at_work.eq(at_work), self.working.eq(counters.working)]
        m.d.comb += [self.stalled.eq(counters.stalled)]
        m.d.comb += [
            getattr(counters, name).eq(getattr(control, name))
            for name in ("start", "first", "advance", "entering", "diagonals", "row_on", "column_on", "tail")
        ]
