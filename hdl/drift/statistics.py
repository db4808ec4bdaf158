"""Statistics of sub-tensors as they come: the largest magnitude and the sum of magnitudes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import ACT_BITS, DriftConfig

MAGNITUDE_BITS = ACT_BITS - 1
SATURATED_BITS = 32
GROUP = 8  # bytes that are added in a cycle


def total_bits(config: DriftConfig) -> int:
    """Return the width of a sum of magnitudes: 127 for every byte of the staging memory at most [derived]."""
    largest = (1 << MAGNITUDE_BITS) - 1
    return (largest * config.beat_bytes * config.staging_beats).bit_length()


class Statistics(Block):
    """Mask and saturate beats, and reduce each sub-tensor to ``max|q|`` and ``Σ|q|``.

    Bytes beyond K become 0, what is outside ``±(2^(hp-1)-1)`` the bound that it exceeds [ours]. A beat per cycle,
    nothing holds the pipeline. Beats come out after 1 cycle, a sub-tensor's statistics ``LATENCY`` cycles after its
    last beat. Source: Drift, section 4, where the pooling unit gathers them [paper]; a unit of its own does so as
    rows come in, whatever they come from [ours].

    Parameters
    ----------
    config : DriftConfig
        Gives the bytes of a beat and the width of a sum.

    Members
    -------
    start : In(1)
        Count saturated elements from 0; no beat comes in this cycle.
    high_bits : In(4)
        hp, 2 to 8; stable from ``start`` on.
    tail_bytes : In
        K mod bytes of a beat: what a row's last beat holds, 0 for all; stable from ``start`` on.
    valid, beat : In
        The next beat.
    row_end, subtensor_end, tail : In(1)
        With it, see ``RowWalk``.
    staged_valid, staged : Out
        The beat as it is to be staged.
    done : Out(1)
        A sub-tensor's statistics are there, for this cycle.
    maximum, total, is_tail : Out
        ``max|q|``, ``Σ|q|`` and whether it was the tail.
    saturated : Out(32)
        Elements that were outside; wraps, never within ``m_max`` rows of up to 65535.
    """

    LATENCY: ClassVar[int] = 4

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        width = config.axis_data_bits
        super().__init__(
            {
                "start": In(1),
                "high_bits": In(4),
                "tail_bytes": In(range(config.beat_bytes)),
                "valid": In(1),
                "beat": In(width),
                "row_end": In(1),
                "subtensor_end": In(1),
                "tail": In(1),
                "staged_valid": Out(1),
                "staged": Out(width),
                "done": Out(1),
                "maximum": Out(MAGNITUDE_BITS),
                "total": Out(total_bits(config)),
                "is_tail": Out(1),
                "saturated": Out(SATURATED_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Saturate; add and compare groups of bytes, then the groups, then the beats."""
        m = Module()
        size = self._config.beat_bytes
        staged, outside = self._saturate(m)
        groups = [range(start, min(start + GROUP, size)) for start in range(0, size, GROUP)]
        magnitudes = []
        for index, byte in enumerate(staged):
            magnitude = Signal(MAGNITUDE_BITS, name=f"magnitude_{index}")
            m.d.comb += magnitude.eq(Mux(byte[-1], -byte, byte))
            magnitudes.append(magnitude)
        maxima, sums, counts = [], [], []
        for index, group in enumerate(groups):
            maxima.append(self._register(m, f"maximum_{index}", _maximum([magnitudes[i] for i in group])))
            sums.append(self._register(m, f"sum_{index}", balanced_sum([magnitudes[i] for i in group])))
            counts.append(self._register(m, f"count_{index}", balanced_sum([outside[i] for i in group])))
        maximum = self._register(m, "beat_maximum", _maximum(maxima))
        total = self._register(m, "beat_sum", balanced_sum(sums))
        count = self._register(m, "beat_count", balanced_sum(counts))

        # Stage 1 is the staged beat, 2 the groups, 3 the beat.
        valid, ends, tail = self.valid, self.subtensor_end, self.tail
        for stage in range(1, self.LATENCY):
            later = Signal(name=f"valid_{stage}")
            later_ends, later_tail = (
                Signal(name=f"{name}_{stage}", reset_less=True) for name in ("ends", "tail")
            )
            m.d.sync += [later.eq(valid), later_ends.eq(ends), later_tail.eq(tail)]
            valid, ends, tail = later, later_ends, later_tail
            if stage == 1:
                m.d.comb += self.staged_valid.eq(valid)
        fresh = Signal(init=1)  # the next beat is a sub-tensor's first
        largest, whole = (Signal.like(port, reset_less=True) for port in (self.maximum, self.total))
        is_tail = Signal(reset_less=True)
        m.d.sync += self.done.eq(valid & ends)
        with m.If(valid):
            m.d.sync += [
                fresh.eq(ends),
                largest.eq(_maximum([Mux(fresh, 0, largest), maximum])),
                whole.eq(Mux(fresh, 0, whole) + total),
                is_tail.eq(tail),
                self.saturated.eq(self.saturated + count),
            ]
        m.d.comb += [self.maximum.eq(largest), self.total.eq(whole), self.is_tail.eq(is_tail)]
        with m.If(self.start):
            m.d.sync += self.saturated.eq(0)
        return m

    def _saturate(self, m: Module) -> tuple[list[Signal], list[Signal]]:
        """Return the registered bytes, and which of them were outside."""
        present = Signal(self._config.beat_bytes)  # bytes of a row's last beat
        upper = Signal(ACT_BITS)  # bits that equal the sign where nothing is to be saturated
        m.d.sync += [
            present[i].eq((self.tail_bytes == 0) | (self.tail_bytes > i))
            for i in range(self._config.beat_bytes)
        ]
        m.d.sync += [upper[i].eq(self.high_bits <= i + 1) for i in range(ACT_BITS)]
        staged, outside = [], []
        for index in range(self._config.beat_bytes):
            raw = Signal(ACT_BITS, name=f"raw_{index}")
            over = Signal(name=f"over_{index}")
            byte = Signal(ACT_BITS, name=f"byte_{index}", reset_less=True)
            was_over = Signal(name=f"was_over_{index}", reset_less=True)
            given = self.beat[ACT_BITS * index : ACT_BITS * (index + 1)]
            keep = present[index] | ~self.row_end
            sign = raw[-1]
            m.d.comb += [
                raw.eq(given & keep.replicate(ACT_BITS)),
                # -2^(hp-1) is outside too.
                over.eq(((raw ^ sign.replicate(ACT_BITS)) & upper).any() | (sign & ~((raw & ~upper).any()))),
            ]
            bound = Mux(sign, upper | 1, ~upper)
            m.d.sync += [byte.eq(Mux(over, bound, raw)), was_over.eq(over)]
            m.d.comb += self.staged[ACT_BITS * index : ACT_BITS * (index + 1)].eq(byte)
            staged.append(byte)
            outside.append(was_over)
        return staged, outside

    @staticmethod
    def _register(m: Module, name: str, value: Value) -> Signal:
        signal = Signal(len(value), name=name, reset_less=True)
        m.d.sync += signal.eq(value)
        return signal


def _maximum(values: Sequence[Value]) -> Value:
    """Return the largest of unsigned values by a balanced tree."""
    level = list(values)
    while len(level) > 1:
        pairs = [Mux(a > b, a, b) for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[2 * len(pairs) :]
    return level[0]
