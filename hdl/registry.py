"""The designs and blocks that can be emitted, by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bitfabric.hdl.arith.bitbrick import BitBrick
from bitfabric.hdl.arith.bitgroup import BitGroup, BitGroupConfig
from bitfabric.hdl.arith.exponent import Exponent
from bitfabric.hdl.arith.fusion_unit import FusionUnitConfig, FusionUnitPe
from bitfabric.hdl.arith.pwl import PiecewiseLinear
from bitfabric.hdl.arith.reciprocal import Reciprocal
from bitfabric.hdl.arith.requantizer import Requantizer
from bitfabric.hdl.block import Block
from bitfabric.hdl.config import DesignConfig, param
from bitfabric.hdl.drift.config import DriftConfig
from bitfabric.hdl.drift.core import DriftCore
from bitfabric.hdl.drift.dispatcher import Dispatcher
from bitfabric.hdl.drift.drain import Drain
from bitfabric.hdl.drift.edge import EdgeColumn
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.hdl.drift.group import DriftGroup
from bitfabric.hdl.drift.intake import Intake
from bitfabric.hdl.drift.pooling import PoolingUnit
from bitfabric.hdl.drift.scheduler import Scheduler
from bitfabric.hdl.drift.selector import PrecisionSelector
from bitfabric.hdl.drift.top import DriftTop
from bitfabric.hdl.drift.weight_column import WeightColumn
from bitfabric.hdl.drq.config import DrqConfig
from bitfabric.hdl.drq.im2col import Im2col
from bitfabric.hdl.drq.predictor import Predictor
from bitfabric.hdl.drq.top import DrqTop
from bitfabric.hdl.dtqatten.arrays import vssa_array
from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.fetcher import Fetcher
from bitfabric.hdl.dtqatten.score_port import ScorePort
from bitfabric.hdl.dtqatten.selection import Selection
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.hdl.dtqatten.top import DtqattenTop
from bitfabric.hdl.dtqatten.topk import TopK
from bitfabric.hdl.panacea.compensator import Compensator
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.flexible_scheduler import FlexibleScheduler
from bitfabric.hdl.panacea.index_decoder import IndexDecoder
from bitfabric.hdl.panacea.operand_mux import OperandMux
from bitfabric.hdl.panacea.operators import Operators
from bitfabric.hdl.panacea.outer_product import OuterProduct
from bitfabric.hdl.panacea.pea import Pea
from bitfabric.hdl.panacea.ppu import PostProcessor
from bitfabric.hdl.panacea.scheduler import WorkloadScheduler
from bitfabric.hdl.panacea.top import PanaceaTop
from bitfabric.hdl.panacea.weight_buffer import WeightBuffer
from bitfabric.hdl.systolic_os.array import SystolicOsArray
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_os.top import SystolicOsTop
from bitfabric.hdl.systolic_ws.array import SystolicWsArray
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.pe import SystolicWsPe
from bitfabric.hdl.systolic_ws.top import SystolicWsTop
from bitfabric.hdl.vssa.pe import VssaPe, VssaPeConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.pwl import SEGMENTS, PwlFormat


@dataclass(frozen=True)
class Entry:
    """Name something that can be emitted.

    Members
    -------
    name, summary : str
        Its name on the command line, and one line on it.
    config : type[DesignConfig]
        Its parameters.
    make : callable
        Returns the block for a configuration.
    """

    name: str
    summary: str
    config: type[DesignConfig]
    make: Callable[[Any], Block]


@dataclass(frozen=True, kw_only=True)
class BitBrickConfig(DesignConfig):
    """A BitBrick has no parameters."""


@dataclass(frozen=True, kw_only=True)
class OuterProductConfig(DesignConfig):
    """An outer-product calculator has no parameters."""


@dataclass(frozen=True, kw_only=True)
class RequantizerConfig(DesignConfig):
    """Hold a requantizer's parameters; see ``Requantizer``."""

    acc_bits: int = param(32, "width of accumulator and bias", unit="bits", low=8, high=32)
    out_bits: int = param(8, "width of an output", unit="bits", low=2, high=24)
    multiplier_bits: int = param(31, "width of the multiplier", unit="bits", low=1, high=31)
    shift_bits: int = param(6, "width of the shift", unit="bits", low=1, high=6)


