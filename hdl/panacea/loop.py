"""The loop nest over the tiles of a layer: M (output channels) outermost, then N (tokens), then K."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.panacea.config import DIMENSION_BITS, VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.job import JOB


def tile_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return what the machine's blocks need to know of a tile.

    Fields: ``rows_a``, ``rows_b`` (output channels of the first and second weight tile, the second 0 without
    DTP or where none is left), ``columns`` (tokens), ``k_valid``; ``first_m``, ``last_m``, ``first_n``,
    ``last_n``, ``first_k``, ``last_k`` (its place in the loops), ``last`` (of all of them).
    """
    flags = ("first_m", "last_m", "first_n", "last_n", "first_k", "last_k", "last")
    return data.StructLayout(
        {
            "rows_a": config.m_step.bit_length(),
            "rows_b": config.m_step.bit_length(),
            "columns": config.tile_n.bit_length(),
            "k_valid": config.tile_k.bit_length(),
            **dict.fromkeys(flags, 1),
        }
    )


def vectors_of(count: Signal) -> Signal:
    """Return ``ceil(count / v)``."""
    return (count + VECTOR - 1) >> (VECTOR.bit_length() - 1)


class PanaceaLoop(Block):
    """Step through the tiles of a layer; an M step is one weight tile, or two with DTP.

    Members
    -------
    job : In(JOB)
        The layer; constant from ``start`` on.
    start : In(1)
        Go to the first tile; ``tile`` is valid in the next cycle.
    step : In(1)
        Go to the next tile; ``tile`` is valid in the next cycle.
    tile : Out(tile_layout)
        The present tile.
    active : Out(1)
        High from ``start`` until the step after the last tile.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "job": In(JOB),
                "start": In(1),
                "step": In(1),
                "tile": Out(tile_layout(config)),
                "active": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count what is left of each dimension down by its step."""
        m = Module()
        config, tile, job = self._config, self.tile, self.job
        left = {name: Signal(DIMENSION_BITS, name=f"{name}_left", reset_less=True) for name in "mnk"}
        first = {name: Signal(name=f"first_{name}", reset_less=True) for name in "mnk"}
        fits = {name: Signal(name=f"{name}_fits") for name in "mnk"}
        sizes = {"m": config.m_step, "n": config.tile_n, "k": config.tile_k}
        both = Signal()
        if config.dtp:
            m.d.comb += [
                both.eq(job.dtp),
                fits["m"].eq(Mux(job.dtp, left["m"] <= 2 * sizes["m"], left["m"] <= sizes["m"])),
            ]
            with m.If(job.dtp & (left["m"] > sizes["m"])):
                rest = Signal(DIMENSION_BITS)
                m.d.comb += rest.eq(left["m"] - sizes["m"])
                m.d.comb += tile.rows_b.eq(Mux(fits["m"], rest, sizes["m"]))
        else:
            m.d.comb += fits["m"].eq(left["m"] <= sizes["m"])
        m.d.comb += [
            tile.rows_a.eq(Mux(left["m"] <= sizes["m"], left["m"], sizes["m"])),
            fits["n"].eq(left["n"] <= sizes["n"]),
            fits["k"].eq(left["k"] <= sizes["k"]),
            tile.columns.eq(Mux(fits["n"], left["n"], sizes["n"])),
            tile.k_valid.eq(Mux(fits["k"], left["k"], sizes["k"])),
            *(tile[f"first_{name}"].eq(first[name]) for name in "mnk"),
            *(tile[f"last_{name}"].eq(fits[name]) for name in "mnk"),
            tile.last.eq(fits["m"] & fits["n"] & fits["k"]),
        ]
        with m.If(self.start):
            m.d.sync += self.active.eq(1)
            for name in "mnk":
                m.d.sync += [left[name].eq(job[name]), first[name].eq(1)]
        with m.Elif(self.step):
            m.d.sync += first["k"].eq(fits["k"])
            with m.If(~fits["k"]):
                m.d.sync += left["k"].eq(left["k"] - sizes["k"])
            with m.Else():
                m.d.sync += [left["k"].eq(job.k), first["n"].eq(fits["n"])]
                with m.If(~fits["n"]):
                    m.d.sync += left["n"].eq(left["n"] - sizes["n"])
                with m.Else():
                    m.d.sync += [left["n"].eq(job.n), first["m"].eq(0)]
                    with m.If(~fits["m"]):
                        m.d.sync += left["m"].eq(left["m"] - Mux(both, 2 * sizes["m"], sizes["m"]))
                    with m.Else():
                        m.d.sync += self.active.eq(0)
        return m
