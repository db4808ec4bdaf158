"""The list reader: tokens at their positions, an entry a cycle, and everything that can be wrong with a list."""

import random

import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.fetch_list import ListReader
from bitfabric.sim.streams import simulate

ERRORS = ("bad_index", "bad_precision", "bad_counts", "framing_error")
TABLE = ("table_en", "table_position", "table_id", "table_high")
LEVELS = {"tokens": 16, "kept": 2, "kept_high": 1}


def run(listed, stall=0.0, off=None, data_bits=64, **levels):
    """Send a list; return the table's writes, when each came, the cycle of done, and the errors.

    ``off`` is the beat whose ``last`` is wrong. The list starts in cycle 0, its first beat is there in cycle 1.
    """
    config = DtqattenConfig.preset("tiny", axis_data_bits=data_bits)
    reader, size, rng = ListReader(config), config.axis_bytes, random.Random(1)
    content = b"".join(token.to_bytes(2, "little") + bytes([bits, 0xA5]) for token, bits in listed)
    parts = [content[start : start + size] for start in range(0, len(content), size)]
    beats = [
        {"data": int.from_bytes(part, "little"), "last": (index == len(parts) - 1) != (index == off)}
        for index, part in enumerate(parts)
    ]
    writes, times, done, errors = [], [], [], []

    async def testbench(ctx):
        for name, value in {**LEVELS, "reorder": 0, "entries": len(listed), **levels}.items():
            ctx.set(getattr(reader, name), value)
        offered, left = False, 12
        for cycle in range(2000):
            ctx.set(reader.start, cycle == 0)
            offered = offered or (cycle > 0 and bool(beats) and rng.random() >= stall)
            ctx.set(reader.i.valid, offered)
            if offered:
                ctx.set(reader.i.payload, beats[0])
            signals = [getattr(reader, name) for name in (*TABLE, *ERRORS, "done")]
            _, _, ready, *values = await ctx.tick().sample(reader.i.ready, *signals)
            if offered and ready:
                beats.pop(0)
                offered = False
            if values[0]:
                writes.append(tuple(values[1:4]))
                times.append(cycle)
            if values[-1]:
                done.append(cycle)
            left -= not beats
            if not left:
                break
        errors.extend(name for name, value in zip(ERRORS, values[4:8], strict=True) if value)

    simulate(reader, testbench)
    return writes, times, done, errors


@pytest.mark.parametrize("data_bits", [64, 128])
@pytest.mark.parametrize("stall", [0.0, 0.5])
@pytest.mark.parametrize("reorder", [0, 1])
def test_places(data_bits, stall, reorder):
    for seed in range(4):
        rng = random.Random(seed)
        count = rng.choice([1, 2, 3, 9, 16])
        listed = [(token, rng.choice([0, 4, 8])) for token in rng.sample(range(16), count)]
        kept = [entry for entry in listed if entry[1]]
        order = sorted(kept, key=lambda entry: entry[1]) if reorder else kept
        levels = {"kept": len(kept), "kept_high": sum(bits == 8 for _, bits in listed), "reorder": reorder}
        writes, times, done, errors = run(listed, stall, data_bits=data_bits, **levels)
        assert not errors
        assert writes == [(order.index(entry), entry[0], entry[1] == 8) for entry in kept]
        assert len(done) == 1
        if not stall:
            assert times == [1 + index + 2 for index, entry in enumerate(listed) if entry[1]]
            assert done == [1 + count - 1 + 3]


@pytest.mark.parametrize(
    ("listed", "levels", "error"),
    [
        ([(1, 4), (16, 8)], {}, "bad_index"),
        ([(1, 4), (0x1002, 8)], {}, "bad_index"),
        ([(0x8001, 0), (1, 4), (2, 8)], {}, "bad_index"),
        ([(3, 4), (3, 8)], {}, "bad_index"),
        ([(3, 0), (3, 4), (5, 8)], {}, "bad_index"),
        ([(4, 4), (5, 8), (0, 0), (5, 0)], {}, "bad_index"),
        ([(1, 4), (5, 8)], {"tokens": 5}, "bad_index"),
        ([(1, 4), (2, 8), (3, 2)], {}, "bad_precision"),
        ([(1, 4), (2, 8), (3, 0x84)], {}, "bad_precision"),
        ([(1, 4), (2, 4)], {}, "bad_counts"),
        ([(1, 4), (2, 8), (3, 4)], {}, "bad_counts"),
        ([(1, 4), (2, 8), (3, 8)], {}, "bad_counts"),
        ([(1, 0), (2, 8)], {}, "bad_counts"),
        ([(1, 0)], {}, "bad_counts"),
    ],
)
def test_wrong_lists(listed, levels, error):
    _, _, done, errors = run(listed, **levels)
    assert errors == [error]
    assert not done


@pytest.mark.parametrize("off", [0, 1, 2])
def test_wrong_framing(off):
    listed = [(1, 4), (2, 8), (3, 0), (4, 0), (5, 0), (6, 0)]
    _, _, done, errors = run(listed, off=off)
    assert errors == ["framing_error"]
    assert not done


def test_the_last_id_is_allowed():
    assert run([(0, 4), (4, 8)], tokens=5)[2:] == ([5], [])