@dataclass(frozen=True, kw_only=True)
class PwlConfig(DesignConfig):
    """Hold a piecewise-linear unit's parameters; see ``PiecewiseLinear``."""

    in_bits: int = param(8, "width of an input", unit="bits", low=8, high=16)
    out_bits: int = param(8, "width of an output", unit="bits", low=4, high=16)
    out_signed: bool = param(True, "outputs are two's complement")
    segments: int = param(32, "segments of the table, at most 2^(in_bits-1)", choices=SEGMENTS)

    def validate(self) -> None:
        """Refuse what the function's format refuses."""
        PwlFormat(**dataclasses.asdict(self))


@dataclass(frozen=True, kw_only=True)
class ExponentConfig(DesignConfig):
    """Hold an exponent unit's parameters; see ``Exponent``."""

    x_bits: int = param(24, "width of the exponent, 12 bits of it a fraction", unit="bits", low=17, high=32)


@dataclass(frozen=True, kw_only=True)
class ReciprocalConfig(DesignConfig):
    """Hold a reciprocal unit's parameters; see ``Reciprocal``."""

    x_bits: int = param(24, "width of the divisor", unit="bits", low=2, high=47)


def _keywords(block: Callable[..., Block]) -> Callable[[Any], Block]:
    return lambda config: block(**dataclasses.asdict(config))


def _ws_pe(config: SystolicWsConfig) -> Block:
    return SystolicWsPe(config.act_bits, config.weight_bits, config.psum_bits, config.weight_buffering)


