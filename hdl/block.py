"""Blocks: components that are converted to a module once and instantiated wherever they are placed."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar

from amaranth.hdl import Module, Value, ValueCastable
from amaranth.lib import wiring
from amaranth.lib.wiring import In


class Placer(Protocol):
    """Turn a block into what stands for it inside its parent."""

    def place(self, block: Block) -> Any:
        """Return an elaboratable connected to the ports of ``block``."""


_placer: ContextVar[Placer | None] = ContextVar("bitfabric_placer", default=None)


class Block(wiring.Component):
    """Record the constructor's arguments, so that equal blocks share one Verilog module.

    Members
    -------
    block_key : tuple[type, str]
        The class and the canonical text of its arguments: equal keys mean equal hardware.
    """

    block_key: tuple[type, str]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        original: Any = cls.__init__  # its own or an inherited one, which leaves the recording to this one
        signature = inspect.signature(original)

        @functools.wraps(original)
        def recording(self: Block, *args: Any, **kwds: Any) -> None:
            try:
                if type(self) is cls:  # not while a subclass calls super().__init__
                    bound = signature.bind(self, *args, **kwds)
                    bound.apply_defaults()
                    arguments = {k: v for k, v in bound.arguments.items() if k != "self"}
                    text = ", ".join(f"{k}={_plain(v)!r}" for k, v in arguments.items())
                    if " at 0x" in text:
                        raise TypeError(f"{cls.__name__} has an argument without a canonical text: {text}")
                    self.block_key = (cls, text)
                original(self, *args, **kwds)
            except BaseException:
                self._MustUse__used = True  # no one can use it: no warning that no one did
                raise

        cls.__init__ = recording  # type: ignore[assignment, method-assign]


def _plain(value: Any) -> Any:
    # The text of a numpy array leaves out the middle of a long one.
    return value.tolist() if hasattr(value, "tolist") else value


B = TypeVar("B", bound=Block)


def snake_case(name: str) -> str:
    """Return ``SystolicWsArray`` as ``systolic_ws_array``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def flat_ports(component: wiring.Component) -> Iterator[tuple[str, bool, Value]]:
    """Yield (name, is an input, value) of every port, named as the emitted Verilog names it."""
    for path, member, value in component.signature.flatten(component):
        if isinstance(value, ValueCastable):
            value = Value.cast(value)
        yield "__".join(map(str, path)), member.flow == In, value


def place(m: Module, name: str, block: B) -> B:
    """Put ``block`` into ``m`` under ``name`` and return it.

    In the Amaranth simulator it is inlined as an ordinary submodule. While Verilog is emitted it is an
    ``Instance`` of a module that was converted once for its type and parameters: one conversion per PE instead
    of one per PE type takes 20 s for a 32x32 array.
    """
    placer = _placer.get()
    m.submodules[name] = block if placer is None else placer.place(block)
    return block


@contextmanager
def placing(placer: Placer) -> Iterator[None]:
    """Let ``placer`` decide what ``place`` puts into modules that are elaborated in this context."""
    token = _placer.set(placer)
    try:
        yield
    finally:
        _placer.reset(token)
