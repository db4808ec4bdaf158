"""Layers of drift on activations that stay inside: written back, shared by several layers, with splits chosen beforehand."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.registers import ARRAY_COUNTERS, COUNTERS, drift_registers
from bitfabric.hdl.drift.top import DriftTop
from bitfabric.quant.drift import Pooling
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.drift import case_cycles
from bitfabric.sim.cycles.drift_layer import Intake, Layer, layer_cycles
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_job import drift_step
from bitfabric.sim.drift_limits import fits
from bitfabric.sim.drift_random import random_case, random_run, random_shared
from bitfabric.sim.job import start_writes
from bitfabric.sim.simulate import simulate

SMALL: dict[str, Any] = {"rows": 3, "columns": 2, "segments": 16, "out_words": 512}
# Staging memories that a sub-tensor nearly fills, so that the write-back waits for its conversion.
MACHINES: dict[str, dict[str, Any]] = {
    "double": {**SMALL, "staging_beats": 6},
    "bit, transit": {
        **SMALL,
        "alignment": "bit",
        "weight_buffering": "transit",
        "staging_beats": 4,
        "acc_depth": 3,
    },
    "single, greedy": {**SMALL, "weight_buffering": "single", "scheduler": "greedy", "weight_words": 8},
    "128 bits": {**SMALL, "axis_data_bits": 128, "lanes": 8, "staging_beats": 3, "alignment": "bit"},
}
RUNS = 8
PER_IMAGE = Pooling(kind="average", height=3, width=4, kernel=(2, 3), stride=1)
PADDED = Pooling(kind="max", height=4, width=2, kernel=2, stride=2, padding=1)


def machine(name: str) -> DriftConfig:
    return DriftConfig.preset("tiny", **MACHINES[name])


@functools.cache
def runs(name: str) -> list[list[DriftCase]]:
    """Return random runs of two or three layers, one that pools twice, and three layers on the same activations."""
    config, rng = machine(name), np.random.default_rng(4)
    found = [random_run(config, rng, 2 + number % 2) for number in range(RUNS)]
    while True:
        first = random_case(config, rng, 24, 6, 12, requantized=True, pool=PER_IMAGE, keep=True)
        again = {**first.kept_fields(), "requantized": True, "pool": PADDED, "keep": True}
        second = random_case(config, rng, first.m_out, 12, 9, **again)
        third = random_case(config, rng, second.m_out, 9, 5, **second.kept_fields())
        if all(fits(config, case) for case in (first, second, third)):
            break
    return [*found, [first, second, third], random_shared(config, rng, 5, 9, [6, 4, 7])]


def check(config: DriftConfig, cases: Sequence[DriftCase], **options: Any) -> None:
    """Run cases on a machine; each has to equal golden, and without stalls every counter the cycle model."""
    report = simulate("drift", config, cases, **options)
    assert [(r.name, r.m, r.k, r.n, r.problem) for r in report.results if r.problem] == []
    assert report.passed
    for result, case in zip(report.results, cases, strict=True):
        last = case.next_rows if case.keep else case.rows
        assert result.registers["rows_low"] == last.low.sum()
        if not options.get("stall"):
            assert result.registers["total_cycles"] == result.predicted.total


@pytest.mark.parametrize("name", MACHINES)
def test_layers_follow_each_other_inside(name: str) -> None:
    layers = runs(name)
    for run in layers:
        for before, case in pairwise(run):
            assert case.resident
            np.testing.assert_array_equal(before.stored() if before.keep else before.acts, case.acts)
    check(machine(name), [case for run in layers for case in run])


def test_layers_follow_each_other_under_stalls() -> None:
    check(machine("double"), [case for run in runs("double")[-5:] for case in run], stall=0.5, seed=3)


def test_what_the_runs_cover() -> None:
    kept = [(machine(name), case) for name in MACHINES for run in runs(name) for case in run if case.keep]
    assert len(kept) >= 30
    pools = [case.pool for _, case in kept if case.pool]
    assert {pool.kind for pool in pools} == {"max", "average"}
    assert any(pool.padding for pool in pools)
    assert any(pool.stride != 1 for pool in pools)
    assert {case.table is None for _, case in kept} == {False, True}
    assert {case.next_truncate for _, case in kept} == {False, True}
    own = [(case.act_high_bits, case.act_low_bits) for _, case in kept]
    following = [(case.next_high_bits, case.next_low_bits) for _, case in kept]
    assert sum(a != b for a, b in zip(own, following, strict=True)) >= 8
    assert any(case.next_rows.saturated for _, case in kept)
    assert {case.counts.m_low for _, case in kept} > {0}
    # Sub-tensors of several rows, and full staging memories behind which more rows wait.
    beats = [-(-case.n // config.beat_bytes) for config, case in kept]
    several = [case.next_subtensor_rows > 1 < case.m_out for _, case in kept]
    waits = [
        min(case.next_subtensor_rows, case.m_out) * row > config.staging_beats - row
        and case.m_out * row > config.staging_beats
        for (config, case), row in zip(kept, beats, strict=True)
    ]
    assert sum(several) >= 8
    assert sum(waits) >= 5
    shared = [case for name in MACHINES for run in runs(name) for case in run[1:] if case.resident]
    assert len(shared) >= 40


CONFIG = DriftConfig.preset("tiny", rows=2, columns=2, acc_depth=4, segments=16)
REGISTERS = drift_registers(CONFIG)
CONSTANTS = REGISTERS.constants()
DONE, PREPARED = CONSTANTS["STATUS_DONE_MASK"], CONSTANTS["STATUS_PREPARED_MASK"]
FIELDS: dict[str, Any] = {"act_high_bits": 8, "act_low_bits": 4, "scale": 1.0, "threshold": 800.0}


def pair(*, keep: bool, seed: int = 0) -> tuple[DriftCase, DriftCase]:
    """Return a layer and one on what it leaves: its results, or its activations."""
    rng = np.random.default_rng(seed)
    bytes_only: dict[str, Any] = {"requantized": True, "table": None, "pool": None} if keep else {}
    first = random_case(CONFIG, rng, 8, 10, 7, keep=keep, **FIELDS, **bytes_only)
    second = random_case(CONFIG, rng, 8, first.n if keep else first.k, 9, **first.kept_fields())
    for case in (first, second):
        case.check(CONFIG)
    return first, second


def prepared_cycles(case: DriftCase) -> Cycles:
    """Return what a resident layer takes whose split is there."""
    acts = Intake(
        low=case.rows.low[:: case.subtensor_rows],
        subtensor_rows=case.subtensor_rows,
        bits=(case.act_high_bits, case.act_low_bits),
    )
    size, counts = case.pool_size, case.counts
    layer = Layer(
        m=case.m,
        k=case.k,
        n_high=counts.n_high,
        n_low=counts.n_low,
        acts=acts,
        resident=True,
        prepared=True,
        accumulators=not case.requantized,
        pooled=None if size is None else (size.rows, size.kernel_height, size.kernel_width),
    )
    return layer_cycles(CONFIG, layer)


def prepare(case: DriftCase, **changed: int) -> list[tuple[int, int]]:
    """Return the writes that ask for a case's split beforehand."""
    counts = case.counts
    sizes = {"k": case.k, "n": case.n, "n_high": counts.n_high, "n_low": counts.n_low, **changed}
    values = {name: {"value": value} for name, value in sizes.items()}
    return start_writes(REGISTERS, {**values, "control": {"prepare": 1}})


