"""BitFusion's fusion unit: sixteen 2-bit bricks that make one 8x8 product up to sixteen 2x2 products a cycle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed
from amaranth.lib import enum
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.fusion_brick import FusionBrick
from bitfabric.hdl.arith.tree import signed_bits
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError

UNIT_BITS = 8  # a unit multiplies 8 by 8 bits, or as much in smaller products


class Precision(enum.Enum, shape=2):  # type: ignore[call-arg]  # Amaranth's, untyped
    """Name an operand's width at run time: bit 0 joins 2-bit slices to 4 bits, bit 1 those to 8."""

    B2 = 0b00
    B4 = 0b01
    B8 = 0b11


@dataclass(frozen=True, kw_only=True)
class FusionUnitConfig(DesignConfig):
    """Hold a fusion unit's parameters.

    Members
    -------
    max_bits, min_bits : int
        The operand widths chosen at run time: 8/2 is BitFusion's [paper]; 8/4, 4/2 and 4/4 leave modes and
        their shifters out [ours]. A unit is always worth one 8x8 multiplier: at ``max_bits`` 4 it makes at
        least four products. The bricks are ``min_bits`` wide: for an 8/4 unit four 4-bit bricks were 26 %
        smaller than sixteen 2-bit bricks with fixed shifts (osu018, with psum and weight registers).
    signs : str
        "signed": operands are two's complement. "any": two more inputs make each side unsigned [paper].
    rows : int
        R, the PEs in a column of the array: sizes the psum.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "tiny": {"rows": 3},
        "small": {"rows": 8},
        "paper": {"rows": 22},
    }

    max_bits: int = param(8, "widest operand", unit="bits", tag="paper", choices=(4, 8))
    min_bits: int = param(
        2, "narrowest operand, and the bricks' width", unit="bits", tag="paper", choices=(2, 4)
    )
    signs: str = param("signed", "whether operands may be unsigned at run time", choices=("signed", "any"))
    # The accumulators at the array's edges have 32 bits; 1024 rows of 255*255 need 27.
    rows: int = param(24, "PEs in a column of the array (R)", unit="PEs", low=1, high=1024)

    @property
    def slices(self) -> int:
        """Bricks along each side of the square they form: 4 (2-bit bricks) or 2."""
        return UNIT_BITS // self.min_bits

    @property
    def operand_bits(self) -> int:
        """Width of an operand word in bits: one slice per brick."""
        return self.slices * self.slices * self.min_bits

    @property
    def sum_range(self) -> tuple[int, int]:
        """The least and the greatest sum of one cycle, reached in the mode ``max_bits`` x ``max_bits``.

        (UNIT_BITS/max_bits)^2 products of two b-bit operands; signed: -2^(b-1) * (2^(b-1)-1) to
        2^(2b-2); "any": -2^(b-1) * (2^b-1) to (2^b-1)^2. Narrower modes have more products but
        stay inside, halving b quarters the greatest product at least and doubles their number [derived].
        """
        products, half = (UNIT_BITS // self.max_bits) ** 2, 1 << (self.max_bits - 1)
        if self.signs == "signed":
            return -products * half * (half - 1), products * half * half
        top = 2 * half - 1
        return -products * half * top, products * top * top

    @property
    def sum_bits(self) -> int:
        """Width of one cycle's sum in bits."""
        return signed_bits(*self.sum_range)

    @property
    def psum_bits(self) -> int:
        """Width of the psum in bits: ``rows`` sums never overflow it (8/4/2, signed: 20 at R = 24)."""
        low, high = self.sum_range
        return signed_bits(self.rows * low, self.rows * high)

    def precision(self, bits: int) -> Precision:
        """Return the code of an operand width.

        Raises
        ------
        ParameterError
            If the unit has no such mode.
        """
        widths = [b for b in (2, 4, 8) if self.min_bits <= b <= self.max_bits]
        if bits not in widths:
            raise ParameterError("bits", bits, "one of " + ", ".join(map(str, widths)))
        codes: dict[int, Any] = {2: Precision.B2, 4: Precision.B4, 8: Precision.B8}
        code: Precision = codes[bits]
        return code

    def mode_members(self) -> dict[str, Any]:
        """Return the ports that choose the mode."""
        members: dict[str, Any] = {"act_bits": In(Precision), "weight_bits": In(Precision)}
        if self.signs == "any":
            members |= {"act_signed": In(1), "weight_signed": In(1)}
        return members


