import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from bitfabric.hdl.config import DesignConfig, param
from bitfabric.quant.errors import ParameterError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleConfig(DesignConfig):
    """Hold one field of each kind."""

    PRESETS: ClassVar = {"tiny": {"rows": 2}, "small": {}, "paper": {"rows": 32, "mode": "double"}}

    rows: int = param(8, "Rows.", unit="PEs", tag="paper", low=1, high=64)
    bits: int = param(8, "Width.", unit="bits", low=2)
    act_bits: int = param(8, "Activation width.", unit="bits", choices=(4, 8))
    mode: str = param("single", "Buffering.", choices=("single", "double"))
    signed: bool = param(True, "Signed.")

    def validate(self) -> None:
        """Check that the width is enough for the rows."""
        if self.rows > 1 << self.bits:
            raise ParameterError("bits", self.bits, f"wide enough for rows={self.rows}")


def test_presets_and_overrides():
    assert ExampleConfig.preset() == ExampleConfig()
    assert ExampleConfig.preset("tiny").rows == 2
    assert ExampleConfig.preset("paper", rows=4) == ExampleConfig(rows=4, mode="double")
    assert ExampleConfig.preset("paper").to_dict() == {
        "rows": 32,
        "bits": 8,
        "act_bits": 8,
        "mode": "double",
        "signed": True,
    }


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: ExampleConfig(rows=0), "rows=0 is not allowed; it must be an integer in [1, 64]"),
        (lambda: ExampleConfig(rows=65), "rows=65 is not allowed; it must be an integer in [1, 64]"),
        (lambda: ExampleConfig(rows=2.0), "rows=2.0 is not allowed; it must be an integer in [1, 64]"),
        (lambda: ExampleConfig(rows=True), "rows=True is not allowed; it must be an integer in [1, 64]"),
        (lambda: ExampleConfig(rows="4"), "rows='4' is not allowed; it must be an integer in [1, 64]"),
        (lambda: ExampleConfig(bits=1), "bits=1 is not allowed; it must be an integer of at least 2"),
        (
            lambda: ExampleConfig(mode="triple"),
            "mode='triple' is not allowed; it must be one of 'single', 'double'",
        ),
        (lambda: ExampleConfig(signed=1), "signed=1 is not allowed; it must be true or false"),
        (
            lambda: ExampleConfig(rows=9, bits=3),
            "bits=3 is not allowed; it must be wide enough for rows=9",
        ),
        (
            lambda: ExampleConfig.preset("huge"),
            "preset='huge' is not allowed; it must be one of 'tiny', 'small', 'paper'",
        ),
        (
            lambda: ExampleConfig.preset("tiny", columns=4),
            "columns=4 is not allowed; it must be one of the parameters act_bits, bits, mode, rows, signed",
        ),
        (
            lambda: ExampleConfig.preset("tiny", rows=-1),
            "rows=-1 is not allowed; it must be an integer in [1, 64]",
        ),
    ],
)
def test_errors(make, text):
    with pytest.raises(ParameterError) as error:
        make()
    assert str(error.value) == text


def test_parse_settings():
    assert ExampleConfig.parse_settings([]) == {}
    assert ExampleConfig.parse_settings(["rows=0x10", "mode=double", "signed=False", "bits=-3"]) == {
        "rows": 16,
        "mode": "double",
        "signed": False,
        "bits": -3,
    }
    assert ExampleConfig.parse_settings(["rows=1", "rows=2"]) == {"rows": 2}
    assert ExampleConfig.parse_settings(["mode=a=b"]) == {"mode": "a=b"}


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ("rows", "--set='rows' is not allowed; it must be of the form key=value"),
        (
            "columns=3",
            "--set='columns=3' is not allowed; it must be key=value with a key of act_bits, bits, mode, rows, signed",
        ),
        ("rows=many", "rows='many' is not allowed; it must be an integer"),
        ("rows=", "rows='' is not allowed; it must be an integer"),
        ("rows=1.5", "rows='1.5' is not allowed; it must be an integer"),
        ("signed=yes", "signed='yes' is not allowed; it must be one of 'true', 'false'"),
    ],
)
def test_parse_errors(item, text):
    with pytest.raises(ParameterError) as error:
        ExampleConfig.parse_settings([item])
    assert str(error.value) == text


def test_numpy_integers_are_stored_as_integers():
    config = ExampleConfig(rows=np.int64(8), act_bits=np.int8(8))
    assert type(config.rows) is type(config.act_bits) is int
    assert config == ExampleConfig()


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExampleConfig().rows = 3
    with pytest.raises(TypeError):
        ExampleConfig(3)
    assert hash(ExampleConfig()) == hash(ExampleConfig())


def test_unknown_origin_of_a_field():
    with pytest.raises(AssertionError, match="guess"):
        param(1, "Rows.", tag="guess")