class Machine:
    """Hold a host."""

    def __init__(self, host: Any):
        self.host = host

    async def status(self) -> int:
        return int(await self.host.read(REGISTERS.offset("status")))

    async def runs(self, case: DriftCase, *meanwhile: tuple[int, int]) -> None:
        """A layer gives what golden gives."""
        step = drift_step(CONFIG, "drift", case, case_cycles(CONFIG, case))
        last = len(step.stream) - 1
        received = await self.host.run(step, last, meanwhile, until_irq=True, patience=3000)
        assert received == step.expected.tobytes()
        assert await self.status() & ~PREPARED == DONE

    async def until_prepared(self) -> None:
        for _ in range(40):
            if await self.status() & PREPARED:
                return
        raise AssertionError("no split was prepared")

    async def counted(self, cycles: Cycles) -> None:
        """All counters are those of the cycle model."""
        expected = {name: cycles.breakdown[name] for name in COUNTERS if name != "total"}
        expected |= {"total": cycles.total}
        expected |= {name: cycles.traffic[f"{name}_cycles"] for name in ARRAY_COUNTERS}
        found = {name: await self.host.read(REGISTERS.offset(f"{name}_cycles")) for name in expected}
        assert found == expected


@pytest.fixture
def on_machine(run_host: Any) -> Callable[[Callable[[Machine], Awaitable[None]]], None]:
    def run(body: Callable[[Machine], Awaitable[None]]) -> None:
        run_host(DriftTop(CONFIG), lambda host: body(Machine(host)))

    return run


