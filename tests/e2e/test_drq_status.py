"""What a host of drq sees in the status register when it makes mistakes, and that the machine goes on after them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.registers import drq_registers
from bitfabric.hdl.drq.top import DrqTop
from bitfabric.sim.drq_job import drq_step
from bitfabric.sim.drq_random import random_convolution
from bitfabric.sim.job import Step

CONFIG = DrqConfig.preset("tiny", sum_words=6, flag_words=40, map_words=60, height_max=20)
REGISTERS = drq_registers(CONFIG)
MASKS = REGISTERS.constants()
BUSY, DONE = MASKS["STATUS_BUSY_MASK"], MASKS["STATUS_DONE_MASK"]
ERROR = {
    name: MASKS[f"STATUS_{name.upper()}_ERROR_MASK"]
    for name in ("bad_dimension", "overrun", "framing", "busy_start")
}
LAYER = {"kernel_height": 3, "kernel_width": 2, "stride": 1, "padding": 1}
REGION = {"region_height": 2, "region_width": 2}
CASE = random_convolution(CONFIG, np.random.default_rng(3), (5, 4, 5), 4, requantized=True, **LAYER, **REGION)
STEP = drq_step(CONFIG, "drq", CASE)
# A kernel as large as the padded map.
WHOLE = drq_step(
    CONFIG,
    "drq",
    random_convolution(
        CONFIG,
        np.random.default_rng(4),
        (3, 2, 5),
        2,
        requantized=False,
        **{**LAYER, "kernel_height": 5, "kernel_width": 4},
    ),
)
Body = Callable[[Any], Awaitable[None]]
# What a start refuses: register and value.
REFUSED = [
    *((name, 0) for name in ("height", "width", "channels", "n", "stride")),
    ("kernel", 0x0002),
    ("kernel", 0x0300),
    ("region", 0x2_0000),
    ("region", 0x2),
    ("height", 21),  # above height_max
    ("kernel", 0x0208),  # taller than the padded map
    ("kernel", 0x0703),  # wider
    ("channels", 22),  # 6 x 22 above k_max
    ("channels", 65535),  # no product may wrap
    ("width", 10),  # 5 rows of 13 words
    ("width", 16384),  # a row of 81920 elements
]


@pytest.fixture
def on_machine(run_host: Any) -> Callable[[Body], None]:
    return lambda body: run_host(DrqTop(CONFIG), body)


async def works(host: Any, step: Step = STEP) -> None:
    """Run the case as if nothing had been."""
    assert await host.run(step, len(step.stream) - 1) == step.expected.tobytes()
    while not host.ctx.get(host.top.irq):
        await host.tick()
    assert await host.read(REGISTERS.offset("status")) == DONE


async def told(host: Any, error: str) -> None:
    """Wait for an error, see that it is the only one, and clear it."""
    for _ in range(200):
        if host.ctx.get(host.top.irq):
            break
        await host.tick()
    assert await host.read(REGISTERS.offset("status")) == ERROR[error]
    await host.write(REGISTERS.offset("status"), ERROR[error])
    assert await host.read(REGISTERS.offset("status")) == 0
    assert not host.ctx.get(host.top.irq)


async def start(host: Any, changes: tuple[tuple[str, int], ...] = ()) -> None:
    """Write the case's registers, some of them otherwise, and start."""
    for offset, word in STEP.writes[:-1]:
        await host.write(offset, word)
    for name, word in changes:
        await host.write(REGISTERS.offset(name), word)
    await host.write(*STEP.writes[-1])


async def send(host: Any, beats: Any, last_at: int = -1) -> None:
    """Send beats, whatever becomes of them."""
    for index, beat in enumerate(beats):
        host.ctx.set(host.top.s_axis_tvalid, 1)
        host.ctx.set(host.top.s_axis_tdata, int.from_bytes(beat.tobytes(), "little"))
        host.ctx.set(host.top.s_axis_tlast, index == last_at)
        for _ in range(2000):
            taken = host.ctx.get(host.top.s_axis_tready)
            await host.tick()
            if taken:
                break
        else:
            raise AssertionError(f"beat {index} was not taken")
    host.ctx.set(host.top.s_axis_tvalid, 0)


def test_sizes_are_refused(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        for name, value in REFUSED:
            await start(host, ((name, value),))
            await told(host, "bad_dimension")
        await works(host, WHOLE)  # the packet was not begun

    on_machine(body)


def test_regions_that_do_not_fit(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        # Sums of 4 regions by 2 words of channels; then flags of 20 bands, of 3 words each.
        for changes in (
            (("region", 0x1_0002),),
            (("region", 0x2_0001), ("width", 1), ("height", 20), ("channels", 12)),
        ):
            await start(host, changes)
            await send(host, STEP.stream, len(STEP.stream) - 1)
            await told(host, "overrun")
        await works(host)

    on_machine(body)


@pytest.mark.parametrize("at", [3, 50])
def test_early_tlast_ends_the_run(on_machine: Any, at: int) -> None:
    async def body(host: Any) -> None:
        await start(host)
        await send(host, STEP.stream[: at + 1], at)
        await told(host, "framing")
        await works(host)  # the packet ended there

    on_machine(body)


def test_missing_tlast_ends_the_run(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        await start(host)
        await send(host, STEP.stream)
        await told(host, "framing")
        await send(host, STEP.stream[:7], 6)  # the packet's end
        await works(host)
        await start(host)
        await send(host, STEP.stream)
        await told(host, "framing")
        await host.write(REGISTERS.offset("control"), MASKS["CONTROL_STOP_MASK"])  # it has no end
        await works(host)

    on_machine(body)


def test_a_start_while_busy_ends_the_run(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        for beats in (0, 9, len(STEP.stream) - 1):
            await start(host)
            await send(host, STEP.stream[:beats])
            await host.write(*STEP.writes[-1])
            await told(host, "busy_start")
            if beats:
                await send(host, STEP.stream[beats:], len(STEP.stream) - beats - 1)  # dropped
            await works(host)

    on_machine(body)


def test_the_host_stops_a_run(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        await start(host)
        await send(host, STEP.stream, len(STEP.stream) - 1)
        assert await host.read(REGISTERS.offset("status")) == BUSY
        await host.write(REGISTERS.offset("control"), MASKS["CONTROL_STOP_MASK"])
        assert await host.read(REGISTERS.offset("status")) == 0
        for _ in range(10):  # what stands in the output
            await host.tick()
        await works(host)

    on_machine(body)


def test_registers_may_change_while_busy(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        names = ("height", "width", "channels", "n", "kernel", "stride", "padding", "region", "threshold")
        meanwhile = [(REGISTERS.offset(name), 0x0103_0201) for name in (*names, "clip", "zero_point")]
        meanwhile.append((REGISTERS.offset("control"), 0))
        assert await host.run(STEP, len(STEP.stream) - 1, meanwhile) == STEP.expected.tobytes()
        await works(host)

    on_machine(body)


def test_the_stream_may_come_before_the_start(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        await send(host, STEP.stream[:1])
        await works(host, dataclasses.replace(STEP, stream=STEP.stream[1:]))

    on_machine(body)


def test_sizes_can_be_read(on_machine: Any) -> None:
    async def body(host: Any) -> None:
        for name in ("k_max", "map_words", "flag_words", "sum_words", "height_max"):
            assert await host.read(REGISTERS.offset(name)) == getattr(CONFIG, name)
        assert await host.read(REGISTERS.offset("array")) == 3 | 3 << 8 | 2 << 16 | 1 << 24

    on_machine(body)
