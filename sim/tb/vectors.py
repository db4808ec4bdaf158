"""The testbench of vector jobs: drive and compare every port of a block in every cycle."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, Timer

from bitfabric.sim.vectors import CLOCKS, RESETS, PackedJob, Words

CLOCK_NS = 10
_CHUNK = 4096  # cycles whose words are turned into Python integers at a time


def integers(words: Words) -> list[int]:
    """Return rows of words as integers."""
    if words.shape[1] == 1:
        return words[:, 0].tolist()
    raw, step = words.tobytes(), 4 * words.shape[1]
    return [int.from_bytes(raw[at : at + step], "little") for at in range(0, len(raw), step)]


class Comparison:
    """Compare one output with what is expected, as text: the simulator gives its bits as such.

    Parameters
    ----------
    handle : cocotb handle
        The output.
    name : str
        Its name.
    job : PackedJob
        Gives values and mask.
    """

    def __init__(self, handle: Any, name: str, job: PackedJob):
        self.name = name
        self.handle = handle
        self._job = job
        self._width = len(handle)
        self._full = (1 << self._width) - 1

    def chunk(self, start: int) -> list[tuple[str, int]]:
        """Return text and mask of ``_CHUNK`` cycles; the mask is -1 where all bits are compared."""
        part = slice(start, start + _CHUNK)
        texts = [f"{value:0{self._width}b}" for value in integers(self._job.expected[self.name][part])]
        if self.name not in self._job.mask:
            return [(text, -1) for text in texts]
        masks = integers(self._job.mask[self.name][part])
        return [(text, -1 if m == self._full else m) for text, m in zip(texts, masks, strict=True)]

    def differs(self, text: str, mask: int) -> int | str | None:
        """Return what the output is if a compared bit is not as in ``text``; text if such a bit is unknown."""
        got = str(self.handle.value)
        if int("".join("0" if bit in "01" else "1" for bit in got), 2) & mask:
            return f"0b{got.lower()}"
        known = int("".join(bit if bit in "01" else "0" for bit in got), 2)
        return known if (known ^ int(text, 2)) & mask else None


def chunks(job: PackedJob, comparisons: list[Comparison]) -> Iterator[tuple[Any, Any]]:
    """Yield for every cycle the inputs' values and the outputs' texts and masks."""
    for start in range(0, job.cycles, _CHUNK):
        count = min(_CHUNK, job.cycles - start)
        driven = [integers(words[start : start + _CHUNK]) for words in job.inputs.values()]
        wanted = [comparison.chunk(start) for comparison in comparisons]
        empty: list[tuple[Any, ...]] = [()] * count
        yield from zip(
            zip(*driven, strict=True) if driven else empty,
            zip(*wanted, strict=True) if wanted else empty,
            strict=True,
        )


async def reset(dut: Any, job: PackedJob, clock: Any) -> None:
    """Set every input to 0 and hold the reset for a few cycles."""
    for name in job.inputs:
        getattr(dut, name).value = 0
    for name, level in RESETS.items():
        if hasattr(dut, name):
            getattr(dut, name).value = level
            await ClockCycles(clock, 4)
            getattr(dut, name).value = 1 - level


@cocotb.test()
async def run_vectors(dut: Any) -> None:
    """Run the job named by ``BITFABRIC_JOB``."""
    job = PackedJob.load(Path(os.environ["BITFABRIC_JOB"]))
    clock = next((getattr(dut, name) for name in CLOCKS if hasattr(dut, name)), None)
    if clock is not None:
        Clock(clock, CLOCK_NS, unit="ns").start()
        await RisingEdge(clock)
    await reset(dut, job, clock)
    # At the edge the outputs still are what they were before it, and what is written comes after it: one
    # wake-up per cycle does both.
    edge: Any = RisingEdge(clock) if clock is not None else Timer(CLOCK_NS, unit="ns")
    setters: list[Callable[[int], None]] = [getattr(dut, name).set for name in job.inputs]
    comparisons = [Comparison(getattr(dut, name), name, job) for name in job.expected]
    last: Any = [None] * len(setters)
    wrong, first, port = 0, 0, ""
    worst: int | str = 0
    started = time.perf_counter()
    for cycle, (values, wanted) in enumerate(chunks(job, comparisons)):
        for setter, value, before in zip(setters, values, last, strict=True):
            if value != before:
                setter(value)
        last = values
        await edge
        found = False
        for comparison, (text, mask) in zip(comparisons, wanted, strict=True):
            # Nearly always the texts are the same, and all is said.
            if mask == 0 or str(comparison.handle.value) == text or found:
                continue
            got = comparison.differs(text, mask)
            if got is not None:
                found = True
                if not wrong:
                    first, port, worst = cycle, comparison.name, got
        wrong += found
    seconds = time.perf_counter() - started
    steps = [job.judge(wrong, first, port, worst)]
    verdict = {"steps": steps, "cycles": job.cycles, "seconds": seconds}
    Path(os.environ["BITFABRIC_VERDICT"]).write_text(json.dumps(verdict))
