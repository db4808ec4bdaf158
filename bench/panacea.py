"""Panacea: cycles against the dense bound, where they go, and what the models take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from bench.row import Progress, Row, medians
from bitfabric.hdl.emit import emit
from bitfabric.hdl.panacea.config import PanaceaConfig
from bitfabric.hdl.registry import entry
from bitfabric.quant.panacea import activation_table, aqs_gemm
from bitfabric.quant.requant import requant_parameters
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.cycles.panacea import case_cycles, case_losses
from bitfabric.sim.models import panacea_model_case
from bitfabric.sim.panacea_case import PanaceaCase
from bitfabric.sim.simulate import simulate
from bitfabric.sim.toolchain import FAST

SPARSE = 0.95
# Two tiles of 64 output channels by 3072 do not fit the paper's memories.
LARGE_WMEM = 8192
FLEXIBLE: dict[str, Any] = {"flexible": True, "dtp": False}
DYNAMIC: dict[str, Any] = {"dynamic_operators": 8, "static_operators": 4, "dtp": False}
# What it is, fields of the configuration, whether tiles are doubled, least speed-up.
FORMS: tuple[tuple[str, dict[str, Any], bool, float | None], ...] = (
    ("D4/S8 without DTP", {"dtp": False}, False, 2.6),
    (f"D4/S8 with DTP, WMEM of {LARGE_WMEM * 32 // 1024} KB", {"wmem_words": LARGE_WMEM}, True, 3.4),
    ("D8/S4 without DTP", DYNAMIC, False, None),
    ("flexible", FLEXIBLE, False, 3.4),
)
UTILIZATION = {0.0: 0.95, 0.5: 0.90, 0.9: 0.90}
TIMES, SECONDS = 6, 10.0
# With few tokens the fetch of weights, for all PEAs one after the other, can take longer than their use.
LAYER, TOKENS = "minilm:0.ffn1", (32, 128)
# The forms that a layer of a model runs on; with DTP the model's case takes it where it fits.
LAYER_FORMS: dict[str, dict[str, Any]] = {
    "D4/S8 without DTP": {"dtp": False},
    "D4/S8 with DTP": {},
    "D8/S4 without DTP": DYNAMIC,
    "flexible": FLEXIBLE,
}


def drawn_case(m: int, k: int, n: int, sparsity: float, **fields: Any) -> PanaceaCase:
    """Return W (m, k) by x (k, n) of 7 and 8 bits whose vectors are skipped independently of each other."""
    rng = np.random.default_rng(0)
    kept = np.repeat(rng.random((m // 4, k)) >= sparsity, 4, axis=0)
    large = rng.integers(8, 56, (m, k)) * rng.choice([-1, 1], (m, k))
    weights = np.where(kept, large, rng.integers(-8, 8, (m, k)))
    kept = np.repeat(rng.random((k, n // 4)) >= sparsity, 4, axis=1)
    acts = np.where(kept, rng.integers(0, 128, (k, n)), rng.integers(128, 144, (k, n)))
    return PanaceaCase(
        acts=acts.T.astype(np.uint8), weights=weights.T.astype(np.int8), zero_point=136, **fields
    )


def next_layer(case: PanaceaCase) -> dict[str, Any]:
    """Return what lets the next layer's slices come out, through a GELU."""
    scale = 2000 / np.abs(case.result.acc).max()
    multiplier, shift = requant_parameters(np.full(case.n, scale))
    table = activation_table("gelu", 8 / 2048, 8 / 200, 20, 8)
    bias = np.zeros(case.n, np.int64)
    return {
        "bias": bias,
        "multiplier": multiplier,
        "shift": shift,
        "table": table,
        "next_zero_point": 20,
    }


def dense_bound(config: PanaceaConfig, case: PanaceaCase) -> float:
    """Return the cycles of a GEMM that multiplies every slice by every slice without a loss."""
    slices = case.slicing.weight_slices * case.slicing.act_slices
    return case.m * case.k * case.n * slices / config.multipliers


def text_of(cycles: Cycles) -> str:
    """Return where the cycles go."""
    return ", ".join(
        f"{name} {value:,}" for name, value in cycles.breakdown.items() if value and name != "ppu_stall"
    )


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    yield from _speed(quick, progress)
    yield from _utilization(quick, progress)
    yield _golden(quick, progress)
    yield _emission(quick, progress)
    yield from _layer(quick, progress)


def _speed(quick: bool, progress: Progress) -> Iterator[Row]:
    m, k, n = (256, 384, 512) if quick else (256, 3072, 512)
    progress("drawing operands")
    case = drawn_case(m, k, n, SPARSE)
    post = next_layer(case)
    for what, fields, dtp, least in FORMS:
        progress(f"cycles of {what}")
        config = PanaceaConfig(**fields)
        sparse = drawn_case(m, k, n, SPARSE, dtp=dtp, **post)
        cycles = case_cycles(config, sparse)
        times = dense_bound(config, sparse) / cycles.total
        why = (
            f"; two tiles of {config.m_step} x {k} weights do not fit the paper's 192 KB"
            if dtp and not quick
            else ""
        )
        yield Row(
            what=f"Panacea, {what}",
            target="" if least is None or quick else f">= {least}x the dense bound",
            reached=f"{times:.3f}x: {cycles.total:,} cycles ({text_of(cycles)})",
            workload=f"cycle model, W {m}x{k} by x {k}x{n}, {SPARSE:.0%} of the vectors of both skipped, drawn "
            f"independently (seed 0), the next layer's slices out; bound {dense_bound(config, sparse):,.0f} "
            f"cycles: every product, {config.multipliers} multipliers{why}",
            met=None if least is None or quick else times >= least,
            figures={"speed_up": times, "cycles": cycles.total, **cycles.breakdown},
        )


