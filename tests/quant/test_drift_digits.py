"""Drift's thresholds by predicted loss change: on a small network that learns scikit-learn's digits."""

from __future__ import annotations

import importlib.util
import math
import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from bitfabric.quant.drift import (
    choose_threshold,
    conversion_error,
    convert,
    dequantize,
    fisher_curvature,
    hutchinson_trace,
    loss_change,
    select,
    select_blocks,
    torch_traces,
    trace_curvature,
)
from bitfabric.quant.errors import BitfabricError
from bitfabric.quant.uniform import quantize

needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="the hessian extra (torch) is not installed"
)
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Network:
    """64 pixels to 32 tanh units to 10 classes; gradients written out by hand."""

    first: Floats
    second: Floats

    def forward(self, x: Floats) -> tuple[Floats, Floats]:
        hidden = np.tanh(x @ self.first)
        return hidden, hidden @ self.second

    def logits(self, x: Floats) -> Floats:
        return self.forward(x)[1]

    def backward(self, x: Floats, labels: NDArray[np.int64]) -> tuple[Floats, Floats, Floats, Floats]:
        """Give gradients of each sample's own loss: of x, of hidden, and summed over samples of both weights."""
        hidden, logits = self.forward(x)
        wrong = softmax(logits) - np.eye(10)[labels]
        of_hidden = wrong @ self.second.T
        of_sums = of_hidden * (1 - hidden**2)
        return of_sums @ self.first.T, of_hidden, x.T @ of_sums, hidden.T @ wrong


def softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def losses(logits: Floats, labels: NDArray[np.int64]) -> Floats:
    return -np.log(softmax(logits)[np.arange(len(labels)), labels] + 1e-300)


@dataclass(frozen=True)
class Trained:
    network: Network
    x: Floats
    labels: NDArray[np.int64]

    def loss(self, x: Floats) -> float:
        return float(losses(self.network.logits(x), self.labels).mean())

    def accuracy(self, x: Floats) -> float:
        return float((self.network.logits(x).argmax(axis=1) == self.labels).mean())


@pytest.fixture(scope="module")
def trained() -> Trained:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    x, labels = datasets.load_digits(return_X_y=True)
    x = (x - x.mean(axis=0)) / 8.0
    rng = np.random.default_rng(0)
    network = Network(rng.normal(0, 0.15, (64, 32)), rng.normal(0, 0.15, (32, 10)))
    for _ in range(40):
        for part in np.array_split(rng.permutation(1200), 24):
            *_, first, second = network.backward(x[part], labels[part])
            network = Network(
                network.first - 0.3 * first / len(part), network.second - 0.3 * second / len(part)
            )
    # What it has not seen is what thresholds are chosen on.
    result = Trained(network, x[1200:], labels[1200:])
    assert result.accuracy(result.x) > 0.9
    return result


def test_the_handwritten_gradients(trained: Trained) -> None:
    x, labels = trained.x[:3].copy(), trained.labels[:3]
    of_x, of_hidden, *of_weights = trained.network.backward(x, labels)
    step = 1e-6

    def slope(up: Floats, down: Floats) -> Floats:
        return (losses(up, labels) - losses(down, labels)) / (2 * step)

    for pixel in (0, 20, 43):
        moved = np.zeros(64)
        moved[pixel] = step
        found = slope(trained.network.logits(x + moved), trained.network.logits(x - moved))
        assert np.allclose(found, of_x[:, pixel], atol=1e-7)
    hidden = trained.network.forward(x)[0]
    for unit in (0, 17):
        moved = np.zeros(32)
        moved[unit] = step
        found = slope((hidden + moved) @ trained.network.second, (hidden - moved) @ trained.network.second)
        assert np.allclose(found, of_hidden[:, unit], atol=1e-7)
    for name, gradient in zip(("first", "second"), of_weights, strict=True):
        weight = getattr(trained.network, name)
        moved = np.zeros(weight.shape)
        moved[21, 5] = step
        up, down = (replace(trained.network, **{name: weight + sign * moved}) for sign in (1, -1))
        found = slope(up.logits(x), down.logits(x)).sum()
        assert found == pytest.approx(gradient[21, 5], abs=1e-7)


def test_thresholds_of_the_input_by_fisher_information(trained: Trained) -> None:
    act = quantize(trained.x)
    scale = float(act.scale)
    real = act.values * scale
    curvature = fisher_curvature(trained.network.backward(real, trained.labels)[0])
    base = trained.loss(real)
    everything = loss_change(curvature, conversion_error(act.values, select(act.values, scale, 0.0), scale))
    shares, thresholds = [], []
    for part in (0.0, 0.05, 0.3, 0.7, 1.01):
        budget = part * everything
        found = choose_threshold(act.values, scale, curvature, budget)
        again = select(act.values, scale, found.threshold)
        assert np.array_equal(found.selection.low, again.low)
        error = conversion_error(act.values, again, scale)
        assert found.predicted == pytest.approx(loss_change(curvature, error))
        assert found.predicted <= budget
        # No smaller float64 stays within the budget.
        if found.threshold:
            below = select(act.values, scale, math.nextafter(found.threshold, 0.0))
            assert loss_change(curvature, conversion_error(act.values, below, scale)) > budget
        converted = dequantize(convert(act.values, again), again, scale)
        assert np.allclose(converted - real, error)
        assert trained.loss(converted) - base < 0.02
        assert trained.accuracy(converted) > trained.accuracy(real) - 0.01
        shares.append(found.low_share)
        thresholds.append(found.threshold)
    assert shares == sorted(shares)
    assert thresholds == sorted(thresholds, reverse=True)
    assert (shares[0], shares[-1], thresholds[-1]) == (0.0, 1.0, 0.0)
    assert 0 < shares[2] < 1


