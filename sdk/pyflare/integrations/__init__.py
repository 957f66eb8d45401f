"""Calls of model providers' own client libraries, told without a change to the application.

    import pyflare
    from pyflare.integrations import anthropic, openai

    pyflare.init("my-service")
    openai.instrument()
    anthropic.instrument()

or `pyflare.integrations.instrument()` for every client that is installed. Before or
after `init`, before or after the clients are made; a second time changes nothing.
"""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["instrument", "uninstrument"]

_CLIENTS = ("openai", "anthropic")


def instrument() -> tuple[str, ...]:
    """Instrument every supported client library that is installed; return their names."""
    from importlib import import_module

    found = tuple(name for name in _CLIENTS if find_spec(name) is not None)
    for name in found:
        import_module(f"{__name__}.{name}").instrument()
    return found


def uninstrument() -> None:
    """Take all instrumentation of this package off again."""
    from importlib import import_module

    for name in _CLIENTS:
        if find_spec(name) is not None:
            import_module(f"{__name__}.{name}").uninstrument()
