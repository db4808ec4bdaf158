"""The drain against the golden model: banks of all four regions, in random order, and when each is drained."""

import dataclasses

import numpy as np
import pytest

from bitfabric.hdl.drift.config import CHANNEL, CHANNELS, DriftConfig
from bitfabric.hdl.drift.drain import Drain
from bitfabric.hdl.drift.params_memory import ParamsMemory
from bitfabric.quant.pwl import evaluate, fit
from bitfabric.quant.requant import requantize
from bitfabric.sim.cycles.drift_drain import Bank, drain_times
from bitfabric.sim.cycles.drift_output import DRAIN_LATENCY
from bitfabric.sim.streams import simulate

COLUMNS = {4: (3, 64), 8: (5, 64), 16: (9, 128), 32: (11, 256)}  # of the fabric, bits of a word, by lanes


@dataclasses.dataclass(kw_only=True)
class Layer:
    """Hold a layer's accumulators and what becomes of them."""

    tokens: list  # by precision, high rows first
    split: int
    high: int
    low: int
    acc: np.ndarray  # (M, N), not yet shifted
    row_shift: np.ndarray
    clip: np.ndarray
    scaling: dict
    accumulators: bool
    function: object


def make_layer(rng, config, m, high, low, accumulators, function):
    n = high + low
    order = rng.permutation(m)
    many = rng.integers(0, m + 1)
    tokens = [sorted(order[:many].tolist()), sorted(order[many:].tolist())]
    row_shift = np.zeros(m, int)
    row_shift[tokens[1]] = rng.integers(0, 8, len(tokens[1]))
    clip = np.where(np.arange(n) < high, rng.integers(0, 4, n), rng.integers(0, 8, n))
    shift = row_shift[:, None] + clip
    bound = (1 << min(30, config.acc_bits - 1)) >> shift
    acc = rng.integers(-bound, bound, (m, n)) >> rng.integers(0, 12, (m, n))
    corner = rng.random((m, n)) < 0.1
    acc = np.where(corner, rng.choice([-1, 0], (m, n)) * bound, acc)
    scaling = {
        "bias": rng.integers(-(1 << 30), 1 << 30, n) >> rng.integers(0, 28, n),
        "multiplier": rng.choice([1, 2**31 - 1, *rng.integers(1, 2**31, 5)], n),
        "shift": rng.choice([1, 62, *rng.integers(30, 50, 8)], n),
    }
    used = [n for n, count in ((config.columns, low), (0, high)) if not count]
    split = used[0] if used else int(rng.integers(1, config.columns))
    return Layer(
        tokens=tokens,
        split=split,
        high=high,
        low=low,
        acc=acc,
        row_shift=row_shift,
        clip=clip,
        scaling=scaling,
        accumulators=accumulators,
        function=function,
    )


def expected(layer, config, bounds):
    """Return the words of the output memory as (rows, bytes), and which of the bytes are results."""
    value = layer.acc << (layer.row_shift[:, None] + layer.clip)
    if layer.accumulators:
        planes = [value >> (8 * p) & 255 for p in range(4)]
    else:
        codes = requantize(
            value, *(layer.scaling[k] for k in ("multiplier", "shift")), **bounds, bias=layer.scaling["bias"]
        )
        planes = [(evaluate(layer.function, codes) if layer.function else codes) & 255]
    n = layer.high + layer.low
    padding = -n % config.beat_bytes
    rows = np.concatenate(
        [np.pad(plane, ((0, 0), (0, padding)), constant_values=-1) for plane in planes], axis=1
    )
    return rows.reshape(-1, config.beat_bytes)