def test_a_threshold_for_each_layer(trained: Trained) -> None:
    """Weights and activations of both layers, each with its budget; the whole network runs with them."""
    x = quantize(trained.x)
    of_x, of_hidden, *_ = trained.network.backward(trained.x, trained.labels)
    hidden = quantize(trained.network.forward(trained.x)[0])
    found, real = {}, {}
    cases = {
        "x": (x, fisher_curvature(of_x), (1,)),
        "hidden": (hidden, fisher_curvature(of_hidden), (1,)),
    }
    for name in ("first", "second"):
        weight = quantize(getattr(trained.network, name))
        which = 2 if name == "first" else 3
        every = [
            trained.network.backward(trained.x[i : i + 1], trained.labels[i : i + 1])[which]
            for i in range(0, len(trained.x), 3)
        ]
        cases[name] = (weight, fisher_curvature(np.stack(every)).sum(axis=0), (None, 1))
    for name, (tensor, curvature, block) in cases.items():
        scale = float(tensor.scale)
        found[name] = choose_threshold(tensor.values, scale, curvature, 1e-3, block=block)
        assert found[name].predicted <= 1e-3
        chosen = select_blocks(tensor.values, block, scale, found[name].threshold)
        real[name] = dequantize(convert(tensor.values, chosen), chosen, scale)
    assert {name: one.low_share > 0 for name, one in found.items()} == dict.fromkeys(cases, True)
    network = Network(real["first"], real["second"])
    assert float((network.logits(real["x"]).argmax(axis=1) == trained.labels).mean()) > (
        trained.accuracy(trained.x) - 0.02
    )
    moved = float(losses(real["hidden"] @ trained.network.second, trained.labels).mean())
    assert abs(moved - trained.loss(trained.x)) < 0.01


def softmax_hessian(trained: Trained, hidden: Floats) -> tuple[Floats, Floats]:
    """Give the Hessian of each sample's loss by its hidden units: W(diag p - ppᵀ)Wᵀ."""
    second = trained.network.second
    p = softmax(hidden @ second)
    middle = np.einsum("si,ij->sij", p, np.eye(10)) - p[:, :, np.newaxis] * p[:, np.newaxis]
    return np.einsum("ai,sij,bj->sab", second, middle, second), p


def test_hutchinson_s_trace(trained: Trained) -> None:
    hessians, _ = softmax_hessian(trained, trained.network.forward(trained.x[:40])[0])

    def product(v: Floats) -> Floats:
        return np.einsum("sab,sb->sa", hessians, v.reshape(40, 32)).reshape(-1)

    exact = float(np.einsum("saa->", hessians))
    assert hutchinson_trace(product, 40 * 32, probes=200) == pytest.approx(exact, rel=0.05)
    diagonal = np.arange(1.0, 9.0)
    assert hutchinson_trace(lambda v: diagonal * v, 8, probes=1) == pytest.approx(36.0)


@needs_torch
def test_traces_by_torch(trained: Trained) -> None:
    import torch

    hidden = trained.network.forward(trained.x[:40])[0]
    hessians, _ = softmax_hessian(trained, hidden)
    act, weight = (torch.tensor(one, requires_grad=True) for one in (hidden, trained.network.second))
    loss = torch.nn.functional.cross_entropy(act @ weight, torch.tensor(trained.labels[:40]))
    of_act, of_weight = torch_traces(loss, [act, weight], probes=100)
    # Of the mean loss: a 40th of each sample's.
    assert of_act == pytest.approx(float(np.einsum("saa->", hessians)) / 40, rel=0.1)
    p = softmax(hidden @ trained.network.second)
    exact = float(((hidden**2).sum(axis=1) * (p * (1 - p)).sum(axis=1)).mean())
    assert of_weight == pytest.approx(exact, rel=0.1)
    linear = torch.ones(4, requires_grad=True)
    assert torch_traces((3 * linear).sum(), [linear], probes=2) == [0.0]
    quantized = quantize(hidden)
    curvature = trace_curvature(of_act, hidden.size)
    found = choose_threshold(quantized.values, float(quantized.scale), curvature, 1e-4)
    assert found.predicted <= 1e-4
    error = conversion_error(quantized.values, found.selection, float(quantized.scale))
    # 1/2·tr(H)/numel·||Δx||².
    assert found.predicted == pytest.approx(0.5 * of_act / hidden.size * float((error**2).sum()))


def test_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(BitfabricError, match=r"bitfabric\[hessian\]"):
        torch_traces(None, [])
