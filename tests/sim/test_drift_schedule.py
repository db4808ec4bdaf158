"""Drift's cycle formulas and schedulers: worked cases, counting by hand, the scan against every split."""

import random

import numpy as np
import pytest

from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.quant.errors import ParameterError
from bitfabric.sim.cycles.drift_array import (
    INFINITE,
    ArrayWork,
    Split,
    array_cycles,
    bound_cycles,
    check_split,
    gemm_work,
    region_cycles,
    split_cycles,
)
from bitfabric.sim.cycles.drift_schedule import (
    schedule,
    schedule_losses,
    search_cycles,
    share,
    table_cycles,
)
from bitfabric.sim.workloads.bert import bert_base, resnet18


def walk_tiles(buffering, depth, m, q, g, rows, columns):
    """Return a region's cycles, tile by tile, by the rules of its weight registers.

    Tile t's weights are loaded in cycles L ... L + rows - 1 and swapped in with its first row's predecessor, in cycle s;
    its rows are issued in s + 1 ... s + m, and the last psum leaves rows + columns - 2 cycles after the last row.
    """
    chunks = [depth] * (m // depth) + ([m % depth] if m % depth else [])
    tiles = [size for _ in range(-(-g // columns)) for size in chunks for _ in range(-(-q // rows))]
    swap = size = None
    for new in tiles:
        if swap is None:
            load = 0
            swap = rows if buffering == "transit" else rows - 1
        elif buffering == "single":  # the last psum has left
            load = swap + size + rows + columns - 1
            swap = load + rows - 1
        elif buffering == "double":  # the swap has passed every row
            load = swap + rows
            swap = max(load + rows - 1, swap + size)
        else:  # the transit register is free
            load = swap
            swap = max(load + rows, swap + size)
        size = new
    return swap + size + rows + columns - 1


@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_formulas_count_the_tiles(buffering):
    rng = random.Random(buffering)
    for _ in range(300):
        depth, m, q, g = (rng.randint(1, top) for top in (12, 40, 30, 20))
        rows, columns = rng.randint(1, 9), rng.randint(1, 7)
        work = (depth, m, q, g, rows, columns)
        assert region_cycles(buffering, *work) == walk_tiles(buffering, *work), work


def test_single_buffering_is_the_papers():
    # T = (R + M + R + C - 2) * ceil(pa K / 4R) * ceil(pw N / 16C), eq. 7: 8-bit activations and weights.
    rows, columns, m, k, n = 22, 36, 100, 768, 1000
    expected = (rows + m + rows + columns - 2) * -(-8 * k // (4 * rows)) * -(-8 * n // (16 * columns))
    assert region_cycles("single", 128, m, 2 * k, n // 2, rows, columns) == expected


def test_regions_without_work_or_groups():
    shape = np.array([0, 3])
    assert region_cycles("double", 8, 5, 6, 7, shape, 2).tolist() == [INFINITE, 3 + 7 * 5 + 5 + 3 + 2 - 2]
    assert region_cycles("double", 8, 5, 6, 7, 2, shape)[0] == INFINITE
    assert region_cycles("double", 8, 0, 6, 7, shape, shape).tolist() == [0, 0]
    assert region_cycles("double", 8, 5, 6, 0, shape, shape).tolist() == [0, 0]
    assert region_cycles("single", 1, 65535, 131070, 32768, 1, 1) == INFINITE  # saturated


def test_work_of_a_gemm():
    config = DriftConfig(rows=4, columns=3)
    assert gemm_work(config, 5, 6, 10, 3, 9) == ArrayWork(5, 6, 20, 10, 2, 3)
    assert gemm_work(config, 5, 6, 10, 3, 9, bits=(6, 3)) == ArrayWork(5, 6, 20, 10, 2, 3)
    loose = DriftConfig(rows=4, columns=3, alignment="bit")
    assert gemm_work(loose, 5, 6, 10, 3, 9, bits=(6, 3)) == ArrayWork(5, 6, 15, 8, 2, 3)
    # Products of 4 x 4 bits, 48 per cycle: 4 of an 8 x 8 product, 2 of 8 x 4, 1 of 4 x 4.
    assert bound_cycles(config, 5, 6, 10, 3, 9) == -(-10 * (4 * 15 + 2 * (45 + 18) + 54) // 48)


@pytest.mark.parametrize("buffering", BUFFERINGS)
def test_no_split_beats_the_multipliers(buffering):
    rng = random.Random(buffering)
    config = DriftConfig(rows=5, columns=6, weight_buffering=buffering, acc_depth=16)
    for _ in range(50):
        m, k, n = (rng.randint(1, top) for top in (100, 60, 90))
        m_low, n_low = rng.randint(0, m), rng.randint(0, n)
        sizes = (m - m_low, m_low, k, n - n_low, n_low)
        best = schedule(config, gemm_work(config, *sizes))
        assert array_cycles(config, *sizes, best.split) == best.regions
        assert best.cycles > bound_cycles(config, *sizes)


def make_work(rng):
    m, q, g = rng.choice([(300, 400, 200), (20, 2000, 60), (5000, 50, 8), (65535, 131070, 32767), (3, 3, 3)])
    return ArrayWork(
        *(rng.choice([0, rng.randint(0, m)]) if rng.random() < 0.3 else rng.randint(0, m) for _ in range(2)),
        *(rng.randint(1, q) for _ in range(2)),
        *(rng.randint(0, g) for _ in range(2)),
    )


@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 5), (4, 1), (3, 4), (7, 5), (22, 36)])
def test_the_scan_is_the_optimum(rows, columns, buffering):
    rng = random.Random(f"{rows} {columns} {buffering}")
    for _ in range(40):
        config = DriftConfig(
            rows=rows, columns=columns, acc_depth=rng.randint(1, 200), weight_buffering=buffering
        )
        work = make_work(rng)
        optimum = schedule(config, work, "exhaustive")
        scan, greedy = (schedule(config, work, method) for method in ("scan", "greedy"))
        assert scan.cycles == optimum.cycles <= greedy.cycles, work
        for result in (optimum, scan, greedy):
            assert split_cycles(config, work, result.split) == result.regions


def test_exhaustive_tries_every_split():
    # The model's tables against one evaluation per split.
    config = DriftConfig(rows=3, columns=4, acc_depth=5, weight_buffering="single")
    work = ArrayWork(7, 23, 20, 11, 9, 14)
    every = {
        Split(c, left, right): max(split_cycles(config, work, Split(c, left, right)).values())
        for c in range(5)
        for left in range(4)
        for right in range(4)
    }
    best = schedule(config, work, "exhaustive")
    assert best.cycles == min(every.values())
    assert best.split == min(every, key=every.__getitem__)


@pytest.mark.parametrize("buffering", BUFFERINGS)
@pytest.mark.parametrize("shapes", [bert_base(), resnet18()], ids=["bert_base", "resnet18"])
def test_losses_on_networks(shapes, buffering):
    config = DriftConfig(weight_buffering=buffering)
    scan = schedule_losses(config, shapes, method="scan")
    assert (scan.mean, scan.worst, scan.total, scan.count) == (0, 0, 0, 121 * len(shapes))
    greedy = schedule_losses(config, shapes, shares=(0, 0.5, 0.9, 1))
    assert 0 <= greedy.mean <= greedy.worst < 1
    assert greedy.steps >= 1


def test_the_scan_is_short_beside_a_layer():
    for buffering in BUFFERINGS:
        config = DriftConfig(weight_buffering=buffering)
        work = gemm_work(config, 13, 115, 768, 77, 691)
        assert search_cycles(config, work) == 23 * 37 + 9
        assert search_cycles(config, work) <= 0.05 * schedule(config, work).cycles
        assert table_cycles(config) == 298


def test_share():
    assert [share(22, *parts) for parts in ((0, 0), (0, 5), (5, 0))] == [0, 0, 22]
    assert [share(22, *parts) for parts in ((1, 10**6), (10**6, 1), (1, 1), (5, 39))] == [1, 21, 11, 3]
    assert [share(1, *parts) for parts in ((3, 4), (0, 4), (3, 0))] == [1, 0, 1]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda config: schedule(config, ArrayWork(1, 1, 1, 1, 1, 1), "best"), "method"),
        (lambda config: ArrayWork(1, 65536, 1, 1, 1, 1), "m_low"),
        (lambda config: ArrayWork(1, 1, 0, 1, 1, 1), "q_high"),
        (lambda config: ArrayWork(1, 1, 1, 1, 1, 32768), "g_low"),
        (lambda config: Split(4, 0, 0).shapes(config), "columns"),
        (lambda config: Split(3, 5, 0).shapes(config), "left_rows"),
        (lambda config: Split(3, 4, -1).shapes(config), "right_rows"),
        (lambda config: gemm_work(config, 1, 1, 0, 1, 1), "k"),
        (lambda config: gemm_work(config, 1, 1, 1, 1, 1, bits=(8, 0)), "low_bits"),
        (lambda config: region_cycles("triple", 8, 1, 1, 1, 1, 1), "weight_buffering"),
        (lambda config: check_split(config, ArrayWork(1, 1, 1, 1, 1, 1), Split(1, 0, 1)), "split"),
        (lambda _: check_split(DriftConfig(rows=1), ArrayWork(1, 1, 1, 1, 1, 0), Split(36, 1, 0)), "rows"),
        (
            lambda _: check_split(DriftConfig(columns=1), ArrayWork(1, 0, 1, 1, 1, 1), Split(1, 1, 1)),
            "columns",
        ),
    ],
)
def test_errors(make, name):
    with pytest.raises(ParameterError) as error:
        make(DriftConfig(rows=4, columns=3))
    assert error.value.name == name
