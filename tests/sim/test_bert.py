"""The GEMM shape lists: against multiply-accumulate totals worked out from the published layer sizes."""

from __future__ import annotations

import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.workloads.bert import GemmShape, bert_base, resnet18


@pytest.mark.parametrize("tokens", [1, 128, 384, 512])
def test_bert_base_products(tokens: int) -> None:
    # The encoder's weights take part once per token: 12 * (4 * 768^2 + 2 * 768 * 3072) = 84 934 656.
    # Attention adds tokens^2 products per hidden channel, twice per layer.
    expected = 84_934_656 * tokens + 12 * 2 * 768 * tokens * tokens
    assert sum(shape.macs for shape in bert_base(tokens)) == expected


def test_bert_base_at_128_tokens() -> None:
    shapes = {shape.name: (shape.m, shape.k, shape.n, shape.count) for shape in bert_base()}
    assert shapes == {
        "q": (128, 768, 768, 12),
        "k": (128, 768, 768, 12),
        "v": (128, 768, 768, 12),
        "qk": (128, 64, 128, 144),
        "pv": (128, 128, 64, 144),
        "o": (128, 768, 768, 12),
        "ffn1": (128, 768, 3072, 12),
        "ffn2": (128, 3072, 768, 12),
    }


def test_resnet18_products_and_weights() -> None:
    # 64 kernels of 3x7x7 at 112^2 positions; a 64-to-64 3x3 layer at 56^2 is 115 605 504 products, and so is
    # every later 3x3 layer that keeps its width; one that doubles it and halves the image is half that;
    # the first layer's stage has four of them, the others three, a half and a 1x1 shortcut.
    conv1, full, half, shortcut = 64 * 147 * 112**2, 64 * 576 * 56**2, 128 * 576 * 28**2, 128 * 64 * 28**2
    assert half * 2 == full
    expected = conv1 + 4 * full + 3 * (3 * full + half + shortcut) + 512 * 1000
    shapes = resnet18()
    assert sum(shape.macs for shape in shapes) == expected == 1_814_073_344
    # 11 689 512 published parameters, less the classifier's bias and two per batch norm channel.
    norms = 2 * (64 + 4 * 64 + 5 * 128 + 5 * 256 + 5 * 512)
    assert sum(shape.k * shape.n for shape in shapes) == 11_689_512 - 1000 - norms
    assert len(shapes) == 21


def test_resnet18_sizes_follow_the_image() -> None:
    rows = {shape.name: shape.m for shape in resnet18(32)}
    assert rows["conv1"] == 16**2
    assert rows["layer1.1.conv2"] == 8**2
    assert rows["layer2.0.conv1"] == rows["layer2.0.downsample"] == 4**2
    assert rows["layer4.1.conv2"] == rows["fc"] == 1
    # Odd sizes round up at every halving: 225 -> 113 -> 57 -> 29 -> 15 -> 8.
    odd = {shape.name: shape.m for shape in resnet18(225)}
    assert [odd[n] for n in ("conv1", "layer1.0.conv1", "layer2.0.conv1")] == [113**2, 57**2, 29**2]
    assert [odd[n] for n in ("layer3.0.conv1", "layer4.0.conv1")] == [15**2, 8**2]


def test_a_shape_counts_its_repetitions() -> None:
    assert GemmShape("x", 2, 3, 5, 7).macs == 210
    assert GemmShape("x", 2, 3, 5).count == 1


@pytest.mark.parametrize("tokens", [0, 513])
def test_tokens_out_of_range(tokens: int) -> None:
    with pytest.raises(ParameterError) as error:
        bert_base(tokens)
    assert str(error.value) == f"tokens={tokens} is not allowed; it must be an integer in [1, 512]"


@pytest.mark.parametrize("image", [0, 4097, 22.4])
def test_image_out_of_range(image: int) -> None:
    with pytest.raises(ParameterError) as error:
        resnet18(image)
    assert str(error.value) == f"image={image} is not allowed; it must be an integer in [1, 4096]"
