"""Sweeps of Drift's threshold: shares fall and errors shrink as it rises."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bitfabric.quant.drift import convert, dequantize, mean_cosine, select, sweep_threshold
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.uniform import quantize

RATIOS = (0.0, 0.5, 2.0, 8.0, 32.0, math.inf)


@pytest.fixture
def acts() -> tuple[np.ndarray, float]:
    rng = np.random.default_rng(7)
    quantized = quantize(rng.laplace(size=(60, 32)) * rng.uniform(0.01, 1, (60, 1)))
    return quantized.values, float(quantized.scale)


def test_a_sweep(acts: tuple[np.ndarray, float]) -> None:
    q, scale = acts
    weight = np.random.default_rng(8).normal(size=(32, 5))
    points = sweep_threshold(q, scale, RATIOS, relative=True, model=lambda x: x @ weight)
    shares, errors = [one.low_share for one in points], [one.error for one in points]
    assert shares == sorted(shares, reverse=True)
    assert errors == sorted(errors, reverse=True)
    assert (shares[0], shares[-1], errors[-1], points[-1].cosine) == (1.0, 0.0, 0.0, pytest.approx(1.0))
    assert 0 < shares[3] < 1
    assert [one.ratio for one in points] == list(RATIOS)
    for point in points[1:-1]:
        chosen = select(q, 1.0, point.ratio)
        real = dequantize(convert(q, chosen), chosen, scale)
        assert point.low_share == chosen.low.mean()
        assert point.error == pytest.approx(np.linalg.norm(real - q * scale) / np.linalg.norm(q * scale))
        assert point.cosine == pytest.approx(mean_cosine(real @ weight, q * scale @ weight))


def test_absolute_and_relative_thresholds(acts: tuple[np.ndarray, float]) -> None:
    q, _ = acts
    relative = sweep_threshold(q, 0.25, RATIOS, relative=True)
    absolute = sweep_threshold(q, 0.25, [0.25 * one for one in RATIOS])
    assert absolute == relative
    assert relative[2].cosine is None
    # A scale that changes moves one and not the other.
    assert [one.low_share for one in sweep_threshold(q, 4.0, RATIOS, relative=True)] == [
        one.low_share for one in relative
    ]
    assert sweep_threshold(q, 4.0, [2.0])[0].low_share > sweep_threshold(q, 0.25, [2.0])[0].low_share


def test_other_sub_tensors(acts: tuple[np.ndarray, float]) -> None:
    q, scale = acts
    columns = sweep_threshold(q, scale, [4.0], relative=True, block=(None, 1))[0]
    assert columns.low_share == select(q, 1.0, 4.0, axis=0).low.mean()
    cut = sweep_threshold(q, scale, [4.0], relative=True, block=(7, 5), rounding="truncate")[0]
    assert 0 <= cut.low_share <= 1


def test_a_tensor_of_zeros() -> None:
    assert sweep_threshold(np.zeros((2, 2), np.int8), 1.0, [1.0])[0][2:] == (1.0, 0.0, None)


def test_cosines_of_zero_rows() -> None:
    assert mean_cosine([[0, 0], [1, 0]], [[0, 0], [0, 1]]) == 0.5
    assert mean_cosine([[0, 0]], [[1, 0]]) == 0.0


def test_refused() -> None:
    with pytest.raises(ParameterError, match=r"^scale="):
        sweep_threshold(np.ones((1, 1), np.int8), -1.0, [1.0])
    with pytest.raises(ParameterError, match=r"^threshold="):
        sweep_threshold(np.ones((1, 1), np.int8), 1.0, [-1.0])
