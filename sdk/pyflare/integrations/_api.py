"""What the integration of an API says about it: requests, answers, streams.

An `Api` is data and a few pure functions; `_patch.py` and `_call.py` do the rest.
Values are read from parsed answers (Pydantic models) and from JSON alike.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from pyflare.types import TokenUsage

__all__ = ["Answer", "Api", "Message", "Reader", "items", "number", "part", "text_of"]

Message = dict[str, Any]
"""A message in OpenTelemetry's form: `{"role", "parts": [{"type", ...}]}`."""


@dataclass
class Answer:
    """What is known of the answer to a call; grows while a stream goes on."""

    response_id: str = ""
    model: str = ""
    usage: TokenUsage | None = None
    finish_reasons: list[str] = field(default_factory=list)
    service_tier: str = ""
    fingerprint: str = ""
    dimensions: int = 0
    error_type: str = ""
    """The provider's code of a failure that it told in an answer, not as an HTTP error."""
    messages: list[Message] = field(default_factory=list)
    """What the model said; empty unless content is kept."""


class Reader(Protocol):
    """Reads a stream, event by event."""

    answer: Answer

    def add(self, event: object) -> None:
        """Take the next event."""

    def finish(self) -> None:
        """Complete the answer when the stream has ended."""


@dataclass(frozen=True, slots=True)
class Api:
    """One endpoint."""

    operation: str
    """OpenTelemetry's `gen_ai.operation.name`."""
    inference_type: str
    request: Mapping[str, str]
    """Attribute to the place in the request's body that it is taken from, `a.b` for nested ones."""
    read: Callable[[object, bool], Answer]
    """Reads an answer; content only if the second argument says so."""
    reader: Callable[[bool], Reader] | None = None
    """Makes the reader of a stream; content only if the argument says so."""
    messages: Callable[[Mapping[str, Any]], tuple[list[Message], list[Message]]] | None = None
    """Reads (system instructions as parts, input messages) from a request's body."""
    asks_stream_usage: bool = False
    """Streams have usage only where `stream_options.include_usage` asks for it."""


def part(value: object, *names: str) -> Any:
    """Return a member of an object or a mapping, by its path; None where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
    return value


def text_of(value: object, *names: str) -> str:
    """Return a member that is text, else an empty text."""
    found = part(value, *names)
    return found if isinstance(found, str) else ""


def number(value: object, *names: str) -> int:
    """Return a member that is a whole number, else 0."""
    found = part(value, *names)
    return found if isinstance(found, int) else 0


def items(value: object, *names: str) -> Sequence[Any]:
    """Return a member that is a list, else an empty one."""
    found = part(value, *names)
    return found if isinstance(found, list | tuple) else ()