def _compensator(config: PanaceaConfig) -> Block:
    # As a PEA has it: HO activations only meet the dynamic operators, or any in the flexible form.
    operators = config.operators if config.flexible else config.dynamic_operators
    return Compensator(operators, (config.max_weight_bits - 4) // 3 + 1)


def _workload_scheduler(config: PanaceaConfig) -> Block:
    return FlexibleScheduler(config) if config.flexible else WorkloadScheduler(config)


def _vssa_pe(config: VssaPeConfig) -> Block:
    return VssaPe(config.acc_bits)


def _vssa_array(config: DtqattenConfig) -> Block:
    return vssa_array(config)


DESIGNS = {
    entry.name: entry
    for entry in (
        Entry(
            "systolic_ws",
            "weight-stationary systolic array, single or double buffered, with its AXI machine",
            SystolicWsConfig,
            SystolicWsTop,
        ),
        Entry(
            "systolic_os",
            "output-stationary systolic array with its AXI machine",
            SystolicOsConfig,
            SystolicOsTop,
        ),
        Entry(
            "panacea",
            "bit-slice GEMM core that skips frequent slice-vectors, with memories, post-processing and AXI machine",
            PanaceaConfig,
            PanaceaTop,
        ),
        Entry(
            "drift",
            "fabric of BitGroups that splits into four arrays, with precision selection, scheduler, buffers and AXI machine",
            DriftConfig,
            DriftTop,
        ),
        Entry(
            "dtqatten",
            "attention on tokens of 8, 4 and 0 bits: variable-speed arrays, softmax, top-k engines, fetcher and AXI machine",
            DtqattenConfig,
            DtqattenTop,
        ),
        Entry(
            "drq",
            "convolution with 8-bit sensitive regions: predictor, im2col, one variable-speed array and AXI machine",
            DrqConfig,
            DrqTop,
        ),
    )
}

BLOCKS = {
    entry.name: entry
    for entry in (
        Entry("systolic_ws_array", "the bare weight-stationary array", SystolicWsConfig, SystolicWsArray),
        Entry("systolic_os_array", "the bare output-stationary array", SystolicOsConfig, SystolicOsArray),
        Entry("systolic_ws_pe", "one weight-stationary PE with its registers", SystolicWsConfig, _ws_pe),
        Entry("bitbrick", "1 bit x 4 bits", BitBrickConfig, lambda config: BitBrick()),
        Entry("bitgroup", "Drift's PE of 4x4 BitBricks with its registers", BitGroupConfig, BitGroup),
        Entry(
            "fusion_unit", "BitFusion's PE of 16 bricks with its registers", FusionUnitConfig, FusionUnitPe
        ),
        Entry("requantizer", "32-bit accumulator to 8-bit output", RequantizerConfig, _keywords(Requantizer)),
        Entry("pwl", "piecewise-linear function unit", PwlConfig, _keywords(PiecewiseLinear)),
        Entry("panacea_pea", "Panacea's processing element array, its buffers included", PanaceaConfig, Pea),
        Entry(
            "outer_product", "16 multipliers of 4 x 4 bits", OuterProductConfig, lambda config: OuterProduct()
        ),
        Entry("operators", "a PEA's outer products, shifts and adder trees", PanaceaConfig, Operators),
        Entry(
            "compensator",
            "sums of the weights that meet kept activation vectors",
            PanaceaConfig,
            _compensator,
        ),
        Entry("index_decoder", "run-length indices to K positions", PanaceaConfig, IndexDecoder),
        Entry(
            "workload_scheduler",
            "products to operators: a class each, or any to any (flexible)",
            PanaceaConfig,
            _workload_scheduler,
        ),
        Entry("operand_mux", "slice-vectors to a PEA's operators", PanaceaConfig, OperandMux),
        Entry("weight_buffer", "a PEA's weight sub-tiles and index buffer", PanaceaConfig, WeightBuffer),
        Entry(
            "post_processor", "16 lanes from psums to the next layer's slices", PanaceaConfig, PostProcessor
        ),
        Entry("drift_core", "fabric, weights, activations, accumulators, sequencers", DriftConfig, DriftCore),
        Entry("drift_fabric", "the bare fabric, which splits into four arrays", DriftConfig, DriftFabric),
        Entry(
            "drift_group", "a BitGroup with links both ways and its weight registers", DriftConfig, DriftGroup
        ),
        Entry("drift_edge", "a column's accumulators at an edge of the fabric", DriftConfig, EdgeColumn),
        Entry("weight_column", "a column's weight buffer, for both edges", DriftConfig, WeightColumn),
        Entry("dispatcher", "four streams of activations, skewed, to rows", DriftConfig, Dispatcher),
        Entry("drift_scheduler", "the split of the fabric, by scan or greedily", DriftConfig, Scheduler),
        Entry(
            "precision_selector",
            "a sub-tensor's precision from its statistics",
            DriftConfig,
            PrecisionSelector,
        ),
        Entry("drift_intake", "activations to their precision and their stores", DriftConfig, Intake),
        Entry("drift_drain", "accumulators to results, requantized", DriftConfig, Drain),
        Entry("vssa_pe", "one 4-bit MAC with its registers, 1 to 4 cycles a product", VssaPeConfig, _vssa_pe),
        Entry(
            "vssa_array",
            "an array whose steps last as long as its slowest product",
            DtqattenConfig,
            _vssa_array,
        ),
        Entry("exponent", "a power of two, piecewise linear", ExponentConfig, _keywords(Exponent)),
        Entry("reciprocal", "a reciprocal, piecewise linear", ReciprocalConfig, _keywords(Reciprocal)),
        Entry(
            "softmax",
            "a band of queries' scores to numerators, importance and factors",
            DtqattenConfig,
            SoftmaxUnit,
        ),
        Entry("score_port", "accumulators to scores, and their memory", DtqattenConfig, ScorePort),
        Entry("topk", "one radix engine", DtqattenConfig, TopK),
        Entry(
            "token_selection", "importance, two top-k engines and the next list", DtqattenConfig, Selection
        ),
        Entry("attention_fetcher", "descriptors out; lists, scales, Q, K and V in", DtqattenConfig, Fetcher),
        Entry("drq_predictor", "mean magnitudes of regions against a threshold", DrqConfig, Predictor),
        Entry(
            "drq_im2col",
            "a feature map's memories, and positions' activations out of them",
            DrqConfig,
            Im2col,
        ),
        Entry("pooling_unit", "maximum or average of a word's bytes over a kernel", DriftConfig, PoolingUnit),
    )
}


def entry(name: str) -> Entry:
    """Return the design or block ``name``.

    Raises
    ------
    ParameterError
        If there is none.
    """
    found = DESIGNS.get(name) or BLOCKS.get(name)
    if found is None:
        raise ParameterError(
            "design", name, f"a design ({', '.join(DESIGNS)}) or a block ({', '.join(BLOCKS)})"
        )
    return found