def _utilization(quick: bool, progress: Progress) -> Iterator[Row]:
    m, k, n = (256, 384, 256) if quick else (256, 1536, 512)
    config = PanaceaConfig(**FLEXIBLE)
    for sparsity, least in UTILIZATION.items():
        progress(f"utilization at {sparsity:.0%}")
        case = drawn_case(m, k, n, sparsity)
        losses = case_losses(config, case)
        total = losses.bound + losses.rounding + losses.imbalance + losses.overhead
        reached = losses.bound / total
        shares = {name: getattr(losses, name) / total for name in ("rounding", "imbalance", "overhead")}
        yield Row(
            what=f"Panacea, flexible, operators in use at {sparsity:.0%}",
            target="" if quick else f">= {least:.0%} of products/(D+S)",
            reached=f"{reached:.1%} of {total:,.0f} cycles; "
            + ", ".join(f"{name} {share:.1%}" for name, share in shares.items()),
            workload=f"cycle model, W {m}x{k} by x {k}x{n}, vectors of both skipped independently (seed 0), "
            "accumulators out; rounding: operators of a PEA without work, imbalance: PEAs waiting for another, "
            "overhead: load, drain, none working",
            met=None if quick else reached >= least,
            figures={"utilization": reached, "cycles": total, **shares},
        )


def _golden(quick: bool, progress: Progress) -> Row:
    m, k, n = 768, 768, 128
    progress("golden AQS-GEMM")
    case = drawn_case(m, k, n, 0.5)
    weights, acts = np.ascontiguousarray(case.weights.T), np.ascontiguousarray(case.acts.T)
    floats = weights.astype(np.float64), acts.astype(np.float64)
    ours, plain = medians(
        11 if quick else 101, partial(aqs_gemm, weights, acts, case.zero_point), partial(np.matmul, *floats)
    )
    return Row(
        what="golden AQS-GEMM, 7 x 8 bits",
        target=f"<= {TIMES}x float64 matmul",
        reached=f"{ours / plain:.2f}x ({ours * 1e3:.2f} ms against {plain * 1e3:.2f} ms)",
        workload=f"quant.panacea.aqs_gemm, {m}x{k}x{n}, parts and counts included, medians, in turn",
        met=ours <= TIMES * plain,
        figures={"seconds": ours, "float64_seconds": plain},
    )


def _emission(quick: bool, progress: Progress) -> Row:
    progress("emitting panacea")
    found = entry("panacea")
    config = found.config.preset("paper")
    (taken,) = medians(1 if quick else 3, lambda: emit(found.make(config), "panacea"))
    return Row(
        what="emit panacea, preset paper",
        target=f"< {SECONDS:.0f} s",
        reached=f"{taken:.1f} s",
        workload="bitfabric verilog panacea --preset paper -o DIR",
        met=taken < SECONDS,
        figures={"seconds": taken},
    )


def _layer(quick: bool, progress: Progress) -> Iterator[Row]:
    for tokens in TOKENS:
        for what, fields in LAYER_FORMS.items():
            progress(f"{LAYER}, {tokens} tokens, {what}")
            # A build takes minutes: one form; the cycle model is equal to all of them by test.
            rtl = what == "D4/S8 without DTP" and not quick
            yield _layer_row(f"{LAYER}:{tokens}", what, fields, rtl, progress)


def _layer_row(spec: str, what: str, fields: dict[str, Any], rtl: bool, progress: Progress) -> Row:
    config = PanaceaConfig(**fields)
    case = panacea_model_case(spec, config)
    cycles, source, met = case_cycles(config, case), "cycle model", None
    if rtl:
        report = simulate(
            "panacea", config, [case], simulator="verilator", native=True, optimize=FAST, progress=progress
        )
        source, met = f"RTL, {'bit-exact' if report.passed else 'WRONG'}", report.passed
    losses = case_losses(config, case)
    times = dense_bound(config, case) / cycles.total
    weights, acts = (1 - float(kept.mean()) for kept in (case.result.weight_keep, case.result.act_keep))
    options = "".join(f" --set {key}={str(value).lower()}" for key, value in fields.items())
    return Row(
        what=f"{spec}, {what}",
        target="RTL equal to golden and cycle model" if rtl else "",
        reached=f"{times:.2f}x the dense bound: {cycles.total:,} cycles ({source}), PEAs without work in "
        f"{losses.imbalance / cycles.total:.0%}; vectors skipped: weights {weights:.1%}, activations {acts:.1%}",
        workload=f"bitfabric simulate panacea --preset paper --native --model {spec}{options}; weights 7 bits "
        "per channel, activations 8 bits",
        met=met,
        figures={
            "speed_up": times,
            "cycles": cycles.total,
            "dtp": case.dtp,
            "resident": case.resident,
            "weight_sparsity": weights,
            "act_sparsity": acts,
            "imbalance": losses.imbalance,
            **cycles.breakdown,
        },
    )
