"""Area of Panacea's blocks: registers that follow from their widths, instances, and orders that must hold."""

from __future__ import annotations

from typing import Any

import pytest

from bitfabric.hdl.emit import emit
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.work import psum_words
from bitfabric.hdl.registry import entry
from bitfabric.synth.area import AreaReport, area
from bitfabric.synth.libraries import library

LIB = library("builtin")
# One of each: enough for what every size has in common.
SMALL = {
    "dynamic_operators": 1,
    "static_operators": 1,
    "tile_k": 4,
    "max_weight_bits": 7,
    "max_act_bits": 8,
    "acc_bits": 19,
    "k_max": 16,
}


def measure(name: str, preset: str = "tiny", **fields: Any) -> tuple[AreaReport, dict[str, str]]:
    """Return a block's hierarchical report, and by module the class that it was made of."""
    found = entry(name)
    block = found.make(found.config.preset(preset, **fields))
    emitted = emit(block, name)
    classes = {module.name: module.component.split("(")[0].rpartition(".")[2] for module in emitted.modules}
    return area(emitted.verilog, name, LIB, flat=False), classes


def test_outer_product_is_logic_alone() -> None:
    report, _ = measure("outer_product")
    assert report.flip_flops == 0
    assert 16 * 60 < report.nand2_equivalents < 16 * 130


@pytest.mark.parametrize("preset", ["tiny", "paper"])
def test_index_decoder_keeps_a_position(preset: str) -> None:
    """Its registers are the position where the next quad goes on, 0 to T_K."""
    report, _ = measure("index_decoder", preset)
    assert report.flip_flops == PanaceaConfig.preset(preset).tile_k.bit_length()


def test_compensator_is_logic_and_grows_with_its_operators() -> None:
    class_form, flexible = (
        measure("compensator", "paper", dtp=False, flexible=form)[0] for form in (False, True)
    )
    assert class_form.flip_flops == flexible.flip_flops == 0
    # 12 operators instead of 4.
    assert 2 * class_form.area < flexible.area < 5 * class_form.area


def test_operators_share_shifts_where_a_class_meets_one_pair_of_slices() -> None:
    fields = {**SMALL, "static_operators": 2}
    classes, flexible = (
        measure("operators", **fields, dtp=False, flexible=form)[0] for form in (False, True)
    )
    assert classes.area < flexible.area


@pytest.mark.parametrize("form", [{"dtp": True}, {"dtp": False, "flexible": True}])
def test_pea_consists_of_its_parts(form: dict[str, bool]) -> None:
    """Operators, banks and memories occur as often as the configuration says."""
    config = PanaceaConfig.preset("tiny", **SMALL, **form)
    report, classes = measure("panacea_pea", **SMALL, **form)
    found: dict[str, int] = {}
    for module in report.by_module:
        kind = classes[module.name]
        found[kind] = found.get(kind, 0) + module.instances
    tiles = 2 if config.dtp else 1
    scheduler = "FlexibleScheduler" if config.flexible else "WorkloadScheduler"
    assert found == {
        "Pea": 1,
        scheduler: 1,
        "ProductPicker": 1,
        "OperandMux": 1,
        "WeightBuffer": 1,
        "VectorBank": 2 * tiles,
        "Operators": 1,
        "OuterProduct": config.operators,
        "Compensator": 1,
        "AccumulatorBanks": 3,
        "Ram": 6,
    }
    assert report.latches == 0
    geometries = {(memory.depth, memory.width) for memory in report.memories}
    words, bits = psum_words(config), config.acc_bits
    assert geometries == {(words, 16 * bits), (words, 4 * (bits - 4))}
    banks = [module for module in report.by_module if classes[module.name] == "VectorBank"]
    # Two slices and one bit per position.
    assert banks[0].flip_flops == config.tile_k * (2 * 16 + 1)


def test_pickers_registers() -> None:
    """A picker keeps which positions are gone, and of the next one how much is taken and left."""
    report, classes = measure("workload_scheduler", **SMALL, dtp=False)
    picker = next(module for module in report.by_module if classes[module.name] == "ProductPicker")
    assert picker.flip_flops <= SMALL["tile_k"] + 6
