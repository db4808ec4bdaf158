"""What a host of a systolic array sees in the status register when it makes mistakes."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.gemm.config import GemmConfig
from bitfabric.hdl.gemm.registers import gemm_registers
from bitfabric.hdl.registry import DESIGNS
from bitfabric.sim.case import random_case
from bitfabric.sim.designs import SIMULATED
from bitfabric.sim.job import Step
from bitfabric.sim.streams import simulate

SYSTOLIC = sorted(name for name, entry in DESIGNS.items() if issubclass(entry.config, GemmConfig))
BUSY, DONE, FRAMING_ERROR, BAD_DIMENSION, OVERRUN = 1, 2, 4, 8, 16


Body = Callable[[Any, Step, Any], Awaitable[None]]


@pytest.fixture(params=SYSTOLIC)
def on_machine(request: pytest.FixtureRequest, run_host: Any) -> Callable[[Body], None]:
    config: Any = DESIGNS[request.param].config.preset("tiny")
    case = random_case(config, np.random.default_rng(3), 5, 7, 3)
    step = SIMULATED[request.param].step(config, case)
    registers = gemm_registers(config, request.param)

    def run(body: Body) -> None:
        run_host(DESIGNS[request.param].make(config), lambda host: body(host, step, registers))

    return run


def test_zero_dimension_is_refused(on_machine: Any) -> None:
    async def body(host: Any, step: Step, registers: Any) -> None:
        for name in ("m", "k", "n"):
            for other in ("m", "k", "n"):
                await host.write(registers.offset(other), int(other != name))
            await host.write(registers.offset("control"), 1)
            assert await host.read(registers.offset("status")) == BAD_DIMENSION
            await host.write(registers.offset("status"), BAD_DIMENSION)
            assert await host.read(registers.offset("status")) == 0
        # The machine is as good as new.
        assert await host.run(step, len(step.stream) - 1) == step.expected.tobytes()

    on_machine(body)


@pytest.mark.parametrize("early", [True, False])
def test_misplaced_tlast_is_told(on_machine: Any, early: bool) -> None:
    async def body(host: Any, step: Step, registers: Any) -> None:
        received = await host.run(step, 2 if early else -1)
        assert received == step.expected.tobytes()
        assert await host.read(registers.offset("status")) == DONE | FRAMING_ERROR

    on_machine(body)


def test_start_while_busy_is_ignored(on_machine: Any) -> None:
    async def body(host: Any, step: Step, registers: Any) -> None:
        received = await host.run(step, len(step.stream) - 1, meanwhile=step.writes[-1:])
        assert received == step.expected.tobytes()
        assert await host.read(registers.offset("status")) == DONE

    on_machine(body)


def test_registers_may_change_while_busy(on_machine: Any) -> None:
    async def body(host: Any, step: Step, registers: Any) -> None:
        names = ("m", "k", "n", "clip", "zero_point")
        meanwhile = [(registers.offset(name), 0x1234_0033) for name in names]
        # Everything about the running GEMM, start excepted.
        meanwhile.append((registers.offset("control"), (step.writes[-1][1] ^ 0b110) & ~1))
        assert await host.run(step, len(step.stream) - 1, meanwhile) == step.expected.tobytes()
        counters = {name: await host.read(offset) for name, offset in step.reads.items()}
        assert counters["status"] == DONE

    on_machine(body)


def test_registers_name_the_sizes(on_machine: Any) -> None:
    async def body(host: Any, step: Step, registers: Any) -> None:
        config: Any = DESIGNS[registers.name].config.preset("tiny")
        assert await host.read(registers.offset("array")) == 2 << 16 | 3
        for name in ("m_step", "k_step", "k_max", "act_depth"):
            assert await host.read(registers.offset(name)) == getattr(config, name)

    on_machine(body)


@pytest.mark.parametrize("design", SYSTOLIC)
def test_k_above_its_limit_is_refused(design: str, make_host: Any) -> None:
    config: Any = DESIGNS[design].config.preset("tiny", k_max=7)
    registers = gemm_registers(config, design)
    top = DESIGNS[design].make(config)

    async def testbench(ctx: Any) -> None:
        host = make_host(ctx, top)
        await host.reset()
        for k, status in ((8, BAD_DIMENSION), (7, BUSY)):
            for name, value in (("m", 1), ("k", k), ("n", 1), ("status", BAD_DIMENSION), ("control", 1)):
                await host.write(registers.offset(name), value)
            assert await host.read(registers.offset("status")) == status

    simulate(top, testbench)


def test_resident_that_does_not_fit_is_told(make_host: Any) -> None:
    config: Any = DESIGNS["systolic_ws"].config.preset("tiny", acc_depth=8, act_depth=8)
    assert not config.resident(8, 4)
    case = random_case(config, np.random.default_rng(3), 8, 4, 2, requantized=False)
    step = SIMULATED["systolic_ws"].step(config, case)
    registers = gemm_registers(config, "systolic_ws")
    top = DESIGNS["systolic_ws"].make(config)
    offset, word = step.writes[-1]
    wrong = dataclasses.replace(step, writes=[*step.writes[:-1], (offset, word | 4)])

    async def testbench(ctx: Any) -> None:
        host = make_host(ctx, top)
        await host.reset()
        await host.run(wrong, len(step.stream) - 1)
        assert await host.read(registers.offset("status")) == DONE | OVERRUN

    simulate(top, testbench)


@pytest.mark.parametrize("modes", [(False, False), (False, True), (True, False), (True, True)])
def test_next_start_at_any_cycle_of_the_end(modes: tuple[bool, bool], run_host: Any) -> None:
    # A start is refused until the last beat has left and right from the cycle after it, whatever both GEMMs give.
    config: Any = DESIGNS["systolic_os"].config.preset("tiny")
    rng = np.random.default_rng(5)
    steps = [
        SIMULATED["systolic_os"].step(config, random_case(config, rng, 3, 2, 3, requantized=mode))
        for mode in modes
    ]
    started = 0
    for wait in range(30):
        accepted = [False]

        async def body(host: Any, wait: int = wait, accepted: list[bool] = accepted) -> None:
            ctx, top = host.ctx, host.top
            beats = np.concatenate([step.stream for step in steps])
            ends = {len(steps[0].stream) - 1, len(beats) - 1}
            feed = [int.from_bytes(beat.tobytes(), "little") for beat in beats]
            received: list[int] = []
            lasts: list[bool] = []
            sent = 0

            async def tick() -> None:
                nonlocal sent
                valid = sent < len(feed)
                ctx.set(top.s_axis_tvalid, valid)
                if valid:
                    ctx.set(top.s_axis_tdata, feed[sent])
                    ctx.set(top.s_axis_tlast, sent in ends)
                taken = valid and ctx.get(top.s_axis_tready)
                if ctx.get(top.m_axis_tvalid):
                    received.append(ctx.get(top.m_axis_tdata))
                    lasts.append(bool(ctx.get(top.m_axis_tlast)))
                await ctx.tick()
                sent += taken

            host.tick = tick
            for offset, word in steps[0].writes:
                await host.write(offset, word)
            # The next GEMM is prepared while the first runs; only its start is timed.
            for offset, word in steps[1].writes[:-1]:
                await host.write(offset, word)
            while not any(lasts) and len(received) < len(steps[0].expected) - 3:
                await tick()
            for _ in range(wait):
                await tick()
            await host.write(*steps[1].writes[-1])
            for _ in range(150):
                await tick()
            accepted[0] = lasts.count(True) == 2
            expected = steps[0].expected.tobytes() + (steps[1].expected.tobytes() if accepted[0] else b"")
            width = steps[0].expected.shape[1]
            assert b"".join(beat.to_bytes(width, "little") for beat in received) == expected, wait

        run_host(DESIGNS["systolic_os"].make(config), body)
        started += accepted[0]
    assert 0 < started < 30  # both sides of the boundary were tried
