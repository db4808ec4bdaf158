"""The operators of a PEA: outer products, shifts and the adder trees of both paths."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from bitfabric.hdl.arith.tree import balanced_sum
from bitfabric.hdl.block import Block, place
from bitfabric.hdl.panacea.config import VECTOR, PanaceaConfig
from bitfabric.hdl.panacea.operand_mux import operand_layout
from bitfabric.hdl.panacea.outer_product import PRODUCT_BITS, OuterProduct
from bitfabric.hdl.panacea.shifts import shift_act, shift_weight

LANES = VECTOR * VECTOR


def sum_bits(config: PanaceaConfig) -> int:
    """Return the width of a path's sum of a cycle: the widest product of each operator."""
    slices = 3 * ((config.max_weight_bits - 4) // 3) + 4 * (config.max_act_bits // 4 - 1)
    return min(PRODUCT_BITS + slices + (config.operators - 1).bit_length(), config.acc_bits)


class Operators(Block):
    """Compute the outer products of a cycle and add them up path by path; registered, latency 1.

    Static operators always share one pair of slices: their sum is shifted once. Dynamic ones shift each product
    first, since a cycle's products are of several kinds. In the flexible form every operator shifts, and its product
    goes into one of the two sums.

    Parameters
    ----------
    config : PanaceaConfig
        Gives D, S and widths.

    Members
    -------
    i : In(operand_layout).array(operators)
        Operands, static operators first.
    second : In(operators)
        Flexible: whose products belong to the second path.
    sums : Out(signed(sum_bits)).array(32)
        The two paths' 4 x 4 sums, row by row.
    """

    def __init__(self, config: PanaceaConfig):
        self._config = config
        super().__init__(
            {
                "i": In(operand_layout()).array(config.operators),
                "second": In(config.operators),
                "sums": Out(signed(sum_bits(config))).array(2 * LANES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        """Multiply, shift and add."""
        m = Module()
        config = self._config
        products = []
        for index, operand in enumerate(self.i):
            unit = place(m, f"opc_{index}", OuterProduct())
            m.d.comb += [unit.weights.eq(operand.weights), unit.acts.eq(operand.acts)]
            products.append(unit.products)
        for lane in range(LANES):
            if config.flexible:
                shifted = [
                    self._shift(m, lane, index, products[index][lane]) for index in range(config.operators)
                ]
                totals = (
                    balanced_sum([Mux(self.second[i], 0, value) for i, value in enumerate(shifted)]),
                    # These are products of the least significant slices.
                    balanced_sum(
                        [Mux(self.second[i], products[i][lane], 0) for i in range(config.operators)]
                    ),
                )
            else:
                split = config.static_operators
                static = balanced_sum([products[index][lane] for index in range(split)])
                totals = (
                    self._shift(m, lane, 0, static),
                    balanced_sum(
                        [self._shift(m, lane, i, products[i][lane]) for i in range(split, config.operators)]
                    ),
                )
            for path, total in enumerate(totals):
                register = Signal(signed(sum_bits(config)), name=f"sum{path}_{lane}", reset_less=True)
                m.d.sync += register.eq(total)
                m.d.comb += self.sums[path * LANES + lane].eq(register)
        return m

    def _shift(self, m: Module, lane: int, operator: int, value: Value) -> Value:
        config = self._config
        operand = self.i[operator]
        shifted = shift_weight(value, operand.weight_index, (config.max_weight_bits - 4) // 3 + 1)
        # A wire of its own: yosys would make it a part of what it becomes, which looks like a loop.
        weighted = Signal(shifted.shape(), name=f"weighted{operator}_{lane}")
        m.d.comb += weighted.eq(shifted)
        return shift_act(weighted, operand.act_index, config.max_act_bits // 4)
