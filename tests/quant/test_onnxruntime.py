"""Our integers against onnxruntime's: a GEMM, a requantization and a quantizer that no one here wrote."""

from __future__ import annotations

from fractions import Fraction
from itertools import product
from math import floor
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from bitfabric.quant.gemm import gemm
from bitfabric.quant.requant import requant_parameters, requantize
from bitfabric.quant.uniform import quantize

DTYPES = {"u8": np.uint8, "s8": np.int8}
PAIRS = list(product(DTYPES, DTYPES))


def run(operator: str, inputs: dict[str, np.ndarray], outputs: dict[str, Any]) -> list[np.ndarray]:
    """Run one ONNX operator, its graph optimizations off."""
    graph = helper.make_graph(
        [helper.make_node(operator, list(inputs), list(outputs))],
        operator,
        [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in inputs.items()
        ],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return list(session.run(list(outputs), {name: np.asarray(value) for name, value in inputs.items()}))


def integers(rng: np.random.Generator, dtype: type, *shape: int) -> np.ndarray:
    """Draw from the whole range, the extremes more often than by chance."""
    info = np.iinfo(dtype)
    drawn = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
    extremes = rng.choice(np.array([info.min, info.max], dtype), shape)
    return np.where(rng.random(shape) < 0.1, extremes, drawn)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_matmul_integer_is_exact(left: str, right: str) -> None:
    rng = np.random.default_rng(PAIRS.index((left, right)))
    for m, k, n in [(1, 1, 1), (5, 7, 3), (16, 64, 9), (33, 768, 40), (4, 3000, 17)]:
        a, b = integers(rng, DTYPES[left], m, k), integers(rng, DTYPES[right], k, n)
        a_point, b_point = integers(rng, DTYPES[left]), integers(rng, DTYPES[right], n)
        (theirs,) = run(
            "MatMulInteger",
            {"a": a, "b": b, "a_point": a_point, "b_point": b_point},
            {"y": TensorProto.INT32},
        )
        # Once from centred operands, once with the zero points folded out of the plain product.
        assert np.array_equal(gemm(a.astype(np.int16) - a_point, b.astype(np.int16) - b_point), theirs)
        rows, columns = a.sum(axis=1, keepdims=True, dtype=int), b.sum(axis=0, dtype=int)
        fold = k * int(a_point) * b_point.astype(int) - int(a_point) * columns - rows * b_point.astype(int)
        assert np.array_equal(gemm(a, b) + fold, theirs)


@pytest.mark.parametrize(("left", "right"), [pair for pair in PAIRS if pair != ("s8", "u8")])
def test_qlinear_matmul_differs_only_at_near_ties(left: str, right: str) -> None:
    """Compare requantized outputs.

    onnxruntime multiplies the accumulator by a float32 scale and rounds half to even; we multiply by a
    31-bit integer and round half up. So the two may differ by 1 at a tie, or where the true quotient is
    within float32's error of one, and nowhere else: each difference is checked to be such a near-tie. (onnxruntime has no
    QLinearMatMul of int8 by uint8.)
    """
    rng = np.random.default_rng(10 + PAIRS.index((left, right)))
    total = differing = 0
    for (k, n), exact_ties in product([(64, 96), (384, 128), (1536, 64)], [False, True]):
        a, b = integers(rng, DTYPES[left], 200, k), integers(rng, DTYPES[right], k, n)
        # Zero points about the middle of the range, so that most outputs do not saturate.
        a_point, b_point, y_point = (
            DTYPES[kind](rng.integers(-6, 7) + (128 if kind == "u8" else 0)) for kind in (left, right, left)
        )
        acc = gemm(a.astype(np.int16) - a_point, b.astype(np.int16) - b_point)
        scales = np.float32([rng.uniform(0.01, 0.1), rng.uniform(0.001, 0.01), 0.0])
        scales[2] = scales[0] * scales[1] * acc.std() / 70
        if exact_ties:
            # Powers of two: float32 is exact, and the two part at true ties only.
            scales = np.exp2(np.rint(np.log2(scales)))
        (theirs,) = run(
            "QLinearMatMul",
            {
                "a": a,
                "a_scale": scales[0],
                "a_point": a_point,
                "b": b,
                "b_scale": scales[1],
                "b_point": b_point,
                "y_scale": scales[2],
                "y_point": y_point,
            },
            {"y": TensorProto.UINT8 if left == "u8" else TensorProto.INT8},
        )
        factor = Fraction(float(scales[0])) * Fraction(float(scales[1])) / Fraction(float(scales[2]))
        multiplier, shift = requant_parameters(float(factor))
        info = np.iinfo(DTYPES[left])
        low, high = int(info.min) - int(y_point), int(info.max) - int(y_point)
        ours = requantize(acc, multiplier, shift, int(y_point), low, high)
        assert len(np.unique(ours)) == 256
        total += ours.size
        for i, j in np.argwhere(ours != theirs):
            differing += 1
            assert abs(int(ours[i, j]) - int(theirs[i, j])) == 1
            quotient = int(acc[i, j]) * factor
            distance = abs(quotient - floor(quotient) - Fraction(1, 2))
            # Three float32 roundings (two of the scale, one of the product), 2^-24 each.
            assert distance <= abs(quotient) * 3 * Fraction(1, 2**24)
    # Some differ, or nothing above was checked.
    assert 0 < differing <= total // 1000


def test_exact_ties_are_where_the_two_roundings_part() -> None:
    """Show the other half of the explanation: at a true tie onnxruntime goes to even, we go up."""
    a = np.arange(-9, 10, dtype=np.int8).reshape(-1, 1)
    one, zero = np.float32(1), np.int8(0)
    (theirs,) = run(
        "QLinearMatMul",
        {
            "a": a,
            "a_scale": one,
            "a_point": zero,
            "b": np.array([[1]], np.int8),
            "b_scale": one,
            "b_point": zero,
            "y_scale": np.float32(2),
            "y_point": zero,
        },
        {"y": TensorProto.INT8},
    )
    ours = requantize(gemm(a, [[1]]), *requant_parameters(0.5))
    assert ours.ravel().tolist() == [-4, -4, -3, -3, -2, -2, -1, -1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    assert theirs.ravel().tolist() == [-4, -4, -4, -3, -2, -2, -2, -1, 0, 0, 0, 1, 2, 2, 2, 3, 4, 4, 4]


def test_asymmetric_quantization_is_dynamic_quantize_linear() -> None:
    rng = np.random.default_rng(3)
    for spread, offset in [(1, 0), (10, 3), (0.01, -0.2), (1, 50), (5, -100)]:
        x = (rng.normal(size=(40, 50)) * spread + offset).astype(np.float32)
        outputs = {"y": TensorProto.UINT8, "scale": TensorProto.FLOAT, "point": TensorProto.UINT8}
        values, scale, point = run("DynamicQuantizeLinear", {"x": x}, outputs)
        ours = quantize(x, symmetric=False)
        assert float(ours.scale) == pytest.approx(float(scale), rel=1e-6)
        assert int(ours.zero_point) == int(point)
        # They divide in float32, so a quotient next to a tie may fall on its other side.
        apart = ours.values != values
        quotient = x[apart].astype(np.float64) / float(ours.scale)
        assert np.all(np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5) < 1e-4)
        assert apart.sum() <= 2


@pytest.mark.parametrize("symmetric", [True, False])
def test_our_scales_in_quantize_linear(symmetric: bool) -> None:
    rng = np.random.default_rng(4)
    x = rng.normal(size=(64, 32)).astype(np.float32)
    ours = quantize(x, symmetric=symmetric)
    dtype = np.int8 if symmetric else np.uint8
    (theirs,) = run(
        "QuantizeLinear",
        {"x": x, "scale": ours.scale.astype(np.float32), "point": ours.zero_point.astype(dtype)},
        {"y": helper.np_dtype_to_tensor_dtype(np.dtype(dtype))},
    )
    apart = theirs != ours.values
    quotient = x[apart].astype(np.float64) / float(ours.scale)
    assert np.all(np.abs(np.abs(quotient - np.trunc(quotient)) - 0.5) < 1e-4)
    assert apart.sum() <= 2
