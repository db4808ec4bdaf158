"""Turn DTQAtten's cases into jobs: the driver's side of the machine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from bitfabric.hdl.dtqatten.config import DtqattenConfig
from bitfabric.hdl.dtqatten.registers import (
    COUNTERS,
    ERRORS,
    PE_COUNTERS,
    counter_register,
    dtqatten_registers,
)
from bitfabric.sim.cycles import Cycles
from bitfabric.sim.dtqatten_case import AttentionCase
from bitfabric.sim.dtqatten_memory import image_of, layout_of, output_of, reads_of, writes_of
from bitfabric.sim.job import Step, descriptor_rows, start_writes

OPTIONS = ("carry", "per_token", "reorder", "causal", "accumulate")


def register_writes(config: DtqattenConfig, design: str, case: AttentionCase) -> list[tuple[int, int]]:
    """Return the register writes that start the case; the last one is the start."""
    layout = layout_of(case)
    values = {
        "tokens": case.tokens,
        "entries": case.listed.size,
        "kept": case.kept,
        "kept_high": int(case.high.sum()),
        "next_kept": case.next_kept,
        "next_high": case.next_high,
        "head_size": case.head_size,
        "heads": case.heads,
        **{
            f"{name}_base": getattr(layout, f"{name}_base")
            for name in ("list", "scale", "q", "k", "v", "out", "next")
        },
    }
    if case.carry:
        del values["entries"], values["list_base"]
    status = {"done": 1, **{f"{name}_error": 1 for name in ERRORS}}
    options = {name: int(getattr(case, name)) for name in OPTIONS}
    return start_writes(
        dtqatten_registers(config, design),
        {
            **{name: {"value": value} for name, value in values.items()},
            "score": {"multiplier": case.score_multiplier, "shift": case.score_shift},
            "result": {"multiplier": case.out_multiplier, "shift": case.out_shift},
            "stride": {"input": layout.stride, "output": layout.stride},
            "status": status,
            "control": {"start": 1, **options},
        },
    )


def counter_names(config: DtqattenConfig) -> tuple[str, ...]:
    """Return the names of the machine's counters."""
    return (*COUNTERS, *(PE_COUNTERS if config.pe_counters else ()))


def attention_step(
    config: DtqattenConfig, design: str, case: AttentionCase, cycles: Cycles | None = None
) -> Step:
    """Return the run of ``case`` on ``design``.

    ``cycles.traffic`` holds what every counter must be, by its name; without ``cycles`` counters are read and not
    compared.

    Raises
    ------
    ParameterError
        If the machine cannot compute the case.
    """
    case.check(config)
    registers = dtqatten_registers(config, design)
    status, masks = registers.offset("status"), registers.constants()
    done = masks["STATUS_DONE_MASK"]
    names = counter_names(config)
    counters = {"status": done | masks["STATUS_LISTED_MASK"]}
    if cycles is not None:
        counters |= {counter_register(name): cycles.traffic[name] for name in names}
    rows = descriptor_rows(reads_of(case), writes_of(config, case), config.axis_bytes)
    return Step(
        name=case.name,
        writes=register_writes(config, design, case),
        stream=np.zeros((0, config.axis_bytes), np.uint8),
        expected=np.concatenate([output_of(config, case), rows]),
        reads={name: registers.offset(name) for name in ("status", *map(counter_register, names))},
        counters=counters,
        wait=(status, done),
        memory=image_of(case),
    )


def refused_step(config: DtqattenConfig, design: str, step: Step, *errors: str, listed: bool = False) -> Step:
    """Return ``step`` with its start refused for ``errors``: nothing is asked for, nothing comes out.

    Parameters
    ----------
    config, design
        The machine.
    step : Step
        With other register writes than it should have.
    errors : str
        All errors that the start is refused for, as in ``ERRORS``.
    listed : bool
        A block before this one has left tokens in the machine, which stay.
    """
    registers = dtqatten_registers(config, design)
    masks = registers.constants()
    wanted = sum(masks[f"STATUS_{name.upper()}_ERROR_MASK"] for name in errors)
    return replace(
        step,
        expected=np.zeros((0, config.axis_bytes), np.uint8),
        reads={"status": registers.offset("status")},
        counters={"status": wanted | masks["STATUS_LISTED_MASK"] * listed},
        wait=(registers.offset("status"), wanted),
    )


def list_error_step(
    config: DtqattenConfig, design: str, case: AttentionCase, step: Step, *errors: str
) -> Step:
    """Return the ``step`` of ``case`` with an end by ``errors`` in its list: only the list is asked for.

    ``step`` has another list in its memory, at the same place, or other counts in its registers.
    """
    read = reads_of(replace(case, carry=False, carried=None))[:1]
    refused = refused_step(config, design, step, *errors)
    return replace(refused, expected=descriptor_rows(read, np.zeros((0, 2), np.int64), config.axis_bytes))
