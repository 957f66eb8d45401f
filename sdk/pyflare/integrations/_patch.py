"""Puts PyFlare around the one method that all calls of a client library go through.

Both libraries are generated alike: every method of every resource, raw answers,
streams and helpers included, ends in `client.request(cast_to, options, stream=...)`.
One wrapper there sees each logical call once, with its retries, and returns what the
library returned.
"""

from __future__ import annotations

import copy
import functools
import inspect
import json
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from threading import Lock
from typing import Any

from opentelemetry import context as otel_context

from pyflare.integrations._api import Api, part
from pyflare.integrations._call import ModelCall
from pyflare.integrations._streams import is_stream, watch
from pyflare.log import logger
from pyflare.sdk import PyFlare

__all__ = ["Patch"]

_MARK = "_pyflare_patch"
"""Attribute by which a wrapper is known again."""
_RAW_HEADER = "x-stainless-raw-response"
_SUPPRESSIONS = ("suppress_language_model_instrumentation", "suppress_instrumentation")
"""Keys in the context by which applications and instrumentations ask for silence."""


class Patch:
    """The wrapper around a client library; put on and taken off.

    Args:
        library: name of the package.
        classes: its client classes; those that a version lacks are passed over.
        apis: path of a request to its API.
        extra: the extra of PyFlare that brings the library.
    """

    def __init__(
        self, library: str, classes: tuple[str, ...], apis: Mapping[str, Api], *, extra: str
    ) -> None:
        self._library = library
        self._names = classes
        self._apis = apis
        self._extra = extra
        self._stream_usage = True
        self._native_spans = True
        self.active = False
        self._put: dict[Any, tuple[Any, Any]] = {}
        self._lock = Lock()

    def install(self, *, stream_usage: bool = True, native_spans: bool = True) -> None:
        """Wrap the client classes; again only those that somebody unwrapped."""
        try:
            module = import_module(self._library)
        except ImportError as error:
            raise ImportError(
                f"the package {self._library} is not installed; "
                f"hint: pip install 'pyflare-suite[{self._extra}]'"
            ) from error
        with self._lock:
            self._stream_usage = stream_usage
            self._native_spans = native_spans
            self.active = True
            for name in self._names:
                client: Any = getattr(module, name, None)
                if client is not None and not self._is_around(client):
                    own = vars(client).get("request")
                    client.request = self._wrap(client.request)
                    self._put[client] = client.request, own

    def remove(self) -> None:
        """Unwrap what no other instrumentation has wrapped since; the rest passes through."""
        with self._lock:
            self.active = False
            for client, (wrapper, original) in self._put.items():
                if vars(client).get("request") is not wrapper:
                    continue
                if original is None:
                    del client.request
                else:
                    client.request = original
            self._put.clear()

    def _is_around(self, client: object) -> bool:
        """Return whether the wrapper is there already, under whatever else."""
        method = getattr(client, "request", None)
        while method is not None:
            if getattr(method, _MARK, None) is self:
                return True
            method = getattr(method, "__wrapped__", None)
        return False

    def _wrap(self, original: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.iscoroutinefunction(inspect.unwrap(original)):

            @functools.wraps(original)
            async def request(client: Any, *args: Any, **kwargs: Any) -> Any:
                call = self._begin(client, args, kwargs)
                if call is None:
                    return await original(client, *args, **kwargs)
                with call.during():
                    result = await original(client, *call.args, **call.kwargs)
                call.take(result)
                return result
        else:

            @functools.wraps(original)
            def request(client: Any, *args: Any, **kwargs: Any) -> Any:
                call = self._begin(client, args, kwargs)
                if call is None:
                    return original(client, *args, **kwargs)
                with call.during():
                    result = original(client, *call.args, **call.kwargs)
                call.take(result)
                return result

        setattr(request, _MARK, self)
        return request

    def _begin(
        self, client: object, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> _Request | None:
        """Return the call to tell, None where there is nothing to tell."""
        sdk = PyFlare.active
        if sdk is None or not self.active:
            return None
        try:
            options = args[1] if len(args) > 1 else kwargs.get("options")
            api = self._apis.get(str(part(options, "url")).partition("?")[0])
            body = part(options, "json_data")
            if api is None or not isinstance(body, Mapping) or _suppressed():
                return None
            streaming = bool(kwargs.get("stream")) or body.get("stream") is True
            raw = _is_raw(options)
            asks = api.asks_stream_usage and streaming and self._stream_usage and not raw
            asks = asks and not part(body, "stream_options", "include_usage")
            call = ModelCall(sdk, api, self._library, client, body, streaming=streaming)
            request = _Request(call, args, kwargs, streaming=streaming, hides_usage=asks)
            changes: dict[str, Any] = {}
            if asks:
                wanted = {**(part(body, "stream_options") or {}), "include_usage": True}
                changes["json_data"] = {**body, "stream_options": wanted}
            if not self._native_spans and part(options, "span_name"):
                changes["span_name"] = None  # what the library makes a span of its own by
            if changes:
                request.change(options, changes)
        except Exception:  # noqa: BLE001 - the application's call must go on
            logger.debug("a model call could not be told", exc_info=True)
            return None
        return request


class _Request:
    """A request through the wrapper: the call, and the arguments that are passed on."""

    def __init__(
        self,
        call: ModelCall,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        *,
        streaming: bool,
        hides_usage: bool,
    ) -> None:
        self.args = args
        self.kwargs = kwargs
        self._call = call
        self._streaming = streaming
        self._hides_usage = hides_usage

    def change(self, options: object, changes: Mapping[str, Any]) -> None:
        """Pass changed options on; those that the application may hold stay as they are."""
        changed = copy.copy(options)
        for name, value in changes.items():
            setattr(changed, name, value)
        if len(self.args) > 1:
            self.args = (self.args[0], changed, *self.args[2:])
        else:
            self.kwargs = {**self.kwargs, "options": changed}

    @contextmanager
    def during(self) -> Iterator[None]:
        """Make the call's span the current one; an exception ends it and goes on."""
        token = otel_context.attach(self._call.context)
        try:
            yield
        except BaseException as error:
            self._call.end(error=error)
            raise
        finally:
            otel_context.detach(token)

    def take(self, result: Any) -> None:
        """Tell the call by what the library returns; a stream goes on telling it."""
        try:
            if is_stream(result):
                watch(result, self._call, hides_usage=self._hides_usage)
            elif hasattr(type(result), "parse") and hasattr(result, "http_response"):
                self._take_raw(result)
            else:
                self._call.answered(result)
        except Exception:  # noqa: BLE001 - the application's call must go on
            logger.debug("the answer of a model call could not be told", exc_info=True)
            self._call.end()

    def _take_raw(self, response: Any) -> None:
        """Tell a call whose answer the application reads itself."""
        if not self._streaming and hasattr(response.http_response, "_content"):
            self._call.answered(json.loads(response.http_response.content))
            return
        # Not read yet: the call ends with the stream or the answer that `parse` returns,
        # or when the response is forgotten.
        call, hides = self._call, self._hides_usage
        weakref.finalize(response, call.end)
        parse = type(response).parse
        own = weakref.ref(response)

        def told(parsed: Any) -> Any:
            if is_stream(parsed):
                watch(parsed, call, hides_usage=hides)
            else:
                call.answered(parsed)
            return parsed

        if inspect.iscoroutinefunction(parse):

            async def aparsed(*args: Any, **kwargs: Any) -> Any:
                return told(await parse(own(), *args, **kwargs))

            response.parse = aparsed
        else:
            response.parse = lambda *args, **kwargs: told(parse(own(), *args, **kwargs))


def _is_raw(options: object) -> bool:
    headers = part(options, "headers")
    return isinstance(headers, Mapping) and any(str(h).lower() == _RAW_HEADER for h in headers)


def _suppressed() -> bool:
    names = (*_SUPPRESSIONS, otel_context._SUPPRESS_INSTRUMENTATION_KEY)  # noqa: SLF001 - the key has no public name
    return any(otel_context.get_value(name) for name in names)
