"""SCALE-Sim's stored cycle counts: what the table covers, and the closed forms that they obey."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

TABLE = json.loads((Path(__file__).parent / "data" / "scalesim_3_0_0.json").read_text())
CASES: list[dict[str, Any]] = TABLE["cases"]


def test_the_header_says_where_the_figures_come_from() -> None:
    header = TABLE["header"]
    assert (header["tool"], header["version"], header["input"]) == ("scalesim", "3.0.0", "gemm")
    assert header["config"]["architecture_presets"]["IfmapSramSzkB"] == 65536


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_the_table_covers_every_kind_of_case(dataflow: str) -> None:
    cases = [case for case in CASES if case["dataflow"] == dataflow]
    keys = {tuple(case[name] for name in ("m", "k", "n", "rows", "columns")) for case in cases}
    assert len(keys) == len(cases) >= 40
    assert any(rows == columns == 1 for *_, rows, columns in keys)
    assert any(rows < columns for *_, rows, columns in keys)
    assert any(rows > columns > 1 for *_, rows, columns in keys)
    assert any(k % rows and n % columns and m % rows for m, k, n, rows, columns in keys)
    assert any(m > rows > k and n < columns for m, k, n, rows, columns in keys)
    assert {(17, 31, 13, 13, 11), (101, 53, 67, 13, 11)} <= keys
    assert sum(rows != columns for *_, rows, columns in keys) >= 40


@pytest.mark.parametrize("dataflow", ["ws", "os"])
def test_the_closed_forms_hold_in_every_case(dataflow: str) -> None:
    # SCALE-Sim numbers cycles from 0 and reports the last: hence the 1 less.
    for case in (case for case in CASES if case["dataflow"] == dataflow):
        m, k, n, rows, columns = (case[name] for name in ("m", "k", "n", "rows", "columns"))
        height, steps = (k, m + rows) if dataflow == "ws" else (m, k)
        tiles = -(-height // rows) * -(-n // columns)
        assert case["cycles"] == tiles * (rows + columns + steps - 2) - 1, case
