"""VSSA's PE: every pair of nibbles in every phase, signed and unsigned, and the chain of accumulators."""

import random

import pytest

from bitfabric.hdl.emit import emit
from bitfabric.hdl.vssa.pe import VssaPe, VssaPeConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

CYCLES = {(0, 0): 1, (0, 1): 2, (1, 0): 2, (1, 1): 4}
IDLE = {"valid": 0, "advance": 0, "phase": 0, "shift": 0}


def number(operand, high, unsigned):
    """Return what an operand is worth; a 4-bit one has only its high-order nibble."""
    value = operand if high else operand & 0xF0
    return value if unsigned or value < 128 else value - 256


def products(a, b, a_high, b_high, unsigned):
    """Return what each phase at work adds."""
    a_upper, b_upper = (number(x, 0, u) for x, u in zip((a, b), unsigned, strict=True))
    a_lower, b_lower = a & 15, b & 15
    parts = [a_upper * b_upper]
    if a_high:
        parts.append(a_lower * b_upper)
    if b_high:
        parts.append(a_upper * b_lower)
    if a_high and b_high:
        parts.append(a_lower * b_lower)
    assert sum(parts) == number(a, a_high, unsigned[0]) * number(b, b_high, unsigned[1])
    assert len(parts) == CYCLES[a_high, b_high]
    return parts


class Bench:
    """Write down what a PE is given and what it must give."""

    def __init__(self, acc_bits, seed):
        self.rng, self.wrap = random.Random(seed), 1 << acc_bits
        self.rows, self.expected, self.known = [], [], []
        self.held = self.acc = None

    def cycle(self, *, enabled=0, after=None, **inputs):
        """Add a cycle, after whose edge the accumulator is ``after`` if that is given."""
        rng = self.rng
        row = {name: rng.getrandbits(1) for name in ("a_high_in", "b_high_in", "a_unsigned", "b_unsigned")}
        row |= {"a_in": rng.getrandbits(8), "b_in": rng.getrandbits(8), "acc_in": rng.randrange(self.wrap)}
        row |= IDLE | inputs
        self.rows.append(row)
        held = self.held or (0, 0, 0, 0)
        expected = dict(zip(("a_out", "b_out", "a_high_out", "b_high_out"), held, strict=True))
        expected["enabled"] = enabled
        expected["both_high"] = row["valid"] & held[2] & held[3]
        expected["acc_out"] = (self.acc or 0) % self.wrap
        self.expected.append(expected)
        # Before the first operands and the first shift the registers hold anything.
        held, acc = self.held is not None, self.acc is not None
        self.known.append(
            {name: acc if name == "acc_out" else held or name == "enabled" for name in expected}
        )
        if row["shift"]:
            self.acc = row["acc_in"]
        if row["advance"]:
            self.held = row["a_in"], row["b_in"], row["a_high_in"], row["b_high_in"]
        if after is not None:
            self.acc = after

    def load(self, a, b, highs, **inputs):
        names = ("a_in", "b_in", "a_high_in", "b_high_in")
        return dict(zip(names, (a, b, *highs), strict=True)) | {"advance": 1} | inputs

    def step(self, unsigned, length, following, valid=1):
        """Work on what is held for ``length`` cycles and load ``following``."""
        parts = products(*self.held, unsigned)
        signs = dict(zip(("a_unsigned", "b_unsigned"), unsigned, strict=True))
        for phase in range(length):
            enabled = valid and phase < len(parts)
            after = self.acc + parts[phase] if enabled else None
            moves = following if phase == length - 1 else {}
            self.cycle(phase=phase, valid=valid, enabled=int(enabled), after=after, **signs, **moves)

    def run(self, emitted):
        inputs, expected, mask = (
            {name: [row[name] for row in rows] for name in rows[0]}
            for rows in (self.rows, self.expected, self.known)
        )
        for name, values in mask.items():
            width = next(p["width"] for p in emitted.ports if p["name"] == name)
            mask[name] = [((1 << width) - 1) * value for value in values]
        result = run_vectors(emitted, VectorJob(inputs=inputs, expected=expected, mask=mask))
        assert result["steps"][0]["passed"], result


def test_every_pair_of_nibbles_in_every_phase():
    acc_bits = 18  # wraps
    bench, rng = Bench(acc_bits, acc_bits), random.Random(2)
    operands = []
    for highs in CYCLES:
        for pair in range(256):
            x, y = divmod(pair, 16)
            # The low-order nibbles are permutations of the high-order ones: each phase sees every pair.
            operands.append((x << 4 | (7 * x + 3) % 16, y << 4 | (5 * y + 9) % 16, highs))
    corners = [(a, b, highs) for a in (0, 127, 128, 255) for b in (0, 127, 128, 255) for highs in CYCLES]
    bench.cycle(**bench.load(0, 0, (0, 0)))  # in Verilog, 0 times unknown is unknown
    bench.cycle(shift=1)
    for unsigned in [(0, 0), (0, 1), (1, 0), (1, 1)]:
        todo = operands + corners
        rng.shuffle(todo)
        bench.cycle(**bench.load(*todo[0]))
        for index, (_, _, highs) in enumerate(todo):
            following = todo[index + 1] if index + 1 < len(todo) else (0, 0, (0, 0))
            length = rng.choice([n for n in (1, 2, 4) if n >= CYCLES[highs]])
            bench.step(unsigned, length, bench.load(*following), valid=int(rng.random() < 0.9))
            if rng.random() < 0.05:
                bench.cycle()  # nothing valid: sum and operands stay
            if rng.random() < 0.05:
                bench.cycle(shift=1)
    bench.run(emit(VssaPe(acc_bits), "vssa_pe"))


@pytest.mark.parametrize("acc_bits", [16, 33, 25.0])
def test_construction_errors(acc_bits):
    with pytest.raises(ParameterError, match=r"acc_bits=.* must be an integer in \[17, 32\]"):
        VssaPe(acc_bits)


def test_config():
    assert VssaPeConfig.preset("paper").acc_bits == 25
    with pytest.raises(ParameterError, match="acc_bits=16"):
        VssaPeConfig(acc_bits=16)
