"""The read-out's walk over the output memory: rows in the order of tokens, or the kernels of a pooling."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drift.config import DIMENSION_BITS, DriftConfig
from bitfabric.hdl.drift.job import GEMM, POOLING
from bitfabric.hdl.drift.pooling import ELEMENTS_BITS

LEVELS = ("across", "down", "word", "position", "line", "image")  # of the loops, innermost first


class ReadoutWalk(Block):
    """Give the address of a word of results per step.

    Without pooling all words in turn. With it, for each position of the pooled images in raster order, image after
    image, for each word of a row, for each row and then column of the kernel: the word at that place, which is
    padding if it is not ``within_image``. The images end with, or are cut at, the last row of the results.

    All loops share an adder [ours]: each level has the address where its step began, and an address step. Addresses
    count modulo the memory's size, so that they may start in the padding.

    Parameters
    ----------
    config : DriftConfig
        Every parameter of the design.

    Members
    -------
    gemm, pooling : In
        The layer; constant from ``CONSTANT`` cycles before ``start`` on.
    start : In(1)
        Begin; the first step can be in the next cycle.
    step : In(1)
        Go on behind the word that is shown.
    address : Out
        The word.
    within_image : Out(1)
        It is within the image.
    first, last : Out(1)
        It is the kernel's first, last.
    row_ends : Out(1)
        The word is the last one of a row, or of a plane of bytes.
    ends : Out(1)
        With ``last``: it is the very last word.
    elements : Out(7)
        Of the kernel.
    """

    CONSTANT = 6

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "gemm": In(GEMM),
                "pooling": In(POOLING),
                "start": In(1),
                "step": In(1),
                "address": Out(address_bits(config.out_words)),
                "within_image": Out(1),
                "first": Out(1),
                "last": Out(1),
                "row_ends": Out(1),
                "ends": Out(1),
                "elements": Out(ELEMENTS_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Count the loops and move the addresses of those that end."""
        m = Module()
        bits = len(self.address)
        pooled = self.pooling.enabled
        steps, origin, total, row_words = self._steps(m)
        # A level moves when those within it end.
        counts = {
            "across": (4, self.pooling.kernel_width),
            "down": (4, self.pooling.kernel_height),
            "position": (DIMENSION_BITS, self.pooling.out_width),
            "line": (DIMENSION_BITS, self.pooling.out_height),
        }
        at = {name: Signal(width, name=f"at_{name}", reset_less=True) for name, (width, _) in counts.items()}
        word = Signal(DIMENSION_BITS, reset_less=True)  # of the row
        bases = {name: Signal(bits, name=f"base_{name}", reset_less=True) for name in LEVELS}
        begun = Signal(bits + 1, reset_less=True)  # words of the images up to this one
        cursor = bases["across"]
        ends = {name: Signal(name=f"ends_{name}") for name in LEVELS}
        for name, (_, size) in counts.items():
            m.d.comb += ends[name].eq(~pooled | (at[name] + 1 == size))
        m.d.comb += [
            self.row_ends.eq(word + 1 == row_words),
            ends["word"].eq(Mux(pooled, self.row_ends, cursor + 1 == total)),
            ends["image"].eq(~pooled | (begun >= total) | (steps["image"] == 0)),
        ]
        moves = {}
        inner: Value = Signal(name="steps")
        m.d.comb += inner.eq(self.step)
        for name in LEVELS:
            moves[name] = Signal(name=f"moves_{name}")
            m.d.comb += moves[name].eq(inner)
            inner = inner & ends[name]
        base, step, target = Signal(bits), Signal(bits), Signal(bits)
        m.d.comb += [base.eq(cursor), step.eq(steps["across"])]
        for name in LEVELS[1:]:
            with m.If(moves[name]):
                m.d.comb += [base.eq(bases[name]), step.eq(steps[name])]
        m.d.comb += target.eq(Mux(self.start, origin, base + step))
        for name in LEVELS:
            with m.If(self.start | moves[name]):
                m.d.sync += bases[name].eq(target)
        for name, count in at.items():
            with m.If(self.start | (moves[name] & ends[name])):
                m.d.sync += count.eq(0)
            with m.Elif(moves[name]):
                m.d.sync += count.eq(count + 1)
        with m.If(self.start | (moves["word"] & self.row_ends)):
            m.d.sync += word.eq(0)
        with m.Elif(moves["word"]):
            m.d.sync += word.eq(word + 1)
        with m.If(self.start | moves["image"]):
            m.d.sync += begun.eq(Mux(self.start, 0, begun) + steps["image"])
        self._bounds(m, moves, ends)
        first, last = Signal(), Signal()
        m.d.comb += [
            self.address.eq(cursor),
            first.eq(~pooled | ((at["across"] == 0) & (at["down"] == 0))),
            last.eq(ends["across"] & ends["down"]),
            self.first.eq(first),
            self.last.eq(last),
            self.ends.eq(Cat(ends.values()).all()),
        ]
        return m

    def _steps(self, m: Module) -> tuple[dict[str, Value], Value, Value, Value]:
        """Return each level's address step, the first address, the number of words and those of a row."""
        gemm, pooling = self.gemm, self.pooling
        bits = len(self.address)
        byte_bits = self._config.beat_bytes.bit_length() - 1

        def register(name: str, value: Value, width: int) -> Signal:
            signal = Signal(width, name=name, reset_less=True)
            m.d.sync += signal.eq(value[:width])
            return signal

        channels = register("channels", gemm.n_high + gemm.n_low, DIMENSION_BITS)
        row_words = register(
            "row_words", (channels + self._config.beat_bytes - 1) >> byte_bits, DIMENSION_BITS
        )
        stride = register("stride", Mux(gemm.accumulators, row_words << 2, row_words), bits + 1)
        total = register("total", gemm.m[: bits + 1] * stride, bits + 1)
        across = register("step_across", row_words, bits)
        down = register("step_down", pooling.width[:bits] * row_words[:bits], bits)
        steps: dict[str, Value] = {
            "across": across,
            "down": down,
            "word": Value.cast(1),
            "position": register("step_position", pooling.stride * across, bits),
            "line": register("step_line", pooling.stride * down, bits),
            "image": register("step_image", pooling.height[:bits] * down, bits),
        }
        padding = register("padding_words", pooling.padding * (across + down), bits)
        origin = register("origin", Mux(pooling.enabled, (-padding).as_unsigned(), 0), bits)
        elements = register("kernel_elements", pooling.kernel_height * pooling.kernel_width, ELEMENTS_BITS)
        m.d.comb += self.elements.eq(elements)
        return steps, origin, total, row_words

    def _bounds(self, m: Module, moves: dict[str, Signal], ends: dict[str, Signal]) -> None:
        """Follow the place in the image and see if it is one."""
        pooling = self.pooling
        shape = signed(DIMENSION_BITS + 2)
        inside = []
        for side, kernel, loop, outer in (
            ("width", "across", "position", "line"),
            ("height", "down", "line", "image"),
        ):
            here = Signal(shape, name=f"at_{side}", reset_less=True)
            base = Signal(shape, name=f"base_{side}", reset_less=True)
            restart, target = Signal(name=f"restart_{side}"), Signal(shape, name=f"target_{side}")
            m.d.comb += [
                restart.eq(self.start | moves[outer]),
                target.eq(Mux(restart, -pooling.padding, Mux(moves[loop], base + pooling.stride, base))),
            ]
            with m.If(restart | moves[loop]):
                m.d.sync += base.eq(target)
            with m.If(restart | (moves[kernel] & ends[kernel])):
                m.d.sync += here.eq(target)
            with m.Elif(moves[kernel]):
                m.d.sync += here.eq(here + 1)
            within = Signal(name=f"within_{side}")
            m.d.comb += within.eq((here >= 0) & (here < getattr(pooling, side)))
            inside.append(within)
        m.d.comb += self.within_image.eq(~pooling.enabled | (inside[0] & inside[1]))
