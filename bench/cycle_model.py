"""How long the cycle models take for a whole network."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

from bench.row import Progress, Row
from bitfabric.hdl.systolic_os.config import SystolicOsConfig
from bitfabric.hdl.systolic_ws.config import SystolicWsConfig
from bitfabric.sim.cycles import systolic_os, systolic_ws
from bitfabric.sim.cycles.gemm import compute_cycles
from bitfabric.sim.workloads.bert import bert_base

TOKENS, LIMIT = 128, 0.05


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    shapes = [shape for shape in bert_base(TOKENS) for _ in range(shape.count)]
    for preset in ("small", "paper"):
        configs: tuple[tuple[str, Any, Any], ...] = (
            ("ws single", systolic_ws, SystolicWsConfig.preset(preset)),
            ("ws double", systolic_ws, SystolicWsConfig.preset(preset, weight_buffering="double")),
            ("os", systolic_os, SystolicOsConfig.preset(preset)),
        )
        for name, model, config in configs:
            progress(f"cycle model {name}, {preset}")
            taken, cycles = [], 0
            for _ in range(3 if quick else 15):
                compute_cycles.cache_clear()
                start = time.perf_counter()
                cycles = sum(model.gemm_cycles(config, s.m, s.k, s.n).total for s in shapes)
                taken.append(time.perf_counter() - start)
            median = statistics.median(taken)
            yield Row(
                what=f"cycle model {name}, {config.rows}x{config.columns}",
                target="< 50 ms",
                reached=f"{median * 1e3:.1f} ms ({cycles / 1e6:.2f} M cycles)",
                workload=f"{len(shapes)} GEMMs of BERT-base, sequence length {TOKENS}, preset {preset}, caches cold",
                met=median < LIMIT,
                figures={"seconds": median, "cycles": cycles, "gemms": len(shapes)},
            )
