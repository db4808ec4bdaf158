"""The fetcher on the records of the golden model: what lands, when, and what is counted."""

import numpy as np
import pytest

from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.panacea.fetcher import Fetcher
from bitfabric.quant import rle
from bitfabric.quant.errors import ParameterError
from bitfabric.quant.panacea import Slicing
from bitfabric.quant.slicing import unsigned_slices
from bitfabric.sim.panacea_records import act_records
from bitfabric.sim.streams import plain, simulate

WORDS = 97  # of the memory: a ring, in which tiles wrap around

NARROW = PanaceaConfig.preset(
    "tiny", peas=8, tile_k=32
)  # 64 bits: quads of three, one a word; two chunks and more
WIDE = PanaceaConfig.preset("small", tile_n=20, axis_data_bits=256)  # three quads a word
WIDEST = PanaceaConfig.preset(
    "tiny", axis_data_bits=512
)  # six quads a word, words with less than their lanes


class Bench:
    """Play the memory and the destination of a fetcher, and write down what happens."""

    def __init__(self, ctx, unit, config, rng, *, free=1.0):
        self.ctx, self.unit, self.config, self.rng, self.free = ctx, unit, config, rng, free
        self.claims = []

    async def fetch(self, words, base, count, k_valid, slices, skipped):
        """Fetch one tile of ``words`` from ``base`` on; return landings, cycles, slice-vectors, words and error."""
        ctx, unit = self.ctx, self.unit
        memory = {(base + offset) % WORDS: word for offset, word in enumerate(words)}
        for name, value in (
            ("want", 1),
            ("tile_ready", 1),
            ("base", base),
            ("count", count),
            ("k_valid", k_valid),
            ("slices", slices),
            ("skipped", skipped),
        ):
            ctx.set(getattr(unit, name), value)
        landings, cycles, reads, error, done, told = [], 0, 0, False, False, 0
        while not done:
            ctx.set(unit.free, self.rng.random() < self.free)
            done = bool(ctx.get(unit.done))
            told = ctx.get(unit.tile_words)
            error |= bool(ctx.get(unit.error))
            if ctx.get(unit.claim):
                self.claims.append(ctx.get(unit.group))
                assert ctx.get(unit.free)
            read = memory[ctx.get(unit.read_addr)] if ctx.get(unit.read_en) else None
            await ctx.tick()
            cycles += 1
            assert cycles < 2000
            if read is not None:
                ctx.set(unit.read_data, read)
            if done:
                ctx.set(unit.want, 0)
            reads += ctx.get(unit.reads)
            if ctx.get(unit.landing):
                landings.append(plain(ctx.get(unit.o)))
        return landings, cycles, reads, told, error


def vectors_of(config, landings, group, chunks):
    """Return a group's dense vectors by slice and position, and its HO vectors by position."""
    mine = [landing for landing in landings if landing["group"] == group]
    assert [landing["first"] for landing in mine] == [1] + [0] * (len(mine) - 1)
    assert [landing["last"] for landing in mine] == [0] * (len(mine) - 1) + [1]
    dense, high = {}, {}
    for landing in mine:
        if landing["dense_en"]:
            for lane in range(config.lanes):
                position = landing["chunk"] * config.lanes + lane
                assert landing["chunk"] < chunks
                dense[landing["slice"], position] = landing["dense"] >> (16 * lane) & 0xFFFF
        for position in range(config.tile_k):
            if landing["mask"] >> position & 1:
                assert position not in high
                high[position] = landing["vectors"] >> (16 * position) & 0xFFFF
    return dense, high


def as_vector(values):
    return sum(int(value) << (4 * row) for row, value in enumerate(values))


