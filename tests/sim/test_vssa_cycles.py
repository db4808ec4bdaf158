"""The VSSA array's cycle functions against a walk over steps and PEs; the RTL's own are tested beside it."""

import numpy as np
import pytest

from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles import vssa

SIZES = [(1, 1, 1), (1, 3, 2), (2, 1, 1), (7, 1, 4), (5, 4, 1), (9, 3, 5), (3, 5, 7), (40, 16, 18)]


def walk(row_high, column_high, floor, k, rows, columns):
    """Return durations, working, stalled, PE by PE."""
    durations, working, present = [], 0, 0
    for step in range(k + rows + columns - 2):
        pairs = [
            (row_high[step - r - c, r], column_high[step - r - c, c])
            for r in range(rows)
            for c in range(columns)
            if 0 <= step - r - c < k
        ]
        durations.append(4 if any(a and b for a, b in pairs) else 2**floor)
        working += sum((1 + int(a)) * (1 + int(b)) for a, b in pairs)
        present += durations[-1] * len(pairs)
    return durations, working, present - working


@pytest.mark.parametrize(("k", "rows", "columns"), SIZES)
@pytest.mark.parametrize("floor", [0, 1, 2])
def test_steps_and_counts(k, rows, columns, floor):
    rng = np.random.default_rng(k)
    size = {"k": k, "rows": rows, "columns": columns}
    for share in (0, 0.05, 0.3, 1) if floor else (0,):
        for shapes in (
            ((k, rows), (k, columns)),
            ((k,), ()),
            ((), (k,)),
            ((), ()),
            ((k, rows), ()),
            ((k,), (k, columns)),
        ):
            flags = [rng.random(shape) < share for shape in shapes]
            spread = [
                np.broadcast_to(f[:, None] if f.ndim == 1 else f, (k, lanes))
                for f, lanes in zip(map(np.asarray, flags), (rows, columns), strict=True)
            ]
            durations, working, stalled = walk(*spread, floor, **size)
            found = vssa.steps(*flags, floor, **size)
            assert found.tolist() == durations
            assert vssa.pe_counts(*flags, found, **size) == (working, stalled)


@pytest.mark.parametrize("line_elements", [1, 2, 8])
@pytest.mark.parametrize("k", [1, 2, 7, 8, 9, 16, 17])
def test_tile_times(k, line_elements):
    durations = np.random.default_rng(k).choice([1, 2, 4], k + 3)
    loads, cycle = [-1], -1  # the cycle, after T, at whose end element e enters
    for duration in durations:
        cycle += int(duration)
        loads.append(cycle)
    words = -(-k // line_elements)
    released = -2 if words == 1 else loads[(words - 1) * line_elements - 1]
    assert vssa.tile_times(durations, k, line_elements) == (released, loads[-1] + 1)


def test_start():
    assert vssa.start(10) == vssa.start(10, 11) == vssa.start(10, 5) == 13
    assert vssa.start(10, 12) == 14


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((False, False, 3), "floor=3 is not allowed; it must be one of 0, 1, 2"),
        ((True, False, 0), "row_high=True is not allowed; it must be false with floor=0"),
        ((False, np.ones(4), 0), "column_high=True is not allowed; it must be false with floor=0"),
        (
            (np.ones(3), False, 1),
            "row_high=(3,) is not allowed; it must be flags of shape (), (4,) or (4, 2)",
        ),
    ],
)
def test_errors(arguments, text):
    with pytest.raises(ParameterError) as error:
        vssa.steps(*arguments, k=4, rows=2, columns=3)
    assert str(error.value) == text
