"""GEMM cases: what a case file may hold, and one clear error for everything else."""

import random
import zipfile

import numpy as np
import pytest

from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.quant.errors import BitfabricError, ParameterError
from bitfabric.sim.case import GemmCase, random_case

TINY = SystolicWsConfig.preset("tiny", k_max=20)
ACTS = np.arange(10, dtype=np.int8).reshape(2, 5)
WEIGHTS = np.arange(15, dtype=np.int8).reshape(5, 3)
REQUANT = {
    "bias": np.array([1, -2, 3]),
    "multiplier": np.array([1 << 30, 5, 77]),
    "shift": np.array([31, 1, 6]),
}
HOLDS = (
    "a case file holds acts (M, K) and weights (K, N), and optionally "
    "bias, multiplier, shift, low, high, zero_point"
)


def refusal(call, *args, **kwargs):
    with pytest.raises(BitfabricError) as error:
        call(*args, **kwargs)
    return str(error.value)


@pytest.mark.parametrize("requant", [{}, {**REQUANT, "low": -7, "high": 99, "zero_point": -100}])
def test_round_trip(requant, tmp_path):
    case = GemmCase(name="x", acts=ACTS, weights=WEIGHTS, **requant)
    case.save(tmp_path / "x.npz")
    again = GemmCase.load(tmp_path / "x.npz")
    assert (again.name, again.low, again.high, again.zero_point) == (
        case.name,
        case.low,
        case.high,
        case.zero_point,
    )
    assert again.requantized == bool(requant)
    for name in ("acts", "weights", "bias", "multiplier", "shift"):
        np.testing.assert_array_equal(getattr(again, name), getattr(case, name))
    np.testing.assert_array_equal(again.golden(), case.golden())


def test_golden():
    case = GemmCase(acts=np.array([[-128, 127]]), weights=np.array([[-128], [-1]]))
    assert case.golden().tolist() == [[128 * 128 - 127]]
    scale = {"bias": np.array([-1]), "multiplier": np.array([3]), "shift": np.array([9])}
    for zero_point, low, high, out in ((0, -128, 127, 95), (5, -128, 127, 100), (-9, -128, 90, 81)):
        # (16257 - 1) * 3 / 512 = 95.25
        small = GemmCase(
            acts=case.acts, weights=case.weights, **scale, zero_point=zero_point, low=low, high=high
        )
        assert small.golden().tolist() == [[out]]


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        (
            {"acts": ACTS.astype(float)},
            "acts='float64(2, 5)' is not allowed; it must be a matrix of integers",
        ),
        ({"weights": WEIGHTS > 3}, "weights='bool(5, 3)' is not allowed; it must be a matrix of integers"),
        ({"acts": ACTS[0]}, "acts='int8(5,)' is not allowed; it must be a matrix of integers"),
        ({"acts": ACTS[None]}, "acts='int8(1, 2, 5)' is not allowed; it must be a matrix of integers"),
        (
            {"weights": WEIGHTS[1:]},
            "weights=(4, 3) is not allowed; it must be of shape (K, N) with K=5 as in acts",
        ),
        (
            {"bias": REQUANT["bias"]},
            "multiplier, shift missing: requantization takes bias, multiplier and shift",
        ),
        (
            {"multiplier": REQUANT["multiplier"], "shift": REQUANT["shift"]},
            "bias missing: requantization takes bias, multiplier and shift",
        ),
        (
            {**REQUANT, "bias": np.zeros(2, int)},
            "bias='int64(2,)' is not allowed; it must be integers of shape (3,)",
        ),
        (
            {**REQUANT, "shift": np.ones((3, 1), np.int8)},
            "shift='int8(3, 1)' is not allowed; it must be integers of shape (3,)",
        ),
        (
            {**REQUANT, "multiplier": np.ones(3)},
            "multiplier='float64(3,)' is not allowed; it must be integers of shape (3,)",
        ),
    ],
)
def test_arrays_that_do_not_fit(arrays, text, tmp_path):
    arrays = {"acts": ACTS, "weights": WEIGHTS, **arrays}
    assert refusal(GemmCase, **arrays) == text
    np.savez(tmp_path / "x.npz", **arrays)
    assert refusal(GemmCase.load, tmp_path / "x.npz") == text


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ({}, f"lacks acts, weights; {HOLDS}"),
        ({"acts": ACTS}, f"lacks weights; {HOLDS}"),
        ({"weights": WEIGHTS, "activations": ACTS}, f"lacks acts; {HOLDS}"),
        ({"acts": ACTS, "weights": WEIGHTS, "zp": 1, "note": 2}, f"has unknown arrays note, zp; {HOLDS}"),
    ],
)
def test_missing_and_unknown_arrays(arrays, text, tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, **arrays)
    assert refusal(GemmCase.load, path) == f"{path} {text}"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (np.array([1, 2]), "[1, 2]"),
        (np.array(1.5), "1.5"),
        (np.array([], int), "[]"),
        (np.array(True), "True"),
    ],
)
def test_scalars_are_one_integer(value, shown, tmp_path):
    np.savez(tmp_path / "x.npz", acts=ACTS, weights=WEIGHTS, zero_point=value)
    assert refusal(GemmCase.load, tmp_path / "x.npz") == (
        f"zero_point={shown} is not allowed; it must be one integer"
    )
    np.savez(tmp_path / "x.npz", acts=ACTS, weights=WEIGHTS, zero_point=np.array([[-3]], np.int8))
    assert GemmCase.load(tmp_path / "x.npz").zero_point == -3


