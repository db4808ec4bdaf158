"""The output port: rows requantized by their queries' factors, read as words of channels, every time to the cycle."""

import numpy as np
import pytest

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.output_port import OutputPort
from bitfabric.hdl.emit import emit
from bitfabric.quant.requant import requantize
from bitfabric.sim.cycles.dtqatten_output import TILE_DONE_LATENCY
from bitfabric.sim.vector_runner import run_vectors
from bitfabric.sim.vectors import VectorJob, pack_lanes

CONFIGS = {
    "tiny": {},  # three words to a band on each of two ports
    "one": {"rows": 1, "columns": 1, "tokens_max": 1, "head_size_max": 1, "unload_ports": 1},
    "wide": {"rows": 16, "columns": 5, "head_size_max": 16, "axis_data_bits": 128},
}


def draw_factor(rng):
    """Return a multiplier of 18 bits and a shift from 1, corners among them."""
    multiplier = int(rng.choice([1, 2**18 - 1, int(rng.integers(1, 2**18))]))
    return multiplier, int(rng.choice([1, 63, int(rng.integers(1, 64)), int(rng.integers(20, 36))]))


def result(acc, factors):
    """Return the results of a row; the shift of 63 is one that numpy's golden model refuses."""
    multiplier, shift = (np.array(column, np.int64) for column in zip(*factors, strict=True))
    far = shift == 63
    return np.where(far, 0, requantize(acc, multiplier, np.where(far, 1, shift)))


class Schedule:
    """Draw what happens in every cycle, and say what must come of it."""

    def __init__(self, config, cycles, seed):
        self.config, self.rng = config, np.random.default_rng(seed)
        self.inputs = {name: np.zeros(cycles, np.int64) for name in ("i_valid", "factor_en")}
        limit = 1 << (config.acc_bits - 1)
        data = self.rng.integers(-limit, limit, (cycles, config.columns))
        data = np.where(self.rng.random((cycles, 1)) < 0.5, data >> (config.acc_bits - 9), data)
        corner = self.rng.random(data.shape) < 0.1
        self.data = np.where(corner, self.rng.choice([-limit, limit - 1, 0], data.shape), data)
        self.cycles, self.writes = cycles, {}
        self.done = np.zeros((2, cycles), np.int64)
        self.noise()
        self.tiles()

    def noise(self):
        """Let everything that no valid bit is for be anything."""
        config, rng = self.config, self.rng
        for name, size in {
            "i_next_band": config.bands_max,
            "i_band": config.bands_max,
            "i_tile": config.port_tiles_max,
            "i_row": config.rows,
            "i_last": 2,
            "i_row_valid": 2,
            "factor_band": config.bands_max,
            "factor_lane": config.columns,
            "factor_multiplier": 2**18,
            "factor_shift": 64,
            "read_band": config.bands_max,
            "read_tile": config.port_tiles_max,
            "read_lane": config.columns,
            "read_en": 2,
        }.items():
            self.inputs[name] = rng.integers(0, size, self.cycles)
        self.inputs["read_advance"] = (rng.random(self.cycles) < 0.7).astype(np.int64)

    def tiles(self):
        """Give every tile its factors, some just in time, and its rows from the last one down."""
        config, rng, put = self.config, self.rng, self.inputs
        factors = np.array(
            [[draw_factor(rng) for _ in range(config.columns)] for _ in range(config.bands_max)]
        )
        at = 1
        # All factors first; those that change later are in time for the next row by a cycle.
        for band in range(config.bands_max):
            for lane in range(config.columns):
                self.factor(at, band, lane, factors[band][lane])
                at += 1
        while at + config.columns + config.rows + 2 * TILE_DONE_LATENCY < self.cycles:
            band = int(rng.integers(config.bands_max))
            if rng.random() < 0.5:
                lane = int(rng.integers(config.columns))
                factors[band][lane] = draw_factor(rng)
                self.factor(at, band, lane, factors[band][lane])
                at += 2
            at += int(rng.integers(0, 3))
            tile, rows = int(rng.integers(config.port_tiles_max)), int(rng.integers(1, config.rows + 1))
            for row in reversed(range(config.rows)):
                put["i_next_band"][at - 1] = band
                for name, value in {
                    **{"i_valid": 1, "i_band": band, "i_tile": tile, "i_row": row},
                    **{"i_row_valid": row < rows, "i_last": row == 0},
                }.items():
                    put[name][at] = value
                if row < rows:
                    out = result(self.data[at], factors[band])
                    self.writes[at + OutputPort.LATENCY] = band, tile, row, out
                at += 1
            self.done[:, at - 1 + TILE_DONE_LATENCY] = 1, band

    def factor(self, cycle, band, lane, factor):
        names = ("factor_en", "factor_band", "factor_lane", "factor_multiplier", "factor_shift")
        for name, value in zip(names, (1, band, lane, *factor), strict=True):
            self.inputs[name][cycle] = value

    def words(self):
        """Return what is read in every cycle, and which of its bytes are known."""
        config, get = self.config, self.inputs
        shape = (config.bands_max, config.port_tiles_max, config.columns, config.rows)
        content, known = np.zeros(shape, np.int64), np.zeros(shape, bool)
        nothing = np.zeros(config.rows, np.int64), np.zeros(config.rows, bool)
        pipe, seen = [nothing] * OutputPort.READ_LATENCY, []
        for cycle in range(self.cycles):
            seen.append(pipe[-1])
            if get["read_advance"][cycle]:
                place = tuple(get[name][cycle] for name in ("read_band", "read_tile", "read_lane"))
                word = (content[place].copy(), known[place].copy()) if get["read_en"][cycle] else nothing
                pipe = [word, *pipe[:-1]]
            if cycle in self.writes:
                band, tile, row, out = self.writes[cycle]
                content[band, tile, :, row], known[band, tile, :, row] = out, True
        return [np.array(part) for part in zip(*seen, strict=True)]

    def job(self):
        data, known = self.words()
        assert known.sum() > self.cycles / 4  # the test sees something
        inputs = {**self.inputs, "i_data": pack_lanes(self.data, self.config.acc_bits)}
        return VectorJob(
            inputs=inputs,
            expected={
                "tile_done": self.done[0],
                "tile_done_band": self.done[1],
                "read_data": pack_lanes(data, 8),
            },
            mask={
                "tile_done_band": -self.done[0],
                "read_data": pack_lanes(known * 255, 8),
            },
        )


@pytest.mark.parametrize("name", CONFIGS)
def test_rows_in_words_out(name):
    config = DtqattenConfig.preset("tiny", **CONFIGS[name])
    emitted = emit(OutputPort(config), "output_port")
    job = Schedule(config, 1500, seed=len(name)).job()
    verdict = run_vectors(emitted, job)["steps"][0]
    assert verdict["passed"], verdict
