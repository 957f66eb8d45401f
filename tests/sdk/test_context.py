"""Session, user, team, feature and prompt version: on every child span, and in baggage."""

from __future__ import annotations

import asyncio
import contextvars
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from opentelemetry import baggage, propagate, trace
from opentelemetry.context import attach, detach

import pyflare
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")

WHOLE: dict[str, Any] = {
    "session_id": "s-1",
    "user_id": "ü 1",
    "team": "core",
    "feature": "search",
    "prompt_version": "v3",
    "prompt_template": "answer",
}
ATTRIBUTES = {
    "session.id": "s-1",
    "gen_ai.conversation.id": "s-1",
    "user.id": "ü 1",
    "pyflare.team": "core",
    "pyflare.feature": "search",
    "pyflare.prompt.version": "v3",
    "gen_ai.prompt.version": "v3",
    "pyflare.prompt.template": "answer",
    "gen_ai.prompt.name": "answer",
}


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The SDK with its spans in memory."""
    return Recorded(monkeypatch, capture=False)


def of(recorded: Recorded, name: str) -> dict[str, Any]:
    """Return the context's attributes of a span."""
    found = dict(recorded.named(name).attributes or {})
    return {key: value for key, value in found.items() if key in ATTRIBUTES}


def test_on_every_child(recorded: Recorded) -> None:
    """Also on spans of other instrumentations, and not on those before and after."""
    other = recorded.sdk.tracer_provider.get_tracer("other")
    with (
        pyflare.span("outside"),
        pyflare.context(**WHOLE),
        pyflare.span("parent"),
        other.start_as_current_span("child"),
    ):
        pass
    with pyflare.span("after"):
        pass

    assert of(recorded, "parent") == of(recorded, "child") == ATTRIBUTES
    assert of(recorded, "outside") == of(recorded, "after") == {}


def test_inner_contexts_add_and_replace(recorded: Recorded) -> None:
    """What an inner context leaves out is the outer one's; it ends with its block."""
    with pyflare.context(user_id="a", team="t"), pyflare.span("outer"):
        with pyflare.context(user_id="b", feature=None), pyflare.span("inner"):
            pass
        with pyflare.span("beside"):
            pass

    assert of(recorded, "inner") == {"user.id": "b", "pyflare.team": "t"}
    assert of(recorded, "outer") == of(recorded, "beside") == {"user.id": "a", "pyflare.team": "t"}


def test_travels_to_a_callee(recorded: Recorded) -> None:
    """Standard headers carry it; the callee's spans have it, in the caller's trace."""
    headers: dict[str, str] = {}
    with pyflare.context(**WHOLE), pyflare.span("caller"):
        propagate.inject(headers)
    assert set(headers) == {"traceparent", "baggage"}

    token = attach(propagate.extract(headers))
    with pyflare.span("callee"), pyflare.context(team="theirs"), pyflare.span("deeper"):
        pass
    detach(token)

    assert of(recorded, "callee") == ATTRIBUTES
    assert of(recorded, "deeper") == {**ATTRIBUTES, "pyflare.team": "theirs"}
    assert recorded.named("callee").context.trace_id == recorded.named("caller").context.trace_id  # type: ignore[union-attr]


def test_stays_here_when_asked(recorded: Recorded) -> None:
    """`propagate=False` keeps values out of baggage, those of outer contexts too."""
    with pyflare.context(user_id="a", team="t"), pyflare.context(user_id="b", propagate=False):
        assert dict(baggage.get_all()) == {"pyflare.team": "t"}
        with pyflare.span("here"):
            pass

    assert of(recorded, "here") == {"user.id": "b", "pyflare.team": "t"}


def test_foreign_baggage_is_left_alone(recorded: Recorded) -> None:
    """Only PyFlare's own names are read, and a value is cut where it has no end."""
    token = attach(baggage.set_baggage("secret", "x", baggage.set_baggage("user.id", "u" * 9999)))
    with pyflare.span("one"):
        pass
    detach(token)

    attributes = dict(recorded.one().attributes or {})
    assert attributes == {"user.id": "u" * 512}


def test_tasks_and_threads(recorded: Recorded) -> None:
    """Tasks beside each other keep their own; a thread has it where it is given the context."""

    async def one(user: str) -> None:
        async with pyflare.context(user_id=user):
            await asyncio.sleep(0.01)
            with pyflare.span(user):
                await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(*(one(f"u{number}") for number in range(10)))

    def work() -> None:
        with pyflare.span("in thread"):
            pass

    asyncio.run(main())
    with ThreadPoolExecutor() as pool, pyflare.context(user_id="main"):
        pool.submit(contextvars.copy_context().run, work).result()

    assert all(of(recorded, f"u{number}")["user.id"] == f"u{number}" for number in range(10))
    assert of(recorded, "in thread") == {"user.id": "main"}


def test_not_set_up() -> None:
    """Without `init` it only fills baggage."""
    with pyflare.context(user_id="a"):
        assert baggage.get_baggage("user.id") == "a"
    assert not trace.get_current_span().is_recording()
