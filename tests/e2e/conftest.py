"""Helpers of several files here: random campaigns, and a host that drives a top by hand."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.registry import DESIGNS
from bitfabric.quant.gemm import acc_bits_needed
from bitfabric.sim.case import GemmCase, random_case
from bitfabric.sim.job import Step
from bitfabric.sim.simulate import SimulationReport, simulate
from bitfabric.sim.streams import Bench

Campaign = Callable[..., SimulationReport]


def random_dimension(rng: np.random.Generator, step: int) -> int:
    """Return a dimension around a tile size: one element, exact tiles, tails and several tiles."""
    return int(rng.choice([1, step, 2 * step, rng.integers(1, step + 1), rng.integers(1, 3 * step + 2)]))


def random_array(design: str, rng: np.random.Generator, seed: int, **options: Any) -> Any:
    """Return the configuration of a random array; the first seeds give the extreme shapes."""
    extremes = [(1, 1), (1, 5), (5, 1), (12, 9), (9, 16)]
    rows, columns = extremes[seed] if seed < len(extremes) else (int(size) for size in rng.integers(1, 8, 2))
    depth = int(rng.integers(1, 24))
    if design == "systolic_ws":
        options["acc_depth"] = depth
    else:
        options["weight_depth"] = depth = depth + rows
    if seed % 3 == 2:  # narrow operands, and an accumulator with not a bit to spare
        act_bits, weight_bits = (int(bits) for bits in rng.integers(2, 9, 2))
        acc_bits = max(acc_bits_needed(64, act_bits, weight_bits), 8)
        options |= {"act_bits": act_bits, "weight_bits": weight_bits, "k_max": 64, "acc_bits": acc_bits}
    return DESIGNS[design].config.preset(
        "tiny",
        rows=rows,
        columns=columns,
        # From too small for two tiles to large enough for everything.
        act_depth=int(depth * rng.integers(1, 6)),
        axis_data_bits=int(rng.choice([32, 64, 128])),
        **options,
    )


def campaign_cases(
    design: str, seed: int, mode: int, count: int, **options: Any
) -> tuple[Any, list[GemmCase]]:
    """Return a random array and ``count`` GEMMs of different dimensions for it."""
    rng = np.random.default_rng([seed, mode])
    config = random_array(design, rng, seed, **options)
    shapes: dict[tuple[int, int, int], None] = {}
    while len(shapes) < count:
        shape = (
            random_dimension(rng, min(config.m_step, 12)),
            random_dimension(rng, min(config.k_step, 12)),
            random_dimension(rng, config.columns),
        )
        # Small arrays run out of small shapes.
        if shape in shapes:
            shape = tuple(int(size) for size in rng.integers(1, 12, 3))
        shapes[shape] = None
    return config, [random_case(config, rng, *shape) for shape in shapes]


@pytest.fixture
def campaign(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Return a function that runs random cases on a random array and gives the report."""
    monkeypatch.setenv("BITFABRIC_BUILD", str(tmp_path_factory.mktemp("builds")))

    def run(
        design: str, seed: int, mode: int, count: int, *, stall: float = 0.0, **options: Any
    ) -> SimulationReport:
        config, cases = campaign_cases(design, seed, mode, count, **options)
        return simulate(design, config, cases, stall=stall, seed=seed)

    return run


@pytest.fixture
def distinct_cases() -> Callable[..., int]:
    """Return a function that counts the different (M, K, N, R, C) of a mode's campaign."""

    def count(design: str, arrays: int, mode: int, cases: int, **options: Any) -> int:
        found = set()
        for seed in range(arrays):
            config, chosen = campaign_cases(design, seed, mode, cases, **options)
            found |= {(case.m, case.k, case.n, config.rows, config.columns) for case in chosen}
        return len(found)

    return count


