"""Generators whose span ends when they do: exhausted, closed, failed or forgotten.

The span is the current one while the generator's own code runs, and only then: not for
the code that takes the items.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from time import perf_counter
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context, attach, get_current
from opentelemetry.trace import Span

from pyflare import keys
from pyflare.context import detach
from pyflare.failures import record_failure

if TYPE_CHECKING:
    from pyflare.sdk import PyFlare
    from pyflare.tracing import _Plan

__all__ = ["AsyncStream", "Stream"]


class _Telling:
    """Watches the items of a stream and writes on its span what they tell."""

    __slots__ = (
        "_count",
        "_ended",
        "_first",
        "_inner",
        "_items",
        "_kept",
        "_plan",
        "_sdk",
        "_size",
        "_span",
        "_start",
    )

    def __init__(self, plan: _Plan, sdk: PyFlare, span: Span, inner: Context, items: Any) -> None:
        self._plan = plan
        self._sdk = sdk
        self._span = span
        self._inner = inner
        self._items = items
        self._start = perf_counter()
        self._first: float | None = None
        self._count = 0
        self._size = 0
        self._kept: list[Any] | None = (
            [] if plan.captures_output and sdk.capture.enabled and span.is_recording() else None
        )
        self._ended = False

    def _saw(self, item: Any) -> None:
        # Not `item != ""`: items of the application may compare as they like.
        if self._first is None and item is not None and not (type(item) is str and not item):
            self._first = perf_counter() - self._start
        self._count += 1
        if self._kept is not None and self._size <= self._sdk.capture.max_chars:
            self._kept.append(item)
            # Anything that is not text counts as a little of it: its size is not known yet.
            self._size += len(item) if type(item) is str else 16

    def _end(self, error: BaseException | None = None) -> None:
        if self._ended:
            return
        self._ended = True
        span = self._span
        if span.is_recording():
            span.set_attribute(keys.STREAM_ITEMS, self._count)
            if self._plan.streams_tokens:
                span.set_attribute(keys.STREAM, True)
            if self._first is not None:
                span.set_attribute(keys.TIME_TO_FIRST_CHUNK, self._first)
            if self._kept:
                text = all(type(item) is str for item in self._kept)
                kept = "".join(self._kept) if text else self._kept
                span.set_attribute(keys.OUTPUT_PREVIEW, self._sdk.capture.text(kept))
            if error is not None:
                record_failure(span, error, self._sdk.capture)
        self._kept = None
        span.end()

    def __del__(self) -> None:
        """End the span of a stream that is forgotten."""
        self._end()


class Stream(_Telling, Generator[Any, Any, Any]):
    """A generator with a span."""

    __slots__ = ()

    def send(self, value: Any) -> Any:
        """Go on to the next item."""
        return self._step(self._items.send, value)

    def throw(self, *error: Any) -> Any:
        """Raise an exception inside and go on to the next item."""
        return self._step(self._items.throw, *error)

    def close(self) -> None:
        """End the generator."""
        token = attach(self._inner)
        try:
            self._items.close()
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end()
        finally:
            detach(token)

    def _step(self, step: Any, *values: Any) -> Any:
        token = attach(self._inner)
        try:
            item = step(*values)
        except StopIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        finally:
            # The generator's own code may have entered a context that is open still.
            self._inner = get_current()
            detach(token)
        self._saw(item)
        return item


class AsyncStream(_Telling, AsyncGenerator[Any, Any]):
    """An async generator with a span."""

    __slots__ = ()

    async def asend(self, value: Any) -> Any:
        """Go on to the next item."""
        return await self._step(self._items.asend(value))

    async def athrow(self, *error: Any) -> Any:
        """Raise an exception inside and go on to the next item."""
        return await self._step(self._items.athrow(*error))

    async def aclose(self) -> None:
        """End the generator."""
        token = attach(self._inner)
        try:
            await self._items.aclose()
        except BaseException as error:
            self._end(error)
            raise
        else:
            self._end()
        finally:
            detach(token)

    async def _step(self, step: Any) -> Any:
        token = attach(self._inner)
        try:
            item = await step
        except StopAsyncIteration:
            self._end()
            raise
        except BaseException as error:
            self._end(error)
            raise
        finally:
            self._inner = get_current()
            detach(token)
        self._saw(item)
        return item
