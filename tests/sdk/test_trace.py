"""`@pyflare.trace` on every kind of function, and what its span says."""

from __future__ import annotations

import asyncio
import functools
import gc
import inspect
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

import pyflare
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """The SDK with its spans in memory."""
    return Recorded(monkeypatch)


@pyflare.trace
def double(x: int, times: int = 2) -> int:
    """Return a multiple."""
    return x * times


def test_without_parentheses(recorded: Recorded) -> None:
    """`@trace` alone names the span after the function and keeps input and output."""
    assert double(21) == 42

    span = recorded.one()
    assert span.name == "double"
    assert span.kind is SpanKind.INTERNAL
    assert dict(span.attributes or {}) == {
        "pyflare.inference.type": "custom",
        "pyflare.input.preview": '{"x": 21}',
        "pyflare.output.preview": "42",
    }


def test_with_arguments(recorded: Recorded) -> None:
    """A model call carries OpenTelemetry's attributes beside PyFlare's own."""

    @pyflare.trace(
        "ask", model_id="gpt-4o", inference_type=pyflare.InferenceType.LLM, capture_output=False
    )
    def call(question: str, **options: Any) -> str:
        return f"{question} {options}"

    call("why?", temperature=0)

    span = recorded.one()
    assert span.name == "ask"
    assert span.kind is SpanKind.CLIENT
    assert dict(span.attributes or {}) == {
        "pyflare.inference.type": "llm",
        "gen_ai.operation.name": "chat",
        "pyflare.model.id": "gpt-4o",
        "gen_ai.request.model": "gpt-4o",
        "pyflare.input.preview": '{"question": "why?", "temperature": 0}',
    }


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("tool", "gen_ai.tool.name", "look_up"),
        ("agent", "gen_ai.agent.name", "look_up"),
        ("retriever", "gen_ai.operation.name", "retrieval"),
        ("embedding", "gen_ai.operation.name", "embeddings"),
    ],
)
def test_types_say_what_they_are(recorded: Recorded, kind: str, key: str, value: str) -> None:
    """Each type has its operation of the GenAI conventions; tools and agents their name."""

    @pyflare.trace(inference_type=kind)
    def look_up() -> None: ...

    look_up()

    assert (recorded.one().attributes or {})[key] == value


def test_looks_like_the_function(recorded: Recorded) -> None:
    """Name, docstring, signature and kind of the function stay."""

    @pyflare.trace
    async def coroutine(x: int) -> int:
        return x

    @pyflare.trace
    def generator() -> Iterator[int]:
        yield 1

    @pyflare.trace
    async def async_generator() -> AsyncIterator[int]:
        yield 1

    assert double.__name__ == "double"
    assert double.__doc__ == "Return a multiple."
    assert str(inspect.signature(double)) == "(x: 'int', times: 'int' = 2) -> 'int'"
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isgeneratorfunction(generator)
    assert inspect.isasyncgenfunction(async_generator)
    assert not recorded.spans


class Shop:
    """Has every kind of method."""

    def __repr__(self) -> str:
        raise AssertionError("self is not captured")

    @pyflare.trace
    def method(self, x: int) -> int:
        """Return x."""
        return x

    @classmethod
    @pyflare.trace
    def inside(cls, x: int) -> tuple[str, int]:
        """Return the class's name and x."""
        return cls.__name__, x

    @pyflare.trace
    @classmethod
    def outside(cls, x: int) -> tuple[str, int]:
        """Return the class's name and x."""
        return cls.__name__, x

    @pyflare.trace("static one")
    @staticmethod
    def static(x: int) -> int:
        """Return x."""
        return x


def test_methods(recorded: Recorded) -> None:
    """Methods, class methods and static methods work, in either order, without `self`."""
    shop = Shop()

    assert shop.method(1) == 1
    assert Shop.inside(2) == ("Shop", 2)
    assert shop.outside(3) == ("Shop", 3)
    assert Shop.static(4) == 4
    names = [
        (span.name, (span.attributes or {})["pyflare.input.preview"]) for span in recorded.spans
    ]
    assert names == [
        ("method", '{"x": 1}'),
        ("inside", '{"x": 2}'),
        ("outside", '{"x": 3}'),
        ("static one", '{"x": 4}'),
    ]