def test_files_that_are_no_case(tmp_path):
    path = tmp_path / "x.npz"
    start = f"{path} cannot be read as a case file (.npz): "
    assert refusal(GemmCase.load, path) == f"{start}[Errno 2] No such file or directory: '{path}'"
    for content in (b"", b"acts = 1", b"PK\x03\x04 broken"):
        path.write_bytes(content)
        assert refusal(GemmCase.load, path).startswith(start)
    with path.open("wb") as file:
        np.save(file, ACTS)
    assert refusal(GemmCase.load, path) == f"{start}it holds one array without a name"
    np.savez(path, acts=np.array([[None]]), weights=WEIGHTS)
    assert refusal(GemmCase.load, path) == f"{start}Object arrays cannot be loaded when allow_pickle=False"
    assert refusal(GemmCase.load, tmp_path).startswith(f"{tmp_path} cannot be read as a case file (.npz): ")


def test_a_member_that_is_no_array(tmp_path):
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("acts", "1 2 3")
    text = f"{path} cannot be read as a case file (.npz): acts is not an array"
    assert refusal(GemmCase.load, path) == text


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_damaged_files(save, tmp_path):
    # Whatever is damaged, the file is refused in one line or read.
    path = tmp_path / "x.npz"
    save(path, acts=ACTS, weights=WEIGHTS)
    raw, rng, refused = path.read_bytes(), random.Random(1), []
    for _ in range(300):
        damaged = bytearray(raw)
        for _ in range(rng.choice([1, 3, 20])):
            damaged[rng.randrange(len(raw))] = rng.getrandbits(8)
        path.write_bytes(damaged[: rng.choice([len(raw), len(raw), rng.randrange(len(raw))])])
        try:
            GemmCase.load(path)
        except BitfabricError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(text.startswith((str(path), "acts=", "weights=")) for text in refused)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"acts": ACTS[:0]}, "M=0 is not allowed; it must be an integer in [1, 65535]"),
        (
            {"acts": ACTS[:, :0], "weights": WEIGHTS[:0]},
            "K=0 is not allowed; it must be an integer in [1, 20]",
        ),
        (
            {"acts": np.zeros((1, 21), int), "weights": np.zeros((21, 1), int)},
            "K=21 is not allowed; it must be an integer in [1, 20]",
        ),
        ({"weights": WEIGHTS[:, :0]}, "N=0 is not allowed; it must be an integer in [1, 65535]"),
        (
            {"acts": ACTS.astype(int) + 119},
            "acts=128 is not allowed; it must be within 8 bits, two's complement",
        ),
        (
            {"weights": WEIGHTS.astype(int) - 129},
            "weights=-129 is not allowed; it must be within 8 bits, two's complement",
        ),
        ({"low": -257}, "low=-257 is not allowed; it must be an integer in [-256, 255]"),
        ({"high": 256}, "high=256 is not allowed; it must be an integer in [-256, 255]"),
        ({"zero_point": 256}, "zero_point=256 is not allowed; it must be an integer in [-256, 255]"),
    ],
)
def test_cases_that_the_machine_cannot_run(changes, text):
    arrays = {"acts": ACTS, "weights": WEIGHTS}
    GemmCase(**arrays).check(TINY)
    case = GemmCase(**{**arrays, **changes})
    with pytest.raises(ParameterError) as error:
        case.check(TINY)
    assert str(error.value) == text


def test_operand_widths_follow_the_configuration():
    narrow = SystolicWsConfig.preset("tiny", act_bits=4, weight_bits=3)
    GemmCase(acts=np.array([[-8, 7]]), weights=np.array([[-4], [3]])).check(narrow)
    text = refusal(GemmCase(acts=np.array([[8]]), weights=np.array([[0]])).check, narrow)
    assert text == "acts=8 is not allowed; it must be within 4 bits, two's complement"
    text = refusal(GemmCase(acts=np.array([[0]]), weights=np.array([[4]])).check, narrow)
    assert text == "weights=4 is not allowed; it must be within 3 bits, two's complement"


@pytest.mark.parametrize("bits", [2, 5, 8])
def test_random_cases_are_valid_and_reach_the_corners(bits):
    config = SystolicWsConfig.preset("tiny", act_bits=bits, weight_bits=bits)
    rng = np.random.default_rng(1)
    cases = [random_case(config, rng, 4, 5, 6) for _ in range(60)]
    for case in cases:
        case.check(config)
        case.golden()
    acts = np.concatenate([case.acts.ravel() for case in cases])
    assert {-(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0, -1} <= set(acts.tolist())
    assert {case.requantized for case in cases} == {True, False}
    for wanted in (True, False):
        assert random_case(config, rng, 1, 1, 1, requantized=wanted).requantized == wanted
