"""The BitGroup: 4x4 BitBricks as one PE of Drift's weight-stationary array, nibble- or bit-aligned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.bitbrick import PRODUCT_BITS, WEIGHT_BITS, BitBrick
from bitfabric.hdl.arith.tree import signed_bits
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.config import DesignConfig, param

ROWS = 4  # activation bits of a group
COLUMNS = 4  # weight nibbles side by side
ACT_BITS = 8  # the widest activation
MAX_ROWS = 1024  # even a joined psum stays below the 32 bits of the accumulators at the edges
ALIGNMENTS = ("nibble", "bit")


def psum_bits(rows: int) -> int:
    """Return the psum width that ``rows`` groups in a column need, whatever they are fed.

    A nibble column multiplies by a weight nibble of -8 to 15, unsigned where it is the low one. The 4R
    activation bits of a column hold at most ceil(R/2) sign bits of 8-bit elements, each worth -128; the
    bits below them only raise the sum. The most negative psum is therefore ``-128 * 15 * ceil(R/2)``; the most
    positive is below 127 * 15 * ceil(R/2) (a tile that starts or ends inside an element holds its
    sign without its low bits, never a whole positive element more). A width p < 8 has up to ceil(4R/p) sign
    bits of ``-2^(p-1)``, which is less: 2^(p-1)*ceil(4R/p) <= 128*ceil(R/2). So 16 bits last up to
    R = 34 (17 * 1920 = 32640 <= 32768) in both alignments [derived]. Activations are signed, as Drift's
    symmetric quantization makes them.
    """
    elements = (rows + 1) // 2
    return signed_bits(-128 * 15 * elements, 127 * 15 * elements)


def odd_psum_bits(rows: int) -> int:
    """Return the psum width that an odd column needs: its nibbles are always signed, -8 to 7.

    As ``psum_bits``, with -128 * -8 as the most positive and 127 * -8 as the most negative product: a bit less
    for most ``rows`` (15 at R = 24) [derived].
    """
    elements = (rows + 1) // 2
    return signed_bits(127 * -8 * elements, -128 * -8 * elements)


@dataclass(frozen=True, kw_only=True)
class BitGroupConfig(DesignConfig):
    """Hold a BitGroup's parameters.

    Members
    -------
    alignment : str
        "nibble": the four rows are one nibble of a 4- or 8-bit activation. "bit": any width 1 to 8 without
        gaps, each row with its own weight nibbles, significance and sign.
    rows : int
        R, the groups in a column of the array: sizes the psums.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"rows": 3},
        "small": {"rows": 8},
        "paper": {"rows": 22},
    }

    alignment: str = param("nibble", "how activation bits meet the rows", choices=ALIGNMENTS)
    rows: int = param(24, "groups in a column of the array (R)", unit="groups", low=1, high=MAX_ROWS)

    @property
    def psum_bits(self) -> int:
        """Width of one nibble column's psum in bits."""
        return psum_bits(self.rows)

    def held_psum_bits(self, column: int) -> int:
        """Return the width of the psum register of ``column``, of which the port is the sign extension."""
        return odd_psum_bits(self.rows) if column % 2 else self.psum_bits

    @property
    def sum_bits(self) -> int:
        """Width of one column's sum over the group's own four rows in bits."""
        # nibble: 15 * 15 << 4 = 3600; bit: 4 * (15 << 7) = 7680, the rows being independent
        return 13 if self.alignment == "nibble" else 14

    @property
    def stationary(self) -> data.StructLayout:
        """Layout of what stays in a group and moves down its load chain: weights with their precision.

        ``weights`` holds nibbles by column ("nibble") or by row, then column ("bit"). ``wide`` is 1 where
        the weights are 8-bit: then even columns hold unsigned low nibbles; odd columns are always signed.
        "nibble": ``high`` shifts the group's sums by 4, ``sign`` makes row 3 a sign. "bit": ``sign`` has
        one bit per row, ``significance`` one shift of 0 to 7 per row.
        """
        column_weights = data.ArrayLayout(unsigned(WEIGHT_BITS), COLUMNS)
        if self.alignment == "nibble":
            return data.StructLayout({"weights": column_weights, "wide": 1, "sign": 1, "high": 1})
        return data.StructLayout(
            {
                "weights": data.ArrayLayout(column_weights, ROWS),
                "wide": 1,
                "sign": unsigned(ROWS),
                "significance": data.ArrayLayout(unsigned(3), ROWS),
            }
        )


