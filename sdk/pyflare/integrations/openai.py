"""OpenAI's client library: chat, responses, embeddings, completions; streams, tools, async.

    from pyflare.integrations import openai

    openai.instrument()

Every call through a client of the `openai` package (Azure's and compatible servers'
included) becomes one span with its model, usage and, as `capture` says, its messages.
"""

from __future__ import annotations

from pyflare.integrations._openai_api import APIS
from pyflare.integrations._patch import Patch

__all__ = ["instrument", "is_instrumented", "uninstrument"]

_patch = Patch("openai", ("OpenAI", "AsyncOpenAI"), APIS, extra="openai")


def instrument(*, stream_usage: bool = True) -> None:
    """Tell the calls of all clients of the `openai` package, made or yet to be made.

    Calling it again changes nothing but `stream_usage`.

    Args:
        stream_usage: ask for the usage of chat streams where the application does not
            (`stream_options.include_usage`), and keep the extra chunk from it. False
            for servers that refuse the option: such streams then have no tokens.

    Raises:
        ImportError: the package is not installed; says which extra brings it.
    """
    _patch.install(stream_usage=stream_usage)


def uninstrument() -> None:
    """Leave the clients as they were; calls under way are told to their end."""
    _patch.remove()


def is_instrumented() -> bool:
    """Return whether calls are told."""
    return _patch.active
