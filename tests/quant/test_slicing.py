"""Bit slices: exhaustive over every width they exist for, against an arithmetic of magnitudes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.quant.slicing import (
    ACT_BITS,
    WEIGHT_BITS,
    join_signed,
    join_unsigned,
    signed_slices,
    unsigned_slices,
)


def sign_magnitude_slices(w: int, count: int) -> list[int]:
    """Slice by divmod: base-8 digits of w, or of its complement -1-w, digits negated."""
    if count == 1:
        return [w]
    if w >= 0:
        return [w % 8, *sign_magnitude_slices(w // 8, count - 1)]
    magnitude = -1 - w
    return [-1 - magnitude % 8, *sign_magnitude_slices(-(magnitude // 8), count - 1)]


@pytest.mark.parametrize("bits", WEIGHT_BITS)
def test_every_weight(bits: int) -> None:
    w = np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1))
    slices = signed_slices(w, bits)
    count = {4: 1, 7: 2, 10: 3, 13: 4}[bits]
    assert slices.shape == (count, w.size)
    assert slices.dtype == np.int8
    assert slices.min() == -8
    assert slices.max() == 7
    assert np.array_equal(sum(8**i * slices[i].astype(int) for i in range(count)), w)
    assert slices.T.tolist() == [sign_magnitude_slices(int(v), count) for v in w]
    assert np.array_equal(join_signed(slices), w)


def test_small_weights_have_an_empty_high_slice() -> None:
    w = np.arange(-64, 64)
    high = signed_slices(w)[1]
    assert w[high == 0].tolist() == list(range(-8, 8))


@pytest.mark.parametrize("bits", ACT_BITS)
def test_every_activation(bits: int) -> None:
    x = np.arange(2**bits)
    slices = unsigned_slices(x, bits)
    assert slices.dtype == np.uint8
    # Hexadecimal digits are the slices, most significant first.
    digits = [[int(d, 16) for d in f"{v:0{bits // 4}x}"] for v in range(2**bits)]
    assert slices[::-1].T.tolist() == digits
    assert np.array_equal(join_unsigned(slices), x)


@pytest.mark.parametrize("low_bits", [4, 5, 6])
def test_every_activation_of_every_dbs_type(low_bits: int) -> None:
    x = np.arange(256)
    low, high = unsigned_slices(x, 8, low_bits).astype(int)
    for value in range(256):
        text = f"{value:08b}"
        assert high[value] == int(text[: 8 - low_bits], 2)
        assert low[value] == int(text[8 - low_bits : 12 - low_bits], 2)
    joined = join_unsigned(unsigned_slices(x, 8, low_bits), low_bits)
    assert np.array_equal(joined, x - x % 2 ** (low_bits - 4))


def test_shapes_and_dtypes() -> None:
    w = np.random.default_rng(0).integers(-64, 64, (3, 0, 5, 2), dtype=np.int8)
    assert signed_slices(w).shape == (2, 3, 0, 5, 2)
    assert unsigned_slices(np.uint8(255)).tolist() == [15, 15]
    full = np.random.default_rng(0).integers(-64, 64, (3, 4, 5), dtype=np.int8)
    assert np.array_equal(join_signed(signed_slices(full)), full)
    # Slices that no weight cuts into still have a value.
    assert join_signed([[-8], [7]]).tolist() == [48]
    assert join_signed([[7], [-8]]).tolist() == [-57]
    assert join_signed([[-8]] * 4).tolist() == [-8 * (1 + 8 + 64 + 512)]


REFUSALS: list[tuple[Callable[[], object], str]] = [
    *(
        (
            lambda bits=bits: signed_slices([0], bits),
            f"bits={bits} is not allowed; it must be one of 4, 7, 10, 13",
        )
        # 16 bits would be weights of five slices.
        for bits in (0, 3, 5, 8, 12, 16)
    ),
    *(
        (
            lambda bits=bits: unsigned_slices([0], bits),
            f"bits={bits} is not allowed; it must be one of 4, 8, 12, 16",
        )
        for bits in (0, 7, 20)
    ),
    (lambda: signed_slices([64]), "w=64 is not allowed; it must be in [-64, 63]"),
    (lambda: signed_slices([0, -65]), "w=-65 is not allowed; it must be in [-64, 63]"),
    (
        lambda: signed_slices([0.5]),
        "w='float64' is not allowed; it must be an integer or an array of integers",
    ),
    (lambda: unsigned_slices([-1]), "x=-1 is not allowed; it must be in [0, 255]"),
    (lambda: unsigned_slices([4096], 12), "x=4096 is not allowed; it must be in [0, 4095]"),
    (
        lambda: unsigned_slices([True]),
        "x='bool' is not allowed; it must be an integer or an array of integers",
    ),
    (lambda: unsigned_slices([0], 8, 7), "low_bits=7 is not allowed; it must be one of 4, 5, 6"),
    (
        lambda: unsigned_slices([0], 12, 5),
        "low_bits=5 is not allowed; it must be 4 with 3 activation slices; 5 and 6 need 2",
    ),
    (
        lambda: unsigned_slices([0], 4, 6),
        "low_bits=6 is not allowed; it must be 4 with 1 activation slices; 5 and 6 need 2",
    ),
    (
        lambda: join_unsigned([[1]] * 3, 5),
        "low_bits=5 is not allowed; it must be 4 with 3 activation slices; 5 and 6 need 2",
    ),
    (
        lambda: join_signed(np.zeros((5, 1), int)),
        "slices=(5, 1) is not allowed; it must be an array of 1 to 4 slices along axis 0",
    ),
    (
        lambda: join_unsigned(np.zeros((0, 1), int)),
        "slices=(0, 1) is not allowed; it must be an array of 1 to 4 slices along axis 0",
    ),
    (
        lambda: join_signed(3),
        "slices=() is not allowed; it must be an array of 1 to 4 slices along axis 0",
    ),
    (lambda: join_signed([[8]]), "slices=8 is not allowed; it must be in [-8, 7]"),
    (lambda: join_unsigned([[16]]), "slices=16 is not allowed; it must be in [0, 15]"),
    (lambda: join_unsigned([[0], [4]], 6), "slices=4 is not allowed; it must be in [0, 3]"),
]


@pytest.mark.parametrize(("call", "text"), REFUSALS, ids=range(len(REFUSALS)))
def test_refusals(call: Callable[[], object], text: str) -> None:
    with pytest.raises(ParameterError) as error:
        call()
    assert str(error.value) == text
