"""Drive a block's streams in Amaranth's simulator, with random stalls, and check the stream protocol."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import ClockDomain, Fragment, Module
from amaranth.lib import data
from amaranth.sim import Simulator

from bitfabric.hdl.block import Block
from bitfabric.quant.errors import ParameterError

Setup = Callable[[Any], Awaitable[None] | None]


class ProtocolError(AssertionError):
    """Report a stream that breaks the rules of ``stream.Signature``."""


class BenchTimeout(AssertionError):
    """Report a block that did not take or deliver what was expected in time."""


class StreamResult(dict[str, list[Any]]):
    """Hold the received payloads by output, and when each transfer took place.

    Members
    -------
    cycles : int
        Clock cycles until the last expected transfer, that one included.
    arrivals : dict of str to list of int
        The cycle of every transfer, for inputs and outputs, counted from 0.
    """

    cycles: int
    arrivals: dict[str, list[int]]


@dataclass
class _Input:
    name: str
    stream: Any
    payloads: Sequence[Any]
    sent: int = 0
    offering: bool = False
    arrivals: list[int] = field(default_factory=list)

    def done(self) -> bool:
        return self.sent == len(self.payloads)

    def drive(self, ctx: Any, rng: random.Random, stall: float) -> None:
        # Once offered, a payload stays until it is taken.
        if not self.offering and not self.done() and rng.random() >= stall:
            self.offering = True
            ctx.set(self.stream.payload, self.payloads[self.sent])
        ctx.set(self.stream.valid, self.offering)

    def after_edge(self, cycle: int, ready: int) -> None:
        if self.offering and ready:
            self.offering = False
            self.sent += 1
            self.arrivals.append(cycle)

    def __str__(self) -> str:
        return f"{self.name} sent {self.sent} of {len(self.payloads)}"


@dataclass
class _Output:
    name: str
    stream: Any
    expected: int
    payloads: list[Any] = field(default_factory=list)
    ready: bool = False
    held: Any = None  # the payload that was offered and not taken in the cycle before
    holding: bool = False
    arrivals: list[int] = field(default_factory=list)

    def done(self) -> bool:
        return len(self.payloads) >= self.expected

    def drive(self, ctx: Any, rng: random.Random, stall: float) -> None:
        self.ready = rng.random() >= stall
        ctx.set(self.stream.ready, self.ready)

    def check_ready_path(self, ctx: Any, cycle: int) -> None:
        """Look at valid with ready low and high: no clock edge passes, so it has to be the same."""
        seen = []
        for ready in (not self.ready, self.ready):
            ctx.set(self.stream.ready, ready)
            seen.append(ctx.get(self.stream.valid))
        if seen[0] != seen[1]:
            raise ProtocolError(f"cycle {cycle}: {self.name}.valid depends on {self.name}.ready")

    def after_edge(self, cycle: int, valid: int, payload: Any) -> None:
        if self.holding and not valid:
            raise ProtocolError(f"cycle {cycle}: {self.name}.valid dropped before the payload was taken")
        if self.holding and payload != self.held:
            raise ProtocolError(
                f"cycle {cycle}: {self.name}.payload changed from {self.held} to {payload} before it was taken"
            )
        self.holding, self.held = bool(valid and not self.ready), payload
        if valid and self.ready:
            if self.done():
                raise ProtocolError(f"cycle {cycle}: {self.name} delivered {payload} beyond {self.expected}")
            self.payloads.append(payload)
            self.arrivals.append(cycle)

    def __str__(self) -> str:
        return f"{self.name} received {len(self.payloads)} of {self.expected}"


def find_member(block: Any, path: str) -> Any:
    """Return the member of ``block`` at ``path``, such as ``i``, ``bus.o`` or ``lanes.3``."""
    for step in path.split("."):
        block = block[int(step)] if step.isdigit() else getattr(block, step)
    return block


def plain(value: Any) -> Any:
    """Return what the simulator reads as ints, and as dicts and lists of them for structures and arrays."""
    if not isinstance(value, data.Const):
        return value
    layout = value.shape()
    if isinstance(layout, data.ArrayLayout):
        return [plain(value[index]) for index in range(layout.length)]
    return {name: plain(value[name]) for name, _ in layout}


def _check_stall(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ParameterError(name, value, "a probability of at least 0 and below 1")


def run_streams(
    block: Block,
    inputs: Mapping[str, Sequence[Any]],
    outputs: Mapping[str, int],
    stall_in: float = 0.0,
    stall_out: float = 0.0,
    seed: int = 0,
    timeout: int | None = None,
    setup: Setup | None = None,
    drain: int = 8,
    vcd: str | None = None,
) -> StreamResult:
    """Send payloads into a block's streams and return what comes out of them.

    Parameters
    ----------
    block : Block
        A block with the clock domain ``sync`` or none; its other inputs keep their initial values.
    inputs : mapping of str to sequence
        The payloads for each input stream, by member path; ints, or dicts and lists for structures.
    outputs : mapping of str to int
        How many payloads are expected from each output stream.
    stall_in, stall_out : float
        Probability that a payload is held back, or not taken, in a cycle.
    seed : int
        Seed of the stalls.
    timeout : int
        Cycles after which the run fails; by default ample for 16 cycles per payload at these stalls.
    setup : callable
        Called with the simulator's context before the first edge, to set other inputs; may be a coroutine.
    drain : int
        Cycles to go on after the last expected payload, in which another one is an error.
    vcd : str
        File for the waves.

    Returns
    -------
    StreamResult
        The payloads by output: ints, dicts and lists.

    Raises
    ------
    ProtocolError
        If an output drops valid, changes an untaken payload, lets valid wait for ready or delivers too much.
    BenchTimeout
        If payloads are missing or untaken after ``timeout`` cycles; it says how far each stream came.
    ParameterError
        If a stall probability is not in [0, 1).
    """
    _check_stall("stall_in", stall_in)
    _check_stall("stall_out", stall_out)
    sources = [_Input(name, find_member(block, name), list(items)) for name, items in inputs.items()]
    sinks = [_Output(name, find_member(block, name), count) for name, count in outputs.items()]
    streams: list[_Input | _Output] = [*sources, *sinks]
    if timeout is None:
        total = sum(len(source.payloads) for source in sources) + sum(sink.expected for sink in sinks)
        timeout = 200 + int(16 * total / (1 - max(stall_in, stall_out)))
    rng = random.Random(seed)
    result = StreamResult()
    result.cycles = 0

    async def testbench(ctx: Any) -> None:
        if setup is not None and (pending := setup(ctx)) is not None:
            await pending
        watched = [source.stream.ready for source in sources]
        for sink in sinks:
            watched += [sink.stream.valid, sink.stream.payload]
        cycle, after = 0, 0
        while after <= drain:
            for source in sources:
                source.drive(ctx, rng, stall_in)
            for sink in sinks:
                sink.drive(ctx, rng, stall_out)
                if rng.random() < 0.125:
                    sink.check_ready_path(ctx, cycle)
            _, _, *values = await ctx.tick().sample(*watched)
            for source, ready in zip(sources, values, strict=False):
                source.after_edge(cycle, ready)
            answers = values[len(sources) :]
            for index, sink in enumerate(sinks):
                sink.after_edge(cycle, answers[2 * index], plain(answers[2 * index + 1]))
            cycle += 1
            if all(stream.done() for stream in streams):
                result.cycles = result.cycles or cycle
                after += 1
            elif cycle >= timeout:
                state = ", ".join(map(str, streams))
                raise BenchTimeout(f"not finished after {timeout} cycles: {state}")

    simulate(block, testbench, vcd=vcd)
    result.arrivals = {stream.name: stream.arrivals for stream in streams}
    result.update({sink.name: sink.payloads for sink in sinks})
    return result


class Bench:
    """Hold a block with the domain ``sync`` clocked at 1 MHz, prepared once, to be run from its initial state any time.

    A block need not have that domain; an AXI top has its own one, whose clock is ``aclk``. To prepare a whole machine
    takes seconds, as much as thousands of its cycles.

    Members
    -------
    block
        What is run; its ports are driven by testbenches.
    """

    def __init__(self, block: Any):
        self.block = block
        fragment = Fragment.get(block, None)
        if "sync" not in fragment.domains:
            m = Module()
            m.domains.sync = ClockDomain("sync")
            m.submodules.dut = fragment
            fragment = m
        self._simulator = Simulator(fragment)
        self._simulator.add_clock(1e-6)
        self._testbench: Callable[[Any], Any] | None = None

    def run(self, testbench: Callable[[Any], Any]) -> None:
        """Run ``testbench``, with registers and memories as they are at the start whatever ran before."""
        if self._testbench is None:
            self._simulator.add_testbench(self._run)
        else:
            self._simulator.reset()
        self._testbench = testbench
        self._simulator.run()

    async def _run(self, ctx: Any) -> None:
        if self._testbench is not None:
            await self._testbench(ctx)

    def run_once(self, *testbenches: Callable[[Any], Any], vcd: str | None = None) -> None:
        """Run ``testbenches`` side by side, and nothing after them; ``vcd`` is a file for the waves."""
        for testbench in testbenches:
            self._simulator.add_testbench(testbench)
        if vcd is None:
            self._simulator.run()
        else:
            with self._simulator.write_vcd(vcd):
                self._simulator.run()


def simulate(block: Any, *testbenches: Callable[[Any], Any], vcd: str | None = None) -> None:
    """Run ``testbenches`` on ``block`` once, as a ``Bench`` does."""
    Bench(block).run_once(*testbenches, vcd=vcd)
