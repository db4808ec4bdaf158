"""Designs' parameters: frozen dataclasses whose fields carry their unit, range, meaning and origin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from bitfabric.quant.errors import ParameterError, check_choice, check_range

TAGS = ("paper", "derived", "ours")


def param(
    default: Any,
    doc: str,
    *,
    unit: str = "",
    tag: str = "ours",
    low: int | None = None,
    high: int | None = None,
    choices: tuple[Any, ...] | None = None,
) -> Any:
    """Declare a configuration field.

    Parameters
    ----------
    default : int, bool or str
        Its value unless given.
    doc, unit : str
        What it means and in what it is counted.
    tag : str
        ``paper``, ``derived`` or ``ours``: where the default and the meaning come from.
    low, high : int
        The range of an integer field.
    choices : tuple
        The values of any other field.
    """
    assert tag in TAGS, tag
    metadata = {"doc": doc, "unit": unit, "tag": tag, "low": low, "high": high, "choices": choices}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DesignConfig:
    """Hold and validate one design's parameters; golden model, cycle model, RTL and reports read them here.

    Subclasses declare their fields with ``param`` and their presets in ``PRESETS``; rules that join several
    fields go into ``validate``.

    Raises
    ------
    ParameterError
        On construction, naming the field, its value and what is allowed.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {}, "small": {}, "paper": {}}

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value, meta = getattr(self, field.name), field.metadata
            if meta["choices"] is not None:
                check_choice(field.name, value, meta["choices"])
                plain = meta["choices"][meta["choices"].index(value)]
            elif isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ParameterError(field.name, value, "true or false")
                plain = value
            else:
                plain = check_range(field.name, value, meta["low"], meta["high"])
            # numpy's integers and 4.0 for a choice of 4 would change the blocks' keys.
            object.__setattr__(self, field.name, plain)
        self.validate()

    def validate(self) -> None:
        """Check what no single field can; subclasses override this."""

    def derived(self) -> dict[str, int]:
        """Return what a host has to know and no field says; subclasses override this."""
        return {}

    @classmethod
    def preset(cls, name: str = "small", **overrides: Any) -> Self:
        """Return the preset ``name`` with ``overrides`` applied.

        Raises
        ------
        ParameterError
            If the preset or a field is unknown, or a value is not allowed.
        """
        check_choice("preset", name, tuple(cls.PRESETS))
        known = {field.name for field in dataclasses.fields(cls)}
        for key, value in overrides.items():
            if key not in known:
                raise ParameterError(key, value, f"one of the parameters {', '.join(sorted(known))}")
        return cls(**{**cls.PRESETS[name], **overrides})

    @classmethod
    def parse_settings(cls, settings: Iterable[str]) -> dict[str, Any]:
        """Return ``["rows=4", "mode=double"]`` as typed overrides for ``preset``.

        Raises
        ------
        ParameterError
            If an item is not ``key=value``, the key is unknown or the value is not of the field's type.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        result: dict[str, Any] = {}
        for item in settings:
            key, separator, text = item.partition("=")
            if not separator:
                raise ParameterError("--set", item, "of the form key=value")
            if key not in fields:
                known = (
                    f"key=value with a key of {', '.join(sorted(fields))}"
                    if fields
                    else "left out: there are no parameters"
                )
                raise ParameterError("--set", item, known)
            default = fields[key].default
            if isinstance(default, bool):
                result[key] = check_choice(key, text.lower(), ("true", "false")) == "true"
            elif isinstance(default, int):
                try:
                    result[key] = int(text, 0)
                except ValueError as error:
                    raise ParameterError(key, text, "an integer") from error
            else:
                result[key] = text
        return result

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain data."""
        return dataclasses.asdict(self)
