"""Watches the events of a client library's stream without becoming the stream.

The libraries' `Stream` objects read from an iterator that they hold; that iterator is
replaced, so the application gets the very object of the library, with its type, its
`response` and its context manager.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from pyflare.integrations._api import Reader, items, part
from pyflare.integrations._call import ModelCall
from pyflare.log import logger

__all__ = ["is_stream", "watch"]

_ITERATOR = "_iterator"


def is_stream(result: object) -> bool:
    """Return whether `result` is a stream of either library, sync or async."""
    # Of the type first: answers are Pydantic models, which are slow to say what they lack.
    kind = type(result)
    return (hasattr(kind, "__next__") or hasattr(kind, "__anext__")) and hasattr(result, _ITERATOR)


def watch(stream: Any, call: ModelCall, *, hides_usage: bool) -> None:
    """Tell a call by the events of its stream, and end it when the stream ends.

    Args:
        stream: the library's stream.
        call: the call.
        hides_usage: whether the chunk of usage, which PyFlare asked for, is kept from
            the application.
    """
    inner = getattr(stream, _ITERATOR)
    kind = _AsyncEvents if hasattr(inner, "__anext__") else _Events
    events = kind(inner, call, call.reader(), hides_usage=hides_usage)
    setattr(stream, _ITERATOR, events)
    # Through a weak reference: a cycle would leave dropped streams to the garbage collector.
    stream.close = _closing(weakref.ref(stream), type(stream).close, events)


class _Watching:
    """What both kinds of iterator do with an event."""

    def __init__(
        self, inner: Any, call: ModelCall, reader: Reader | None, *, hides_usage: bool
    ) -> None:
        self._inner = inner
        self._call = call
        self._reader = reader
        self._hides_usage = hides_usage

    def _see(self, event: object) -> bool:
        """Take an event; return whether the application is to see it."""
        self._call.first()
        try:
            if self._reader is not None:
                self._reader.add(event)
        except Exception:  # noqa: BLE001 - the application's stream must go on
            logger.debug("an event of a stream could not be read", exc_info=True)
        if not self._hides_usage:
            return True
        return bool(items(event, "choices")) or part(event, "usage") is None

    def end(self, error: BaseException | None = None, *, cut: bool = False) -> None:
        """End the call."""
        self._call.streamed(self._reader, cut=cut, error=error)

    def __del__(self) -> None:
        """End the call of a stream that is forgotten."""
        self.end(cut=True)


class _Events(_Watching):
    """The events of a sync stream."""

    def __iter__(self) -> Iterator[Any]:
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Return the next event for the application."""
        while True:
            try:
                event = next(self._inner)
            except StopIteration:
                self.end()
                raise
            except BaseException as error:
                self.end(error)
                raise
            if self._see(event):
                return event

    def close(self) -> None:
        """End the library's iterator and the call."""
        self._inner.close()
        self.end(cut=True)


class _AsyncEvents(_Watching):
    """The events of an async stream."""

    def __aiter__(self) -> AsyncIterator[Any]:
        """Return itself."""
        return self

    async def __anext__(self) -> Any:
        """Return the next event for the application."""
        while True:
            try:
                event = await self._inner.__anext__()
            except StopAsyncIteration:
                self.end()
                raise
            except BaseException as error:
                self.end(error)
                raise
            if self._see(event):
                return event

    async def aclose(self) -> None:
        """End the library's iterator and the call."""
        await self._inner.aclose()
        self.end(cut=True)


def _closing(
    stream: weakref.ref[Any], close: Callable[[Any], Any], events: _Watching
) -> Callable[[], Any]:
    """Return the stream's own `close`, which ends the call too."""

    def closed() -> Any:
        result = close(stream())
        events.end(cut=True)
        return result

    async def aclosed() -> Any:
        try:
            return await close(stream())
        finally:
            events.end(cut=True)

    return aclosed if isinstance(events, _AsyncEvents) else closed
