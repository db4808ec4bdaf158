"""The softmax unit: every output in every cycle, against the golden softmax and the cycle model."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.softmax_unit import SoftmaxUnit
from bitfabric.hdl.emit import emit
from bitfabric.quant.dtqatten_attention import row_factors
from bitfabric.quant.dtqatten_parameters import AttentionParameters
from bitfabric.quant.softmax import MASKED, SCORE_LIMIT, numerators, reciprocal, softmax
from bitfabric.sim.cycles.dtqatten_softmax import SoftmaxTimer
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob

SCORE_BITS = 24
STROBES = ("a_en", "add_en", "factor_en", "numerators_done", "importance_done", "factors_done", "max_en")


def scores(rng, queries, keys):
    """Return rows of scores: spread, close, equal, saturated, one far above the others, some keys masked."""
    kind = rng.integers(0, 6, (queries, 1))
    t = rng.normal(0, [[4096.0]] * queries, (queries, keys)).astype(np.int64)
    t = np.where(kind == 1, rng.integers(-SCORE_LIMIT, SCORE_LIMIT + 1, (queries, keys)), t)
    t = np.where(kind == 2, rng.integers(-5, 5, (queries, 1)), t)
    t = np.where(kind == 3, rng.choice([-SCORE_LIMIT, SCORE_LIMIT], (queries, keys)), t)
    t = np.where(
        (kind == 4) & (np.arange(keys) != rng.integers(0, keys)), t - (rng.integers(10, 25) << 12), t
    )
    masked = (rng.random((queries, keys)) < rng.choice([0, 0.3, 0.9])) & (kind != 2)
    masked[np.arange(queries), rng.integers(0, keys, queries)] = False
    return np.where(masked, MASKED, np.clip(t, -SCORE_LIMIT, SCORE_LIMIT))


class Bench:
    """Lay out the inputs and the expected outputs of one job, a group of bands of one m after the other."""

    def __init__(self, config, rng):
        self.config, self.rng, self.scores = config, rng, scores
        self.inputs, self.expected, self.mask = {}, {}, {}
        self.cycles = 0  # before the group

    def put(self, table, name, cycle, value):
        table.setdefault(name, {})[self.cycles + cycle] = value

    def out(self, cycle, strobe, **values):
        self.put(self.expected, strobe, cycle, 1)
        for name, (value, mask) in values.items():
            self.put(self.expected, name, cycle, value)
            self.put(self.mask, name, cycle, mask)

    def lanes(self, values, bits):
        """Return C values as one integer; those that are not given are anything."""
        columns = self.config.columns
        rest = self.rng.integers(0, 1 << bits, columns - len(values))
        return sum((int(v) & ((1 << bits) - 1)) << (bits * i) for i, v in enumerate([*values, *rest]))

    def ports(self, given):
        """Return the data of the ports; of those that are not given, anything."""
        size = SCORE_BITS * self.config.columns
        found = {p: self.lanes([], SCORE_BITS) for p in range(self.config.unload_ports)} | given
        return sum(value << (size * port) for port, value in found.items())

    def group(self, m, per_token, bands, gaps, unscaled=False):
        """Add bands (number, queries), each offered a while after the one before could be.

        ``unscaled``: every token's scale is 0, which a host must not give; then mx counts as 1.
        """
        config, rng = self.config, self.rng
        sv = rng.integers(1, 65536, m) >> rng.integers(0, 17, m) if per_token else None
        sv = None if sv is None else np.maximum(sv, 1)
        everything = np.ones(m, np.int64)
        parameters = AttentionParameters(
            score_shift=1,
            out_multiplier=int(rng.choice([1, 65535, rng.integers(1, 65536)])),
            out_shift=int(rng.choice([1, 15, 40, 63])),
            **({} if sv is None else {"sq": everything, "sk": everything, "sv": sv}),
        )
        start = 0
        if sv is not None:
            for start, position in enumerate(rng.permutation(m), 1):
                self.put(self.inputs, "scale_en", start, 1)
                self.put(self.inputs, "scale_position", start, int(position))
                self.put(self.inputs, "scale_v", start, 0 if unscaled else int(sv[position]))
        timer = SoftmaxTimer(config, m, per_token)
        free = start + 1  # from here on; before the group it is ready as well
        ends = 0
        for (band, queries), gap in zip(bands, gaps, strict=True):
            offered = max(free, timer.earliest) + gap
            if gap == 0:  # offered before it can be taken
                offered = min(offered, free)
            times = timer.take(offered, queries)
            for cycle in range(offered, times.taken + 1):
                self.put(self.inputs, "band_valid", cycle, 1)
                self.put(self.inputs, "band", cycle, band)
                self.put(self.inputs, "band_columns", cycle, queries)
            for cycle in range(times.taken + 1, timer.earliest):
                self.put(self.expected, "band_ready", cycle, 0)
            self.band(m, parameters, band, queries, times, unscaled)
            free = times.taken + 1
            ends = max(ends, times.numerators_done, times.factors_done)
        length = ends + 2
        for name, value in (
            ("positions", m),
            ("per_token", int(per_token)),
            ("out_multiplier", parameters.out_multiplier),
            ("out_shift", parameters.out_shift),
        ):
            for cycle in range(length):
                self.put(self.inputs, name, cycle, value)
        self.cycles += length

    def band(self, m, parameters, band, queries, times, unscaled):
        config = self.config
        rows, port_count = config.rows, config.unload_ports
        t = self.scores(self.rng, queries, m)
        found = softmax(t)
        a, largest = numerators(found.exponents, parameters.sv)
        if unscaled:
            a, largest = np.zeros_like(a), np.ones_like(largest)
        multipliers, shifts = row_factors(a.sum(axis=-1), found.sums, largest, parameters)
        tile = np.arange(m) // rows
        port, slot = tile % port_count, tile // port_count * rows + np.arange(m) % rows

        band_mask, position_mask = (1 << 16) - 1, (1 << 16) - 1
        self.out(times.taken + 1, "max_en", max_band=(band, band_mask))
        self.put(self.inputs, "max_valid", times.taken + 2, sum(1 << int(p) for p in np.unique(port)))
        maxima = {int(p): self.lanes(t[:, port == p].max(axis=1), SCORE_BITS) for p in np.unique(port)}
        self.put(self.inputs, "max_data", times.taken + 2, self.ports(maxima))
        value_mask = (1 << (8 * queries)) - 1
        for k in range(m):
            asked = times.taken + 2 + k
            self.put(self.expected, "read_en", asked, 1 << int(port[k]))
            self.put(self.expected, "read_band", asked, band)
            self.put(self.mask, "read_band", asked, band_mask)
            self.put(self.expected, "read_slot", asked, int(slot[k]))
            self.put(self.mask, "read_slot", asked, position_mask)
            self.put(
                self.inputs,
                "read_data",
                asked + 1,
                self.ports({int(port[k]): self.lanes(t[:, k], SCORE_BITS)}),
            )
            written = times.numerators_done - m + k
            numerator = sum(int(value) << (8 * lane) for lane, value in enumerate(a[:, k]))
            self.out(
                written,
                "a_en",
                a_band=(band, band_mask),
                a_position=(k, position_mask),
                a_data=(numerator, value_mask),
            )
            self.out(
                times.importance_done - m + 1 + k,
                "add_en",
                add_position=(k, position_mask),
                add_value=(int(found.probabilities[:, k].sum()), (1 << 32) - 1),
            )
        for lane in range(queries):
            self.out(
                times.factors_done - queries + lane,
                "factor_en",
                factor_band=(band, band_mask),
                factor_lane=(lane, 255),
                factor_multiplier=(int(multipliers[lane]), (1 << 18) - 1),
                factor_shift=(int(shifts[lane]), 63),
            )
        self.out(times.numerators_done, "numerators_done", numerators_band=(band, band_mask))
        self.out(times.factors_done, "factors_done", factors_band=(band, band_mask))
        self.out(times.importance_done, "importance_done")

    def job(self, ports):
        widths = {port["name"]: port["width"] for port in ports}
        rng = self.rng

        def column(table, name, default):
            values = table.get(name, {})
            full = (1 << widths[name]) - 1
            return [values[c] & full if c in values else default(name) for c in range(self.cycles)]

        def zero(name):
            return 0

        def anything(name):
            return int.from_bytes(rng.bytes(-(-widths[name] // 8)), "little") & ((1 << widths[name]) - 1)

        levels = ("positions", "per_token", "out_multiplier", "out_shift", "band_valid", "scale_en")
        noisy = ("band", "band_columns", "max_data", "max_valid", "read_data", "scale_position", "scale_v")
        inputs = {name: column(self.inputs, name, zero) for name in levels}
        inputs |= {name: column(self.inputs, name, anything) for name in noisy}
        # Strobes are compared in every cycle, what goes with them when they are high.
        expected = {name: column(self.expected, name, zero) for name in (*STROBES, "read_en")}
        expected["band_ready"] = column(self.expected, "band_ready", lambda name: 1)
        expected |= {name: column(self.expected, name, zero) for name in self.mask}
        mask = {name: column(self.mask, name, zero) for name in self.mask}
        return VectorJob(inputs=inputs, expected=expected, mask=mask)


def bands(rng, config, m, count):
    """Return bands (number, C'): those of one head after the other."""
    per_head = -(-m // config.columns)
    order = [int(band) for _ in range(count) for band in rng.permutation(per_head)][:count]
    return [(band, min(config.columns, m - band * config.columns)) for band in order]


@pytest.mark.parametrize(
    "parameters",
    [
        {"rows": 3, "columns": 3, "tokens_max": 16, "unload_ports": 2},
        {"rows": 2, "columns": 5, "tokens_max": 23, "unload_ports": 1},
        {"rows": 1, "columns": 1, "tokens_max": 7, "unload_ports": 2},
        {"rows": 4, "columns": 2, "tokens_max": 1, "unload_ports": 2},
    ],
)
def test_every_output_in_every_cycle(parameters):
    config = DtqattenConfig.preset("tiny", **parameters)
    rng = np.random.default_rng([*parameters.values()])
    bench = Bench(config, rng)
    most = config.tokens_max
    sizes = sorted({m for m in (1, 2, 3, 5, most // 2, most - 1, most) if 1 <= m <= most})
    for per_token in (False, True):
        for m in rng.permutation(sizes).tolist():
            for late in (False, True):
                count = 2 * -(-m // config.columns) if m > 8 else 7
                gaps = rng.choice([0, 1, 2, 5, m, 2 * m + 20], count) if late else np.zeros(count, int)
                bench.group(m, per_token, bands(rng, config, m, count), gaps.tolist())
    bench.group(most, True, bands(rng, config, most, 3), [0, 0, 0], unscaled=True)
    emitted = emit(SoftmaxUnit(config), "softmax")
    job = bench.job(emitted.ports)
    assert set(job.expected) == {p["name"] for p in emitted.ports if p["direction"] == "output"}
    assert run_vectors(emitted, job)["steps"][0]["problem"] is None


def test_the_widest_sums():
    """1024 equal scores: S is 2^32, its octave the largest."""
    config = DtqattenConfig.preset("tiny", rows=4, columns=2, tokens_max=1024)
    bench = Bench(config, np.random.default_rng(0))
    bench.scores = lambda rng, queries, keys: np.full((queries, keys), rng.integers(-9, 9))
    for per_token in (False, True):
        bench.group(1024, per_token, [(511, 2), (0, 1)], [0, 0])
    emitted = emit(SoftmaxUnit(config), "softmax")
    assert run_vectors(emitted, bench.job(emitted.ports))["steps"][0]["problem"] is None


def test_numerators_never_exceed_a_byte():
    """The unit has no clip there: 255*f*r(mx) rounds to 255 at most, for every mx."""
    largest = np.arange(1, 65536)
    r, e = reciprocal(largest)
    g = (largest * r + (1 << e)) >> (1 + e)
    assert g.max() <= 65538
    assert ((255 * g + 32768) >> 16).max() == 255


def test_an_output_factor_is_never_zero():
    """The unit does not look after that: r is at least 32768."""
    largest = np.arange(1, 65536)
    _, e = reciprocal(largest)
    fraction = (largest << 16) >> e
    assert ((fraction * 65536 + 65536) >> 17).min() >= 32768
    assert ((fraction * 131072 + 65536) >> 17).max() < 131072


def test_lint(tmp_path, lint):
    for parameters in ({}, {"unload_ports": 1, "columns": 1, "rows": 1, "tokens_max": 1}):
        path = tmp_path / "softmax.v"
        path.write_text(emit(SoftmaxUnit(DtqattenConfig.preset("tiny", **parameters)), "softmax").verilog)
        assert lint(path) == []