class BitGroupCore(Block):
    """Multiply four activation bits by the stationary weights and add each column's four rows.

    Combinational and exact. Source: Drift section 4.1 and design section 6 [paper, derived].

    Parameters
    ----------
    config : BitGroupConfig
        ``rows`` has no part in it.

    Members
    -------
    act : In(4)
        Row 0 is bit 0.
    stationary : In(config.stationary)
        Weights and their precision.
    sums : Out(signed(config.sum_bits)).array(4)
        One per nibble column.
    """

    def __init__(self, config: BitGroupConfig) -> None:
        self.config = config
        super().__init__(
            {
                "act": In(ROWS),
                "stationary": In(config.stationary),
                "sums": Out(signed(config.sum_bits)).array(COLUMNS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        nibble = self.config.alignment == "nibble"
        fixed = self.stationary
        low_signed = Signal()  # even columns hold a whole 4-bit weight
        m.d.comb += low_signed.eq(~fixed.wide)
        for column in range(COLUMNS):
            products = []
            for row in range(ROWS):
                brick = place(m, f"brick_{row}_{column}", BitBrick())
                weights = fixed.weights if nibble else fixed.weights[row]
                m.d.comb += [
                    brick.act.eq(self.act[row]),
                    brick.weight.eq(weights[column]),
                    brick.weight_signed.eq(1 if column % 2 else low_signed),
                ]
                products.append(brick.product)
            if nibble:
                self._add_nibble(m, column, products)
            else:
                self._add_bits(m, column, products)
        return m

    def _add_nibble(self, m: Module, column: int, products: list[Signal]) -> None:
        """Add the rows at significance 0 to 3, row 3 negated if it is a sign, and shift by 0 or 4."""
        fixed = self.stationary
        # A signed nibble is its own product; where it may be unsigned there is a bit more.
        bits = WEIGHT_BITS if column % 2 else PRODUCT_BITS
        rows = [product[:bits].as_signed() for product in products]
        # Negated only where the activation's bit is 1: this flag is common to the columns and makes the top row
        # one gate per bit, which the plain sign does not (2 % of a group).
        negate = self.act[-1] & fixed.sign
        top = Signal(signed(bits), name=f"top_{column}")
        product = Signal(signed(bits + 4), name=f"product_{column}")  # odd: -8*15 to 8*8, even: to 15*15
        # An array multiplier: each row is added to the bits above the ones already final. 8 % less of a
        # group than a tree of four rows, which adds those bits again.
        totals = [Signal(signed(bits + 1), name=f"total_{row}_{column}") for row in (1, 2, 3)]
        m.d.comb += [
            top.eq(rows[3].as_unsigned() ^ negate.replicate(bits)),  # -x == ~x + 1
            totals[0].eq((rows[0] >> 1) + rows[1]),
            totals[1].eq((totals[0] >> 1) + rows[2]),
            totals[2].eq((totals[1] >> 1) + top + negate),
            product.eq(Cat(rows[0][0], totals[0][0], totals[1][0], totals[2])),
            self.sums[column].eq(Mux(fixed.high, product << 4, product)),
        ]

    def _add_bits(self, m: Module, column: int, products: list[Signal]) -> None:
        """Give every row its sign and significance, then add.

        ``-x << s`` is ``~x`` shifted with ones from below, plus 1 at bit 0, whatever s is: so the four ones
        enter as carries of the tree instead of being shifted themselves.
        """
        fixed = self.stationary
        terms: list[Value] = []
        for row, product in enumerate(products):
            sign = fixed.sign[row]
            # Bit 0 is what fills up from below; it is dropped in the end. The exclusive or is taken of plain
            # bits: of a signed and an unsigned value Amaranth makes a bit more, which would not be inverted.
            flipped = product.as_unsigned() ^ sign.replicate(PRODUCT_BITS)
            term: Value = Cat(sign, flipped).as_signed()
            for level in range(3):
                step, shift = 1 << level, fixed.significance[row][level]
                shifted = Signal(signed(len(term) + step), name=f"term_{row}_{column}_{step}")
                filled = Cat(term[0].replicate(step), term).as_signed()
                m.d.comb += shifted.eq(Mux(shift, filled, term))
                term = shifted
            term = term[1:].as_signed()
            terms.append(term)
        lower = Signal(signed(14), name=f"lower_{column}")
        upper = Signal(signed(14), name=f"upper_{column}")
        m.d.comb += [
            lower.eq(terms[0] + terms[1] + fixed.sign[0]),
            upper.eq(terms[2] + terms[3] + fixed.sign[1]),
            self.sums[column].eq(lower + upper + (fixed.sign[2] + fixed.sign[3])),
        ]


class BitGroup(Block):
    """Hold a group's weights and add its sums to the four psums that pass: Drift's PE.

    Latency 1 cycle, one step per cycle, exact. 1 MAC/cycle at 8x8, 2 at 8x4 and 4x8, 4 at 4x4. Weight
    stationary, single-buffered. Source: Drift section 4.1, design section 6 [paper, derived].

    Parameters
    ----------
    config : BitGroupConfig

    Members
    -------
    act_in, act_out : In, Out(4)
        Activation bits from the west, row 0 in bit 0; to the east a cycle later.
    load : In(1)
        The load chain moves one group down: ``stationary_in`` is taken. R cycles load R groups.
    stationary_in, stationary_out : In, Out(config.stationary)
        Load chain from north to south: weights, precision, signs; ``stationary_out`` is what is held.
    psum_in, psum_out : In, Out(signed(config.psum_bits)).array(4)
        One per nibble column, north to south: ``psum_out`` is, a cycle later, ``psum_in`` + the sum of
        ``act_in``'s four bits with the weights held (those of the cycle before ``load`` took new ones).
        Odd columns hold ``odd_psum_bits(rows)`` bits and wrap there.
    """

    def __init__(self, config: BitGroupConfig) -> None:
        self.config = config
        psum = signed(config.psum_bits)
        super().__init__(
            {
                "act_in": In(ROWS),
                "act_out": Out(ROWS),
                "load": In(1),
                "stationary_in": In(config.stationary),
                "stationary_out": Out(config.stationary),
                "psum_in": In(psum).array(COLUMNS),
                "psum_out": Out(psum).array(COLUMNS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        core = place(m, "core", BitGroupCore(self.config))
        # No reset: what leaves the array before weights and activations came is not used.
        act = Signal(ROWS, reset_less=True)
        held = Signal(self.config.stationary, reset_less=True)
        m.d.sync += act.eq(self.act_in)
        with m.If(self.load):
            m.d.sync += held.eq(self.stationary_in)
        m.d.comb += [
            self.act_out.eq(act),
            self.stationary_out.eq(held),
            core.act.eq(self.act_in),
            core.stationary.eq(held),
        ]
        for column in range(COLUMNS):
            bits = self.config.held_psum_bits(column)
            psum = Signal(signed(bits), name=f"psum_{column}", reset_less=True)
            m.d.sync += psum.eq(self.psum_in[column] + core.sums[column])
            m.d.comb += self.psum_out[column].eq(psum)
        return m