@pytest.mark.parametrize("keep", [False, True], ids=["shared", "written back"])
def test_split_is_chosen_under_the_layer_before(on_machine: Any, keep: bool) -> None:
    """Asked for while the layer before runs, also before its results are there; the next one then waits for none."""
    first, second = pair(keep=keep)
    now = prepared_cycles(second)
    assert now.breakdown["schedule"] == 0
    assert now.total < case_cycles(CONFIG, second).total

    async def body(machine: Machine) -> None:
        await machine.runs(first)
        await machine.runs(second)
        await machine.counted(case_cycles(CONFIG, second))
        for _ in range(2):
            await machine.runs(first, *prepare(second))
            if not keep:  # under the layer; what is written back is only there with its end
                assert await machine.status() & PREPARED
            await machine.until_prepared()
            await machine.runs(second)
            assert not await machine.status() & PREPARED
            await machine.counted(now)

    on_machine(body)


def test_split_is_chosen_between_layers(on_machine: Any) -> None:
    first, second = pair(keep=True, seed=1)

    async def body(machine: Machine) -> None:
        await machine.runs(first)
        for offset, word in prepare(second):
            await machine.host.write(offset, word)
        await machine.until_prepared()
        await machine.runs(second)
        await machine.counted(prepared_cycles(second))

    on_machine(body)


def test_layer_may_start_while_its_split_is_being_chosen(on_machine: Any) -> None:
    first, second = pair(keep=True, seed=2)

    async def body(machine: Machine) -> None:
        step = drift_step(CONFIG, "drift", second, case_cycles(CONFIG, second))
        for delay in (0, 3, 10, 17, 25, 32, 40):
            await machine.runs(first)
            # Everything but the start first, then the request and the start behind it.
            for offset, word in [*step.writes[:-2], *prepare(second)]:
                await machine.host.write(offset, word)
            for _ in range(delay):
                await machine.host.tick()
            short = dataclasses.replace(step, writes=step.writes[-2:])
            last = len(step.stream) - 1
            received = await machine.host.run(short, last, until_irq=True, patience=3000)
            assert received == step.expected.tobytes()
            assert await machine.status() == DONE
            total = await machine.host.read(REGISTERS.offset("total_cycles"))
            assert prepared_cycles(second).total <= total <= case_cycles(CONFIG, second).total

    on_machine(body)


def test_split_for_another_layer_is_not_used(on_machine: Any) -> None:
    """Other channels; another K, which is never chosen; new activations in between."""
    first, second = pair(keep=False, seed=3)
    counts = second.counts
    others = [
        {"n_high": counts.n_high + 2, "n": second.n + 2},
        {"n_low": counts.n_low + 4, "n": second.n + 4},
        {"k": second.k + 1},
    ]
    other = dataclasses.replace(first, threshold=0.0)

    async def body(machine: Machine) -> None:
        for changed in others:
            await machine.runs(first, *prepare(second, **changed))
            if "k" not in changed:
                await machine.until_prepared()
            await machine.runs(second)
            await machine.counted(case_cycles(CONFIG, second))
        await machine.runs(first, *prepare(second))
        await machine.until_prepared()
        await machine.runs(other)
        await machine.counted(case_cycles(CONFIG, other))
        again = dataclasses.replace(second, threshold=0.0)
        await machine.runs(again)
        await machine.counted(case_cycles(CONFIG, again))

    on_machine(body)


def test_no_split_is_chosen_for_activations_that_are_not_there(on_machine: Any) -> None:
    first, second = pair(keep=False, seed=4)

    async def body(machine: Machine) -> None:
        for offset, word in prepare(second):
            await machine.host.write(offset, word)
        for _ in range(10):
            assert await machine.status() == 0
        await machine.runs(first)
        assert not await machine.status() & PREPARED
        await machine.runs(second)
        await machine.counted(case_cycles(CONFIG, second))

    on_machine(body)