def test_wrong_use_is_told_at_decoration() -> None:
    """A class is not a function."""
    with pytest.raises(TypeError, match="functions and methods"):
        pyflare.trace(Shop)


def test_children_have_their_parent(recorded: Recorded) -> None:
    """A traced function called by another is its child, also across `await`."""

    @pyflare.trace
    async def inner() -> None:
        await asyncio.sleep(0)

    @pyflare.trace
    async def outer() -> None:
        await asyncio.gather(inner(), inner())
        double(1)

    asyncio.run(outer())

    outer_span = recorded.named("outer")
    children = [span for span in recorded.spans if span is not outer_span]
    assert [span.name for span in children] == ["inner", "inner", "double"]
    assert outer_span.context is not None
    assert {span.parent.span_id for span in children if span.parent} == {outer_span.context.span_id}
    assert outer_span.parent is None
    assert not get_current_span().get_span_context().is_valid


def test_errors_are_recorded_and_go_on_untouched(recorded: Recorded) -> None:
    """The very exception comes out, with the function's own lines at its end."""
    error = KeyError("missing")

    @pyflare.trace
    def fails() -> None:
        raise error

    with pytest.raises(KeyError) as caught:
        fails()

    assert caught.value is error
    assert error.__context__ is None
    assert error.__cause__ is None
    assert [line.name for line in caught.traceback][1:] == ["traced", "fails"]
    span = recorded.one()
    assert span.status.status_code is StatusCode.ERROR
    assert span.status.description == "'missing'"
    assert (span.attributes or {})["error.type"] == "KeyError"
    (event,) = span.events
    assert event.name == "exception"
    assert (event.attributes or {})["exception.message"] == "'missing'"
    assert "raise error" in str((event.attributes or {})["exception.stacktrace"])


def test_errors_of_coroutines(recorded: Recorded) -> None:
    """The same of a coroutine; a cancelled one is marked, and is no error."""

    @pyflare.trace
    async def fails() -> None:
        raise ValueError("no")

    @pyflare.trace
    async def sleeps() -> None:
        await asyncio.sleep(30)

    async def main() -> None:
        with pytest.raises(ValueError, match="no"):
            await fails()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sleeps(), 0.01)

    asyncio.run(main())

    failed, cancelled = recorded.spans
    assert failed.status.status_code is StatusCode.ERROR
    assert cancelled.status.status_code is StatusCode.UNSET
    assert (cancelled.attributes or {})["pyflare.cancelled"] is True


def test_a_long_message_is_cut(recorded: Recorded) -> None:
    """An exception that carries a whole answer costs a span no more than a page of it."""

    @pyflare.trace
    def fails() -> None:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(ValueError, match="x"):
        fails()

    span = recorded.one()
    assert span.status.description == "x" * 4096
    assert len(str((span.events[0].attributes or {})["exception.stacktrace"])) <= 16_384


def test_an_exception_that_cannot_be_printed(recorded: Recorded) -> None:
    """Not even an exception whose `__str__` fails is replaced by another."""

    class OddError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("never seen")

    @pyflare.trace
    def fails() -> None:
        raise OddError

    with pytest.raises(OddError):
        fails()

    assert recorded.one().status.status_code is StatusCode.ERROR


# Streams


@pyflare.trace(model_id="gpt-4o", inference_type="llm")
def stream(count: int = 3) -> Iterator[str]:
    """Yield words, the first after 20 ms."""
    time.sleep(0.02)
    for number in range(count):
        yield f"word{number} "
    double(1)


def test_a_stream_ends_when_it_is_exhausted(recorded: Recorded) -> None:
    """One span over the whole stream, with its text and the time to its first item."""
    items = stream()
    assert next(items) == "word0 "
    assert not recorded.spans
    assert not get_current_span().get_span_context().is_valid
    assert list(items) == ["word1 ", "word2 "]

    span = recorded.named("stream")
    attributes = span.attributes or {}
    assert attributes["pyflare.output.preview"] == "word0 word1 word2 "
    assert attributes["pyflare.stream.items"] == 3
    assert attributes["gen_ai.request.stream"] is True
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    assert 0.02 <= first < 5
    child = recorded.named("double")
    assert child.parent is not None
    assert span.context is not None
    assert child.parent.span_id == span.context.span_id


