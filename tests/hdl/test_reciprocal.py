"""The reciprocal against the golden model: every length, every piece, the narrowest and the widest unit."""

import numpy as np
import pytest

from bitfabric.hdl.arith.reciprocal import Reciprocal
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.softmax import RECIPROCAL_MAX, reciprocal
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob


def integers(bits, rng):
    top = min((1 << bits) - 1, RECIPROCAL_MAX)
    powers = 1 << np.arange(bits)
    lengths = rng.integers(1, bits + 1, 900)
    values = [powers, powers - 1, powers + 1, rng.integers(0, 1 << lengths), np.arange(1, 300)]
    pieces = ((128 + np.arange(129)) << (bits - 8) if bits > 8 else np.arange(1, top)) + np.arange(-1, 2)[
        :, None
    ]
    found = np.concatenate([*values, pieces.ravel()])
    return found[(found >= 1) & (found <= top)]


@pytest.mark.parametrize("bits", [2, 12, 27, 47])
def test_equal_to_the_golden_model(bits):
    x = integers(bits, np.random.default_rng(bits))
    r, e = reciprocal(x)
    late = Reciprocal.LATENCY
    idle = np.zeros(late, np.int64)
    shown = np.concatenate([idle, np.ones_like(x)])
    wanted = {"r": r, "e": e, "fraction": ((x << 16) >> e) - 65536}
    widths = {"r": 18, "e": (bits - 1).bit_length(), "fraction": 16}
    job = VectorJob(
        inputs={"x": np.concatenate([x, idle])},
        expected={name: np.concatenate([idle, values]) for name, values in wanted.items()},
        mask={name: shown * ((1 << width) - 1) for name, width in widths.items()},
    )
    emitted = emit(Reciprocal(x_bits=bits), "reciprocal")
    assert run_vectors(emitted, job)["steps"][0]["problem"] is None


@pytest.mark.parametrize("bits", [1, 48])
def test_construction_errors(bits):
    with pytest.raises(ParameterError, match=rf"x_bits={bits} is not allowed; .* \[2, 47\]"):
        Reciprocal(x_bits=bits)
