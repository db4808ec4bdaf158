"""The intake of a feature map: to the feature memory, and through the predictor to the flag memory."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block, place
from bitfabric.hdl.common.memory import address_bits
from bitfabric.hdl.drq.config import DIMENSION_BITS, OPERAND_BITS, DrqConfig
from bitfabric.hdl.drq.layer import layer_layout
from bitfabric.hdl.drq.packer import Packer
from bitfabric.hdl.drq.predictor import Predictor


def place_layout(config: DrqConfig) -> data.StructLayout:
    """Return where a row of the map stands: its first word in the feature memory and in the flag memory."""
    return data.StructLayout({"map": config.map_bits, "flags": config.flag_bits})


class Intake(Block):
    """Pack the rows of a feature map, predict its regions, and note where rows stand.

    Parameters
    ----------
    config : DrqConfig
        Every parameter of the design.

    Members
    -------
    layer, row : In(layer_layout), In(16)
        The map, and the elements of its rows; levels.
    en, data : In(1), In(8 * S)
        A beat, only while ``ready``.
    ready : Out(1)
        A beat may come; from a flip-flop.
    last : Out(1)
        Level: the next beat is the map's last one.
    map_en, map_address, map_data : Out
        Writes S values.
    flag_en, flag_address, flag_data : Out
        Writes S flags.
    row_en, row_address, row_place : Out
        Writes where a row stands.
    done : Out(1)
        Strobe: the map's last flags are written, all else was before.
    overrun : Out(1)
        Strobe: sums or flags did not fit.
    sensitive_count : Out(32)
        Sensitive regions.
    """

    def __init__(self, config: DrqConfig):
        self._config = config
        super().__init__(
            {
                "layer": In(layer_layout()),
                "row": In(DIMENSION_BITS),
                "en": In(1),
                "data": In(OPERAND_BITS * config.axis_bytes),
                "ready": Out(1),
                "last": Out(1),
                "map_en": Out(1),
                "map_address": Out(config.map_bits),
                "map_data": Out(OPERAND_BITS * config.axis_bytes),
                "flag_en": Out(1),
                "flag_address": Out(config.flag_bits),
                "flag_data": Out(config.axis_bytes),
                "row_en": Out(1),
                "row_address": Out(address_bits(config.height_max)),
                "row_place": Out(place_layout(config)),
                "done": Out(1),
                "overrun": Out(1),
                "sensitive_count": Out(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Join predictor and packer; count words."""
        m = Module()
        config = self._config
        predictor = place(m, "predictor", Predictor(config))
        packer = place(m, "packer", Packer(config.axis_bytes, OPERAND_BITS))
        m.d.comb += [
            *(
                getattr(predictor, name).eq(self.layer[name])
                for name in ("height", "width", "channels", "region_height", "region_width", "threshold")
            ),
            predictor.en.eq(self.en),
            predictor.data.eq(self.data),
            packer.en.eq(self.en),
            packer.data.eq(self.data),
            packer.count.eq(predictor.count),
            packer.last.eq(predictor.row_last),
            self.ready.eq(~packer.flushing),
            self.last.eq(predictor.map_last),
            self.map_en.eq(packer.o_en),
            self.map_data.eq(packer.o_data),
            self.flag_en.eq(predictor.flag_en),
            self.flag_data.eq(predictor.flag_data),
            self.row_en.eq(self.en & predictor.row_last),
            self.done.eq(predictor.flags_done),
            self.sensitive_count.eq(predictor.sensitive_count),
        ]
        words = (self.row + (config.axis_bytes - 1)) >> (config.axis_bytes.bit_length() - 1)
        flags = Signal(range(config.flag_words + 1))  # written
        m.d.comb += [
            self.flag_address.eq(flags),
            self.overrun.eq(predictor.overrun | (predictor.flag_en & (flags == config.flag_words))),
        ]
        with m.If(packer.o_en):
            m.d.sync += self.map_address.eq(self.map_address + 1)
        with m.If(predictor.flag_en):
            m.d.sync += flags.eq(flags + 1)
        with m.If(self.row_en):
            m.d.sync += [
                self.row_address.eq(self.row_address + 1),
                self.row_place.map.eq(self.row_place.map + words),
            ]
            with m.If(predictor.band_last):
                m.d.sync += self.row_place.flags.eq(self.row_place.flags + words)
        return m
