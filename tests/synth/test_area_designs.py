"""Area of the real blocks: counts that follow from their registers, and orders that must hold."""

from __future__ import annotations

import pytest

from bitfabric.hdl.arith.bitgroup import BitGroup, BitGroupConfig
from bitfabric.hdl.arith.fusion_unit import FusionUnitConfig, FusionUnitPe
from bitfabric.hdl.block import Block
from bitfabric.hdl.emit import emit
from bitfabric.hdl.systolic_ws.array import SystolicWsArray
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.hdl.systolic_ws.pe import SystolicWsPe
from bitfabric.synth.area import AreaReport, area
from bitfabric.synth.libraries import library
from bitfabric.synth.timing import sta_path, timing

LIB = library("builtin")


def measure(block: Block, flat: bool = True) -> AreaReport:
    return area(emit(block, "block").verilog, "block", LIB, flat)


@pytest.mark.parametrize(
    ("buffering", "registers"), [("single", 8 + 8 + 21 + 1), ("double", 8 + 16 + 21 + 2)]
)
def test_ws_pe_registers(buffering: str, registers: int) -> None:
    """A PE's flip-flops are its activation, weights, psum and control, no more."""
    report = measure(SystolicWsPe(8, 8, 21, buffering))
    assert report.flip_flops == registers
    assert 500 < report.nand2_equivalents < 1500


def test_array_is_its_pes() -> None:
    """Hierarchically an array costs its PEs; flat it costs less, because the first row adds to nothing."""
    config = SystolicWsConfig.preset("tiny")
    kept, flat = (measure(SystolicWsArray(config), flat=view) for view in (False, True))
    pe = next(module for module in kept.by_module if module.name == "block_systolic_ws_pe")
    assert pe.instances == config.rows * config.columns
    assert kept.cells >= pe.cells * pe.instances
    assert 0.7 * kept.area < flat.area < kept.area


def test_bitgroup_is_smaller_than_the_fusion_unit() -> None:
    """The nibble-aligned group is smaller than the fusion unit and than the bit-aligned group."""
    nibble, bit = (
        measure(BitGroup(BitGroupConfig(alignment=alignment, rows=24))) for alignment in ("nibble", "bit")
    )
    fusion = measure(FusionUnitPe(FusionUnitConfig(max_bits=8, min_bits=2, rows=24)))
    assert nibble.nand2_equivalents < 0.7 * fusion.nand2_equivalents
    assert nibble.nand2_equivalents < bit.nand2_equivalents


@pytest.mark.skipif(sta_path() is None, reason="OpenSTA (Debian package opensta) is not installed")
def test_slowest_path_of_the_array() -> None:
    """It runs inside one PE, from its weight to its psum, and is named so."""
    verilog = emit(SystolicWsArray(SystolicWsConfig.preset("tiny")), "block").verilog
    report = timing(verilog, "block", LIB)
    start, end = (name.partition("[")[0] for name in (report.startpoint, report.endpoint))
    assert start.endswith((".weight_out", ".act_out"))
    assert end.endswith(".psum_out") or end.startswith("psum_out")
