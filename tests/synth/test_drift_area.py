"""Area of Drift's blocks: registers that follow from their widths, and orders that must hold."""

from __future__ import annotations

import pytest

from bitfabric.hdl.arith.bitgroup import ALIGNMENTS, BitGroup
from bitfabric.hdl.block import Block
from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.hdl.drift.group import DriftGroup
from bitfabric.hdl.drift.scheduler import Scheduler
from bitfabric.hdl.emit import emit
from bitfabric.synth.area import AreaReport, area
from bitfabric.synth.libraries import library

LIB = library("builtin")


def measure(block: Block, *, flat: bool = True) -> AreaReport:
    return area(emit(block, "block").verilog, "block", LIB, flat=flat)


def psum_bits(config: DriftConfig) -> int:
    return sum(config.group.held_psum_bits(column) for column in range(4))


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_weight_registers_are_all_that_buffering_adds(alignment: str) -> None:
    """A group keeps psums, four activation bits, its weights once to three times, and with more than one the swap."""
    before = None
    for copies, mode in enumerate(BUFFERINGS, start=1):
        config = DriftConfig.preset("small", alignment=alignment, weight_buffering=mode)
        report = measure(DriftGroup(config))
        weights = config.stationary.size
        assert report.flip_flops == psum_bits(config) + 4 + copies * weights + (mode != "single")
        assert report.latches == 0
        assert before is None or report.area > before
        before = report.area


@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_both_directions_cost_multiplexers(alignment: str) -> None:
    """Against the group of one direction: less than a quarter more, and no register more."""
    config = DriftConfig.preset("paper", alignment=alignment, weight_buffering="single")
    both, one = measure(DriftGroup(config)), measure(BitGroup(config.group))
    assert one.area < both.area < 1.25 * one.area
    assert both.flip_flops <= one.flip_flops


def test_double_buffering_costs_less_than_a_sixth_of_a_group() -> None:
    single, double = (
        measure(DriftGroup(DriftConfig.preset("paper", weight_buffering=mode)))
        for mode in ("single", "double")
    )
    assert double.area < 7 / 6 * single.area


def test_fabric_is_groups_and_their_directions() -> None:
    """A direction for each group, and one for each column and for the halves of each row."""
    config = DriftConfig.preset("tiny")
    report = measure(DriftFabric(config), flat=False)
    group = measure(DriftGroup(config), flat=False)
    own = report.flip_flops - config.groups * group.flip_flops
    assert own == config.groups + config.columns + 2 * config.rows
    assert report.area < 1.05 * config.groups * group.area
    assert report.latches == report.memory_bits == 0


def test_scan_is_smaller_than_greedy() -> None:
    """Greedy finds its start by division and goes through seven moves: scan needs neither, and loses nothing."""
    scan, greedy = (
        measure(Scheduler(DriftConfig.preset("tiny", scheduler=scheduler)), flat=False)
        for scheduler in ("scan", "greedy")
    )
    assert scan.latches == greedy.latches == 0
    assert scan.flip_flops < greedy.flip_flops
    assert scan.area < greedy.area
