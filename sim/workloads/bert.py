"""List the GEMMs of BERT-base and ResNet-18: shapes only, for the cycle models."""

from __future__ import annotations

from dataclasses import dataclass

from bitfabric.quant.errors import check_range


@dataclass(frozen=True)
class GemmShape:
    """Hold one GEMM of a network and how often it occurs.

    Members
    -------
    name : str
        Where it comes from.
    m, k, n : int
        Activation rows, contraction, output channels.
    count : int
        Times it runs in one inference.
    """

    name: str
    m: int
    k: int
    n: int
    count: int = 1

    @property
    def macs(self) -> int:
        """Return the multiply-accumulates of all ``count`` of them."""
        return self.m * self.k * self.n * self.count


def bert_base(tokens: int = 128) -> list[GemmShape]:
    """Return the GEMMs of BERT-base's encoder for one sequence [derived from its published sizes].

    12 layers, hidden size 768, 12 heads of 64, feed-forward size 3072. In Q·Kᵀ and prob·V, one per head,
    the second operand is an activation too. Embeddings are look-ups; the pooler is left out.

    Parameters
    ----------
    tokens : int
        Sequence length, 1 to 512 (BERT's positions).

    Raises
    ------
    ParameterError
        If ``tokens`` is out of range.
    """
    tokens = check_range("tokens", tokens, 1, 512)
    layers, hidden, heads, inner = 12, 768, 12, 3072
    head = hidden // heads
    return [
        *(GemmShape(name, tokens, hidden, hidden, layers) for name in ("q", "k", "v")),
        GemmShape("qk", tokens, head, tokens, layers * heads),
        GemmShape("pv", tokens, tokens, head, layers * heads),
        GemmShape("o", tokens, hidden, hidden, layers),
        GemmShape("ffn1", tokens, hidden, inner, layers),
        GemmShape("ffn2", tokens, inner, hidden, layers),
    ]


def resnet18(image: int = 224) -> list[GemmShape]:
    """Return ResNet-18's convolutions as im2col GEMMs, and its classifier, for one image.

    Output positions are M, ``channels * kernel height * kernel width`` is K, output channels are N. Padding
    is half the kernel, as published, and its zeros count as products.

    Parameters
    ----------
    image : int
        Height and width in pixels, 1 to 4096.

    Raises
    ------
    ParameterError
        If ``image`` is out of range.
    """
    image = check_range("image", image, 1, 4096)
    shapes = []

    def convolve(name: str, size: int, channels: tuple[int, int], kernel: int, stride: int) -> int:
        out = _out_size(size, kernel, stride)
        shapes.append(GemmShape(name, out * out, channels[0] * kernel * kernel, channels[1]))
        return out

    size = convolve("conv1", image, (3, 64), 7, 2)
    size = _out_size(size, 3, 2)  # max pooling
    before = 64
    for stage, width in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            stride = 2 if stage > 1 and block == 0 else 1
            name = f"layer{stage}.{block}"
            out = convolve(f"{name}.conv1", size, (before, width), 3, stride)
            convolve(f"{name}.conv2", out, (width, width), 3, 1)
            if before != width:
                convolve(f"{name}.downsample", size, (before, width), 1, stride)
            size, before = out, width
    return [*shapes, GemmShape("fc", 1, 512, 1000)]


def _out_size(size: int, kernel: int, stride: int) -> int:
    return (size + 2 * (kernel // 2) - kernel) // stride + 1
