"""What errors become, and how often they are logged."""

from __future__ import annotations

import pytest
from google.rpc.status_pb2 import Status

from pyflare_collector.receiver.outcome import (
    MAX_MESSAGE_BYTES,
    Code,
    Failure,
    LogLimit,
    RefusedError,
    cut,
    failure_of,
    retry_after_header,
    status_body,
)
from pyflare_proto.errors import RetryableError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short", "short"),
        ("  two\n lines\t", "two lines"),
        ("x" * MAX_MESSAGE_BYTES, "x" * MAX_MESSAGE_BYTES),
        ("x" * (MAX_MESSAGE_BYTES + 1), "x" * (MAX_MESSAGE_BYTES - 3) + "..."),
        ("\ud800", "?"),
    ],
)
def test_messages_are_one_line_within_the_limit(text: str, expected: str) -> None:
    """White space is folded, long text cut, what is no text replaced."""
    assert cut(text) == expected


def test_a_cut_never_splits_a_character() -> None:
    """The result is valid UTF-8 at every length, and at most as long as allowed."""
    for size in range(MAX_MESSAGE_BYTES - 8, MAX_MESSAGE_BYTES + 8):
        for character in ("ü", "日", "🦩"):
            result = cut("x" * (size % 5) + character * size)
            assert len(result.encode()) <= MAX_MESSAGE_BYTES
            assert result.endswith(character + "...")


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.5, "1"), (1.0, "1"), (1.001, "2")])
def test_retry_after_is_never_zero(seconds: float, header: str) -> None:
    """Whole seconds, rounded up: a client told 0 would come back at once."""
    failure = failure_of(RetryableError("busy", retry_after_s=seconds))
    assert retry_after_header(failure) == header


def test_the_status_of_a_refusal_keeps_its_code() -> None:
    """A refusal's own HTTP status and headers do not change its Status."""
    error = RefusedError(Code.UNIMPLEMENTED, "no", http_status=405, headers=(("Allow", "POST"),))
    failure = failure_of(error)
    assert failure == Failure(Code.UNIMPLEMENTED, 405, "no", headers=(("Allow", "POST"),))
    status = Status.FromString(status_body(failure, "protobuf"))
    assert (status.code, status.message, len(status.details)) == (12, "no", 0)


def test_the_same_error_is_logged_seldom() -> None:
    """Once in the interval for each text; another text, and the same later, are due."""
    now = [0.0]
    limit = LogLimit(10.0, lambda: now[0])
    assert limit.is_due(OSError("full"))
    now[0] = 9.0
    assert not limit.is_due(OSError("full"))
    assert limit.is_due(OSError("gone"))
    assert limit.is_due(ValueError("full"))
    now[0] = 10.0
    assert limit.is_due(OSError("full"))


def test_the_memory_of_errors_is_bounded() -> None:
    """A thousand different texts leave no more than a few behind."""
    limit = LogLimit(10.0, lambda: 0.0)
    for number in range(1000):
        assert limit.is_due(OSError(str(number)))
    assert len(limit._last) <= 64
