"""The emitted drift machine against its golden model and cycle model: bufferings, alignments, schedulers, odd sizes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from bitfabric.hdl.drift.config import WEIGHT_SLOTS, DriftConfig
from bitfabric.hdl.drift.job import REGIONS
from bitfabric.quant.drift import NEVER
from bitfabric.sim.cycles.drift import case_cycles
from bitfabric.sim.cycles.drift_array import Split, gemm_work, split_cycles
from bitfabric.sim.drift_case import DriftCase
from bitfabric.sim.drift_limits import fits
from bitfabric.sim.drift_random import random_case, random_cases
from bitfabric.sim.simulate import CaseResult, simulate
from bitfabric.sim.toolchain import MissingToolError, require_verilator

SINGLE, TRANSIT = {"weight_buffering": "single"}, {"weight_buffering": "transit"}
BIT, GREEDY = {"alignment": "bit"}, {"scheduler": "greedy"}
LARGE = {"out_words": 1024, "m_max": 200}
# Weights come and results go so quickly that arrays with long K wait for neither.
QUICK = {"rows": 2, "columns": 2, "acc_depth": 16, "axis_data_bits": 128, "lanes": 16, "segments": 16}
# Changes to `tiny`: 4 rows, 3 columns, double buffering, nibble alignment, scan, 64 bits, 4 lanes, 8 rows of
# accumulators, 32 words of weights for a column.
MACHINES: dict[str, dict[str, Any]] = {
    "tiny": {},
    "single": {**SINGLE, **QUICK},
    "double": QUICK,
    "transit, bit": {**TRANSIT, **BIT, **QUICK},
    "bit": {**BIT, **LARGE, "rows": 3, "columns": 4, "weight_words": 8},
    "bit, single, greedy": {**BIT, **SINGLE, **GREEDY, **LARGE, "rows": 3, "acc_depth": 5, "weight_words": 5},
    "transit, greedy": {
        **TRANSIT,
        **GREEDY,
        **LARGE,
        "rows": 3,
        "axis_data_bits": 128,
        "lanes": 8,
        "weight_words": 3,
    },
    "5 x 7": {**GREEDY, "rows": 5, "columns": 7},
    "rows of 9": {"rows": 9, "columns": 2, "lanes": 8, "staging_beats": 5},
    "accumulators of a row": {"rows": 2, "acc_depth": 1, "weight_words": 5, "high_words": 40},
    "1 x 1": {"rows": 1, "columns": 1, "acc_depth": 4, "weight_words": 6},
    "1 x 5": {**TRANSIT, "rows": 1, "columns": 5, "weight_words": 4},
    "6 x 1": {**SINGLE, **GREEDY, "rows": 6, "columns": 1},
}
CASES = 10
STALLED = ("bit, single, greedy", "accumulators of a row")
# Compiled to C++, which takes a while, for more cases.
COMPILED = DriftConfig.preset(
    "tiny", **LARGE, rows=3, columns=2, acc_depth=5, weight_words=8, segments=16, high_words=1024
)


def machine(name: str) -> DriftConfig:
    return DriftConfig.preset("tiny", **MACHINES[name])


@functools.cache
def campaign(name: str) -> list[DriftCase]:
    """Return a machine's random cases; on a quick one some that are long enough for N tiles without a wait."""
    config = machine(name)
    cases = random_cases(config, 11, CASES if config.groups <= 16 else CASES // 2, effort=1500)
    if QUICK.items() <= MACHINES[name].items():
        rng = np.random.default_rng(12)
        for number, shape in enumerate(rng.integers([11, 14, 9], [17, 25, 21], (6, 3)).tolist()):
            fields: dict[str, Any] = {"requantized": True, "pool": None, "table": None}
            if number < 4:  # all rows low, or all high
                fields["threshold_int"] = fields["threshold_tail_int"] = (0, NEVER)[number % 2]
            case = random_case(config, rng, *shape, **fields)
            cases += [case] if fits(config, case) else []
    return cases


@functools.cache
def compiled_campaign() -> list[DriftCase]:
    return random_cases(COMPILED, 21, 190)


def run(config: DriftConfig, cases: Sequence[DriftCase], **options: Any) -> list[CaseResult]:
    """Run cases on a machine; each has to equal golden, and without stalls every counter the cycle model."""
    report = simulate("drift", config, cases, **options)
    assert [(r.name, r.m, r.k, r.n, r.problem) for r in report.results if r.problem] == []
    assert report.passed
    assert len(report.results) == len(cases)
    for result, case in zip(report.results, cases, strict=True):
        # The verdict compared all of them; here it shows that they were compared with something.
        assert result.registers["rows_low"] == case.counts.m_low
        assert result.registers["saturated"] == case.rows.saturated
        if not options.get("stall"):
            cycles = result.predicted
            assert result.registers["total_cycles"] == cycles.total == sum(cycles.breakdown.values())
            arrays = [f"array_{region}_cycles" for region in REGIONS]
            assert [result.registers[name] for name in arrays] == [cycles.traffic[name] for name in arrays]
    return report.results


def work_of(config: DriftConfig, case: DriftCase) -> Any:
    """Return what each array has to do."""
    counts, bits = case.counts, (case.act_high_bits, case.act_low_bits)
    return gemm_work(config, counts.m_high, counts.m_low, case.k, counts.n_high, counts.n_low, bits=bits)


def split_of(word: int) -> Split:
    return Split(word & 0xFF, word >> 8 & 0xFF, word >> 16)


@dataclasses.dataclass(frozen=True)
class Array:
    """Hold what an array with work has to do: row nibbles, rows, granules, and its groups."""

    m: int
    q: int
    g: int
    rows: int
    columns: int

    @property
    def k_tiles(self) -> int:
        return -(-self.q // self.rows)

    @property
    def n_tiles(self) -> int:
        return -(-self.g // self.columns)


def arrays_of(config: DriftConfig, case: DriftCase, split: Split) -> dict[str, Array]:
    """Return the arrays that have work."""
    shapes, work = split.shapes(config), work_of(config, case)
    found = {region: Array(*work.of_region(region), *shapes[region]) for region in REGIONS}
    return {region: array for region, array in found.items() if array.m and array.g}


def undisturbed(config: DriftConfig, case: DriftCase, split: Split) -> bool:
    """Return whether, by generous estimates, no array ever waits for weights or for a bank of accumulators.

    Either there is one N tile and a bank for every chunk of rows. Or all weights fit their buffer and come while the
    first N tile is computed, and all arrays' banks are drained while one is filled.
    """
    arrays = list(arrays_of(config, case, split).values())
    chunks = [-(-array.m // config.acc_depth) for array in arrays]
    if all(array.n_tiles == 1 and count <= 2 for array, count in zip(arrays, chunks, strict=True)):
        return True
    words = -(-case.k // config.word_weights)
    slots = min(config.weight_words // words, WEIGHT_SLOTS)
    counts = case.counts
    weights = words * (counts.granules_high + counts.granules_low)
    planes = 1 if case.requantized else 4
    # The arrays take turns at the drain: one bank of each, and the one that is being drained.
    widths = [(min(array.m, config.acc_depth), -(-array.columns // config.word_granules)) for array in arrays]
    results = 2 * planes * sum(rows * words for rows, words in widths)
    pipeline = 2 * (config.rows + config.columns) + 16
    for array, count in zip(arrays, chunks, strict=True):
        shortest = array.m - (count - 1) * config.acc_depth
        bank = array.k_tiles * min(shortest, config.acc_depth)
        if array.n_tiles > slots or weights + pipeline > bank - shortest or results + pipeline > bank:
            return False
    return True


def check_formulas(config: DriftConfig, cases: Sequence[DriftCase], results: Sequence[CaseResult]) -> None:
    """Compare the arrays' counters with the published formulas where nothing waits."""
    for case, result in zip(cases, results, strict=True):
        split = split_of(result.registers["split"])
        if not undisturbed(config, case, split):
            continue
        found = {region: result.registers[f"array_{region}_cycles"] for region in REGIONS}
        assert found == split_cycles(config, work_of(config, case), split), result.name
        if config.weight_buffering != "single":
            continue
        for region, array in arrays_of(config, case, split).items():
            if array.m <= config.acc_depth:  # eq. 7
                tile = 2 * array.rows + array.columns + array.m - 2
                assert found[region] == tile * array.k_tiles * array.n_tiles


@pytest.mark.parametrize("name", MACHINES)
def test_equals_golden_and_cycle_model(name: str) -> None:
    config, cases = machine(name), campaign(name)
    check_formulas(config, cases, run(config, cases))


@pytest.mark.parametrize("name", STALLED)
def test_equals_golden_under_stalls(name: str) -> None:
    run(machine(name), campaign(name)[-10:], stall=0.5, seed=1)


def test_equals_golden_in_verilator() -> None:
    try:
        require_verilator()
    except MissingToolError as error:
        pytest.skip(str(error))
    cases: list[DriftCase] = compiled_campaign()
    options: dict[str, Any] = {"simulator": "verilator", "native": True}
    check_formulas(COMPILED, cases, run(COMPILED, cases, **options))
    run(COMPILED, cases[:60], stall=0.5, seed=2, **options)


def every() -> list[tuple[DriftConfig, DriftCase]]:
    """Return all cases with their machines."""
    small = [(machine(name), case) for name in MACHINES for case in campaign(name)]
    return small + [(COMPILED, case) for case in compiled_campaign()]


def test_campaign_has_every_mode() -> None:
    cases = [case for _, case in every()]
    assert len(cases) >= 300
    for flag in ("truncate", "requantized"):
        assert {getattr(case, flag) for case in cases} == {False, True}
    assert {case.pool.kind for case in cases if case.pool} == {"max", "average"}
    assert sum(case.pool.padding != 0 for case in cases if case.pool) >= 3
    assert {case.table is None for case in cases if case.requantized} == {False, True}
    assert {case.act_high_bits for case in cases} >= {2, 3, 4, 5, 6, 7, 8}
    assert {case.act_low_bits for case in cases} >= {1, 2, 3, 4, 5, 6}
    assert {int(bits) for case in cases for bits in case.weight_bits} == set(range(1, 9))
    assert any(case.rows.saturated for case in cases)
    assert any(case.acts.min() == -128 for case in cases)
    assert any(case.weight_clip.max() for case in cases)


def test_campaign_has_every_shape() -> None:
    cases = every()
    assert sum(case.m == 1 for _, case in cases) >= 20
    assert sum(case.k == 1 for _, case in cases) >= 20
    assert sum(case.n == 1 for _, case in cases) >= 20
    assert sum(case.m > 2 * config.acc_depth for config, case in cases) >= 20
    # Sub-tensors of one row, of several, with a shorter last one, of all rows.
    sizes = [(case.subtensor_rows, case.m) for _, case in cases]
    assert sum(1 < rows < m and m % rows > 0 for rows, m in sizes) >= 10
    assert sum(1 < m <= rows for rows, m in sizes) >= 5
    arrays = [
        (config, case, arrays_of(config, case, split_of(case_cycles(config, case).traffic["split"])))
        for config, case in cases
    ]
    # Every combination of arrays without work that all high or all low of an operand leaves.
    regions = {frozenset(found) for _, _, found in arrays}
    rows, channels = ("h", "l", "hl"), ("h", "l", "hl")
    assert regions == {
        frozenset(a + w for a in acts for w in weights) for acts in rows for weights in channels
    }
    for name in ("k_tiles", "n_tiles"):
        assert {1, 2, 3, 4} <= {getattr(array, name) for _, _, found in arrays for array in found.values()}
    assert any(array.q % array.rows for _, _, found in arrays for array in found.values())
    assert any(array.g % array.columns for _, _, found in arrays for array in found.values())


def test_campaign_has_every_wait() -> None:
    slots = banks = 0
    compared = {mode: [0, 0] for mode in ("single", "double", "transit")}
    for config, case in every():
        cycles = case_cycles(config, case)
        split = split_of(cycles.traffic["split"])
        tiles = max(array.n_tiles for array in arrays_of(config, case, split).values())
        slots += tiles > config.weight_words // -(-case.k // config.word_weights)
        if not case.requantized:  # bytes leave a bank four times as quickly
            one = np.ones(case.n, np.int64)
            quick = case_cycles(config, dataclasses.replace(case, bias=0 * one, multiplier=one, shift=one))
            parts = ("compute", "stalled")
            banks += sum(cycles.breakdown[p] for p in parts) > sum(quick.breakdown[p] for p in parts)
        if undisturbed(config, case, split):
            compared[config.weight_buffering][tiles > 1] += 1
    assert slots >= 20
    assert banks >= 20
    for one_tile, several in compared.values():
        assert one_tile >= 10
        assert several >= 5


WIDTHS = ((6, 3), (5, 3), (8, 5), (3, 3), (7, 6))


@pytest.mark.parametrize("alignment", ["bit", "nibble"])
def test_activations_of_any_width(alignment: str) -> None:
    """Bit alignment leaves no gaps between activations: an array needs ceil(pa K / 4 r) tiles; otherwise 4 or 8 bits."""
    config = DriftConfig.preset("tiny", rows=3, columns=2, alignment=alignment, segments=16)
    rng = np.random.default_rng(3)
    cases = []
    for number, (high, low) in enumerate(WIDTHS):
        threshold = (0, NEVER)[number % 2]  # all low, or all high
        fields: dict[str, Any] = {"act_high_bits": high, "act_low_bits": low, "threshold_int": threshold}
        k, bits = int(rng.integers(12, 24)), np.full(2, (4, 8)[number // 2 % 2])
        acts = rng.integers(1, 1 << (high - 1), (8, k))
        cases.append(
            random_case(
                config, rng, 8, k, 2, acts=acts, weight_bits=bits, **fields, threshold_tail_int=threshold
            )
        )
        cases.append(random_case(config, rng, 9, k, 9, act_high_bits=high, act_low_bits=low))
    results = run(config, cases)
    for case, result in zip(cases[::2], results[::2], strict=True):
        counts = case.counts
        region = ("h" if counts.m_high else "l") + ("h" if counts.n_high else "l")
        bits = case.act_high_bits if counts.m_high else case.act_low_bits
        width = bits if alignment == "bit" else 4 if bits <= 4 else 8
        shape = split_of(result.registers["split"]).shapes(config)[region]
        tiles = -(-width * case.k // (4 * shape[0]))
        # Double buffering: the next tile is loaded under the 8 rows of the one before.
        assert result.registers[f"array_{region}_cycles"] == 8 * tiles + 2 * shape[0] + shape[1] - 2
