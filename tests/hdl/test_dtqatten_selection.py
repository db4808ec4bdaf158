"""DTQAtten's selection against the golden model: blocks in a row, every listed token in its cycle."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.importance import ImportanceMemory, add_bits, division
from bitfabric.hdl.dtqatten.selection import Selection
from bitfabric.hdl.emit import emit
from bitfabric.quant.dtqatten import next_order, select_top
from bitfabric.sim.cycles.dtqatten_selection import topk_cycles, topk_list_start
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

PASSED = {"name": "vectors", "passed": True, "problem": None, "registers": {}}
TOP = 2**32 - 1
LISTED = ("list_position", "list_id", "list_value", "list_bits", "list_kept", "list_new_position")


class Course:
    """Gather blocks for the unit, and what it has to list in which cycle."""

    def __init__(self, config, rng):
        self.config, self.rng = config, rng
        token, count = config.id_bits, config.count_bits
        self.widths = {
            **{"init_en": 1, "add_en": 1, "start": 1, "bank": 1, "reorder": 1, "accumulate": 1},
            **{"init_position": token, "init_id": token, "add_position": token},
            **{"add_value": add_bits(config), "positions": count, "keep": count, "high": count},
        }
        self.inputs = {name: [] for name in self.widths}
        self.expected = {name: {} for name in ("list_valid", "ids_done", *LISTED)}
        self.bank, self.ids, self.values = 0, None, None

    @property
    def now(self):
        return len(self.inputs["start"])

    def cycle(self, **values):
        """Append a cycle; what is not given is noise, enables are 0."""
        for name, width in self.widths.items():
            noise = 0 if name in {"init_en", "add_en", "start"} else int(self.rng.integers(0, 1 << width))
            self.inputs[name].append(int(values.get(name, noise)))

    def begin(self, ids):
        """Set up a block's tokens; ``None`` carries those that the block before left."""
        if ids is None:
            self.bank ^= 1
            return
        self.bank = int(self.rng.integers(0, 2))
        self.ids, self.values = np.array(ids), np.zeros(len(ids), np.int64)
        for position in self.rng.permutation(len(ids)).tolist():
            self.cycle(bank=self.bank, init_en=1, init_position=position, init_id=ids[position])

    def add(self, position, value):
        self.cycle(bank=self.bank, add_en=1, add_position=position, add_value=value)
        self.values[position] = min(TOP, self.values[position] + value)

    def select(self, k0, k1, reorder, accumulate, delay):
        """Select ``delay`` cycles after the last add, 0: in the same cycle."""
        config, m = self.config, len(self.ids)
        levels = {
            **{"bank": self.bank, "positions": m, "keep": k0, "high": k1},
            **{"reorder": reorder, "accumulate": accumulate},
        }
        for _ in range(delay):
            self.cycle(bank=self.bank)
        if not delay:
            for name, value in {**levels, "start": 1}.items():
                self.inputs[name][-1] = int(value)
        else:
            self.cycle(**levels, start=1)
        start = self.now - 1
        for _ in range(topk_cycles(config, m)):
            self.cycle(**levels)
        bits = select_top(self.values, k0, k1, ids=self.ids)
        order = next_order(bits, reorder)
        new = np.zeros(m, int)
        new[order] = np.arange(k0)
        rows = np.stack([np.arange(m), self.ids, self.values, bits // 4, bits > 0, new])
        for position, row in enumerate(rows.T.tolist()):
            cycle = start + topk_list_start(config, m) + position
            self.expected["list_valid"][cycle] = 1
            for name, value in zip(LISTED, row, strict=True):
                if name != "list_new_position" or bits[position]:
                    self.expected[name][cycle] = value
        self.expected["ids_done"][start + topk_cycles(config, m)] = 1
        self.ids = self.ids[order]
        self.values = self.values[order] if accumulate else np.zeros(k0, np.int64)

    def job(self):
        for _ in range(3):
            self.cycle()
        expected, mask = {}, {}
        for name, cycles in self.expected.items():
            expected[name] = np.zeros(self.now, np.int64)
            expected[name][list(cycles)] = list(cycles.values())
            if name in LISTED:
                mask[name] = np.zeros(self.now, np.int64)
                mask[name][list(cycles)] = (
                    2 ** {"list_value": 32, "list_bits": 2, "list_kept": 1}.get(name, self.config.id_bits) - 1
                )
        return VectorJob(inputs=self.inputs, expected=expected, mask=mask)

    def run(self):
        assert run_vectors(emit(Selection(self.config), "selection"), self.job())["steps"] == [PASSED]


def amounts(rng, config, m, kind):
    """Return (position, amount) of the adds of a block."""
    most = 65535 * config.columns
    if kind == "equal":
        return [(position, 77) for _ in range(2) for position in range(m)]
    if kind == "none":
        return []
    if kind == "same":  # in a row, with gaps of one and two adds to others
        picks = rng.integers(0, min(m, 3), 30).tolist()
    else:
        picks = [position for _ in range(3) for position in range(m)]
    small = (
        rng.integers(0, 3, len(picks)) if kind == "few" else rng.integers(0, most, len(picks), endpoint=True)
    )
    return list(zip(picks, small.tolist(), strict=True))


@pytest.mark.parametrize(("tokens_max", "lanes"), [(16, 4), (9, 1), (13, 3), (5, 64), (1, 1)], ids=str)
def test_blocks_in_a_row(tokens_max, lanes):
    config = DtqattenConfig.preset("tiny", tokens_max=tokens_max, topk_lanes=lanes)
    rng = np.random.default_rng([tokens_max, lanes])
    course = Course(config, rng)
    for run in range(24):
        if course.ids is None or len(course.ids) == 1 or rng.random() < 0.3:
            m = tokens_max if run % 3 else int(rng.integers(1, tokens_max, endpoint=True))
            course.begin(rng.permutation(tokens_max)[:m].tolist())
        else:
            course.begin(None)
        m = len(course.ids)
        for position, value in amounts(rng, config, m, ["any", "equal", "same", "few", "none"][run % 5]):
            while rng.random() < 0.15:
                course.cycle(bank=course.bank)
            course.add(position, value)
        k0 = int(rng.choice([1, m, max(1, m - 1), int(rng.integers(1, m, endpoint=True))]))
        k1 = int(rng.choice([0, k0, int(rng.integers(0, k0, endpoint=True))]))
        course.select(k0, k1, run // 2 % 2, rng.random() < 0.6, int(rng.integers(0, 4)) + (run % 5 == 4))
    course.run()


def test_saturated_tokens_are_ties():
    config = DtqattenConfig.preset("tiny", columns=64, tokens_max=16)  # a key fills its digits
    course = Course(config, np.random.default_rng(0))
    course.begin([2, 0, 3, 1])
    most = 65535 * 64
    for _ in range(TOP // most + 1):
        for position in (0, 1, 3):
            course.add(position, most)
    course.add(2, 5)
    assert course.values.tolist() == [TOP, TOP, 5, TOP]
    course.select(3, 1, reorder=1, accumulate=1, delay=0)
    assert course.ids.tolist() == [2, 1, 0]
    course.begin(None)
    course.add(1, most)  # stays at the top
    course.select(2, 0, reorder=0, accumulate=1, delay=0)  # the greatest key is none that is 8-bit
    assert course.ids.tolist() == [1, 0]
    course.begin(None)
    course.select(1, 1, reorder=1, accumulate=0, delay=1)
    course.run()


def test_adds_to_two_banks_meet_and_saturate():
    """Two positions that share a word, in every pattern of five cycles; then the sums of both banks."""
    config = DtqattenConfig.preset("tiny", tokens_max=8, topk_lanes=2)
    rng = np.random.default_rng(3)
    names = ["bank", "init_en", "init_position", "init_id", "add_en", "add_position", "add_value"]
    names += [
        "word_en",
        "entry_en",
        "entry_position",
        "store_en",
        "store_position",
        "store_value",
        "store_id",
    ]
    inputs = {name: [] for name in names}
    expected = []

    def cycle(result=None, **values):
        for name in names:
            inputs[name].append(values.get(name, 0))
        expected.append(result)

    for pattern in range(3**5):
        bank = pattern % 2
        sums = {0: TOP - 9, 1: int(rng.integers(0, TOP))}
        for position, value in sums.items():
            cycle(
                bank=1 - bank, store_en=1, store_position=position, store_value=value, store_id=6 - position
            )
        for step in range(5):
            position, amount = pattern // 3**step % 3, int(rng.integers(0, 7))
            if position < 2:
                sums[position] = min(TOP, sums[position] + amount)
            cycle(bank=bank, add_en=position < 2, add_position=position & 1, add_value=amount)
        for _ in range(ImportanceMemory.LATENCY - 1):
            cycle(bank=bank)
        for position in (0, 1):
            cycle(bank=bank, entry_en=1, entry_position=position)
        cycle((sums[0], 6), bank=bank)
        cycle((sums[1], 5), bank=bank)
    job = VectorJob(
        inputs=inputs,
        expected={
            "entry_value": [pair[0] if pair else 0 for pair in expected],
            "entry_id": [pair[1] if pair else 0 for pair in expected],
        },
        mask={
            "entry_value": [TOP if pair else 0 for pair in expected],
            "entry_id": [7 if pair else 0 for pair in expected],
        },
    )
    assert run_vectors(emit(ImportanceMemory(config), "importance"), job)["steps"] == [PASSED]


def test_division_is_exact():
    for divisor in (1, 3, 5, 7, 11, 16, 48, 63):
        factor, shift = division(divisor, 1024)
        assert [x * factor >> shift for x in range(1024)] == [x // divisor for x in range(1024)]
        assert factor.bit_length() <= 12


@pytest.mark.parametrize(
    "overrides",
    [{}, {"topk_lanes": 3}, {"topk_lanes": 1}, {"tokens_max": 1}, {"topk_lanes": 64}],
    ids=str,
)
def test_lint(overrides, lint, tmp_path):
    path = tmp_path / "selection.v"
    path.write_text(emit(Selection(DtqattenConfig.preset("tiny", **overrides)), "selection").verilog)
    assert lint(path) == []
