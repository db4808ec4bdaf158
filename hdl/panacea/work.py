"""What a scheduler tells the operators in a cycle."""

from __future__ import annotations

from amaranth.lib import data

from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.panacea.config import PanaceaConfig


def pick_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return one operator's product.

    Fields: ``valid``; ``position`` along K; ``weight_top``, ``act_top`` (the HO slice, else the dense slice
    ``weight_slice``, ``act_slice``).
    """
    return data.StructLayout(
        {
            "valid": 1,
            "position": (config.tile_k - 1).bit_length(),
            "weight_top": 1,
            "weight_slice": 1,
            "act_top": 1,
            "act_slice": 1,
        }
    )


def place_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return where a path's operands come from and its sums go to.

    Fields: ``en``; ``tile`` (the second weight tile), ``weight_bank``, ``slot`` (of the global activation buffer),
    ``bank`` and ``word`` (of the psum buffer; the second tile's words follow the first's).
    """
    return data.StructLayout(
        {
            "en": 1,
            "tile": 1,
            "weight_bank": 1,
            "slot": (config.act_slots - 1).bit_length(),
            "bank": 1,
            "word": address_bits(psum_words(config)),
        }
    )


def psum_words(config: PanaceaConfig) -> int:
    """Return the words of a psum bank: one per sub-tile of an output tile, twice with DTP."""
    return config.groups * (2 if config.dtp else 1)


def work_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return a cycle's work.

    Fields: ``picks`` of all operators, the static ones first; ``places`` of the two paths; ``second`` (flexible only:
    which operators work for the second path's sub-tile); ``static``, ``dynamic`` (products of the cycle).
    """
    return data.StructLayout(
        {
            "picks": data.ArrayLayout(pick_layout(config), config.operators),
            "places": data.ArrayLayout(place_layout(config), 2),
            "second": config.operators,
            "static": config.operators.bit_length(),
            "dynamic": config.operators.bit_length(),
        }
    )
