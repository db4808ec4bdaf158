"""The exponent lane against the golden model: every distance of an octave, every octave, masked or not."""

import numpy as np
import pytest

from bitfabric.hdl.arith.exponent import Exponent
from bitfabric.hdl.emit import emit
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.softmax import exponent
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob


def distances(bits, rng):
    top = (1 << bits) - 1
    octaves = np.arange(min(33, 1 << (bits - 12))) << 12
    ends = np.concatenate([octaves, octaves + 1, octaves + 2048, octaves + 4095, [top, top // 2]])
    segments = (np.arange(65) << 6) + np.arange(-1, 2)[:, None]
    fine = np.concatenate([segments.ravel()[1:], rng.integers(0, 4096, 500)])
    wide = rng.integers(0, 1 << bits, 300)
    shifted = rng.integers(0, 4096, 800) + (rng.integers(0, min(26, 1 << (bits - 12)), 800) << 12)
    return np.minimum(np.concatenate([ends, fine, wide, shifted]), top)


@pytest.mark.parametrize("bits", [17, 24])
def test_equal_to_the_golden_model(bits):
    rng = np.random.default_rng(bits)
    x = distances(bits, rng)
    zero = rng.random(x.size) < 0.1
    wanted = np.where(zero, 0, exponent(x))
    assert {0, 1, 2**22} <= set(wanted.tolist())
    late = Exponent.LATENCY
    idle = np.zeros(late, np.int64)
    job = VectorJob(
        inputs={"x": np.concatenate([x, idle]), "zero": np.concatenate([zero, idle])},
        expected={"out": np.concatenate([idle, wanted])},
        mask={"out": np.concatenate([idle, np.full(x.size, (1 << 23) - 1)])},
    )
    assert run_vectors(emit(Exponent(x_bits=bits), "exponent"), job)["steps"][0]["problem"] is None


@pytest.mark.parametrize("bits", [16, 33])
def test_construction_errors(bits):
    with pytest.raises(ParameterError, match=rf"x_bits={bits} is not allowed; .* \[17, 32\]"):
        Exponent(x_bits=bits)
