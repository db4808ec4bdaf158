"""The output side as a whole: blocks of psums in, the next layer's records out, to the bit and to the cycle."""

import random

import numpy as np
import pytest
from amaranth.hdl import Module, ResetInserter, Signal

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.output import PanaceaOutput
from bitfabric.quant.panacea import Slicing, act_keep, activation_table, post_process
from bitfabric.quant.slicing import unsigned_slices
from bitfabric.sim.cycles.panacea_output import OutputTimes
from bitfabric.sim.panacea_records import act_records
from bitfabric.sim.streams import simulate


def make_config(axis_data_bits=64, **changes):
    sizes = {"peas": 8, "tile_k": 32, "tile_n": 8, "segments": 16, "omem_words": 1024, "omem_records": 16}
    return PanaceaConfig(axis_data_bits=axis_data_bits, **{**sizes, **changes})


def make_layer(rng, m, n, slices, drop=0, sparsity=0.5, shape="random"):
    """Return a layer's accumulators, parameters and outputs; the outputs' HO vectors are r as often as wanted."""
    bits = 4 * slices
    zero_point = int(rng.integers(0, 1 << bits))
    slicing = Slicing(act_bits=bits, low_bits=4 + drop)
    r, l_bits = slicing.skipped(zero_point), slicing.ho_shift
    wanted = rng.integers(0, 1 << bits, (m, n))
    skip = np.repeat(rng.random((m, -(-n // 4))) < sparsity, 4, axis=1)[:, :n]
    if shape == "runs":  # some vectors kept, a run that is mostly too long for an index, then all kept
        for first in range(0, n, 4):
            begin, end = rng.integers(0, 5), rng.integers(19, 25)
            skip[:, first : first + 4] = ((begin <= np.arange(m) % 32) & (np.arange(m) % 32 < end))[:, None]
    if slices > 1:
        wanted = np.where(skip, (r << l_bits) + wanted % (1 << l_bits), wanted)
    bias = rng.integers(-1000, 1000, m)
    acc = wanted - zero_point - bias[:, None]
    if sparsity < 1 and shape != "runs":
        acc = np.where(rng.random((m, n)) < 0.02, rng.choice([-(2**30), 2**30]), acc)
    multiplier, shift = np.full(m, 1 << 30), np.full(m, 30)
    table = activation_table("identity", 1, 1, zero_point, bits, 16)
    codes = post_process(acc, bias, multiplier, shift, table, bits)
    return {
        "acc": acc,
        "bias": bias,
        "multiplier": multiplier,
        "shift": shift,
        "table": table,
        "codes": codes,
        "slicing": slicing,
        "zero_point": zero_point,
        "skipped": r,
        "m": m,
        "n": n,
    }


def blocks_of(config, layer, dtp=False):
    """Yield the blocks in the machine's order, each with the pattern of its kept vectors."""
    m, n, tile_k = layer["m"], layer["n"], config.tile_k
    slicing = layer["slicing"]
    high = unsigned_slices(layer["codes"], slicing.act_bits, slicing.low_bits)[-1]
    keep = act_keep(high, layer["skipped"])
    step = config.m_step * (2 if dtp else 1)
    places = [
        (k0, n0)
        for m0 in range(0, m, step)
        for n0 in range(0, n, config.tile_n)
        for k0 in range(m0, min(m0 + step, m), tile_k)
    ]
    for k0, n0 in places:
        k_valid, columns = min(tile_k, m - k0), min(config.tile_n, n - n0)
        for g0 in range(n0, n0 + columns, 4):
            for row0 in range(k0, k0 + k_valid, 4):
                rows = min(4, k0 + k_valid - row0)
                group_ends, record_ends = row0 + 4 >= k0 + k_valid, g0 + 4 >= n0 + columns
                yield {
                    "row": row0,
                    "column": g0,
                    "rows": rows,
                    "columns": min(4, n - g0),
                    "first_of_group": row0 == k0,
                    "last_of_group": group_ends,
                    "last_of_record": group_ends and record_ends,
                    "last": group_ends and record_ends and (k0, n0) == places[-1],
                    "k_valid": k_valid,
                    "keep": [bool(keep[row0 + row, g0 // 4]) for row in range(rows)],
                }


def payload(layer, block, rng):
    """Return what is offered; what is not valid holds noise."""
    acc = [rng.randrange(-(1 << 31), 1 << 31) for _ in range(16)]
    channels = [{"bias": rng.randrange(1 << 31), "multiplier": 5, "shift": 1} for _ in range(4)]
    for row in range(block["rows"]):
        m = block["row"] + row
        channels[row] = {name: int(layer[name][m]) for name in ("bias", "multiplier", "shift")}
        for column in range(block["columns"]):
            acc[4 * row + column] = int(layer["acc"][m, block["column"] + column])
    flags = {k: block[k] for k in block if k.startswith(("first", "last"))}
    sizes = {k: block[k] for k in ("rows", "columns", "k_valid")}
    return {"acc": acc, "channels": channels, **sizes, **flags}


async def run_layer(ctx, block, config, layer, job, *, gaps=0.0, stall=0.0, seed=0, source=None, dtp=False):
    """Send a layer's blocks; return beats, and when blocks were offered and taken and the layer was done."""
    rng = random.Random(seed)
    ctx.set(block.job, job)
    for address, word in enumerate(layer["table"].words()):
        ctx.set(block.table_en, 1)
        ctx.set(block.table_addr, address)
        ctx.set(block.table_data, word)
        await ctx.tick()
    ctx.set(block.table_en, 0)
    ctx.set(block.start, 1)
    ctx.set(block.source_start, source is not None)
    await ctx.tick()
    ctx.set(block.start, 0)
    ctx.set(block.source_start, 0)
    blocks = list(blocks_of(config, layer, dtp))
    seen = {"offered": [], "taken": [], "done": [], "beats": [], "stalled": 0, "overflow": 0, "source": []}
    index, offering, cycle, after, held = 0, False, 0, 0, None
    while after < 12 and cycle < 6000:
        if not offering and index < len(blocks) and rng.random() >= gaps:
            offering = True
            ctx.set(block.i.payload, payload(layer, blocks[index], rng))
            seen["offered"].append(cycle)
        ctx.set(block.i.valid, offering)
        ctx.set(block.o.ready, rng.random() >= stall)
        ctx.set(block.source.ready, rng.random() >= stall)
        (
            _,
            _,
            taken,
            valid,
            ready,
            beat,
            done,
            stalled,
            overflow,
            word_valid,
            word_ready,
            word,
        ) = await ctx.tick().sample(
            block.i.ready,
            block.o.valid,
            block.o.ready,
            block.o.payload,
            block.done,
            block.stalled,
            block.omem_overflow,
            block.source.valid,
            block.source.ready,
            block.source.payload,
        )
        now = (beat.data, beat.last)
        assert held is None or (valid and now == held), "a beat that waits stays"
        held = now if valid and not ready else None
        if valid and ready:
            seen["beats"].append(now)
        if word_valid and word_ready:
            seen["source"].append((cycle, word))
        if done:
            seen["done"].append(cycle)
        seen["stalled"] += stalled
        seen["overflow"] += overflow
        if offering and taken:
            seen["taken"].append(cycle)
            offering = False
            index += 1
        cycle += 1
        waits = source is not None and len(seen["source"]) < source
        after += bool(seen["done"]) and not waits
    ctx.set(block.i.valid, 0)
    assert index == len(blocks), f"seed {seed}: {index} of {len(blocks)} blocks taken"
    return seen


def make_job(layer, **changes):
    slicing = layer["slicing"]
    return {
        "m": layer["m"],
        "k": 1,
        "n": layer["n"],
        "codes": 1,
        "next_slices": slicing.act_slices,
        "next_drop": slicing.low_bits - 4,
        "next_skipped": layer["skipped"],
        **changes,
    }


def check_times(config, layer, seen, slices, keep=False, dtp=False):
    model = OutputTimes(config, slices, keep)
    for block, offered, taken in zip(
        blocks_of(config, layer, dtp), seen["offered"], seen["taken"], strict=True
    ):
        flags = {k: block[k] for k in ("last", "last_of_group", "last_of_record")}
        assert model.block(offered, block["keep"], **flags) == taken
    assert [model.done] == seen["done"]
    assert model.stalled == seen["stalled"]


def expected_words(config, layer):
    """Return the words of every record, by N tile and K tile."""
    records = act_records(config, layer["codes"], layer["slicing"], layer["zero_point"])
    return [[[int.from_bytes(w.tobytes(), "little") for w in tile] for tile in row] for row in records]


def produced_order(config, layer, words, dtp=False):
    tiles = []
    for block in blocks_of(config, layer, dtp):
        place = (block["column"] // config.tile_n, block["row"] // config.tile_k)
        if place not in tiles:
            tiles.append(place)
    return [word for n_tile, k_tile in tiles for word in words[n_tile][k_tile]]


CASES = [
    # axis_data_bits, configuration, M, N, slices, drop, sparsity, shape
    (64, {}, 32, 8, 2, 0, 0.5, "random"),
    (64, {"tile_k": 8}, 37, 11, 2, 2, 0.0, "random"),
    (64, {"peas": 2, "tile_k": 8}, 18, 5, 3, 0, 0.3, "random"),
    (64, {"tile_k": 4, "peas": 2}, 7, 9, 2, 0, 0.4, "random"),
    (128, {}, 61, 17, 2, 1, 0.7, "random"),
    (128, {"tile_k": 16}, 33, 16, 3, 0, 0.6, "random"),
    (128, {"tile_n": 16}, 32, 32, 2, 0, 0.0, "runs"),
    (256, {"tile_n": 16}, 64, 40, 2, 0, 0.9, "random"),
    (256, {"tile_n": 16}, 64, 23, 3, 0, 0.0, "random"),
    (256, {}, 32, 24, 2, 2, 1.0, "random"),
    (256, {"tile_k": 8}, 20, 4, 1, 0, 0.0, "random"),
    (512, {"peas": 16, "tile_n": 16}, 65, 18, 2, 0, 0.6, "random"),
    (512, {"tile_k": 32, "tile_n": 4}, 32, 12, 2, 0, 0.0, "runs"),
]


FREE = [(case, gaps, 0.0) for case in range(len(CASES)) for gaps in ((0.0, 0.4) if case % 2 else (0.0,))]
STALLED = [(case, 0.2, 0.5) for case in range(1, len(CASES), 4)]


@pytest.mark.parametrize(("case", "gaps", "stall"), [*FREE, *STALLED])
def test_records(case, gaps, stall):
    axis_data_bits, changes, m, n, slices, drop, sparsity, shape = CASES[case]
    config = make_config(axis_data_bits, **changes)
    layer = make_layer(np.random.default_rng(case), m, n, slices, drop, sparsity, shape)
    block = PanaceaOutput(config)

    async def testbench(ctx):
        seen = await run_layer(ctx, block, config, layer, make_job(layer), gaps=gaps, stall=stall, seed=case)
        words = produced_order(config, layer, expected_words(config, layer))
        assert [word for word, _ in seen["beats"]] == words
        assert [last for _, last in seen["beats"]] == [0] * (len(words) - 1) + [1]
        assert len(seen["done"]) == 1
        assert not seen["overflow"]
        if not stall:
            check_times(config, layer, seen, slices)

    simulate(block, testbench)


@pytest.mark.parametrize(("axis_data_bits", "acc_bits"), [(64, 20), (256, 32), (512, 32)])
@pytest.mark.parametrize(("gaps", "stall"), [(0.0, 0.0), (0.5, 0.0), (0.2, 0.5)])
def test_accumulators(axis_data_bits, acc_bits, gaps, stall):
    config = make_config(axis_data_bits, acc_bits=acc_bits, tile_k=16, k_max=16)
    rng = np.random.default_rng(axis_data_bits)
    m, n, bound = 19, 10, 1 << (acc_bits - 1)
    layer = make_layer(rng, m, n, 2)
    layer["acc"] = rng.integers(-bound, bound, (m, n))
    layer["bias"] = rng.integers(-(1 << 31), 1 << 31, m)
    layer["acc"][0, :2], layer["bias"][0] = [-bound, bound - 1], -(1 << 31)
    block = PanaceaOutput(config)

    async def testbench(ctx):
        job = make_job(layer, codes=0)
        seen = await run_layer(ctx, block, config, layer, job, gaps=gaps, stall=stall)
        beats, sums = [word for word, _ in seen["beats"]], layer["acc"] + layer["bias"][:, None]
        per_block = 512 // axis_data_bits
        for index, place in enumerate(blocks_of(config, layer)):
            got = 0
            for position, beat in enumerate(beats[index * per_block : (index + 1) * per_block]):
                got |= beat << (axis_data_bits * position)
            want = np.zeros((4, 4), np.int64)
            rows = slice(place["row"], place["row"] + place["rows"])
            valid = sums[rows, place["column"] : place["column"] + place["columns"]]
            want[: valid.shape[0], : valid.shape[1]] = valid
            assert got == sum((int(v) & 0xFFFFFFFF) << (32 * lane) for lane, v in enumerate(want.flat))
        assert [last for _, last in seen["beats"]] == [0] * (len(beats) - 1) + [1]
        if not stall:
            check_times(config, layer, seen, 0)

    simulate(block, testbench)


@pytest.mark.parametrize("dtp", [False, True])
def test_kept_and_read_again(dtp):
    config = make_config(128, tile_k=16)
    rng = np.random.default_rng(dtp)
    first, second = make_layer(rng, 75, 19, 2, 1, 0.5), make_layer(rng, 70, 19, 2, 0, 0.8)
    block, reset, top = PanaceaOutput(config), Signal(), Module()
    top.submodules.dut = ResetInserter({"sync": reset})(block)

    async def testbench(ctx):
        job = make_job(first, keep=1, dtp=dtp)
        seen = await run_layer(ctx, block, config, first, job, gaps=0.1, dtp=dtp)
        assert not seen["beats"]
        check_times(config, first, seen, 2, keep=True, dtp=dtp)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        steps = -(-second["m"] // (config.m_step * (1 + dtp)))
        kept = [word for row in expected_words(config, first) for tile in row for word in tile] * steps
        job = make_job(second, k=first["m"], from_omem=1, dtp=dtp)
        seen = await run_layer(
            ctx, block, config, second, job, gaps=0.1, stall=0.2, source=len(kept), dtp=dtp
        )
        assert [word for _, word in seen["source"]] == kept
        words = produced_order(config, second, expected_words(config, second), dtp)
        assert [word for word, _ in seen["beats"]] == words
        assert not seen["overflow"]

    simulate(top, testbench)


def test_what_does_not_fit():
    config = make_config(64, omem_words=64)  # 8 words to a buffer
    layer = make_layer(np.random.default_rng(0), 32, 8, 2)
    block = PanaceaOutput(config)

    async def testbench(ctx):
        seen = await run_layer(ctx, block, config, layer, make_job(layer))
        assert seen["overflow"]

    simulate(block, testbench)
