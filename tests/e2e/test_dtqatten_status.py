"""DTQAtten's errors, each of which stops a block, and the paper's example, on one machine without a reset."""

import functools
from dataclasses import replace

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.registers import dtqatten_registers
from bitfabric.hdl.dtqatten.top import DtqattenTop
from bitfabric.hdl.emit import emit
from bitfabric.quant.dtqatten import stall_ratio
from bitfabric.sim.cycles.dtqatten import case_cycles
from bitfabric.sim.dtqatten_job import attention_step, list_error_step, refused_step
from bitfabric.sim.dtqatten_memory import layout_of
from bitfabric.sim.dtqatten_random import random_case
from bitfabric.sim.job import Job
from bitfabric.sim.runner import build, run

NAME = "dtqatten"
TINY = DtqattenConfig.preset("tiny")
REGISTERS = dtqatten_registers(TINY)


@functools.cache
def built():
    """Return the machine's program."""
    return build(emit(DtqattenTop(TINY), NAME), "icarus")


def run_steps(tmp_path, steps):
    """Run steps one after the other; return their registers."""
    path = tmp_path / "job.npz"
    Job(steps=steps, timeout=100_000).save(path)
    verdicts = run(built(), "bitfabric.sim.tb.machine", {"BITFABRIC_JOB": str(path)})["steps"]
    assert [step["problem"] for step in verdicts] == [None] * len(steps)
    return [step["registers"] for step in verdicts]


def step_of(case):
    """Return a case's step with its counters."""
    return attention_step(TINY, NAME, case, case_cycles(TINY, case))


def written(step, **values):
    """Return a step that writes other values into registers of one field."""
    offsets = {REGISTERS.offset(name): value for name, value in values.items()}
    return replace(step, writes=[(at, offsets.get(at, word)) for at, word in step.writes])


def listing(step, case, entry, *, token=None, bits=None):
    """Return a step whose list has another id or precision in an entry."""
    memory = step.memory.copy()
    at = layout_of(case).list_base + 4 * entry
    if token is not None:
        memory[at : at + 2] = token & 0xFF, token >> 8
    if bits is not None:
        memory[at + 2] = bits
    return replace(step, memory=memory)


@pytest.fixture
def case():
    """Return a block of 8 tokens, six of which stay."""
    bits = np.array([8, 4, 0, 4, 8, 0, 4, 4])
    fields = {"next_kept": 4, "next_high": 2, "order": None, "reorder": True, "heads": 2}
    return random_case(TINY, np.random.default_rng(3), 8, 6, bits=bits, **fields)


BAD_STARTS = {
    "no token of a sequence": ({"tokens": 0}, {"bad_dimension", "bad_counts"}),
    "more tokens than buffers": ({"tokens": TINY.tokens_max + 1}, {"bad_dimension"}),
    "no channel": ({"head_size": 0}, {"bad_dimension"}),
    "too many channels": ({"head_size": TINY.head_size_max + 1}, {"bad_dimension"}),
    "no head": ({"heads": 0}, {"bad_dimension"}),
    "too many heads": ({"heads": TINY.heads_max + 1}, {"bad_dimension"}),
    "no entry": ({"entries": 0}, {"bad_counts"}),
    "no token kept": ({"kept": 0}, {"bad_counts"}),
    "no token kept in the next block": ({"next_kept": 0}, {"bad_counts"}),
    "more tokens kept than there are": ({"next_kept": 7}, {"bad_counts"}),
    "k1 > k0": ({"next_high": 5}, {"bad_counts"}),
    "no score multiplier or shift": ({"score": 0}, {"bad_format"}),
    "no result multiplier or shift": ({"result": 0}, {"bad_format"}),
}


def test_refused_starts(case, tmp_path):
    case = replace(case, sq=None, sk=None, sv=None)
    good = step_of(case)
    steps = [
        refused_step(TINY, NAME, written(good, **values), *sorted(errors))
        for values, errors in BAD_STARTS.values()
    ]
    run_steps(tmp_path, [*steps, good])


def test_lists_that_stop_a_block(case, tmp_path):
    good = step_of(case)
    bad = [
        (listing(good, case, 1, token=8), "bad_index"),
        (listing(good, case, 7, token=0), "bad_index"),
        (listing(good, case, 3, bits=5), "bad_precision"),
        (listing(good, case, 0, bits=4), "bad_counts"),
        (written(good, kept=5), "bad_counts"),
    ]
    steps = []
    for step, error in bad:  # after each one the next block is right
        steps += [list_error_step(TINY, NAME, case, step, error), good]
    run_steps(tmp_path, steps)


def test_carry_needs_a_list(case, tmp_path):
    good = step_of(case)
    carried = next_of(case)
    wanted = attention_step(TINY, NAME, carried)
    steps = [
        refused_step(TINY, NAME, wanted, "bad_format"),
        good,
        refused_step(TINY, NAME, written(wanted, kept_high=3), "bad_counts", listed=True),
        step_of(carried),
    ]
    run_steps(tmp_path, steps)


def next_of(case):
    """Return a block on the tokens that ``case`` leaves."""
    fields = {**case.next_fields(), "next_kept": 2, "next_high": 1, "heads": 1}
    return random_case(TINY, np.random.default_rng(4), 8, 5, **fields)


def stalled_tiles(registers, head_size):
    """Return the mean of eq. (3) over whole tiles of scores, from the machine's counters."""
    pes = TINY.rows * TINY.columns * head_size
    stalled = sum(registers[f"qk_stalled_{step}_cycles"] / (pes * step) for step in (2, 4))
    return stalled / sum(registers[f"qk_tiles_{step}"] for step in (1, 2, 4))


def test_the_papers_example(tmp_path):
    """Nine tokens, two of 8 bits in different tiles of 3 x 3 PEs: 39.5 % of the PE-cycles are stalls."""
    bits = np.full(9, 4)
    bits[[1, 3]] = 8
    fields = {"next_kept": 9, "next_high": 2, "order": None, "heads": 1}
    rng = np.random.default_rng(5)
    plain = random_case(TINY, rng, 9, 9, bits=bits, reorder=False, **fields)
    ordered = replace(plain, reorder=True)
    found = [stalled_tiles(r, 9) for r in run_steps(tmp_path, [step_of(plain), step_of(ordered)])]
    exact = [stall_ratio(b, b, 3, 3).mean() for b in (bits, np.sort(bits))]
    assert found == pytest.approx(exact)
    assert round(found[0], 3) == 0.395
    assert found[1] < found[0]
