"""DTQAtten's bit operations, and the search of shares on an attention model that learns scikit-learn's digits."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from bitfabric.quant.dtqatten import counts
from bitfabric.quant.dtqatten_attention import attention
from bitfabric.quant.dtqatten_bops import LayerSize, Shares, layer_bops, mean_bops
from bitfabric.quant.dtqatten_search import cross_entropy, search_shares
from bitfabric.quant.dtqatten_tokens import quantize_attention
from bitfabric.quant.errors import BitfabricError, ParameterError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

TOKENS, WIDTH, HEADS, HEAD = 16, 16, 2, 8
BLOCKS = 3
ALL_HIGH = Shares(0.0, 0.0, 1.0)
# The first block has no importance yet: 8 bits; the others are searched.
SIZES = (LayerSize(TOKENS, HEADS, HEAD),) * (BLOCKS - 1)


def test_bit_operations_pair_by_pair() -> None:
    size = LayerSize(20, 3, 8)
    assert size.flops == 4 * 3 * 20 * 20 * 8
    bits = np.array([8] * 5 + [4] * 9 + [0] * 6)
    expected = 0
    for query in bits:
        for key in bits:
            # Two operations for each of d products, in each of three heads, in Q·Kᵀ and in prob·V.
            expected += 2 * 8 * 3 * int(query * key)
            expected += 2 * 8 * 3 * int(8 * key) if query else 0
    assert layer_bops(Shares(0.3, 0.45, 0.25), size) == pytest.approx(expected)


def test_mean_bit_operations() -> None:
    sizes = (LayerSize(20, 3, 8), LayerSize(128, 12, 64))
    assert mean_bops([ALL_HIGH] * 2, sizes) == 64
    assert mean_bops([Shares(0.0, 1.0, 0.0)] * 2, sizes) == 24
    assert mean_bops([Shares(1.0, 0.0, 0.0)] * 2, sizes) == 0
    mixed = mean_bops([ALL_HIGH, Shares(0.0, 1.0, 0.0)], sizes)
    assert mixed == pytest.approx((64 * sizes[0].flops + 24 * sizes[1].flops) / sum(s.flops for s in sizes))
    assert Shares(0.65, 0.3, 0.05).keep == pytest.approx(0.35)
    assert Shares(0.65, 0.3, 0.05).mean_bits == pytest.approx(1.6)


def softmax(x: Floats) -> Floats:
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def split(x: Floats) -> Floats:
    """(..., tokens, width) to (..., heads, tokens, head)."""
    return x.reshape(*x.shape[:-1], HEADS, HEAD).swapaxes(-2, -3)


def join(x: Floats) -> Floats:
    return x.swapaxes(-2, -3).reshape(*x.shape[:-3], x.shape[-2], WIDTH)


def outer(x: Floats, y: Floats) -> Floats:
    """Sum the outer products of each sample's and token's vectors."""
    return x.reshape(-1, x.shape[-1]).T @ y.reshape(-1, y.shape[-1])


class Model:
    """16 patches of 2x2 pixels, three residual attention blocks, mean pooling; gradients written out by hand."""

    def __init__(self, rng: np.random.Generator):
        def normal(*shape: int) -> Floats:
            return rng.normal(0, shape[0] ** -0.5, shape)

        self.weights = {
            "embed": normal(4, WIDTH),
            "place": 0.3 * normal(1, TOKENS, WIDTH),
            "out": normal(WIDTH, 10),
        }
        for block in range(BLOCKS):
            for name in "qkvo":
                self.weights[f"{name}{block}"] = normal(WIDTH, WIDTH)

    def gradients(self, x: Floats, labels: Ints) -> dict[str, Floats]:
        w, kept = self.weights, []
        h = x @ w["embed"] + w["place"]
        for block in range(BLOCKS):
            q, k, v = (split(h @ w[f"{name}{block}"]) for name in "qkv")
            p = softmax(q @ k.swapaxes(-1, -2) / HEAD**0.5)
            mixed = np.tanh(join(p @ v))
            kept.append((h, q, k, v, p, mixed))
            h = h + mixed @ w[f"o{block}"]
        pooled = h.mean(axis=1)
        wrong = (softmax(pooled @ w["out"]) - np.eye(10)[labels]) / len(x)
        found = {"out": pooled.T @ wrong}
        of_h = np.repeat((wrong @ w["out"].T / TOKENS)[:, np.newaxis], TOKENS, axis=1)
        for block in reversed(range(BLOCKS)):
            before, q, k, v, p, mixed = kept[block]
            found[f"o{block}"] = outer(mixed, of_h)
            of_mixed = split((of_h @ w[f"o{block}"].T) * (1 - mixed**2))
            of_p = of_mixed @ v.swapaxes(-1, -2)
            of_scores = p * (of_p - (p * of_p).sum(axis=-1, keepdims=True)) / HEAD**0.5
            of = {"q": of_scores @ k, "k": of_scores.swapaxes(-1, -2) @ q, "v": p.swapaxes(-1, -2) @ of_mixed}
            for name, one in of.items():
                found[f"{name}{block}"] = outer(before, join(one))
                of_h = of_h + join(one) @ w[f"{name}{block}"].T
        found["embed"] = outer(x, of_h)
        found["place"] = of_h.sum(axis=0, keepdims=True)
        return found

    def logits(self, x: Floats, shares: tuple[Shares, ...] | None = None) -> Floats:
        """Classify; with shares, each sample through the golden attention, its tokens selected on the way."""
        w = self.weights
        h = x @ w["embed"] + w["place"]
        if shares is None:
            for block in range(BLOCKS):
                q, k, v = (split(h @ w[f"{name}{block}"]) for name in "qkv")
                h = h + np.tanh(join(softmax(q @ k.swapaxes(-1, -2) / HEAD**0.5) @ v)) @ w[f"o{block}"]
            return h.mean(axis=1) @ w["out"]
        return np.stack([self.one(sample, shares).mean(axis=0) for sample in h]) @ w["out"]

    def one(self, h: Floats, shares: tuple[Shares, ...]) -> Floats:
        w, bits, ids = self.weights, np.full(TOKENS, 8), np.arange(TOKENS)
        for block in range(BLOCKS):
            q, k, v = (split(h @ w[f"{name}{block}"]) for name in "qkv")
            case = quantize_attention(q, k, v, bits)
            # After the last block all that are left are pooled.
            following = shares[block] if block < len(shares) else ALL_HIGH
            k0, k1 = counts(TOKENS, following.keep, following.high, left=len(ids))
            found = attention(*case.vectors, bits=bits, parameters=case.parameters, k0=k0, k1=k1, ids=ids)
            h = (h + np.tanh(join(found.outputs * case.out_scale)) @ w[f"o{block}"])[found.order]
            ids, bits = found.next_ids, found.next_bits
        return h


@dataclass(frozen=True)
class Trained:
    model: Model
    x: Floats
    labels: Ints

    def loss(self, shares: tuple[Shares, ...] | None) -> float:
        return cross_entropy(self.model.logits(self.x, shares), self.labels)

    def accuracy(self, shares: tuple[Shares, ...] | None) -> float:
        return float((self.model.logits(self.x, shares).argmax(axis=1) == self.labels).mean())


@pytest.fixture(scope="module")
def trained() -> Trained:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = datasets.load_digits(return_X_y=True)
    x = (images / 8 - 1).reshape(-1, 4, 2, 4, 2).swapaxes(2, 3).reshape(-1, TOKENS, 4)
    rng = np.random.default_rng(0)
    model = Model(rng)
    first = {name: np.zeros_like(w) for name, w in model.weights.items()}
    second = {name: np.zeros_like(w) for name, w in model.weights.items()}
    step = 0
    for _ in range(12):
        for part in np.array_split(rng.permutation(1200), 24):
            step += 1
            # Adam.
            for name, gradient in model.gradients(x[part], labels[part]).items():
                first[name] += 0.1 * (gradient - first[name])
                second[name] += 0.01 * (gradient**2 - second[name])
                move = (first[name] / (1 - 0.9**step)) / (np.sqrt(second[name] / (1 - 0.99**step)) + 1e-8)
                model.weights[name] -= 4e-3 * move
    # What it has not seen is what shares are searched on.
    return Trained(model, x[1200:1280], labels[1200:1280])


def test_the_handwritten_gradients(trained: Trained) -> None:
    x, labels = trained.x[:3], trained.labels[:3]
    found = trained.model.gradients(x, labels)
    for name in ("embed", "place", "q0", "k1", "v0", "o2", "out"):
        weight = trained.model.weights[name]
        place = np.unravel_index(weight.size // 2, weight.shape)
        losses, value = [], weight[place]
        for moved in (value + 1e-5, value - 1e-5):
            weight[place] = moved
            losses.append(cross_entropy(trained.model.logits(x), labels))
        weight[place] = value
        assert found[name][place] == pytest.approx((losses[0] - losses[1]) / 2e-5, rel=1e-3, abs=1e-8), name


def test_attention_in_integers_keeps_the_model(trained: Trained) -> None:
    exact = trained.accuracy(None)
    assert exact > 0.85
    assert trained.accuracy((ALL_HIGH,) * 2) > exact - 0.02
    # One token in block 1 and 2 is too little.
    assert trained.loss((Shares(0.95, 0.05, 0.0),) * 2) > trained.loss((ALL_HIGH,) * 2) + 0.1


def test_search_on_digits(trained: Trained) -> None:
    pytest.importorskip("optuna", reason="the search extra (optuna) is not installed")
    start = trained.loss((ALL_HIGH,) * 2)
    # 64 * 0.005: 8-bit attention weighs about what a useless model's loss does.
    found = search_shares(trained.loss, SIZES, weight=0.005)
    assert len(found.trials) == 20
    assert found.trials[0].shares == (ALL_HIGH,) * 2
    assert found.trials[0].loss == start
    assert found.trials[0].bops == 64
    assert found.best.objective == min(one.objective for one in found.trials)
    assert found.best.objective < found.trials[0].objective - 0.05
    assert found.best.bops < 40
    # On the 80 images that it was searched on.
    assert trained.accuracy(found.best.shares) > trained.accuracy(None) - 0.05


def toy(shares: tuple[Shares, ...]) -> float:
    """Lose little where the first layer keeps much and the second is 4-bit."""
    return (1 - shares[0].high) ** 2 + sum(one.pruned**2 for one in shares)


def test_what_is_tried() -> None:
    pytest.importorskip("optuna", reason="the search extra (optuna) is not installed")
    sizes = (LayerSize(10, 1, 4),) * 2
    found = search_shares(toy, sizes, weight=0.01, trials=40, seed=3)
    for trial in found.trials:
        for one in trial.shares:
            assert one.pruned + one.low + one.high == pytest.approx(1, abs=1e-12)
            assert one.keep >= 0.05 - 1e-12
            for share in (one.pruned, one.low, one.high):
                assert share * 20 == pytest.approx(round(share * 20), abs=1e-9)
        # Pruned tokens do not return.
        assert trial.shares[1].pruned >= trial.shares[0].pruned
        assert trial.objective == trial.loss + 0.01 * trial.bops
        assert trial.bops == mean_bops(trial.shares, sizes)
        assert trial.loss == toy(trial.shares)
    again = search_shares(toy, sizes, weight=0.01, trials=40, seed=3)
    assert again == found
    assert search_shares(toy, sizes, weight=0.01, trials=40, seed=4) != found
    # The heavier the operations weigh, the fewer; weightless, the loss alone counts.
    assert search_shares(toy, sizes, weight=1.0, trials=40).best.bops < found.best.bops
    assert search_shares(toy, sizes, weight=0.0, trials=40).best.loss == 0
    assert len(search_shares(toy, sizes, trials=1).trials) == 1


def test_cross_entropy() -> None:
    assert cross_entropy([[0.0, 0.0], [np.log(3), 0.0]], [1, 0]) == pytest.approx(
        (np.log(2) + np.log(4 / 3)) / 2
    )
    assert cross_entropy([[1e4, 0.0]], [1]) == pytest.approx(1e4)


def test_without_optuna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(BitfabricError, match=r"bitfabric\[search\]"):
        search_shares(toy, (LayerSize(10, 1, 4),) * 2)


SIZE = LayerSize(10, 1, 4)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: Shares(-0.1, 0.6, 0.5), "pruned"),
        (lambda: Shares(0.0, 0.0, float("nan")), "high"),
        (lambda: Shares(0.5, 0.5, 0.5), "pruned + low + high"),
        (lambda: LayerSize(0, 1, 1), "tokens"),
        (lambda: LayerSize(1, 1, cast(int, 1.5)), "head_size"),
        (lambda: mean_bops([], []), "shares"),
        (lambda: mean_bops([ALL_HIGH], [SIZE, SIZE]), "shares"),
        (lambda: search_shares(toy, []), "len(sizes)"),
        (lambda: search_shares(toy, [SIZE], trials=0), "trials"),
        (lambda: search_shares(toy, [SIZE], steps=0), "steps"),
        (lambda: search_shares(toy, [SIZE], seed=-1), "seed"),
        (lambda: search_shares(toy, [SIZE], weight=-1.0), "weight"),
        (lambda: cross_entropy([1.0], [0]), "logits"),
        (lambda: cross_entropy([[np.inf, 1.0]], [0]), "logits"),
        (lambda: cross_entropy([[1.0, 1.0]], [2]), "labels"),
        (lambda: cross_entropy([[1.0, 1.0]], [0, 1]), "labels"),
    ],
)
def test_refused(call: Callable[[], object], name: str) -> None:
    with pytest.raises(ParameterError) as refused:
        call()
    assert refused.value.name == name


def test_a_loss_that_is_not_finite() -> None:
    pytest.importorskip("optuna", reason="the search extra (optuna) is not installed")
    with pytest.raises(ParameterError, match="finite"):
        search_shares(lambda shares: float("nan"), [SIZE])
