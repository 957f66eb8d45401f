"""Calls of model providers' own client libraries, told without a change to the application.

    import pyflare

    pyflare.init("my-service")
    pyflare.integrations.instrument()

or `pyflare.integrations.openai.instrument()` for one client. Before or after `init`,
before or after the clients are made; a second time changes nothing.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyflare.integrations import anthropic, openai

__all__ = ["anthropic", "instrument", "openai", "uninstrument"]

_CLIENTS = ("openai", "anthropic")


def instrument() -> tuple[str, ...]:
    """Instrument every supported client library that is installed; return their names."""
    found = tuple(name for name in _CLIENTS if find_spec(name) is not None)
    for name in found:
        import_module(f"{__name__}.{name}").instrument()
    return found


def uninstrument() -> None:
    """Take all instrumentation of this package off again."""
    for name in _CLIENTS:
        if find_spec(name) is not None:
            import_module(f"{__name__}.{name}").uninstrument()


def __getattr__(name: str) -> ModuleType:
    if name in _CLIENTS:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
