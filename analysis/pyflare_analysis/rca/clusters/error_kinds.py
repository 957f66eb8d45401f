"""Well-known kinds of failures of LLM applications, and what helps against each.

The wording is that of the large providers' errors and of the libraries in front of them;
a failure of no known kind gets no advice rather than a guess.
"""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["ErrorKind", "kind_of"]


class ErrorKind(NamedTuple):
    """One kind of failure."""

    name: str
    """What it is called in JSON."""
    pattern: re.Pattern[str]
    """Found in the type of the exception or in the message."""
    advice: str
    """What to try."""


def _kind(name: str, pattern: str, advice: str) -> ErrorKind:
    return ErrorKind(name, re.compile(pattern, re.IGNORECASE), advice)


_KINDS = (
    _kind(
        "quota",
        r"insufficient.?quota|exceeded your (?:current )?quota|billing|credit balance|budget",
        "Check the account: quota or budget is used up, and retrying does not help",
    ),
    _kind(
        "rate_limit",
        r"rate.?limit|too many requests|tokens per min|requests per min|ThrottlingException",
        "Retry with exponential back-off and jitter, spread the load, or ask for a higher limit",
    ),
    _kind(
        "context_length",
        r"context.?length|context window|prompt is too long|maximum (?:number of )?tokens"
        r"|reduce the length|too many tokens|max_tokens",
        "Count tokens before the call; cut history and retrieved documents, or use a model with a "
        "longer context",
    ),
    _kind(
        "overloaded",
        r"overloaded|at capacity|capacity .*exhausted|server is busy|service unavailable",
        "The provider is short of capacity: back off, and fall back to another model or region",
    ),
    _kind(
        "authentication",
        r"authentication|unauthori[sz]ed|invalid api key|incorrect api key|permission denied"
        r"|forbidden|token expired|not allowed",
        "Check key, role and expiry; a key that was rotated or revoked fails at once and for all",
    ),
    _kind(
        "content_filter",
        r"content.?(?:filter|management|policy)|safety|guardrail|moderation",
        "Look at the inputs that trigger the filter; tell users why instead of retrying",
    ),
    _kind(
        "timeout",
        r"time.?d? ?out|deadline",
        "Compare the latency of the model with the timeout; stream, shorten answers, or fall back",
    ),
    _kind(
        "parsing",
        r"parse|JSONDecode|expecting value|unterminated string|extra data: line|invalid json"
        r"|validation error|schema",
        "Ask for structured output, or repair and retry; compare with the prompt or model version "
        "before",
    ),
    _kind(
        "tool",
        r"\btools?\b|function call",
        "Call the tool by hand with the arguments of a failed trace",
    ),
    _kind(
        "network",
        r"connection|ECONN|network|resolve|unreachable|SSL|TLS|certificate|socket|bad gateway",
        "Check DNS, proxy, certificates and the provider's status from the machine that fails",
    ),
    _kind(
        "database",
        r"deadlock|duplicate key|relation .* does not exist|SQL|too many connections|collection",
        "Check the data store: migrations, connection limits, the collection's dimensions",
    ),
    _kind(
        "server_error",
        r"internal server error|InternalServerError|server had an error|\b50[0-4]\b",
        "The provider fails: retry a few times, watch its status page, fall back",
    ),
)


def kind_of(error_type: str | None, message: str) -> ErrorKind | None:
    """Return the kind of a failure; the type of the exception counts before the message."""
    for text in (error_type or "", message):
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
        for kind in _KINDS:
            if kind.pattern.search(text) or kind.pattern.search(words):
                return kind
    return None
