"""What a host of drift sees when it makes mistakes: an error bit, a machine that stops, and a next layer that works."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drift.config import CHANNEL_BITS, DriftConfig
from bitfabric.hdl.drift.registers import ERRORS, drift_registers
from bitfabric.hdl.drift.top import DriftTop
from bitfabric.quant.drift import NEVER, Pooling
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_job import writes_of
from bitfabric.sim.drift_random import random_case
from bitfabric.sim.drift_records import channel_beats, output_of, stream_of
from bitfabric.sim.job import Step, start_writes

# Little of everything, so that each limit is near.
CONFIG = DriftConfig.preset(
    "tiny",
    rows=2,
    columns=2,
    acc_depth=4,
    k_max=100,
    m_max=16,
    staging_beats=6,
    high_words=16,
    low_words=8,
    weight_words=5,
    granules_max=8,
    out_words=24,
    segments=16,
)
REGISTERS = drift_registers(CONFIG)
CONSTANTS = REGISTERS.constants()
BUSY, DONE = CONSTANTS["STATUS_BUSY_MASK"], CONSTANTS["STATUS_DONE_MASK"]
ERROR = {name: CONSTANTS[f"STATUS_{name.upper()}_ERROR_MASK"] for name in ERRORS}


def step_of(case: DriftCase, config: DriftConfig = CONFIG) -> Step:
    """Return the run of a case, whether a machine can hold it or not."""
    return Step(
        name="",
        writes=writes_of(config, "drift", case),
        stream=stream_of(config, case),
        expected=output_of(config, case),
        reads={},
    )


def case_of(m: int = 5, k: int = 10, n: int = 7, *, seed: int = 0, **fields: Any) -> DriftCase:
    """Return a layer at 8 and 4 bits, half of its channels and most of its rows low, whose sub-tensors are single rows."""
    bits = np.where(np.arange(n) % 2, 4, 8)
    common: dict[str, Any] = {
        "act_high_bits": 8,
        "act_low_bits": 4,
        "subtensor_rows": 1,
        "requantized": False,
    }
    common |= {"weight_bits": bits, "weight_clip": np.arange(n) % 2 * 3, "truncate": False}
    following = {name: fields.pop(name) for name in [*fields] if name.startswith("next_")}
    case = random_case(CONFIG, np.random.default_rng(seed), m, k, n, **common | fields)
    return dataclasses.replace(case, **following)


def all_rows(low: bool) -> dict[str, int]:
    """Return the thresholds at which all rows are low, or high."""
    limit = 0 if low else NEVER
    return {"threshold_int": limit, "threshold_tail_int": limit}


GOOD = case_of(seed=1, scale=1.0, threshold=1000.0)
BYTES: dict[str, Any] = {"requantized": True, "table": None, "pool": None}


class Machine:
    """Hold a host and what it knows of the machine."""

    def __init__(self, host: Any, config: DriftConfig):
        self.host, self.config = host, config

    async def status(self) -> int:
        return int(await self.host.read(REGISTERS.offset("status")))

    async def write(self, name: str, **fields: int) -> None:
        await self.host.write(*start_writes(REGISTERS, {name: fields})[0])

    async def run(self, step: Step, **options: Any) -> bytes:
        """Run a layer until the interrupt."""
        options = {"last_at": len(step.stream) - 1, "until_irq": True, "patience": 3000, **options}
        received: bytes = await self.host.run(step, **options)
        return received

    async def runs(self, case: DriftCase) -> None:
        """A layer, right behind whatever was before, gives what golden gives."""
        case.check(self.config)
        step = step_of(case, self.config)
        assert await self.run(step) == step.expected.tobytes()
        assert await self.status() == DONE

    async def works(self) -> None:
        await self.runs(GOOD)

    async def fails(self, error: str, step: Step, **options: Any) -> None:
        """A layer stops with one error, and leaves nothing behind."""
        await self.run(step, **options)
        assert await self.status() == ERROR[error], error
        assert self.host.ctx.get(self.host.top.irq)
        await self.works()

    async def refuses(self, error: str, case: DriftCase = GOOD, **registers: dict[str, int]) -> None:
        """A start with some registers changed does not start."""
        good = step_of(case)
        for offset, word in good.writes[:-1]:
            await self.host.write(offset, word)
        for name, fields in registers.items():
            await self.write(name, **fields)
        if "control" not in registers:
            await self.host.write(*good.writes[-1])
        assert await self.status() == ERROR[error], registers
        assert self.host.ctx.get(self.host.top.irq)
        await self.write("status", **{f"{error}_error": 1})
        assert await self.status() == 0
        assert not self.host.ctx.get(self.host.top.irq)


Body = Callable[[Machine], Awaitable[None]]


@pytest.fixture
def on_machine(run_host: Any) -> Callable[..., None]:
    def run(body: Body, config: DriftConfig = CONFIG) -> None:
        run_host(DriftTop(config), lambda host: body(Machine(host, config)))

    return run


def test_bad_dimensions_are_refused(on_machine: Any) -> None:
    kept, pooled = case_of(keep=True, **BYTES), case_of(m=6, keep=True, **BYTES | {"pool": pooling()})

    def channels(n: int) -> dict[str, dict[str, int]]:
        return {"n": {"value": n}, "n_high": {"value": 0}, "n_low": {"value": n}}

    async def body(machine: Machine) -> None:
        for name, value in (("m", 0), ("m", 17), ("k", 0), ("k", 101), ("subtensor_rows", 0)):
            await machine.refuses("bad_dimension", **{name: {"value": value}})
        for n in (0, 33, 65535):  # of 8 granules; of what the registers hold
            await machine.refuses("bad_dimension", **channels(n))
        # High granules take whole words of them; here a word is one.
        high = {"n": {"value": 17}, "n_high": {"value": 17}, "n_low": {"value": 0}}
        await machine.refuses("bad_dimension", **high)
        await machine.refuses("bad_dimension", kept, next_subtensor_rows={"value": 0})
        await machine.refuses("bad_dimension", pooled, pooled_m={"value": 0})
        await machine.refuses("bad_dimension", pooled, pooled_m={"value": 17})
        await machine.works()

    on_machine(body)


def test_counts_have_to_agree(on_machine: Any) -> None:
    pooled = case_of(m=6, keep=True, **BYTES | {"pool": pooling()})

    async def body(machine: Machine) -> None:
        for name in ("n", "n_high", "n_low"):
            value = {"n": GOOD.n, "n_high": GOOD.counts.n_high, "n_low": GOOD.counts.n_low}[name]
            for wrong in (value - 1, value + 1):
                await machine.refuses("bad_counts", **{name: {"value": wrong}})
        # What leaves the pooling unit is counted as it is written back.
        for rows in (1, 3):
            step = step_of(pooled)
            offset = REGISTERS.offset("pooled_m")
            writes = [(at, rows if at == offset else word) for at, word in step.writes]
            await machine.fails("bad_counts", dataclasses.replace(step, writes=writes))
        await machine.runs(pooled)

    on_machine(body)


def pooling(**fields: Any) -> Pooling:
    """Return a pooling of 2 x 3 positions to 1 x 2."""
    return Pooling(**{"kind": "max", "height": 2, "width": 3, "kernel": (2, 2), "stride": 1, **fields})


def test_bad_formats_are_refused(on_machine: Any) -> None:
    kept, pooled = case_of(keep=True, **BYTES), case_of(m=6, **BYTES | {"pool": pooling()})
    widths = ({"high_bits": 1, "low_bits": 1}, {"high_bits": 9, "low_bits": 4})
    widths += ({"high_bits": 8, "low_bits": 0}, {"high_bits": 5, "low_bits": 6}, {})
    kernel = {"kernel_height": 2, "kernel_width": 2, "stride": 1}
    wrong = ({"stride": 0}, {"stride": 9}, {"padding": 2}, {"average": 1, "padding": 1})
    wrong += tuple({f"kernel_{side}": size} for side in ("height", "width") for size in (0, 9, 1))

    async def body(machine: Machine) -> None:
        for fields in widths:
            await machine.refuses("bad_format", act_format=fields)
            await machine.refuses("bad_format", kept, next_act_format=fields)
        for option in ("keep", "function", "pool"):
            accumulators = {"start": 1, "accumulators": 1, option: 1}
            await machine.refuses("bad_format", kept, control=accumulators)
        for fields in wrong:
            if fields.get("kernel_height") == 1 or fields.get("kernel_width") == 1:
                fields = {**fields, "padding": 1}
            await machine.refuses("bad_format", pooled, pooling={**kernel, **fields})
        for name in ("image", "pooled"):
            for size in ({"width": 3}, {"height": 2}):
                await machine.refuses("bad_format", pooled, **{name: size})
        # What a layer does not use may be anything.
        await machine.write("next_act_format", high_bits=0)
        await machine.write("pooling", stride=0)
        await machine.works()

    on_machine(body)


def test_resident_activations_have_to_be_there(on_machine: Any) -> None:
    resident = dataclasses.replace(case_of(n=5, seed=3), **GOOD.kept_fields())
    start = step_of(resident).writes[-1]

    async def refused(machine: Machine) -> None:
        await machine.write("status", done=1, framing_error=1)
        await machine.host.write(*start)
        assert await machine.status() == ERROR["bad_format"]
        await machine.write("status", bad_format_error=1)

    async def body(machine: Machine) -> None:
        await machine.refuses("bad_format", control={"start": 1, "resident": 1, "accumulators": 1})
        await machine.works()
        for name in ("m", "k"):
            await machine.write(name, value=getattr(resident, name) - 1)
            await refused(machine)
            await machine.write(name, value=getattr(resident, name))
        # They are there for as many layers as want them, even if one fails that does not touch them.
        for _ in range(2):
            await machine.runs(resident)
            await machine.run(step_of(resident), last_at=0)
            assert await machine.status() == ERROR["framing"]
        # One that began to overwrite them, or was about to, leaves nothing.
        for changed in (
            case_of(seed=4),
            dataclasses.replace(case_of(keep=True, **BYTES), **GOOD.kept_fields()),
        ):
            await machine.run(step_of(changed), last_at=0)
            assert await machine.status() == ERROR["framing"]
            for offset, word in step_of(resident).writes[:-1]:
                await machine.host.write(offset, word)
            await refused(machine)
            await machine.works()

    on_machine(body)


def test_start_while_busy_stops_the_layer(on_machine: Any) -> None:
    step = step_of(GOOD)

    async def body(machine: Machine) -> None:
        for patience in (1, 40):
            with pytest.raises(AssertionError, match="no interrupt came"):
                await machine.run(step, patience=patience)
            await machine.host.write(*step.writes[-1])
            assert await machine.status() == ERROR["busy_start"]
            await machine.works()

    on_machine(body)


@pytest.mark.parametrize(
    "what", ["bits of 0", "5 low bits", "4 high bits", "low clip", "high clip", "9 bits"]
)
def test_bad_channel_records_stop_the_layer(on_machine: Any, what: str) -> None:
    """A channel's precision is that of its half; what its clip leaves is 8 bits at most."""
    channel, bits, clip = {
        "bits of 0": (4, 0, 0),
        "5 low bits": (5, 5, 0),
        "4 high bits": (1, 4, 0),
        "low clip": (6, 3, 6),
        "high clip": (3, 7, 2),
        "9 bits": (0, 9, 0),
    }[what]
    step = step_of(GOOD)
    first = GOOD.m * -(-GOOD.k // CONFIG.beat_bytes)
    params = channel_beats(CONFIG, GOOD)
    np.testing.assert_array_equal(step.stream[first : first + len(params)], params)
    # Four high channels in two granules, three low ones in a third.
    granule, place = (channel // 2, channel % 2) if channel < 4 else (2, channel - 4)
    stream = step.stream.copy()
    row = stream[first + granule * CONFIG.params_beats :].reshape(-1)  # a view
    row[(place + 1) * CHANNEL_BITS // 8 - 1] = clip | bits << 4

    async def body(machine: Machine) -> None:
        await machine.fails("bad_index", dataclasses.replace(step, stream=stream))

    on_machine(body)


def test_misplaced_tlast_stops_the_layer(on_machine: Any) -> None:
    """Early in activations, in parameters and in weights, at the end of each, and missing."""
    step = step_of(GOOD)
    acts = GOOD.m * -(-GOOD.k // CONFIG.beat_bytes)
    params = acts + len(channel_beats(CONFIG, GOOD))
    ends = (acts // 2, acts - 1, acts, params - 1, params, len(step.stream) - 2, -1)

    async def body(machine: Machine) -> None:
        for last_at in ends:
            await machine.fails("framing", step, last_at=last_at)

    on_machine(body)


def refuses(case: DriftCase, name: str, config: DriftConfig = CONFIG) -> None:
    """Python says what is wrong before anything runs."""
    with pytest.raises(ParameterError, match=rf"^{name}=.* is not allowed; it must be "):
        case.check(config)


def test_what_does_not_fit_stops_the_layer(on_machine: Any) -> None:
    overflows = [
        ("staging", "staging_beats", case_of(m=8, k=10, subtensor_rows=4)),
        ("act", "high_words", case_of(m=9, **all_rows(low=False))),
        ("act", "low_words", case_of(m=9, **all_rows(low=True))),
        ("weight", "weight_words", case_of(m=2, k=21)),
        ("out", "out_words", case_of(m=7)),
        ("staging", "staging_beats", case_of(m=8, n=10, keep=True, next_subtensor_rows=4, **BYTES)),
    ]
    kept = case_of(m=9, k=4, n=9, keep=True, **all_rows(low=False), **BYTES)
    never = {f"next_{name}": limit for name, limit in all_rows(low=False).items()}
    overflows.append(("act", "high_words", dataclasses.replace(kept, **never, next_subtensor_rows=1)))

    async def body(machine: Machine) -> None:
        for error, name, case in overflows:
            refuses(case, name)
            await machine.fails(f"{error}_overflow", step_of(case))
        # What just fits.
        for case in (
            case_of(m=6, n=5, subtensor_rows=3),
            case_of(m=8, n=3, **all_rows(low=False), **BYTES),
            case_of(m=8, n=3, **all_rows(low=True), **BYTES),
            case_of(m=2, k=20),
            case_of(m=6, n=8),
        ):
            await machine.runs(case)

    on_machine(body)


@pytest.mark.parametrize(
    ("shape", "scheduler"), [((1, 1), "scan"), ((1, 2), "scan"), ((2, 1), "scan"), ((1, 1), "greedy")]
)
def test_work_without_groups_stops_the_layer(on_machine: Any, shape: tuple[int, int], scheduler: str) -> None:
    config = dataclasses.replace(CONFIG, rows=shape[0], columns=shape[1], scheduler=scheduler)
    eights, mixed = np.full(3, 8), np.array([8, 4, 4])
    layers = []
    for threshold in (0.0, 100.0, np.inf):
        for bits in (eights, mixed):
            clip = np.zeros(3, int)
            layers.append(case_of(n=3, scale=1.0, threshold=threshold, weight_bits=bits, weight_clip=clip))
    good = [case for case in layers if not split_in(case, shape)]
    bad = [case for case in layers if split_in(case, shape)]
    assert good
    assert bad

    async def body(machine: Machine) -> None:
        for case in bad:
            rows = shape[0] == 1 and case.counts.m_high and case.counts.m_low
            refuses(case, "rows" if rows else "columns", config)
            await machine.run(step_of(case, config))
            assert await machine.status() == ERROR["bad_split"]
            await machine.runs(good[0])
        for case in good[1:]:
            await machine.runs(case)

    on_machine(body, config)


def split_in(case: DriftCase, shape: tuple[int, int]) -> bool:
    """Return whether a single line of groups would have to serve two precisions."""
    counts = case.counts
    rows, channels = counts.m_high and counts.m_low, counts.n_high and counts.n_low
    return bool((shape[0] == 1 and rows) or (shape[1] == 1 and channels))


def test_host_can_give_a_layer_up(on_machine: Any) -> None:
    """At any time, also while results are written back; nothing is left behind."""
    rng = np.random.default_rng(9)
    kept = case_of(keep=True, next_subtensor_rows=2, **BYTES)
    kept.check(CONFIG)

    async def body(machine: Machine) -> None:
        for case in (GOOD, kept):
            stopped = 0
            for patience in sorted({1, *(int(cycle) for cycle in rng.integers(2, 160, 6))}):
                try:
                    await machine.run(step_of(case), patience=patience)
                except AssertionError:
                    stopped += 1
                    assert await machine.status() == BUSY
                    await machine.write("control", stop=1)
                    assert await machine.status() == 0
                    assert not machine.host.ctx.get(machine.host.top.irq)
                await machine.works()
            assert stopped >= 4

    on_machine(body)


def test_selection_can_be_read(on_machine: Any) -> None:
    """Of every sub-tensor, also of results that were written back."""
    layers = [
        case_of(m=6, k=3, n=3, subtensor_rows=rows, scale=1.0, threshold=threshold)
        for rows, threshold in ((1, 400.0), (2, 300.0), (4, np.inf), (5, 0.0))
    ]
    layers.append(case_of(m=8, k=3, n=5, keep=True, subtensor_rows=3, next_subtensor_rows=2, **BYTES))

    async def body(machine: Machine) -> None:
        for case in layers:
            await machine.runs(case)
            found = case.selection if not case.keep else case.next_precision.select(case.stored())
            assert len(found.low.ravel()) == -(-case.m // found.block[0])
            for index, (low, clip) in enumerate(zip(found.low.ravel(), found.low_clip.ravel(), strict=True)):
                await machine.write("selection_index", value=index)
                word = await machine.host.read(REGISTERS.offset("selection"))
                assert word == int(low) | int(clip) << 8, (case.name, index)

    on_machine(body)


def test_interrupt_falls_when_the_status_is_read(on_machine: Any) -> None:
    async def body(machine: Machine) -> None:
        irq = machine.host.top.irq
        assert not machine.host.ctx.get(irq)
        await machine.works()
        assert machine.host.ctx.get(irq)
        await machine.write("status", done=1)
        assert not machine.host.ctx.get(irq)
        assert await machine.status() == 0

    on_machine(body)


def test_registers_say_what_machine_it_is(on_machine: Any) -> None:
    config = dataclasses.replace(CONFIG, alignment="bit", weight_buffering="transit", scheduler="greedy")
    fields = {"rows": 2, "columns": 2, "bit_aligned": 1, "buffering": 2, "greedy": 1}

    async def body(machine: Machine) -> None:
        word = await machine.host.read(REGISTERS.offset("array"))
        assert [(REGISTERS.offset("array"), word)] == start_writes(REGISTERS, {"array": fields})

    on_machine(body, config)
