"""The proofs of the arithmetic blocks."""

from __future__ import annotations

from collections.abc import Iterator

from bench.row import Progress, Row
from bitfabric.synth import formal


def rows(quick: bool, progress: Progress) -> Iterator[Row]:
    chosen = [proof for proof in formal.proofs() if not (quick and proof.slow)]
    results = []
    for proof in chosen:
        progress(f"proving {proof.name}")
        results.append(formal.prove(proof))
    proved, taken = sum(result.proved for result in results), sum(result.seconds for result in results)
    slowest = max(results, key=lambda result: result.seconds)
    yield Row(
        what="formal: BitBrick, BitGroup, fusion unit" + (" (fast proofs only)" if quick else ""),
        target="all proved",
        reached=f"{proved} of {len(results)} in {taken:.0f} s (longest: {slowest.name}, {slowest.seconds:.0f} s)",
        workload="bitfabric formal",
        met=proved == len(results),
        figures={
            "proved": proved,
            "total": len(results),
            "seconds": {result.name: result.seconds for result in results},
        },
    )
