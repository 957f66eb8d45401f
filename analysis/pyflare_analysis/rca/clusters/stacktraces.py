"""Stack traces of Python, Node and Java: which frames are the application's own.

Two failures with the same exception raised through the same frames of the application are
the same failure, whatever its message says and whatever the libraries below did (the rule
of Sentry's grouping: frames of the application before the message). Line numbers change
with every deployment and are left out.

Example:
    >>> trace = '''Traceback (most recent call last):
    ...   File "/srv/app/agents/planner.py", line 31, in plan
    ...     answer = client.chat(messages)
    ...   File "/usr/lib/python3.11/site-packages/openai/_client.py", line 9, in chat
    ... openai.RateLimitError: slow down'''
    >>> in_app_frames(trace)
    ('agents/planner.py:plan',)
"""

from __future__ import annotations

import re
from typing import NamedTuple

import polars as pl

__all__ = ["DEPTH", "Frame", "frame_lines", "frames", "in_app_frames", "span_stack_traces"]

DEPTH = 3
"""Innermost frames of the application that are compared; further out are only its callers."""

_STACK_EVENT = r'"exception\.stacktrace": ?"((?:[^"\\]|\\.)*)"'
_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "", '\\"': '"', "\\/": "/", "\\\\": "\\"}
_LINES = (
    r'(?m)^[ |+]*File "[^"\n]+", line [0-9]+, in [^\n]+|^\s*at [^\n]+|^Caused by: [^\n]+'
    r"|^[ |+]*(?:The above exception was|During handling of)[^\n]*"
)
_PYTHON = re.compile(r'File "(?P<file>[^"]+)", line \d+, in (?P<name>.+)')
_JAVA = re.compile(
    r"at (?:[\w.\-]+(?:@[\w.\-]+)?/)*(?P<owner>[\w$.]+)\.(?P<name>[\w$<>]+)"
    r"\((?:[\w$]+\.(?:java|kt|scala|groovy)(?::\d+)?|Native Method|Unknown Source)\)"
)
_NODE = re.compile(
    r"at (?:async )?(?:(?P<name>[^()]+?) \()?"
    r"(?P<file>(?:[a-z\-]+:)?[^()\s]+|[^()]*?[\\/][^()]*?):\d+:\d+\)?\s*$"
)
_FOREIGN_PATHS = re.compile(
    r"site-packages|dist-packages|node_modules|(?:^|[\\/])lib[\\/]python\d|<frozen |^<|^node:"
    r"|^internal[\\/]|(?:^|[\\/])Python\d+[\\/]Lib[\\/]|\.pyenv[\\/]versions[\\/][^\\/]+[\\/]lib[\\/]"
)
_FOREIGN_PACKAGES = (
    "java.", "javax.", "jakarta.", "jdk.", "sun.", "com.sun.", "kotlin.", "kotlinx.", "scala.",
    "groovy.", "akka.", "org.springframework.", "org.apache.", "org.eclipse.", "org.hibernate.",
    "org.jetbrains.", "org.slf4j.", "org.junit.", "io.netty.", "io.grpc.", "io.micrometer.",
    "io.opentelemetry.", "io.vertx.", "reactor.", "rx.", "io.reactivex.", "okhttp3.", "okio.",
    "retrofit2.", "feign.", "com.google.", "com.fasterxml.", "com.zaxxer.", "com.mysql.",
    "org.postgresql.", "redis.clients.", "dev.langchain4j.", "com.openai.", "software.amazon.",
)  # fmt: skip
_NUMBERED = re.compile(r"\$\d+")


class Frame(NamedTuple):
    """One frame of a stack trace."""

    place: str
    """Last two parts of the file's path, or the class with its package."""
    function: str
    """Function or method."""
    in_app: bool
    """Whether it is the application's own code, not a library's or the language's."""

    def __str__(self) -> str:
        """Return `place:function`."""
        return f"{self.place}:{self.function}"


def span_stack_traces(events: pl.Series) -> pl.Series:
    """Return the stack trace of the first exception of each span.

    Args:
        events: (n,) JSON text of the column `events`.

    Returns:
        (n,) strings, null where there is none.
    """
    return events.str.extract(_STACK_EVENT, 1).str.replace_many(_ESCAPES)


def frame_lines(traces: pl.Series) -> pl.Series:
    """Return what tells stack traces apart, without messages: their lines of frames.

    Args:
        traces: (n,) stack traces as their languages print them; null where there is none.

    Returns:
        (n,) strings, the lines joined; empty where there is none. Few are distinct, so that
        `in_app_frames` need only look at these.
    """
    return traces.str.extract_all(_LINES).list.join("\n").fill_null("")


def frames(trace: str) -> list[Frame]:
    """Return the frames of the exception that was seen, innermost first.

    Of chained exceptions that is the last one in Python and the first one in Java and Node.

    Args:
        trace: a stack trace, or its lines from `frame_lines`.
    """
    found: list[Frame] = []
    python = False
    for line in trace.splitlines():
        text = line.strip(" \t|+")
        if text.startswith("Caused by: ") and found:
            break
        if text.startswith(("The above exception was", "During handling of")):
            found = []
            continue
        frame = _python_frame(text) if text.startswith("File ") else None
        python = python or frame is not None
        frame = frame or (_other_frame(text) if text.startswith("at ") else None)
        if frame is not None:
            found.append(frame)
    return found[::-1] if python else found


def in_app_frames(trace: str, depth: int = DEPTH) -> tuple[str, ...]:
    """Return the innermost frames of the application, innermost first.

    Frames of libraries and of the language are passed over; a function that calls itself
    counts once.

    Args:
        trace: a stack trace, or its lines from `frame_lines`.
        depth: how many frames at most.
    """
    own: list[str] = []
    for frame in frames(trace):
        if frame.in_app and (not own or own[-1] != str(frame)):
            own.append(str(frame))
        if len(own) == depth:
            break
    return tuple(own)


def _python_frame(text: str) -> Frame | None:
    match = _PYTHON.match(text)
    if match is None:
        return None
    file = match["file"]
    return Frame(_short(file), match["name"].strip(), not _FOREIGN_PATHS.search(file))


def _other_frame(text: str) -> Frame | None:
    java = _JAVA.match(text)
    if java is not None:
        owner = java["owner"]
        own = not owner.startswith(_FOREIGN_PACKAGES)
        return Frame(_NUMBERED.sub("", owner), _NUMBERED.sub("", java["name"]), own)
    node = _NODE.match(text)
    if node is None:
        return None
    file = node["file"].removeprefix("file://")
    name = (node["name"] or "<anonymous>").removeprefix("new ").strip()
    return Frame(_short(file), name, not _FOREIGN_PATHS.search(file))


def _short(path: str) -> str:
    """Return the last two parts of a path: where it is installed differs between machines."""
    return "/".join(re.split(r"[\\/]", path)[-2:])
