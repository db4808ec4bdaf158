"""How long it takes to emit a 32x32 array, and what comes out."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from bench.row import Progress, Row, medians
from bitfabric.hdl.emit import emit
from bitfabric.hdl.registry import entry

SECONDS, BYTES = 6.0, 600_000


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    for name in ("systolic_ws_array", "systolic_ws"):
        progress(f"emitting {name} at 32x32")
        found = entry(name)
        block = found.make(found.config.preset("small", rows=32, columns=32))
        emitted = emit(block, name)
        (taken,) = medians(1 if quick else 3, partial(emit, block, name))
        size = len(emitted.verilog.encode())
        pes = [module.name for module in emitted.modules if module.component.split("(")[0].endswith("Pe")]
        yield Row(
            what=f"emit {name} 32x32",
            target="" if name == "systolic_ws" else "< 6 s, < 0.6 MB, 1 module per PE type",
            reached=f"{taken:.1f} s, {size / 1e6:.2f} MB, {len(pes)} PE module of {len(emitted.modules)}",
            workload=f"bitfabric verilog {name} --set rows=32 --set columns=32 -o DIR",
            met=None if name == "systolic_ws" else taken < SECONDS and size < BYTES and len(pes) == 1,
            figures={
                "seconds": taken,
                "bytes": size,
                "modules": len(emitted.modules),
                "pe_modules": len(pes),
            },
        )
