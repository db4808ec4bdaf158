"""The operand multiplexers: bring every operator the two slice-vectors that its product takes."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Array, Module, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.block import Block
from bitfabric.hdl.common.choose import choose
from bitfabric.hdl.panacea.act_buffer import slot_layout
from bitfabric.hdl.panacea.config import VECTOR_BITS, PanaceaConfig
from bitfabric.hdl.panacea.work import work_layout


def bank_layout(config: PanaceaConfig) -> data.StructLayout:
    """Return the vectors of a weight sub-tile."""
    return data.StructLayout(
        {
            "dense": config.weight_dense * config.tile_k * VECTOR_BITS,
            "top": config.tile_k * VECTOR_BITS,
        }
    )


def vectors_in(words: Value) -> list[Value]:
    """Return the vectors that a bank or slot holds side by side."""
    return [words[low : low + VECTOR_BITS] for low in range(0, len(words), VECTOR_BITS)]


def operand_layout() -> data.StructLayout:
    """Return an operator's operands.

    Fields: ``weights``, ``acts`` (the slice-vectors; weights are 0 without a product); ``weight_index``,
    ``act_index`` (which slices they are); ``act_top`` (the activation's is the HO slice of several).
    """
    return data.StructLayout(
        {"weights": VECTOR_BITS, "acts": VECTOR_BITS, "weight_index": 2, "act_index": 2, "act_top": 1}
    )


class OperandMux(Block):
    """Select operands for the operators of a PEA; registered, latency 1.

    Parameters
    ----------
    config : PanaceaConfig
        Gives sizes.

    Members
    -------
    work : In(work_layout)
        The products.
    weight_slices, act_slices : In(2)
        Of the layer: the top slice's index.
    banks : In(bank_layout).array
        The weight buffer: two banks for each weight tile.
    slots : In(slot_layout).array(act_slots)
        The global activation buffer.
    o : Out(operand_layout).array(operators)
        Operands, in the order of ``work.picks``.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "work": In(work_layout(config)),
                "weight_slices": In(2),
                "act_slices": In(2),
                "banks": In(bank_layout(config)).array(4 if config.dtp else 2),
                "slots": In(slot_layout(config)).array(config.act_slots),
                "o": Out(operand_layout()).array(config.operators),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Select the paths' sub-tiles first, then every operator's vectors in them."""
        m = Module()
        config = self._config
        paths: list[tuple[Any, Any]] = []
        for index, place in enumerate(self.work.places):
            bank = Signal(bank_layout(config), name=f"bank{index}")
            slot = Signal(slot_layout(config), name=f"slot{index}")
            chosen = place.weight_bank + (place.tile << 1) if config.dtp else place.weight_bank
            m.d.comb += [bank.eq(Array(self.banks)[chosen]), slot.eq(Array(self.slots)[place.slot])]
            paths.append((bank, slot))
        for index, operand in enumerate(self.o):
            pick = self.work.picks[index]
            first, second = paths
            if config.flexible:
                # Only products of dense slices are begun beside the present sub-tile: its weights are the same.
                dense_acts = Mux(self.work.second[index], second[1].dense, first[1].dense)
                bank, slot = first
            else:
                bank, slot = paths[index >= config.static_operators]
                dense_acts = slot.dense
            mixed = config.flexible or index >= config.static_operators
            weights = self._vector(bank.dense, pick.weight_slice, pick.position, config.weight_dense, index)
            acts = self._vector(dense_acts, pick.act_slice, pick.position, config.act_dense, index)
            weight_index: Value = pick.weight_slice
            act_index: Value = pick.act_slice
            if mixed:
                top = choose(vectors_in(bank.top), pick.position)
                weights = Mux(pick.weight_top, top, weights)
                acts = Mux(pick.act_top, choose(vectors_in(slot.top), pick.position), acts)
                weight_index = Mux(pick.weight_top, self.weight_slices - 1, weight_index)
                act_index = Mux(pick.act_top, self.act_slices - 1, act_index)
            register = Signal(operand_layout(), name=f"operand{index}", reset_less=True)
            m.d.sync += [
                register.weights.eq(Mux(pick.valid, weights, 0)),
                register.acts.eq(acts),
                register.weight_index.eq(weight_index),
                register.act_index.eq(act_index),
                register.act_top.eq(pick.act_top & pick.valid if mixed else 0),
            ]
            m.d.comb += operand.eq(register)
        return m

    def _vector(self, vectors: Value, slice_: Value, position: Value, slices: int, index: int) -> Value:
        """Return one vector of a sub-tile's dense slices."""
        config = self._config
        part = config.tile_k * VECTOR_BITS
        pieces = [vectors[start : start + part] for start in range(0, slices * part, part)]
        chosen: list[Value] = []
        static = index < config.static_operators and not config.flexible and not config.dtp
        for piece in pieces:
            if static:
                # Without DTP a static operator only meets every S-th position.
                step = config.static_operators
                options = range(index, config.tile_k, step)
                value: Value = piece.word_select(index, VECTOR_BITS) if options else piece[:VECTOR_BITS]
                for at in options[1:]:
                    value = Mux(position == at, piece.word_select(at, VECTOR_BITS), value)
                chosen.append(value)
            else:
                chosen.append(choose(vectors_in(piece), position))
        return Mux(slice_, chosen[1], chosen[0]) if slices > 1 else chosen[0]
