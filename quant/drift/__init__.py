"""Drift: each sub-tensor of activations or weights at the precision its distribution asks for, chosen at run time."""

from bitfabric.quant.drift.conversion import convert, dequantize
from bitfabric.quant.drift.convolution import conv_statistics, im2col, select_conv
from bitfabric.quant.drift.curvature import (
    fisher_curvature,
    hutchinson_trace,
    loss_change,
    torch_traces,
    trace_curvature,
)
from bitfabric.quant.drift.decision import Selection, select_integer, select_statistics
from bitfabric.quant.drift.layer import LayerResult, PostProcess, drift_layer
from bitfabric.quant.drift.operands import (
    LowShare,
    MixedOperand,
    SubGemm,
    gemm,
    high_operand,
    low_share,
    mixed_acts,
    mixed_weights,
    select_weights,
    sub_gemms,
)
from bitfabric.quant.drift.pooling import Pooling, pool
from bitfabric.quant.drift.selection import select, select_blocks, select_float, select_rows
from bitfabric.quant.drift.sensitivity import ThresholdChoice, choose_threshold, conversion_error
from bitfabric.quant.drift.statistics import Statistics, block_statistics, saturate, statistics
from bitfabric.quant.drift.sweep import SweepPoint, mean_cosine, sweep_threshold
from bitfabric.quant.drift.thresholds import (
    NEVER,
    critical_threshold,
    high_clips,
    integer_threshold,
    representation_density,
    representation_range,
)

__all__ = [
    "NEVER",
    "LayerResult",
    "LowShare",
    "MixedOperand",
    "Pooling",
    "PostProcess",
    "Selection",
    "Statistics",
    "SubGemm",
    "SweepPoint",
    "ThresholdChoice",
    "block_statistics",
    "choose_threshold",
    "conv_statistics",
    "conversion_error",
    "convert",
    "critical_threshold",
    "dequantize",
    "drift_layer",
    "fisher_curvature",
    "gemm",
    "high_clips",
    "high_operand",
    "hutchinson_trace",
    "im2col",
    "integer_threshold",
    "loss_change",
    "low_share",
    "mean_cosine",
    "mixed_acts",
    "mixed_weights",
    "pool",
    "representation_density",
    "representation_range",
    "saturate",
    "select",
    "select_blocks",
    "select_conv",
    "select_float",
    "select_integer",
    "select_rows",
    "select_statistics",
    "select_weights",
    "statistics",
    "sub_gemms",
    "sweep_threshold",
    "torch_traces",
    "trace_curvature",
]
