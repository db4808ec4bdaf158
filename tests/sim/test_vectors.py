import dataclasses

import numpy as np
import pytest

from bitfabric.hdl.arith.bitbrick import BitBrick
from bitfabric.hdl.emit import emit
from bitfabric.hdl.systolic_os.array import SystolicOsArray
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.array import SystolicWsArray
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.array_vectors import array_vectors, skew
from bitfabric.sim.case import random_case
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob, pack_lanes, words_of

SHAPES = [(1, 1), (1, 5), (3, 2), (4, 4)]
ARRAYS = {
    "ws single": (SystolicWsArray, lambda r, c: SystolicWsConfig(rows=r, columns=c, acc_depth=4)),
    "ws double": (
        SystolicWsArray,
        lambda r, c: SystolicWsConfig(rows=r, columns=c, acc_depth=4, weight_buffering="double"),
    ),
    "os": (SystolicOsArray, lambda r, c: SystolicOsConfig(rows=r, columns=c)),
    "os overlapping": (SystolicOsArray, lambda r, c: SystolicOsConfig(rows=r, columns=c, tile_overlap=True)),
}


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", ARRAYS)
def test_bare_arrays_multiply(kind, shape):
    array, configure = ARRAYS[kind]
    config = configure(*shape)
    rng = np.random.default_rng([*shape, len(kind)])
    # M in steps with a tail, and tails of K and N.
    case = random_case(config, rng, 7, 2 * config.rows + 1, 2 * config.columns + 1, requantized=False)
    verdict = run_vectors(emit(array(config), "bare"), array_vectors(config, case))
    assert verdict["steps"] == [{"name": case.name, "passed": True, "problem": None, "registers": {}}]


@pytest.mark.parametrize(
    ("kind", "per_tile"),
    [("ws single", lambda r, c, m: r + m + r + c - 2), ("ws double", lambda r, c, m: max(m, r))],
)
def test_tiles_follow_as_closely_as_the_config_says(kind, per_tile):
    config = dataclasses.replace(ARRAYS[kind][1](3, 2), acc_depth=64)
    rng = np.random.default_rng(0)
    for m in (1, 5):
        lengths = [
            array_vectors(config, random_case(config, rng, m, 3 * tiles, 2, requantized=False)).cycles
            for tiles in (2, 5)
        ]
        assert lengths[1] - lengths[0] == 3 * per_tile(3, 2, m)


@pytest.fixture(scope="module")
def small():
    config = SystolicWsConfig(rows=2, columns=3)
    case = random_case(config, np.random.default_rng(1), 6, 4, 3, requantized=False)
    return emit(SystolicWsArray(config), "bare"), array_vectors(config, case)


def test_a_wrong_psum_is_found_alike_by_python_and_cpp(small):
    emitted, job = small
    compared = np.argwhere(job.mask["psum"].any(axis=1))[:, 0]
    assert run_vectors(emitted, job, "native")["steps"][0]["passed"]
    expected = job.expected["psum"].copy()
    for cycle in compared[[3, 5]]:
        bit = int(np.flatnonzero(job.mask["psum"][cycle])[0])
        expected[cycle, bit] ^= job.mask["psum"][cycle, bit] & 0x00FF00FF
    wrong = dataclasses.replace(job, expected={"psum": expected})
    verdicts = [run_vectors(emitted, wrong, simulator)["steps"] for simulator in ("icarus", "native")]
    assert verdicts[0] == verdicts[1]
    problem = verdicts[0][0]["problem"]
    assert problem.startswith(f"2 of {job.cycles} cycles differ, first cycle {compared[3]}: psum is 0x")


def test_an_unknown_bit_is_a_difference_unless_masked(small):
    emitted, job = small
    # Before the first weights are loaded a psum is unknown; nothing compares it but this.
    unmasked = dataclasses.replace(job, mask={})
    problem = run_vectors(emitted, unmasked)["steps"][0]["problem"]
    assert "psum is 0b" in problem
    assert "x" in problem.split("0b")[1].split(",")[0]


def test_a_block_without_a_clock_is_driven_too():
    act, weight, sign = (v.ravel() for v in np.meshgrid([0, 1], np.arange(16), [0, 1], indexing="ij"))
    signed = np.where((sign == 1) & (weight > 7), weight - 16, weight)
    job = VectorJob(
        inputs={"act": act, "weight": weight.tolist(), "weight_signed": sign},
        expected={"product": act * signed},
    )
    assert run_vectors(emit(BitBrick(), "bitbrick"), job)["steps"][0]["passed"]


def test_words():
    assert words_of("p", [-1, 2], 40).tolist() == [[0xFFFFFFFF, 0xFF], [2, 0]]
    assert words_of("p", np.array([-1, 2]), 70).tolist() == [[0xFFFFFFFF, 0xFFFFFFFF, 0x3F], [2, 0, 0]]
    assert words_of("p", [1 << 63, -1], 64).tolist() == [[0, 1 << 31], [0xFFFFFFFF, 0xFFFFFFFF]]
    rng = np.random.default_rng(0)
    lanes = rng.integers(-(1 << 18), 1 << 18, (20, 7))
    packed = words_of("p", pack_lanes(lanes, 19), 7 * 19)
    for row, values in zip(packed, lanes, strict=True):
        whole = int.from_bytes(row.tobytes(), "little")
        assert whole == sum((int(value) & 0x7FFFF) << (19 * lane) for lane, value in enumerate(values))


def test_skew():
    assert skew(np.array([[1, 10], [2, 20], [3, 30]])).tolist() == [[1, 10], [2, 10], [3, 20]]


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (VectorJob(inputs={"acts": [0]}, expected={}), "acts"),
        (VectorJob(inputs={"psum": [0]}, expected={}), "psum"),
        (VectorJob(inputs={"clk": [0]}, expected={}), "clk"),
        (VectorJob(inputs={"act": [1 << 16]}, expected={}), "within 16 bits"),
        (VectorJob(inputs={"act": [-(1 << 15) - 1]}, expected={}), "within 16 bits"),
        (VectorJob(inputs={"act": [0, 1]}, expected={"psum": [0]}), "for 2 cycles"),
        (VectorJob(inputs={"act": [0]}, expected={}, mask={"psum": [1]}), "mask"),
        (VectorJob(inputs={"act": np.zeros((3, 2), np.uint32)}, expected={}), "uint32 of shape"),
    ],
)
def test_a_job_that_does_not_fit_the_ports_is_refused(small, job, message):
    with pytest.raises(ParameterError, match=message):
        run_vectors(small[0], job)


def test_a_case_that_the_array_cannot_compute_is_refused():
    config = SystolicWsConfig(rows=2, columns=3, k_max=4)
    case = random_case(config, np.random.default_rng(1), 2, 4, 3, requantized=False)
    with pytest.raises(ParameterError, match="K"):
        array_vectors(dataclasses.replace(config, k_max=3), case)