@pytest.mark.parametrize("how", ["close", "forget", "throw"])
def test_a_stream_ends_when_it_is_left(recorded: Recorded, how: str) -> None:
    """Closed, forgotten or broken from outside: its span ends."""
    items: Any = stream()
    next(items)
    if how == "close":
        items.close()
    elif how == "forget":
        del items
        gc.collect()
    else:
        with pytest.raises(ValueError, match="stop"):
            items.throw(ValueError("stop"))

    span = recorded.one()
    failed = StatusCode.ERROR if how == "throw" else StatusCode.UNSET
    assert span.status.status_code is failed
    assert (span.attributes or {})["pyflare.stream.items"] == 1


def test_a_stream_that_fails(recorded: Recorded) -> None:
    """The exception goes on, and what came before it is kept."""

    @pyflare.trace
    def breaks() -> Iterator[str]:
        yield "half"
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        list(breaks())

    span = recorded.one()
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})["pyflare.output.preview"] == "half"


def test_items_that_cannot_be_compared(recorded: Recorded) -> None:
    """Items whose `==`, truth or length fail (arrays, frames) pass through untouched."""

    class Array:
        __hash__ = None  # type: ignore[assignment]  # as arrays have it

        def __eq__(self, other: object) -> bool:
            raise ValueError("ambiguous")

        def __bool__(self) -> bool:
            raise ValueError("ambiguous")

        def __len__(self) -> int:
            raise TypeError("unsized")

    items = [Array(), Array()]

    @pyflare.trace
    def arrays() -> Iterator[Array]:
        yield from items

    @pyflare.trace
    def one(array: Array) -> Array:
        return array

    found = list(arrays())
    assert all(a is b for a, b in zip(found, items, strict=True))
    assert one(items[0]) is items[0]
    assert (recorded.named("arrays").attributes or {})["pyflare.stream.items"] == 2


def test_generators_take_and_return_values(recorded: Recorded) -> None:
    """`send`, `throw` and `return` work as without the decorator."""

    @pyflare.trace
    def talk() -> Any:
        heard = []
        try:
            heard.append((yield 1))
            heard.append((yield 2))
        except ValueError:
            heard.append("thrown")
            yield 3
        return heard

    def run() -> Any:
        return (yield from talk())

    items = run()
    assert next(items) == 1
    assert items.send("a") == 2
    assert items.throw(ValueError()) == 3
    with pytest.raises(StopIteration) as ended:
        next(items)
    assert ended.value.value == ["a", "thrown"]
    assert recorded.one().status.status_code is StatusCode.UNSET


def test_spans_inside_a_generator_keep_their_place(recorded: Recorded) -> None:
    """A span that is open while a generator waits is still the parent when it goes on."""

    @pyflare.trace
    def works() -> Iterator[int]:
        with pyflare.span("open"):
            yield 1
            double(1)

    for _ in works():
        double(2, 2)

    opened, inside = recorded.named("open"), recorded.named("works")
    children = {
        (span.attributes or {})["pyflare.input.preview"]: span.parent
        for span in recorded.spans
        if span.name == "double"
    }
    assert opened.context is not None
    assert inside.context is not None
    assert opened.parent is not None
    assert opened.parent.span_id == inside.context.span_id
    inner = children['{"x": 1}']
    assert inner is not None
    assert inner.span_id == opened.context.span_id
    assert children['{"x": 2, "times": 2}'] is None


@pyflare.trace(model_id="gpt-4o", inference_type="llm")
async def astream(count: int = 3) -> AsyncIterator[str]:
    """Yield words, the first after 20 ms."""
    await asyncio.sleep(0.02)
    for number in range(count):
        yield f"word{number} "
    double(1)


def test_an_async_stream_ends_when_it_is_exhausted(recorded: Recorded) -> None:
    """As of a generator."""

    async def main() -> None:
        assert [item async for item in astream()] == ["word0 ", "word1 ", "word2 "]

    asyncio.run(main())

    span = recorded.named("astream")
    attributes = span.attributes or {}
    assert attributes["pyflare.output.preview"] == "word0 word1 word2 "
    first = attributes["gen_ai.response.time_to_first_chunk"]
    assert isinstance(first, float)
    assert first >= 0.02
    parent = recorded.named("double").parent
    assert parent is not None
    assert span.context is not None
    assert parent.span_id == span.context.span_id


