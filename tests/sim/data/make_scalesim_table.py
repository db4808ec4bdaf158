"""Write scalesim_3_0_0.json: SCALE-Sim's own cycle counts of GEMMs on weight and output stationary arrays.

SCALE-Sim 3.0.0 needs numpy < 2.3, so it cannot share an environment with bitfabric; its figures are stored:

    python3.11 -m venv build/scalesim
    build/scalesim/bin/pip install scalesim==3.0.0 "numpy<2.3"
    build/scalesim/bin/python tests/sim/data/make_scalesim_table.py

Nothing here computes a cycle count: each one is read from the COMPUTE_REPORT.csv that SCALE-Sim writes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from scalesim.scale_sim import scalesim

TABLE = Path(__file__).parent / "scalesim_3_0_0.json"

# (rows, columns) of the array: square, tall, wide, one line, one PE, primes.
ARRAYS = [(1, 1), (1, 7), (5, 1), (2, 2), (4, 4), (3, 5), (7, 2), (8, 8), (4, 16), (16, 8), (13, 11)]

# (M, K, N): one element, vectors, tails on every side, exact multiples, primes.
GEMMS = [(1, 1, 1), (1, 9, 1), (6, 1, 1), (1, 1, 10), (5, 7, 3), (16, 16, 16), (17, 31, 13), (33, 20, 9)]
# Larger ones, run on the larger arrays only: SCALE-Sim keeps every address of every cycle in memory.
LARGE_GEMMS = [(64, 96, 48), (101, 53, 67), (128, 37, 40)]

CONFIG = {
    "general": {"run_name": "table"},
    "architecture_presets": {
        # Buffers that hold every operand, so that the array never waits.
        "IfmapSramSzkB": 65536,
        "FilterSramSzkB": 65536,
        "OfmapSramSzkB": 65536,
        "IfmapOffset": 0,
        "FilterOffset": 10000000,
        "OfmapOffset": 20000000,
        "Bandwidth": 10,
        "ReadRequestBuffer": 64,
        "WriteRequestBuffer": 64,
    },
    "layout": {
        "IfmapCustomLayout": False,
        "FilterCustomLayout": False,
        "IfmapSRAMBankBandwidth": 10,
        "IfmapSRAMBankNum": 10,
        "IfmapSRAMBankPort": 2,
        "FilterSRAMBankBandwidth": 10,
        "FilterSRAMBankNum": 10,
        "FilterSRAMBankPort": 2,
    },
    "sparsity": {"SparsitySupport": False},
    "run_presets": {"InterfaceBandwidth": "CALC", "UseRamulatorTrace": False},
}


def cases_for(rows: int, columns: int) -> list[tuple[int, int, int]]:
    """Return the (M, K, N) run on an array of this size."""
    if rows == columns == 1:
        # One product on one PE: SCALE-Sim counts 0 cycles (OS) and divides its utilization by them.
        return GEMMS[1:]
    return GEMMS + (LARGE_GEMMS if rows * columns >= 16 else [])


def run(dataflow: str, rows: int, columns: int) -> list[dict[str, int | str]]:
    """Run SCALE-Sim once on one array and return one record per GEMM.

    Raises
    ------
    RuntimeError
        If SCALE-Sim reports a stall or another number of layers than it was given.
    """
    gemms = cases_for(rows, columns)
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        lines = []
        for section, entries in CONFIG.items():
            lines.append(f"[{section}]")
            lines += [f"{key} = {value}" for key, value in entries.items()]
            if section == "architecture_presets":
                lines += [f"ArrayHeight = {rows}", f"ArrayWidth = {columns}", f"Dataflow = {dataflow}"]
        (directory / "scale.cfg").write_text("\n".join(lines) + "\n")
        # SCALE-Sim's column order is M, N, K, and it drops what follows the last comma.
        topology = ["Layer,M,N,K,"] + [f"g{i},{m},{n},{k}," for i, (m, k, n) in enumerate(gemms)]
        (directory / "gemm.csv").write_text("\n".join(topology) + "\n")
        # A layout file is asked for although the custom layouts are off.
        layout = ["Layer," + "x," * 20] + [f"g{i}," + "1," * 20 for i in range(len(gemms))]
        (directory / "layout.csv").write_text("\n".join(layout) + "\n")
        with contextlib.redirect_stdout(io.StringIO()):
            scalesim(
                save_disk_space=True,
                verbose=False,
                config=str(directory / "scale.cfg"),
                topology=str(directory / "gemm.csv"),
                layout=str(directory / "layout.csv"),
                input_type_gemm=True,
            ).run_scale(top_path=str(directory))
        with (directory / "table" / "COMPUTE_REPORT.csv").open(newline="") as report:
            reader = csv.DictReader(report, skipinitialspace=True)
            layers = list(reader)
    if len(layers) != len(gemms):
        raise RuntimeError(f"SCALE-Sim reported {len(layers)} layers of {len(gemms)}")
    records: list[dict[str, int | str]] = []
    for (m, k, n), layer in zip(gemms, layers, strict=True):
        if float(layer["Stall Cycles"]) != 0:
            raise RuntimeError(f"SCALE-Sim stalls on M,K,N={m},{k},{n}: {layer}")
        cycles = int(float(layer["Total Cycles"]))
        records.append(
            {"dataflow": dataflow, "m": m, "k": k, "n": n, "rows": rows, "columns": columns, "cycles": cycles}
        )
    return records


def main() -> None:
    """Run every case and write the table."""
    cases = [record for dataflow in ("ws", "os") for array in ARRAYS for record in run(dataflow, *array)]
    header = {
        "tool": "scalesim",
        "version": version("scalesim"),
        "numpy": version("numpy"),
        "python": sys.version.split()[0],
        "input": "gemm",
        "figure": "COMPUTE_REPORT.csv: 'Total Cycles' (without prefetch); 'Stall Cycles' is 0 in every case",
        "config": CONFIG,
    }
    body = ",\n".join("    " + json.dumps(record) for record in cases)
    TABLE.write_text('{\n  "header": ' + json.dumps(header) + ',\n  "cases": [\n' + body + "\n  ]\n}\n")
    print(f"{TABLE.name}: {len(cases)} cases")


if __name__ == "__main__":
    main()
