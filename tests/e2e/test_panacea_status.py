"""What a host of panacea sees when it makes mistakes: one error bit, a machine that stops, and a next layer that works."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.registers import ERRORS, panacea_registers
from bitfabric.hdl.panacea.top import PanaceaTop
from bitfabric.quant.panacea.post import activation_table
from bitfabric.sim.job import Step, start_writes
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.panacea_job import output_of, stream_of, writes_of
from bitfabric.sim.panacea_records import case_tiles
from bitfabric.sim.streams import simulate

# Little of everything, so that each limit is near: a full record of weights or activations has 11 words.
CONFIG = PanaceaConfig.preset(
    "tiny",
    dynamic_operators=1,
    static_operators=2,
    dtp=False,
    max_weight_bits=7,
    max_act_bits=8,
    acc_bits=22,
    k_max=100,
    segments=16,
    wmem_words=24,
    amem_words=11,
    omem_words=56,
    omem_records=3,
)
REGISTERS = panacea_registers(CONFIG)
CONSTANTS = REGISTERS.constants()
BUSY, DONE = CONSTANTS["STATUS_BUSY_MASK"], CONSTANTS["STATUS_DONE_MASK"]
ERROR = {name: CONSTANTS[f"STATUS_{name.upper()}_ERROR_MASK"] for name in ERRORS}


def step_of(case: PanaceaCase) -> Step:
    """Return the run of a case, whether a machine can hold it or not."""
    return Step(
        name="",
        writes=writes_of(CONFIG, "panacea", case),
        stream=stream_of(CONFIG, case),
        expected=output_of(CONFIG, case),
        reads={},
    )


def case_of(
    m: int = 5, k: int = 8, n: int = 7, *, seed: int = 0, codes: bool = False, **fields: Any
) -> PanaceaCase:
    """Return a layer of dense operands, with outputs as slices if asked for."""
    rng = np.random.default_rng(seed)
    # HO slices other than 0 and r everywhere.
    acts = rng.integers(0, 256, (m, k)) | 128
    weights = np.where(rng.integers(0, 2, (k, n)), rng.integers(8, 64, (k, n)), rng.integers(-64, -8, (k, n)))
    if codes:
        fields |= {"multiplier": np.full(n, 1000), "shift": np.full(n, 17)}
        fields["table"] = activation_table("identity", 1.0, 16.0, 100, 8, CONFIG.segments)
        fields = {"next_zero_point": 3, **fields}
    return PanaceaCase(acts=acts, weights=weights, **{"zero_point": 5, **fields})


GOOD = case_of(seed=1)


class Machine:
    """Hold a host and what it knows of the machine."""

    def __init__(self, host: Any):
        self.host = host

    async def status(self) -> int:
        return int(await self.host.read(REGISTERS.offset("status")))

    async def write(self, name: str, **fields: int) -> None:
        await self.host.write(*start_writes(REGISTERS, {name: fields})[0])

    async def run(self, step: Step, **options: Any) -> bytes:
        """Run a layer until the interrupt."""
        options = {"last_at": len(step.stream) - 1, "until_irq": True, "patience": 3000, **options}
        received: bytes = await self.host.run(step, **options)
        return received

    async def works(self) -> None:
        """A good layer, right behind whatever was before, gives what golden gives."""
        step = step_of(GOOD)
        GOOD.check(CONFIG)
        assert await self.run(step) == step.expected.tobytes()
        assert await self.status() == DONE

    async def fails(self, error: str, step: Step, **options: Any) -> None:
        """A layer stops with one error, and leaves nothing behind."""
        await self.run(step, **options)
        assert await self.status() == ERROR[error], error
        assert self.host.ctx.get(self.host.top.irq)
        await self.works()

    async def refuses(self, error: str, **registers: dict[str, int]) -> None:
        """A start with some registers changed does not start."""
        good = step_of(GOOD)
        for offset, word in good.writes[:-1]:
            await self.host.write(offset, word)
        for name, fields in registers.items():
            await self.write(name, **fields)
        if "control" not in registers:
            await self.write("control", start=1)
        assert await self.status() == ERROR[error], registers
        assert self.host.ctx.get(self.host.top.irq)
        await self.write("status", **{f"{error}_error": 1})
        assert await self.status() == 0
        assert not self.host.ctx.get(self.host.top.irq)


@pytest.fixture
def on_machine(run_host: Any) -> Callable[[Callable[[Machine], Awaitable[None]]], None]:
    def run(body: Callable[[Machine], Awaitable[None]]) -> None:
        run_host(PanaceaTop(CONFIG), lambda host: body(Machine(host)))

    return run


def test_bad_starts_are_refused(on_machine: Any) -> None:
    fmt = {"weight_slices": 2, "act_slices": 2, "zero_point": 5}
    narrow = {"weight_slices": 1, "act_slices": 1}
    following = {"slices": 2, "zero_point": 5}

    async def body(machine: Machine) -> None:
        for name in ("m", "k", "n"):
            await machine.refuses("bad_dimension", **{name: {"value": 0}})
        # 7 + 8 + ceil(log2 K) bits in 22; more with narrower operands, up to k_max.
        await machine.refuses("bad_dimension", k={"value": 101}, format=narrow)
        await machine.refuses("bad_dimension", k={"value": 65535}, format=narrow)
        for changed in (
            {"weight_slices": 0},
            {"act_slices": 0},
            {"weight_slices": 3},
            {"act_slices": 3},
            {"drop": 3},
            {"drop": 1, "act_slices": 1},
            {"zero_point": 256},
            {"zero_point": 4095},
            {"zero_point": 16, "act_slices": 1},
        ):
            await machine.refuses("bad_format", format={**fmt, **changed})
        codes = {"start": 1, "codes": 1}
        for changed in (
            {"slices": 0},
            {"slices": 3},
            {"drop": 3},
            {"drop": 2, "slices": 1},
            {"zero_point": 256},
            {"zero_point": 16, "slices": 1},
        ):
            await machine.refuses("bad_format", next_format={**following, **changed}, control=codes)
        for options in ({"keep": 1}, {"dtp": 1}, {"from_omem": 1}):
            await machine.refuses("bad_format", control={"start": 1, **options})
        await machine.works()

    on_machine(body)


def test_psums_limit_k(make_host: Any) -> None:
    """7 + 8 + ceil(log2 K) bits are 22 at K = 128; with 10 by 12 bits it is K = 1 that just fits."""
    config = PanaceaConfig.preset("tiny", acc_bits=22, k_max=128)
    registers = panacea_registers(config)
    top = PanaceaTop(config)

    async def testbench(ctx: Any) -> None:
        host = make_host(ctx, top)
        await host.reset()
        for name in ("m", "n"):
            await host.write(registers.offset(name), 1)
        bad = CONSTANTS["STATUS_BAD_DIMENSION_ERROR_MASK"]
        for slices, k, status in ((2, 129, bad), (2, 128, BUSY), (3, 2, bad), (3, 1, BUSY)):
            fields = {"weight_slices": slices, "act_slices": slices}
            values = {"k": {"value": k}, "format": fields, "control": {"start": 1}}
            for offset, word in start_writes(registers, values):
                await host.write(offset, word)
            assert await host.read(registers.offset("status")) == status, (slices, k)
            # The host gives up what would wait for a stream for ever.
            values = {"control": {"stop": 1}, "status": {"bad_dimension_error": 1}}
            for offset, word in start_writes(registers, values):
                await host.write(offset, word)
            assert await host.read(registers.offset("status")) == 0

    simulate(top, testbench)


def test_misplaced_tlast_stops_the_layer(on_machine: Any) -> None:
    step = step_of(GOOD)

    async def body(machine: Machine) -> None:
        for last_at in (0, len(step.stream) // 2, len(step.stream) - 2, -1):
            await machine.fails("framing", step, last_at=last_at)

    on_machine(body)


def test_start_while_busy_is_ignored(on_machine: Any) -> None:
    step = step_of(GOOD)

    async def body(machine: Machine) -> None:
        again = [*step.writes[-1:], (REGISTERS.offset("m"), 0), *step.writes[-1:], (REGISTERS.offset("k"), 1)]
        assert await machine.run(step, meanwhile=again) == step.expected.tobytes()
        assert await machine.status() == DONE

    on_machine(body)


def test_host_can_give_a_layer_up(on_machine: Any) -> None:
    step = step_of(GOOD)
    half = dataclasses.replace(step, stream=step.stream[: len(step.stream) // 2])

    async def body(machine: Machine) -> None:
        with pytest.raises(AssertionError, match="no interrupt came"):
            await machine.run(half, last_at=-1, patience=100)
        assert await machine.status() == BUSY
        await machine.write("control", stop=1)
        assert await machine.status() == 0
        await machine.works()

    on_machine(body)


def replaced(step: Step, case: PanaceaCase, change: Callable[[list[int]], list[int]]) -> Step:
    """Return a step whose first record of weights is changed; the words are integers."""
    record = case_tiles(CONFIG, case).weights[0][0]
    first = CONFIG.params_beats * -(-min(case.n, CONFIG.m_step) // VECTOR)
    np.testing.assert_array_equal(step.stream[first : first + len(record)], record)
    words = change([int.from_bytes(word.tobytes(), "little") for word in record])
    width = CONFIG.axis_data_bits // 8
    beats = np.array([list(word.to_bytes(width, "little")) for word in words], np.uint8)
    stream = np.concatenate([step.stream[:first], beats, step.stream[first + len(record) :]])
    return dataclasses.replace(step, stream=stream)


def test_a_record_that_contradicts_itself_stops_the_layer(on_machine: Any) -> None:
    case = case_of(k=7, n=4)  # one group of weights: header, 2 dense words, 7 stored vectors in 3 words
    step = step_of(case)
    bits = CONFIG.count_bits

    def index(words: list[int]) -> list[int]:
        return [*words[:3], words[3] | 15 << 16, *words[4:]]

    def count(words: list[int]) -> list[int]:
        return [9, *words[1:]]  # of 7 positions; the words stay 3

    def more_words(words: list[int]) -> list[int]:
        return [15, *words[1:], 0, 0]

    def absent_group(words: list[int]) -> list[int]:
        return [words[0] | 1 << bits, *words[1:]]

    async def body(machine: Machine) -> None:
        for change in (index, count, more_words, absent_group):
            await machine.fails("rle", replaced(step, case, change))
        # One vector less in the header: its word is no word of this record any more, the next one goes wrong.
        await machine.run(replaced(step, case, lambda words: [words[0] - 1, *words[1:]]))
        assert await machine.status() & ~DONE
        await machine.works()

    on_machine(body)


def test_what_does_not_fit_stops_the_layer(on_machine: Any) -> None:
    # Two tiles of 11 words of weights fit 24, a third one does not; one of activations fits 11.
    fits, beyond = case_of(m=9, k=16, n=8), case_of(m=9, k=24, n=8)
    sparse = {"acts": np.zeros((5, 8), int), "zero_point": 0}

    async def body(machine: Machine) -> None:
        fits.check(CONFIG)
        step = step_of(fits)
        assert await machine.run(step) == step.expected.tobytes()
        await machine.fails("wmem_overflow", step_of(beyond))
        # Streamed they need no more room than one.
        streamed = step_of(dataclasses.replace(beyond, stream_weights=True))
        assert await machine.run(streamed) == streamed.expected.tobytes()
        assert await machine.status() == DONE

        everything = dataclasses.replace(case_of(m=16, k=8, n=16), resident=True)
        await machine.fails("amem_overflow", step_of(everything))
        again = step_of(dataclasses.replace(everything, resident=False))
        assert await machine.run(again) == again.expected.tobytes()

        # To keep: 14 words of either kind in a half, 3 records. Without it two records of 7 each.
        kept = case_of(m=8, k=8, n=24, codes=True, keep=True)
        await machine.fails("omem_overflow", step_of(kept))
        records = dataclasses.replace(case_of(m=8, k=8, n=32, codes=True, keep=True), **flat(32))
        await machine.fails("omem_overflow", step_of(records))
        few = dataclasses.replace(case_of(codes=True, keep=True), **sparse)
        few.check(CONFIG)
        await machine.run(step_of(few))
        assert await machine.status() == DONE

    on_machine(body)


def flat(n: int) -> dict[str, Any]:
    """Return post-processing whose outputs are all the next zero point: records without an HO word."""
    table = activation_table("identity", 1.0, 1e6, 3, 8, CONFIG.segments)
    return {"multiplier": np.ones(n, int), "shift": np.full(n, 40), "table": table, "next_zero_point": 3}


def test_kept_activations_have_to_be_there(on_machine: Any) -> None:
    first = case_of(m=5, k=8, n=7, codes=True, keep=True)
    acts = first.golden()
    second = dataclasses.replace(
        case_of(m=5, k=7, n=6), acts=acts, zero_point=first.next_zero_point, from_omem=True
    )
    step = step_of(second)
    changes: list[tuple[str, dict[str, int]]] = [
        ("k", {"value": 6}),
        ("n", {"value": 4}),
        ("format", {"weight_slices": 2, "act_slices": 2, "zero_point": 4}),
        ("format", {"weight_slices": 2, "act_slices": 2, "zero_point": 3, "drop": 1}),
        ("format", {"weight_slices": 2, "act_slices": 1, "zero_point": 3}),
    ]

    async def body(machine: Machine) -> None:
        await machine.run(step_of(first))
        assert await machine.status() == DONE
        await machine.write("status", done=1)
        for name, fields in changes:
            for offset, word in step.writes[:-1]:
                await machine.host.write(offset, word)
            await machine.write(name, **fields)
            await machine.host.write(*step.writes[-1])
            assert await machine.status() == ERROR["bad_format"], (name, fields)
        # It is still there, for as many layers as want it, even if one in between failed.
        for _ in range(2):
            assert await machine.run(step) == step.expected.tobytes()
            assert await machine.status() == DONE
            await machine.fails("framing", step, last_at=0)

    on_machine(body)


def test_registers_say_what_machine_it_is(on_machine: Any) -> None:
    async def body(machine: Machine) -> None:
        word = await machine.host.read(REGISTERS.offset("array"))
        fields = {"peas": 2, "dynamic_operators": 1, "static_operators": 2, "dtp": 0, "flexible": 0}
        assert [(REGISTERS.offset("array"), word)] == start_writes(REGISTERS, {"array": fields})

    on_machine(body)
