"""The loop nest over the tiles of a GEMM: M outermost, then N, then K."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.gemm.config import DIMENSION_BITS, GemmConfig


def tile_layout(config: GemmConfig) -> data.StructLayout:
    """Return what the blocks of the machine need to know of a tile.

    Fields: ``m_valid``, ``n_valid``, ``k_valid`` (used rows, columns and elements of K of the tile),
    ``last_m``, ``first_n``, ``last_n``, ``first_k``, ``last_k`` (its place in the loops), ``last`` (all three).
    """
    return data.StructLayout(
        {
            "m_valid": config.m_step.bit_length(),
            "n_valid": config.columns.bit_length(),
            "k_valid": config.k_step.bit_length(),
            "last_m": 1,
            "first_n": 1,
            "last_n": 1,
            "first_k": 1,
            "last_k": 1,
            "last": 1,
        }
    )


class TileLoop(Block):
    """Step through the tiles of a GEMM.

    Parameters
    ----------
    config : GemmConfig
        Gives the steps of M, N and K.

    Members
    -------
    m, k, n : In(16)
        The GEMM's dimensions, at least 1.
    start : In(1)
        Go to the first tile; ``tile`` is valid in the next cycle.
    step : In(1)
        Go to the next tile; ``tile`` is valid in the next cycle.
    tile : Out(tile_layout)
        The present tile.
    active : Out(1)
        High from ``start`` until the step after the last tile.
    """

    def __init__(self, config: GemmConfig):
        self._config = config
        super().__init__(
            {
                "m": In(DIMENSION_BITS),
                "k": In(DIMENSION_BITS),
                "n": In(DIMENSION_BITS),
                "start": In(1),
                "step": In(1),
                "tile": Out(tile_layout(config)),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count what is left of each dimension down by its step."""
        m = Module()
        config = self._config
        lefts: dict[str, Signal] = {}
        fits: dict[str, Signal] = {}
        steps = {"m": config.m_step, "n": config.columns, "k": config.k_step}
        for name, size in steps.items():
            left = lefts[name] = Signal(DIMENSION_BITS, name=f"{name}_left", reset_less=True)
            fit = fits[name] = Signal(name=f"{name}_fits")
            valid = self.tile[f"{name}_valid"]
            m.d.comb += fit.eq(left <= size)
            with m.If(fit):
                m.d.comb += valid.eq(left)
            with m.Else():
                m.d.comb += valid.eq(size)

        first_n = Signal(reset_less=True)
        first_k = Signal(reset_less=True)
        m.d.comb += [
            self.tile.last_m.eq(fits["m"]),
            self.tile.first_n.eq(first_n),
            self.tile.first_k.eq(first_k),
            self.tile.last_n.eq(fits["n"]),
            self.tile.last_k.eq(fits["k"]),
            self.tile.last.eq(fits["m"] & fits["n"] & fits["k"]),
        ]
        with m.If(self.start):
            m.d.sync += [
                self.active.eq(1),
                lefts["m"].eq(self.m),
                lefts["n"].eq(self.n),
                lefts["k"].eq(self.k),
                first_n.eq(1),
                first_k.eq(1),
            ]
        with m.Elif(self.step):
            m.d.sync += first_k.eq(fits["k"])
            with m.If(~fits["k"]):
                m.d.sync += lefts["k"].eq(lefts["k"] - steps["k"])
            with m.Else():
                m.d.sync += [lefts["k"].eq(self.k), first_n.eq(fits["n"])]
                with m.If(~fits["n"]):
                    m.d.sync += lefts["n"].eq(lefts["n"] - steps["n"])
                with m.Else():
                    m.d.sync += lefts["n"].eq(self.n)
                    with m.If(~fits["m"]):
                        m.d.sync += lefts["m"].eq(lefts["m"] - steps["m"])
                    with m.Else():
                        m.d.sync += self.active.eq(0)
        return m