def make_banks(rng, layer, config, pace):
    """Return for each region its banks as (Bank, rank, granule), full at random times."""
    widths = (layer.split, config.columns - layer.split)
    granules = (-(-layer.high // 2), -(-layer.low // 4))
    regions = []
    for region in range(4):
        rows, columns, total = len(layer.tokens[region // 2]), widths[region % 2], granules[region % 2]
        banks, cycle = [], 0
        for granule in range(0, total, columns or 1):
            for rank in range(0, rows, config.acc_depth):
                cycle += int(rng.integers(0, pace + 1))
                bank = Bank(
                    full=cycle,
                    rows=min(config.acc_depth, rows - rank),
                    granules=min(columns, total - granule),
                )
                banks.append((bank, rank, granule))
        regions.append(banks)
    return regions


def row_of_edge(rng, layer, config, region, bank, rank, granule, row):
    """Return what an edge gives for a row of a bank; columns of others are noise."""
    data = rng.integers(-(1 << 15), 1 << 15, (config.columns, CHANNELS))
    token = layer.tokens[region // 2][rank + row]
    for x in range(bank.granules):
        if region % 2 == 0:
            channels = layer.acc[token][2 * (granule + x) : min(2 * (granule + x) + 2, layer.high)]
            data[x, : 2 * len(channels) : 2] = channels
        else:
            first = layer.high + 4 * (granule + x)
            channels = layer.acc[token][first : first + 4]
            data[config.columns - 1 - x, : len(channels)] = channels
    return data.reshape(-1)


async def write_params(ctx, drain, layer):
    """Write every granule's record."""
    for low, (count, per, first) in enumerate(((layer.high, 2, 0), (layer.low, 4, layer.high))):
        for granule in range(-(-count // per)):
            word = 0
            for c in range(min(per, count - per * granule)):
                n = first + per * granule + c
                record = {k: int(v[n]) for k, v in layer.scaling.items()}
                # Of a high channel whose weights are narrower than 8 bits some are clipped.
                record |= {"clip": int(layer.clip[n]), "bits": 1 if low else 5}
                word |= CHANNEL.const(record).as_value().value << (CHANNEL.size * c)
            ctx.set(drain.params_en, 1)
            ctx.set(drain.params_granule, granule)
            ctx.set(drain.params_low, low)
            ctx.set(drain.params_data, word)
            await ctx.tick()
            assert not ctx.get(drain.bad_index)
    ctx.set(drain.params_en, 0)


async def write_table(ctx, drain, table):
    for address, word in enumerate(table.words() if table else ()):
        ctx.set(drain.table_en, 1)
        ctx.set(drain.table_addr, address)
        ctx.set(drain.table_data, word)
        await ctx.tick()
    ctx.set(drain.table_en, 0)


async def drain_banks(ctx, drain, layer, config, regions, rng):
    """Play the banks and the index buffer; return takes and frees as (cycle, region), the last busy cycle, errors."""
    at, shown = [0] * 4, [0] * 4
    takes, frees, cycle, errors, busy_until = [], [], 0, 0, -1
    edge, token, shift = None, 0, 0
    held = [None] * 4  # the bank taken last, by region
    total = sum(map(len, regions))
    while len(frees) < total or ctx.get(drain.busy):
        full = 0
        for region, banks in enumerate(regions):
            here = at[region] < len(banks) and banks[at[region]][0].full <= cycle and shown[region] <= cycle
            full |= here << region
            if here:
                bank, rank, granule = banks[at[region]]
                info = {"rows": bank.rows, "rank": rank, "granules": bank.granules, "granule": granule}
                ctx.set(drain.info[region], info)
        ctx.set(drain.full, full)
        ctx.set(drain.bank, sum((at[r] & 1) << r for r in range(4)))
        if edge is not None:
            north = edge[0] < 2
            for index, value in enumerate(edge[1].tolist()):
                ctx.set((drain.north_data if north else drain.south_data)[index], value)
            edge = None
        ctx.set(drain.index_token, token)
        ctx.set(drain.index_shift, shift)
        token, shift = int(rng.integers(0, 1 << 16)), int(rng.integers(0, 8))
        take, freed = ctx.get(drain.take), ctx.get(drain.freed)
        for region in range(4):
            if freed >> region & 1:
                frees.append((cycle, region))
            if take >> region & 1:
                takes.append((cycle, region))
                held[region] = (*regions[region][at[region]], at[region] & 1)
                at[region] += 1
                shown[region] = cycle + 1
        if ctx.get(drain.read_en):
            region, row = ctx.get(drain.read_region), ctx.get(drain.read_row)
            bank, rank, granule, which = held[region]
            assert ctx.get(drain.read_bank) == which
            assert ctx.get(drain.index_rank) == rank + row
            assert ctx.get(drain.index_low) == region // 2
            edge = region, row_of_edge(rng, layer, config, region, bank, rank, granule, row)
            token = layer.tokens[region // 2][rank + row]
            shift = int(layer.row_shift[token])
        if ctx.get(drain.busy):
            busy_until = cycle
        errors += ctx.get(drain.output_error)
        await ctx.tick()
        cycle += 1
    errors += ctx.get(drain.output_error)
    return takes, frees, busy_until, errors


async def read_words(ctx, drain, config, count):
    words = []
    for address in range(count):
        ctx.set(drain.out_read_en, 1)
        ctx.set(drain.out_read_address, address)
        await ctx.tick()
        word = ctx.get(drain.read_data)
        words.append([word >> (8 * i) & 255 for i in range(config.beat_bytes)])
    return np.array(words)


def set_gemm(ctx, drain, layer, bounds):
    for name, value in {
        "n_high": layer.high,
        "n_low": layer.low,
        "granules_high": -(-layer.high // 2),
        "granules_low": -(-layer.low // 4),
        "accumulators": layer.accumulators,
        "function": layer.function is not None,
        **bounds,
    }.items():
        ctx.set(drain.gemm[name], value)


BOUNDS = ({"low": -128, "high": 127, "zero_point": 0}, {"low": -100, "high": 155, "zero_point": -28})


@pytest.mark.parametrize(
    ("high", "low", "token", "errors"),
    [
        (9, 0, 6, 0),  # the last row that fits: 2 of 14 words
        (9, 0, 7, 5),  # all of its granules
        (9, 0, 65535, 5),
        (9, 8, 4, 1),  # the last granule crosses the memory's end
        (27, 0, 3, 6),  # 4 words, the upper two of which are beyond
    ],
)
def test_results_beyond_the_memory(high, low, token, errors):
    config = DriftConfig.preset("tiny", out_words=14)
    rng = np.random.default_rng(token)
    layer = Layer(
        tokens=[[token], []],
        split=2 if low else 3,
        high=high,
        low=low,
        acc={token: np.arange(high + low)},
        row_shift={token: 0},
        clip=np.zeros(high + low, int),
        scaling={},
        accumulators=False,
        function=None,
    )
    drain = Drain(config)

    async def testbench(ctx):
        set_gemm(ctx, drain, layer, BOUNDS[0])
        await ctx.tick().repeat(4)
        regions = make_banks(rng, layer, config, 0)
        *_, seen = await drain_banks(ctx, drain, layer, config, regions, rng)
        assert seen == errors

    simulate(drain, testbench)


@pytest.mark.parametrize(
    ("low", "granule", "records", "wrong"),
    [
        (0, 0, [(8, 0), (5, 3), (0, 0), (0, 0)], False),
        (0, 0, [(8, 1), (8, 0), (0, 0), (0, 0)], True),
        (0, 0, [(8, 0), (4, 0), (0, 0), (0, 0)], True),
        (0, 0, [(9, 0), (8, 0), (0, 0), (0, 0)], True),
        (0, 2, [(8, 0), (0, 0), (0, 0), (0, 0)], False),  # the fifth of five channels
        (0, 2, [(8, 0), (15, 15), (1, 2), (9, 1)], False),
        (0, 2, [(0, 0), (8, 0), (0, 0), (0, 0)], True),
        (1, 0, [(4, 0), (4, 4), (1, 7), (3, 1)], False),
        (1, 0, [(4, 0), (4, 4), (1, 7), (5, 1)], True),
        (1, 0, [(4, 0), (4, 4), (1, 8), (3, 1)], True),
        (1, 0, [(0, 0), (4, 4), (1, 7), (3, 1)], True),
        (1, 1, [(4, 4), (4, 0), (0, 0), (9, 9)], False),
        (1, 1, [(4, 4), (8, 0), (0, 0), (0, 0)], True),
    ],
)
def test_precisions_of_channels(low, granule, records, wrong):
    params = ParamsMemory(DriftConfig.preset("tiny"))

    async def testbench(ctx):
        ctx.set(params.n_high, 5)
        ctx.set(params.n_low, 6)
        ctx.set(params.write_en, 1)
        ctx.set(params.write_granule, granule)
        ctx.set(params.write_low, low)
        for index, (bits, clip) in enumerate(records):
            ctx.set(params.write_data[index].bits, bits)
            ctx.set(params.write_data[index].clip, clip)
        await ctx.tick()
        assert ctx.get(params.bad_index) == wrong
        ctx.set(params.write_en, 0)
        await ctx.tick()
        assert not ctx.get(params.bad_index)

    simulate(params, testbench)


@pytest.mark.parametrize(
    ("lanes", "m", "high", "low", "mode", "pace"),
    [
        (4, 7, 9, 14, "bytes", 0),
        (4, 1, 0, 5, "function", 20),
        (8, 12, 13, 31, "bytes", 5),
        (8, 5, 7, 18, "accumulators", 0),
        (8, 6, 21, 0, "accumulators", 30),
        (16, 10, 17, 55, "function", 0),
        (16, 9, 1, 70, "bytes", 12),
        (32, 5, 37, 90, "bytes", 3),
    ],
)
def test_banks(lanes, m, high, low, mode, pace):
    columns, width = COLUMNS[lanes]
    config = DriftConfig.preset(
        "tiny",
        lanes=lanes,
        columns=columns,
        axis_data_bits=width,
        acc_depth=4,
        out_words=512,
        granules_max=60,
    )
    rng = np.random.default_rng(lanes + m)
    table = fit("gelu", 0.05, 0.04, fmt=config.pwl) if mode == "function" else None
    drain = Drain(config)
    layers = [
        make_layer(rng, config, m, n_high, n_low, mode == "accumulators", table)
        for n_high, n_low in ((high, low), (low, high))
    ]

    async def testbench(ctx):
        await write_table(ctx, drain, table)
        for layer, bounds in zip(layers, BOUNDS, strict=True):
            set_gemm(ctx, drain, layer, bounds)
            await ctx.tick().repeat(4)
            await write_params(ctx, drain, layer)
            regions = make_banks(rng, layer, config, pace)
            takes, frees, busy_until, errors = await drain_banks(ctx, drain, layer, config, regions, rng)
            assert errors == 0
            model = drain_times(
                config, [[bank for bank, *_ in banks] for banks in regions], accumulators=layer.accumulators
            )
            if layer is layers[0]:  # the second one's turns go on where the first one's ended
                assert takes == [(bank.picked, bank.region) for bank in model]
                assert frees == [(bank.freed, bank.region) for bank in model]
            assert busy_until + 1 == frees[-1][0] + DRAIN_LATENCY
            rows = expected(layer, config, bounds)
            words = await read_words(ctx, drain, config, len(rows))
            assert np.array_equal(words[rows >= 0], rows[rows >= 0])

    simulate(drain, testbench)