class Host:
    """Drive the ports of a top by hand."""

    def __init__(self, ctx: Any, top: Any):
        self.ctx, self.top = ctx, top

    async def tick(self) -> None:
        await self.ctx.tick()

    async def reset(self) -> None:
        self.ctx.set(self.top.aresetn, 1)
        self.ctx.set(self.top.s_axil_bready, 1)
        self.ctx.set(self.top.s_axil_rready, 1)
        self.ctx.set(self.top.m_axis_tready, 1)
        for _ in range(4):
            await self.ctx.tick()

    async def write(self, offset: int, word: int) -> None:
        for port, value in (
            ("awaddr", offset),
            ("wdata", word),
            ("wstrb", 15),
            ("awvalid", 1),
            ("wvalid", 1),
        ):
            self.ctx.set(getattr(self.top, f"s_axil_{port}"), value)
        waiting = {"aw", "w"}
        while waiting:
            ready = {
                channel: self.ctx.get(getattr(self.top, f"s_axil_{channel}ready")) for channel in waiting
            }
            await self.tick()
            for channel in [channel for channel in waiting if ready[channel]]:
                self.ctx.set(getattr(self.top, f"s_axil_{channel}valid"), 0)
                waiting.remove(channel)
        while not self.ctx.get(self.top.s_axil_bvalid):
            await self.tick()
        assert self.ctx.get(self.top.s_axil_bresp) == 0
        await self.tick()

    async def read(self, offset: int) -> int:
        self.ctx.set(self.top.s_axil_araddr, offset)
        self.ctx.set(self.top.s_axil_arvalid, 1)
        while not self.ctx.get(self.top.s_axil_arready):
            await self.tick()
        await self.tick()
        self.ctx.set(self.top.s_axil_arvalid, 0)
        while not self.ctx.get(self.top.s_axil_rvalid):
            await self.tick()
        assert self.ctx.get(self.top.s_axil_rresp) == 0
        word = self.ctx.get(self.top.s_axil_rdata)
        await self.tick()
        return int(word)

    async def run(
        self,
        step: Step,
        last_at: int,
        meanwhile: Sequence[tuple[int, int]] = (),
        *,
        until_irq: bool = False,
        patience: int = 10_000,
    ) -> bytes:
        """Send a step's stream, ``last`` with beat ``last_at``; return the packet that comes back.

        ``meanwhile`` is written while the machine is busy. ``until_irq``: return what has come when the interrupt
        rises, whatever it says; beats that are not taken by then are never sent.
        """
        for offset, word in step.writes:
            await self.write(offset, word)
        beats = [int.from_bytes(beat.tobytes(), "little") for beat in step.stream]
        received, sent = b"", 0
        for offset, word in meanwhile:
            await self.write(offset, word)
        for _ in range(patience):
            self.ctx.set(self.top.s_axis_tvalid, sent < len(beats))
            if sent < len(beats):
                self.ctx.set(self.top.s_axis_tdata, beats[sent])
                self.ctx.set(self.top.s_axis_tlast, sent == last_at)
            taken = sent < len(beats) and self.ctx.get(self.top.s_axis_tready)
            last = False
            if self.ctx.get(self.top.m_axis_tvalid):
                received += self.ctx.get(self.top.m_axis_tdata).to_bytes(step.expected.shape[1], "little")
                last = bool(self.ctx.get(self.top.m_axis_tlast))
            await self.ctx.tick()
            sent += taken
            if self.ctx.get(self.top.irq) if until_irq else last:
                self.ctx.set(self.top.s_axis_tvalid, 0)
                return received
        raise AssertionError("no interrupt came" if until_irq else "no packet came back")


@pytest.fixture
def make_host() -> type[Host]:
    """Return the class of hosts: tests cannot import it by name."""
    return Host


@pytest.fixture(scope="module")
def run_host() -> Callable[..., None]:
    """Return a function that runs ``body(host)`` on a top as it is after a reset.

    Tops with equal parameters share a prepared simulation within a file: to prepare one takes longer than most tests.
    """
    benches: dict[tuple[type, str], Bench] = {}

    def run(top: Any, body: Callable[[Host], Awaitable[None]]) -> None:
        bench = benches.get(top.block_key)
        if bench is None:
            bench = benches[top.block_key] = Bench(top)
        top._MustUse__used = True  # its equal may stand for it

        async def testbench(ctx: Any) -> None:
            host = Host(ctx, bench.block)
            await host.reset()
            await body(host)

        bench.run(testbench)

    return run