@pytest.mark.parametrize("config", [NARROW, WIDE, WIDEST], ids=["64", "256", "512"])
@pytest.mark.parametrize("free", [1.0, 0.4])
def test_lands_what_the_records_hold(config, free):
    unit = Fetcher(config, config.groups, WORDS)

    async def testbench(ctx):
        rng = np.random.default_rng(int(10 * free))
        bench = Bench(ctx, unit, config, rng, free=free)
        forced = 0
        for number in range(24):
            bits = (4, 8, 12)[number % 3]
            slicing = Slicing(act_bits=bits, low_bits=int(rng.integers(4, 7)) if bits == 8 else 4)
            tokens = int(rng.choice([config.tile_n, rng.integers(1, config.tile_n + 1)]))
            k_valid = int(rng.choice([config.tile_k, rng.integers(1, config.tile_k + 1)]))
            point = int(rng.integers(2**bits))
            skipped = slicing.skipped(point) if bits > 4 else 0
            x = rng.integers(0, 2**bits, (k_valid, tokens))
            low = skipped << slicing.ho_shift
            sparse = rng.random((k_valid, 1)) < rng.choice([0.0, 0.5, 0.95, 1.0])
            if number % 4 == 1:  # a run that outgrows an index, where a sub-tile is long enough for it
                sparse[:-1], sparse[-1] = True, False
            x = np.where(sparse, rng.integers(low, low + (1 << slicing.ho_shift), x.shape) % 2**bits, x)
            record = act_records(config, x, slicing, point)[0][0]
            words = [int.from_bytes(word.tobytes(), "little") for word in record]
            groups = -(-tokens // 4)
            landings, cycles, reads, told, error = await bench.fetch(
                words, int(rng.integers(WORDS)), groups, k_valid, slicing.act_slices, skipped
            )
            assert not error
            assert told == len(words)
            # The golden slices; absent tokens count as r in the top slice and as 0 below it.
            slices = unsigned_slices(x, slicing.act_bits, slicing.low_bits)
            chunks, spent, counted = -(-k_valid // config.lanes), 2, 0
            quads_before = 0
            for group in range(groups):
                columns = slices[:, :, 4 * group : 4 * group + 4]
                dense, high = vectors_of(config, landings, group, chunks)
                below = columns if slicing.act_slices == 1 else columns[:-1]
                for (index, position), vector in dense.items():
                    inside = position < k_valid
                    assert vector == (as_vector(below[index, position]) if inside else 0)
                assert len(dense) == len(below) * chunks * config.lanes
                stored = 0
                if slicing.act_slices > 1:
                    keep = (columns[-1] != skipped).any(axis=1)
                    pad = [skipped] * (4 - columns.shape[2])
                    wanted = {int(at): as_vector([*columns[-1][at], *pad]) for at in np.flatnonzero(keep)}
                    assert high == wanted
                    code = rle.encode(keep)
                    stored, forced = len(code.indices), forced + int(code.forced.sum())
                else:
                    assert high == {}
                # The documented time of a group.
                quads = -(-stored // config.quad)
                after = quads_before + quads
                fresh = -(-after // config.quads) - -(-quads_before // config.quads)
                quads_before = after
                spent += fresh + len(below) * chunks
                counted += len(below) * k_valid + stored
            assert reads == counted
            assert bench.claims == list(range(groups))
            bench.claims = []
            if free == 1.0:
                assert cycles == spent
        assert forced or config.tile_k < 17

    simulate(unit, testbench)


def test_waits_for_a_tile():
    unit = Fetcher(NARROW, NARROW.groups, WORDS)

    async def testbench(ctx):
        assert not ctx.get(unit.starving)
        ctx.set(unit.want, 1)
        for _ in range(3):
            assert ctx.get(unit.starving)
            assert not ctx.get(unit.read_en)
            await ctx.tick()
        ctx.set(unit.tile_ready, 1)
        assert not ctx.get(unit.starving)
        assert ctx.get(unit.read_en)

    simulate(unit, testbench)


@pytest.mark.parametrize("what", ["count", "index"])
def test_a_contradiction_is_told(what):
    unit = Fetcher(WIDE, WIDE.groups, WORDS)
    count = 6 if what == "count" else 2
    high = 5 << 16 | 7  # a kept vector at position 5 of 5

    async def testbench(ctx):
        bench = Bench(ctx, unit, WIDE, np.random.default_rng(0))
        *_, error = await bench.fetch([count, 0, high, 0], 0, 1, 5, 2, 0)
        assert error
        *_, error = await bench.fetch([1, 0, 4 << 16 | 7], 0, 1, 5, 2, 0)
        assert not error

    simulate(unit, testbench)


@pytest.mark.parametrize(("groups", "words", "name"), [(0, 8, "groups"), (4, 0, "words")])
def test_refuses_bad_parameters(groups, words, name):
    with pytest.raises(ParameterError, match=f"{name}=0 is not allowed; it must be an integer of at least 1"):
        Fetcher(NARROW, groups, words)
