"""The outer-product calculator, exhaustively, and the compensator beside it."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.compensator import Compensator
from bitfabric.hdl.panacea.outer_product import OuterProduct
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.streams import simulate


def as_vector(values):
    return sum((int(value) & 15) << (4 * row) for row, value in enumerate(values))


def test_every_product_of_four_bits_in_every_place():
    unit = OuterProduct()

    async def testbench(ctx):
        # Rows and columns run through all values at different paces: each place sees each of the 256 pairs.
        for first in range(16):
            for second in range(16):
                rows = [(first + 5 * row) % 16 - 8 for row in range(4)]
                columns = [(second + 3 * column) % 16 for column in range(4)]
                ctx.set(unit.weights, as_vector(rows))
                ctx.set(unit.acts, as_vector(columns))
                assert [ctx.get(product) for product in unit.products] == np.outer(rows, columns).reshape(
                    -1
                ).tolist()

    simulate(unit, testbench)


@pytest.mark.parametrize(("operators", "slices"), [(1, 1), (4, 3), (12, 3), (5, 2)])
def test_compensator_sums_the_weights_taken(operators, slices):
    unit = Compensator(operators, slices)
    rng = np.random.default_rng(operators)

    async def testbench(ctx):
        for number in range(80):
            weights = rng.integers(-8, 8, (operators, 4))
            takes, which = rng.integers(0, 2, operators), rng.integers(0, slices, operators)
            if number < 2:  # the ends of the range
                weights[:], takes[:], which[:] = (-8, 7)[number], 1, slices - 1
            for index in range(operators):
                ctx.set(unit.weights[index], as_vector(weights[index]))
                ctx.set(unit.takes[index], int(takes[index]))
                ctx.set(unit.slice[index], int(which[index]))
            wanted = (weights * (takes * 8**which)[:, None]).sum(axis=0)
            assert [ctx.get(total) for total in unit.sums] == wanted.tolist()

    simulate(unit, testbench)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 1), "operators=0 is not allowed; it must be an integer of at least 1"),
        ((4, 4), r"slices=4 is not allowed; it must be an integer in \[1, 3\]"),
    ],
)
def test_compensator_refuses_bad_parameters(sizes, message):
    with pytest.raises(ParameterError, match=message):
        Compensator(*sizes)
