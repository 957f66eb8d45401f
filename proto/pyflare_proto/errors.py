"""Every error that PyFlare raises on purpose, and what each becomes outside.

    PyFlareError
    ├── UsageError                  the request itself is wrong
    │   ├── ConfigError             a setting: file, key and nearest known key
    │   ├── ExpressionError         a --where expression
    │   └── SchemaError             a column that is missing or of the wrong type
    ├── InvalidDataError            bytes that are not what they claim to be
    ├── NotFoundError               a trace, budget or file that is not there
    ├── SourceUnavailableError      a source or service that does not answer
    ├── StorageError                a disk or folder that takes no data
    ├── RetryableError              not now: try again after `retry_after_s`
    ├── NotEnoughDataError          too little data to say yes or no
    └── GateError                   a gate that the user asked for said no

`OUTCOMES` maps each class to the command line's exit code and the REST API's
HTTP status; a class that is not listed takes its nearest listed base. Catch
`PyFlareError` to catch all of them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from enum import IntEnum
from typing import NamedTuple

__all__ = [
    "OUTCOMES",
    "ConfigError",
    "ExitCode",
    "ExpressionError",
    "GateError",
    "InvalidDataError",
    "NotEnoughDataError",
    "NotFoundError",
    "Outcome",
    "PyFlareError",
    "RetryableError",
    "SchemaError",
    "SourceUnavailableError",
    "StorageError",
    "UsageError",
    "nearest",
    "outcome_of",
]


class ExitCode(IntEnum):
    """Exit codes of every command."""

    OK = 0
    """Answered."""
    GATE = 1
    """A gate that the user asked for said no (`--fail-on`, `--fail-above`, `budget check`)."""
    USAGE = 2
    """Usage or configuration."""
    UNAVAILABLE = 3
    """A source or service is unreachable."""
    NOT_ENOUGH_DATA = 4
    """Not enough data to answer."""
    INTERNAL = 70
    """Internal error: a defect of PyFlare."""
    INTERRUPTED = 130
    """Interrupted by the user."""


class Outcome(NamedTuple):
    """What an error becomes outside."""

    exit_code: ExitCode
    """Exit code of the command."""
    http_status: int
    """HTTP status of the REST API."""
    code: str
    """Machine-readable name in the REST API's error body."""


class PyFlareError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: what failed, with the value that failed; no full stop.
        hint: the command or setting that fixes it.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(PyFlareError):
    """The request itself is wrong: an option, an argument or a combination."""


class ConfigError(UsageError):
    """A setting is unknown or has a value that it cannot have."""


class ExpressionError(UsageError):
    """A `--where` expression cannot be parsed or names an unknown column."""


class SchemaError(UsageError):
    """A column is missing or of the wrong type."""


class InvalidDataError(PyFlareError):
    """Bytes that are not what they claim to be: truncated, corrupt or another format."""


class NotFoundError(PyFlareError):
    """A trace, budget, file or folder that is not there."""


class SourceUnavailableError(PyFlareError):
    """A source or service does not answer, or refuses the connection."""


class StorageError(PyFlareError):
    """A disk or folder takes no data: full, read-only or unwritable."""


class RetryableError(PyFlareError):
    """The same request may succeed later; nothing of it was accepted.

    Args:
        message: why not now.
        retry_after_s: seconds to wait before the next try, greater than 0.
        hint: the setting that makes room.
    """

    def __init__(
        self, message: str, *, retry_after_s: float = 1.0, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class NotEnoughDataError(PyFlareError):
    """There is too little data to answer: not "no", but "cannot say"."""


class GateError(PyFlareError):
    """A gate that the user asked for said no."""


OUTCOMES: dict[type[PyFlareError], Outcome] = {
    PyFlareError: Outcome(ExitCode.INTERNAL, 500, "internal"),
    UsageError: Outcome(ExitCode.USAGE, 400, "invalid_request"),
    ConfigError: Outcome(ExitCode.USAGE, 400, "invalid_configuration"),
    ExpressionError: Outcome(ExitCode.USAGE, 400, "invalid_expression"),
    SchemaError: Outcome(ExitCode.USAGE, 400, "invalid_schema"),
    InvalidDataError: Outcome(ExitCode.USAGE, 422, "invalid_data"),
    NotFoundError: Outcome(ExitCode.USAGE, 404, "not_found"),
    SourceUnavailableError: Outcome(ExitCode.UNAVAILABLE, 503, "source_unavailable"),
    StorageError: Outcome(ExitCode.UNAVAILABLE, 507, "storage_unavailable"),
    RetryableError: Outcome(ExitCode.UNAVAILABLE, 503, "try_again"),
    NotEnoughDataError: Outcome(ExitCode.NOT_ENOUGH_DATA, 422, "not_enough_data"),
    GateError: Outcome(ExitCode.GATE, 409, "gate_failed"),
}
"""What each error class becomes outside."""


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome of an error: its own class's, or the nearest listed base's.

    An exception that is no `PyFlareError` is an internal error;
    `KeyboardInterrupt` is an interruption.
    """
    if isinstance(error, KeyboardInterrupt):
        return Outcome(ExitCode.INTERRUPTED, 499, "interrupted")
    for cls in type(error).__mro__:
        if cls in OUTCOMES:
            return OUTCOMES[cls]
    return OUTCOMES[PyFlareError]


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like `name`, or None when none is near."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else None