class FusionUnit(Block):
    """Multiply packed operands at the precisions chosen and add all products of the cycle.

    Combinational, exact; ``64 / (pa * pw)`` products a cycle. Source: BitFusion's spatial fusion, as Drift
    section 2.3 describes it [paper]; the tree [ours]: bricks of neighbouring activation slices are added
    first, then of neighbouring weight slices, then the same for 4-bit slices; only the upper one of each pair
    is shifted, by 2 or 4 if its side is fused, so that 15 adders need 15 two-way shifters and no brick its own.

    Packing: the bricks form a square of n = 8/b slices a side (b the brick's width); brick (i, j), number
    k = i + n*j, takes bits ``b*k`` to ``b*k+b-1`` of both words. Of operands of pa and pw bits it
    multiplies slice ``i mod pa/b`` of the activation and slice ``j mod pw/b`` of the weight of product
    ``i div (pa/b) + (n*b/pa) * (j div (pw/b))``. A slice that several bricks need is repeated in the
    word: the array's edge does that once per row, no unit needs operand multiplexers [ours].
    ``bitfabric.quant.bitbrick.pack_fusion`` packs.

    Parameters
    ----------
    config : FusionUnitConfig

    Members
    -------
    act, weight : In(config.operand_bits)
        Packed operands.
    act_bits, weight_bits : In(Precision)
        Widths within ``min_bits`` to ``max_bits``; other codes act as the nearest width there is.
    act_signed, weight_signed : In(1)
        Only if ``signs`` is "any": 0 makes that side's operands unsigned.
    sum : Out(signed(config.sum_bits))
    """

    def __init__(self, config: FusionUnitConfig) -> None:
        self.config = config
        super().__init__(
            {
                "act": In(config.operand_bits),
                "weight": In(config.operand_bits),
                **config.mode_members(),
                "sum": Out(signed(config.sum_bits)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        n, width = config.slices, config.min_bits
        act_fused, act_tops = self._side(m, "act")
        weight_fused, weight_tops = self._side(m, "weight")
        grid: dict[tuple[int, int], Value] = {}
        for j in range(n):
            for i in range(n):
                brick = place(m, f"brick_{i}_{j}", FusionBrick(width))
                m.d.comb += [
                    brick.act.eq(self.act.word_select(i + n * j, width)),
                    brick.weight.eq(self.weight.word_select(i + n * j, width)),
                    brick.act_signed.eq(act_tops[i]),
                    brick.weight_signed.eq(weight_tops[j]),
                ]
                grid[i, j] = brick.product
        bits = 2 * width + 1
        while n > 1:
            # 0 or `width`: the significance of the upper slice of a pair
            act_shift = Cat(Const(0, width.bit_length() - 1), act_fused[width])
            weight_shift = Cat(Const(0, width.bit_length() - 1), weight_fused[width])
            pairs = {
                (i, j): self._join(
                    m, f"pair{width}_{i}_{j}", bits + width + 1, grid[2 * i, j], grid[2 * i + 1, j], act_shift
                )
                for j in range(n)
                for i in range(n // 2)
            }
            # Twice as wide operands on both sides: an exact product has 2*width more bits.
            grid = {
                (i, j): self._join(
                    m,
                    f"quad{width}_{i}_{j}",
                    bits + 2 * width,
                    pairs[i, 2 * j],
                    pairs[i, 2 * j + 1],
                    weight_shift,
                )
                for j in range(n // 2)
                for i in range(n // 2)
            }
            n, width, bits = n // 2, 2 * width, bits + 2 * width
        m.d.comb += self.sum.eq(grid[0, 0])
        return m

    @staticmethod
    def _join(m: Module, name: str, bits: int, low: Value, high: Value, shift: Value) -> Signal:
        joined = Signal(signed(bits), name=name)
        m.d.comb += joined.eq(low + (high << shift))
        return joined

    def _side(self, m: Module, side: str) -> tuple[dict[int, Value], Signal]:
        """Return whether slices of 2 and 4 bits are joined, and which slices are the top of an operand."""
        config = self.config
        code = Value.cast(getattr(self, f"{side}_bits"))
        fused: dict[int, Value] = {
            2: code[0],
            4: code[1] if config.max_bits == 8 else Const(0, 1),
        }
        tops = Signal(config.slices, name=f"{side}_tops")
        is_signed = getattr(self, f"{side}_signed") if config.signs == "any" else Const(1, 1)
        for index in range(config.slices):
            top: Value = is_signed
            for level in range(config.slices.bit_length() - 1):
                if not index >> level & 1:  # the lower one of a pair is a top only where it stands alone
                    top = top & ~fused[config.min_bits << level]
            m.d.comb += tops[index].eq(top)
        return fused, tops


class FusionUnitPe(Block):
    """Hold a fusion unit's weights and add its sum to the psum that passes.

    Latency 1 cycle, one step per cycle, exact. Weight stationary; the mode is broadcast, fixed per layer.

    Parameters
    ----------
    config : FusionUnitConfig

    Members
    -------
    act_bits, weight_bits, act_signed, weight_signed
        As FusionUnit's.
    act_in, act_out : In, Out(config.operand_bits)
        From the west; to the east a cycle later.
    load : In(1)
        The weight word moves one PE down: ``weight_in`` is taken.
    weight_in, weight_out : In, Out(config.operand_bits)
        Load chain from north to south; ``weight_out`` is the word held.
    psum_in, psum_out : In, Out(signed(config.psum_bits))
        ``psum_out`` is, a cycle later, ``psum_in`` + the sum of ``act_in`` with the weights held.
    """

    def __init__(self, config: FusionUnitConfig) -> None:
        self.config = config
        psum = signed(config.psum_bits)
        super().__init__(
            {
                **config.mode_members(),
                "act_in": In(config.operand_bits),
                "act_out": Out(config.operand_bits),
                "load": In(1),
                "weight_in": In(config.operand_bits),
                "weight_out": Out(config.operand_bits),
                "psum_in": In(psum),
                "psum_out": Out(psum),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = place(m, "unit", FusionUnit(self.config))
        # No reset: what leaves the array before weights and activations came is not used.
        act = Signal(self.config.operand_bits, reset_less=True)
        weight = Signal(self.config.operand_bits, reset_less=True)
        psum = Signal(signed(self.config.psum_bits), reset_less=True)
        m.d.sync += [act.eq(self.act_in), psum.eq(self.psum_in + unit.sum)]
        with m.If(self.load):
            m.d.sync += weight.eq(self.weight_in)
        m.d.comb += [
            unit.act.eq(self.act_in),
            unit.weight.eq(weight),
            self.act_out.eq(act),
            self.weight_out.eq(weight),
            self.psum_out.eq(psum),
        ]
        for name in self.config.mode_members():
            m.d.comb += getattr(unit, name).eq(getattr(self, name))
        return m
