"""What a strip of the fabric costs: M cut into chunks, the cycles of all K tiles of an N tile."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import DIMENSION_BITS, NIBBLES_BITS, DriftConfig


def chunk_layout(config: DriftConfig) -> data.StructLayout:
    """Return how M is cut into chunks: ``full`` ones of ``acc_depth`` rows, ``tail`` rows, ``last`` of the last."""
    depth = config.acc_depth.bit_length()
    return data.StructLayout(
        {"m": DIMENSION_BITS, "full": DIMENSION_BITS, "tail": depth, "partial": 1, "last": depth}
    )


class ChunkCount(Block):
    """Divide M by the constant ``acc_depth``. Latency 2 cycles, free-running.

    With l = ceil(log2 D), ``floor(M / D) = M * ceil(2^(16 + l) / D) >> (16 + l)`` for all 16-bit M [derived: the
    factor exceeds the exact one by less than 2^l / 2^(16 + l), M times that is below 1 / D]. Powers of two leave shifts.

    Parameters
    ----------
    config : DriftConfig
        Gives ``acc_depth``.

    Members
    -------
    m : In(16)
        Activation rows; stable while ``chunks`` is used.
    chunks : Out(chunk_layout(config))
        Its parts.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__({"m": In(DIMENSION_BITS), "chunks": Out(chunk_layout(config))})

    def elaborate(self, platform: object) -> Module:
        """Multiply, then multiply back."""
        m = Module()
        depth = self._config.acc_depth
        shift = DIMENSION_BITS + (depth - 1).bit_length()
        factor = -(-(1 << shift) // depth)
        full = Signal(DIMENSION_BITS, reset_less=True)
        scaled = Signal(DIMENSION_BITS + factor.bit_length())
        tail = Signal(range(depth + 1))
        chunks = Signal(chunk_layout(self._config), reset_less=True)
        m.d.comb += [scaled.eq(self.m * factor), tail.eq(self.m - full * depth), self.chunks.eq(chunks)]
        m.d.sync += [
            full.eq(scaled >> shift),
            chunks.m.eq(self.m),
            chunks.full.eq(full),
            chunks.tail.eq(tail),
            chunks.partial.eq(tail != 0),
            chunks.last.eq(Mux(tail == 0, depth, tail)),
        ]
        return m


class StripCycles(Block):
    """Add up the K tiles of a strip: cycles of one N tile, and what comes once. Latency 2 cycles, one strip a cycle.

    With r rows and D, M, ``full``, ``tail``, ``last`` of the chunks, what remains of ``region_cycles`` of the cycle
    model [derived] is

    - single: ``each = ceil(q / r) * (chunks * (2r + columns - 2) + M)``, ``once = 0``;
    - double: ``each = ceil(q / r) * (full * max(D, 2r - 1) + partial * max(tail, 2r - 1))``, ``once = min(2r, last + 1)``;
    - transit: the same with r for 2r - 1, ``once = r + min(r, last)``.

    ``full * max(D, ...)`` is ``M - tail``, and no product, where D is as large as the whole fabric asks.

    Parameters
    ----------
    config : DriftConfig
        Gives R, C, ``acc_depth`` and ``weight_buffering``.

    Members
    -------
    chunks : In(chunk_layout(config))
        Chunks of the rows; stable.
    tiles : In(NIBBLES_BITS)
        K tiles, ``ceil(q / rows)``.
    rows : In(range(R + 1))
        r.
    columns : In(range(C + 1))
        Columns of the region; with single buffering only.
    each : Out(each_bits(config))
        Cycles that an N tile adds.
    once : Out(range(2R + 1))
        Cycles that the region adds, less its columns'.
    empty : Out(1)
        r is 0.
    """

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        members = {
            "chunks": In(chunk_layout(config)),
            "tiles": In(NIBBLES_BITS),
            "rows": In(range(config.rows + 1)),
            "each": Out(each_bits(config)),
            "once": Out(range(2 * config.rows + 1)),
            "empty": Out(1),
        }
        if config.weight_buffering == "single":
            members["columns"] = In(range(config.columns + 1))
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        """Time a tile, then multiply by the tiles."""
        m = Module()
        each_pass = Signal(pass_bits(self._config), reset_less=True)
        once = Signal(range(2 * self._config.rows + 1), reset_less=True)
        tiles = Signal(NIBBLES_BITS, reset_less=True)
        empty = Signal(reset_less=True)
        passes, first_once = self._one_pass(m)
        m.d.sync += [
            each_pass.eq(passes),
            once.eq(first_once),
            tiles.eq(self.tiles),
            empty.eq(self.rows == 0),
        ]
        each = Signal(len(self.each), reset_less=True)
        once_2 = Signal.like(once, reset_less=True)
        empty_2 = Signal(reset_less=True)
        m.d.sync += [each.eq(tiles * each_pass), once_2.eq(once), empty_2.eq(empty)]
        m.d.comb += [self.each.eq(each), self.once.eq(once_2), self.empty.eq(empty_2)]
        return m

    def _one_pass(self, m: Module) -> tuple[Value, Value]:
        """Return the cycles of a K tile over all chunks, and ``once``."""
        config, chunks = self._config, self.chunks
        if config.weight_buffering == "single":
            number = Signal(DIMENSION_BITS)
            turn = Signal(range(2 * config.rows + config.columns + 1))
            # Without rows or columns the result is not used, and may wrap here.
            m.d.comb += [
                number.eq(chunks.full + chunks.partial),
                turn.eq(Cat(Const(0, 1), self.rows) + self.columns - 2),
            ]
            return number * turn + chunks.m, Const(0)
        transit = config.weight_buffering == "transit"
        pace = Signal(range(2 * config.rows))
        slowest = config.rows if transit else 2 * config.rows - 1
        once = Signal(range(2 * config.rows + 1))
        m.d.comb += pace.eq(self.rows if transit else Mux(self.rows == 0, 0, Cat(Const(0, 1), self.rows) - 1))
        tail = Signal(max(len(chunks.tail), len(pace)))
        m.d.comb += tail.eq(Mux(chunks.partial, Mux(chunks.tail < pace, pace, chunks.tail), 0))
        if transit:
            m.d.comb += once.eq(self.rows + Mux(chunks.last < self.rows, chunks.last, self.rows))
        else:
            twice = Cat(Const(0, 1), self.rows)
            m.d.comb += once.eq(Mux(chunks.last < twice, chunks.last + 1, twice))
        if config.acc_depth >= slowest:
            return chunks.m - chunks.tail + tail, once
        depth = config.acc_depth
        return chunks.full * Mux(pace < depth, depth, pace) + tail, once


def pass_bits(config: DriftConfig) -> int:
    """Return the width of the cycles of a K tile over all chunks of the longest M [derived]."""
    longest, depth = (1 << DIMENSION_BITS) - 1, config.acc_depth
    if config.weight_buffering == "single":
        return (-(-longest // depth) * (2 * config.rows + config.columns - 2) + longest).bit_length()
    pace = max(depth, config.rows if config.weight_buffering == "transit" else 2 * config.rows - 1)
    return (-(-longest // depth) * pace).bit_length()


def each_bits(config: DriftConfig) -> int:
    """Return the width of the cycles of all K tiles of an N tile."""
    return NIBBLES_BITS + pass_bits(config)