@pytest.mark.parametrize("how", ["aclose", "forget", "athrow", "cancel", "loop ends"])
def test_an_async_stream_ends_when_it_is_left(recorded: Recorded, how: str) -> None:
    """Closed, forgotten, broken from outside, cancelled, or left when the loop ends."""
    kept: list[Any] = []

    async def main() -> None:
        items: Any = astream()
        await anext(items)
        if how == "aclose":
            await items.aclose()
        elif how == "forget":
            del items
            gc.collect()
            await asyncio.sleep(0.05)
        elif how == "athrow":
            with pytest.raises(ValueError, match="stop"):
                await items.athrow(ValueError("stop"))
        elif how == "loop ends":
            kept.append(items)
        else:
            waiting: Any = hangs()
            await anext(waiting)
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(waiting), 0.01)
            await items.aclose()

    @pyflare.trace
    async def hangs() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(30)

    asyncio.run(main())
    kept.clear()
    gc.collect()

    span = recorded.named("astream")
    failed = StatusCode.ERROR if how == "athrow" else StatusCode.UNSET
    assert span.status.status_code is failed
    if how == "cancel":
        assert (recorded.named("hangs").attributes or {})["pyflare.cancelled"] is True


def test_a_stream_that_another_task_closes(
    recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """A generator with an open span inside, left to the event loop, ends without a word."""

    @pyflare.trace
    async def works() -> AsyncIterator[int]:
        with pyflare.span("open"), pyflare.context(user_id="u"):
            yield 1

    async def main() -> None:
        async for _ in works():
            break
        gc.collect()
        await asyncio.sleep(0.05)

    asyncio.run(main())

    assert {span.name for span in recorded.spans} == {"works", "open"}
    assert caplog.text == ""


def test_async_generators_take_values(recorded: Recorded) -> None:
    """`asend` and `athrow` reach the generator's own code."""

    @pyflare.trace
    async def talk() -> Any:
        heard = yield 1
        try:
            yield heard
        except ValueError:
            yield "thrown"

    async def main() -> list[Any]:
        items: Any = talk()
        return [await anext(items), await items.asend("a"), await items.athrow(ValueError())]

    assert asyncio.run(main()) == [1, "a", "thrown"]
    gc.collect()
    assert (recorded.one().attributes or {})["pyflare.stream.items"] == 3


def test_functions_that_return_a_stream(recorded: Recorded) -> None:
    """The span of a function that returns a generator or a coroutine ends when that does."""

    @pyflare.trace
    def lazily() -> Iterator[str]:
        return (word for word in ("a", "b"))

    @pyflare.trace
    def later() -> Any:
        return asyncio.sleep(0.02, "slept")

    @pyflare.trace
    async def opens() -> Any:
        async def words() -> AsyncIterator[str]:
            yield "x"

        return words()

    items = lazily()
    assert not recorded.spans
    assert list(items) == ["a", "b"]

    async def main() -> None:
        assert await later() == "slept"
        assert [item async for item in await opens()] == ["x"]

    asyncio.run(main())

    assert (recorded.named("lazily").attributes or {})["pyflare.output.preview"] == "ab"
    slept = recorded.named("later")
    assert (slept.end_time or 0) - (slept.start_time or 0) >= 20_000_000
    assert (recorded.named("opens").attributes or {})["pyflare.output.preview"] == "x"


def test_callables_without_a_name(recorded: Recorded) -> None:
    """Partial functions, objects with `__call__` and built-in functions can be traced."""

    class Caller:
        async def __call__(self, x: int) -> int:
            return x

    assert pyflare.trace(functools.partial(double, 4))() == 8
    assert asyncio.run(pyflare.trace(Caller())(1)) == 1
    assert pyflare.trace(max)(3, 2) == 3
    assert [span.name for span in recorded.spans] == ["double", "partial", "Caller", "max"]
    assert (recorded.named("max").attributes or {})["pyflare.input.preview"] == '{"args": [3, 2]}'


def test_without_init_nothing_is_traced() -> None:
    """Before `init` and after `shutdown` a decorated function is the function."""
    assert double(2) == 4
    assert list(stream(1)) == ["word0 "]
    with pyflare.span("nothing") as span, pyflare.llm_span("nothing", "m") as call:
        span.set_attribute("a", 1)
        call.set_usage(input_tokens=1)
        call.set_output("x")
    assert pyflare.flush()
    assert pyflare.shutdown()
    assert pyflare.stats().sent == 0
