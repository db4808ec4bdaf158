"""The pooling unit: maximum or average over a kernel, for every byte of a word."""

from __future__ import annotations

from typing import ClassVar

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.drift.config import ACT_BITS, DriftConfig
from bitfabric.quant.errors import check_range

KERNEL_MAX = 8  # elements of a side
ELEMENTS_BITS = (KERNEL_MAX * KERNEL_MAX).bit_length()
RECIPROCAL_BITS = 18
SUM_BITS = ACT_BITS + ELEMENTS_BITS - 1  # 64 times -128


def reciprocal(elements: int) -> int:
    """Return ``rint(2^18 / elements) - 1``, with which averages over so many elements are exact.

    ``floor(sum/n + 1/2) == floor((2*sum + (n | 1)) / 2n)``, whose numerator is odd and so 1/2n away from where the
    quotient steps; with ``r = rint(2^18 / n)`` it is ``((2*sum + (n | 1)) * r) >> 19`` for every sum of n bytes and
    every n that is a product of two numbers up to 8 [derived; the tests try all].

    Raises
    ------
    ParameterError
        If ``elements`` is not in 1 to 64.
    """
    check_range("elements", elements, 1, KERNEL_MAX * KERNEL_MAX)
    return (2 ** (RECIPROCAL_BITS + 1) // elements + 1) // 2 - 1


class PoolingLane(Block):
    """Keep the maximum and the sum of a signed byte over a kernel.

    Members
    -------
    valid, first, within_image : In(1)
        An element of a kernel, its first one; it is not padding.
    value : In(signed(8))
        It.
    average : In(1)
        Give the average instead of the maximum.
    odd_elements : In(7)
        Elements of the kernel, n, with bit 0 set.
    factor : In(19)
        ``reciprocal(n) + 1``.
    out : Out(signed(8))
        Two cycles after an element: the result up to it. Padding has no part in a maximum and is 0 in an average,
        which is ``floor(sum/n + 1/2)``.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "valid": In(1),
                "first": In(1),
                "within_image": In(1),
                "value": In(signed(ACT_BITS)),
                "average": In(1),
                "odd_elements": In(ELEMENTS_BITS),
                "factor": In(RECIPROCAL_BITS + 1),
                "out": Out(signed(ACT_BITS)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Compare and add; multiply."""
        m = Module()
        most, most_later = (
            Signal(signed(ACT_BITS), name=name, reset_less=True) for name in ("most", "most_later")
        )
        total = Signal(signed(SUM_BITS), reset_less=True)
        candidate, part = Signal(signed(ACT_BITS)), Signal(signed(ACT_BITS))
        doubled = Signal(signed(SUM_BITS + 2))
        product = Signal(signed(ACT_BITS + RECIPROCAL_BITS + 1), reset_less=True)
        wide = Signal(signed(len(doubled) + RECIPROCAL_BITS + 2))
        m.d.comb += [
            candidate.eq(Mux(self.within_image, self.value, -(1 << (ACT_BITS - 1)))),
            part.eq(Mux(self.within_image, self.value, 0)),
            doubled.eq((total << 1) + self.odd_elements),
            wide.eq(doubled * self.factor),
            self.out.eq(Mux(self.average, product >> (RECIPROCAL_BITS + 1), most_later)),
        ]
        with m.If(self.valid):
            m.d.sync += [
                most.eq(Mux(self.first | (candidate > most), candidate, most)),
                total.eq(Mux(self.first, 0, total) + part),
            ]
        m.d.sync += [most_later.eq(most), product.eq(wide[: len(product)].as_signed())]
        return m


class PoolingUnit(Block):
    """Pool the bytes of words: a lane for each byte, an element of the kernel per cycle [paper].

    Latency ``LATENCY`` cycles from the kernel's last element to the result.

    Parameters
    ----------
    config : DriftConfig
        Gives the width of a word.

    Members
    -------
    average : In(1)
        Averages instead of maxima.
    elements, reciprocal : In
        Elements of the kernel and their ``reciprocal``, for averages; constant.
    valid, first, last : In(1)
        An element, the kernel's first, its last.
    within_image : In(1)
        It is not padding.
    word : In(axis_data_bits)
        Its bytes.
    out_valid : Out(1)
        A result.
    out : Out(axis_data_bits)
        Its bytes.
    """

    LATENCY: ClassVar[int] = 2

    def __init__(self, config: DriftConfig) -> None:
        self._config = config
        super().__init__(
            {
                "average": In(1),
                "elements": In(ELEMENTS_BITS),
                "reciprocal": In(RECIPROCAL_BITS),
                "valid": In(1),
                "first": In(1),
                "last": In(1),
                "within_image": In(1),
                "word": In(config.axis_data_bits),
                "out_valid": Out(1),
                "out": Out(config.axis_data_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Place the lanes."""
        m = Module()
        factor = Signal(RECIPROCAL_BITS + 1, reset_less=True)
        odd_elements = Signal(ELEMENTS_BITS, reset_less=True)
        ends = Signal()
        m.d.sync += [
            factor.eq(self.reciprocal + 1),
            odd_elements.eq(self.elements | 1),
            ends.eq(self.valid & self.last),
            self.out_valid.eq(ends),
        ]
        results = []
        for index in range(self._config.beat_bytes):
            lane = place(m, f"lane_{index}", PoolingLane())
            m.d.comb += [
                lane.valid.eq(self.valid),
                lane.first.eq(self.first),
                lane.within_image.eq(self.within_image),
                lane.value.eq(self.word[ACT_BITS * index : ACT_BITS * (index + 1)].as_signed()),
                lane.average.eq(self.average),
                lane.odd_elements.eq(odd_elements),
                lane.factor.eq(factor),
            ]
            results.append(lane.out)
        m.d.comb += self.out.eq(Cat(results))
        return m
