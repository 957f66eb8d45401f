"""Anthropic's client library: messages; streams, tools, the prompt cache, async.

    from pyflare.integrations import anthropic

    anthropic.instrument()

Every message through a client of the `anthropic` package (Bedrock's and Vertex's
included) becomes one span with its model, usage and, as `capture` says, its messages.
"""

from __future__ import annotations

from pyflare.integrations._anthropic_api import APIS
from pyflare.integrations._patch import Patch

__all__ = ["instrument", "is_instrumented", "uninstrument"]

_patch = Patch(
    "anthropic",
    (
        "Anthropic",
        "AsyncAnthropic",
        "AnthropicBedrock",
        "AsyncAnthropicBedrock",
        "AnthropicVertex",
        "AsyncAnthropicVertex",
        "AnthropicFoundry",
        "AsyncAnthropicFoundry",
    ),
    APIS,
    extra="anthropic",
)


def instrument(*, native_spans: bool = False) -> None:
    """Tell the messages of all clients of the `anthropic` package, made or yet to be made.

    Calling it again changes nothing but `native_spans`.

    Args:
        native_spans: newer versions of the package make a span of each message
            themselves, which would tell the call a second time; they are left out
            unless this is True. (The collector costs a call once in either case.)

    Raises:
        ImportError: the package is not installed; says which extra brings it.
    """
    _patch.install(native_spans=native_spans)


def uninstrument() -> None:
    """Leave the clients as they were; calls under way are told to their end."""
    _patch.remove()


def is_instrumented() -> bool:
    """Return whether calls are told."""
    return _patch.active
