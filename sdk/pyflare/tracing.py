"""The decorator: a span for every call of a function, whatever kind of function it is.

All that does not change from call to call is worked out once, at decoration.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, ParamSpec, TypeVar, overload

from opentelemetry.context import Context, attach
from opentelemetry.trace import Span, SpanKind, set_span_in_context

from pyflare import keys
from pyflare.context import detach
from pyflare.failures import record_failure
from pyflare.sdk import PyFlare
from pyflare.streams import AsyncStream, Stream
from pyflare.types import InferenceType

__all__ = ["trace"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


@overload
def trace(name: Callable[_P, _T], /) -> Callable[_P, _T]: ...


@overload
def trace(
    name: str | None = None,
    model_id: str | None = None,
    inference_type: InferenceType | str = InferenceType.CUSTOM,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Callable[[Callable[_P, _T]], Callable[_P, _T]]: ...


def trace(
    name: Callable[_P, _T] | str | None = None,
    model_id: str | None = None,
    inference_type: InferenceType | str = InferenceType.CUSTOM,
    capture_input: bool = True,
    capture_output: bool = True,
) -> Any:
    """Trace every call of a function: `@trace`, or `@trace(...)` with arguments.

    For functions, methods, class and static methods, coroutines, generators and async
    generators. The span of a generator ends when the generator does: exhausted, closed,
    failed, or forgotten; it tells the time to the first item.

    Args:
        name: of the span; default the name of the function.
        model_id: the model that the function asks.
        inference_type: what the function does; becomes `span_type`.
        capture_input: keep the arguments, as the SDK's `capture` allows.
        capture_output: keep the result, as the SDK's `capture` allows.
    """
    if name is not None and not isinstance(name, str):
        return _Plan(name).wrap()

    def decorate(function: Callable[_P, _T]) -> Any:
        return _Plan(
            function,
            name,
            model_id,
            str(inference_type),
            capture_input=capture_input,
            capture_output=capture_output,
        ).wrap()

    return decorate


class _Plan:
    """What is known of a function once it is decorated."""

    def __init__(
        self,
        function: Any,
        name: str | None = None,
        model_id: str | None = None,
        inference_type: str = "custom",
        *,
        capture_input: bool = True,
        capture_output: bool = True,
    ) -> None:
        self.method = type(function) if isinstance(function, classmethod | staticmethod) else None
        self.function: Any = function.__func__ if self.method else function
        if not callable(self.function) or isinstance(self.function, type):
            raise TypeError(f"@pyflare.trace is for functions and methods, not for {function!r}")
        self.name = str(name or getattr(self.function, "__name__", type(self.function).__name__))
        self.kind = SpanKind.CLIENT if inference_type in keys.CALL_TYPES else SpanKind.INTERNAL
        self.attributes = _attributes(self.name, model_id, inference_type)
        self.captures_input = capture_input
        self.captures_output = capture_output
        self.streams_tokens = inference_type == "llm"
        self.names, self.skips = _parameters(self.function)

    def wrap(self) -> Any:
        """Return the traced function."""
        function = self.function
        call = getattr(type(function), "__call__", None)  # noqa: B004 - of objects that are called
        kinds = (function, call)
        if any(map(inspect.isasyncgenfunction, kinds)):
            traced: Any = _async_generator(self)
        elif any(map(inspect.iscoroutinefunction, kinds)):
            traced = _coroutine(self)
        elif any(map(inspect.isgeneratorfunction, kinds)):
            traced = _generator(self)
        else:
            traced = _plain(self)
        traced = functools.update_wrapper(traced, function)
        return self.method(traced) if self.method else traced

    def start(self, sdk: PyFlare, args: Any, kwargs: Any) -> Span:
        """Start the span of a call."""
        capture = sdk.capture
        captures = self.captures_input and capture.enabled
        if captures and sdk.sample_rate == 1.0:  # almost surely recorded: set with the others
            given = {**self.attributes, keys.INPUT_PREVIEW: capture.text(self.given(args, kwargs))}
            return sdk.tracer.start_span(self.name, None, self.kind, given)
        span = sdk.tracer.start_span(self.name, None, self.kind, self.attributes)
        if captures and span.is_recording():
            span.set_attribute(keys.INPUT_PREVIEW, capture.text(self.given(args, kwargs)))
        return span

    def given(self, args: Any, kwargs: Any) -> Mapping[str, Any]:
        """Return the arguments of a call by their names, without `self` and `cls`."""
        if self.skips:
            args = args[1:]
        names = self.names
        held = dict(zip(names, args, strict=False))
        if len(args) > len(names):
            held["args"] = args[len(names) :]
        if kwargs:
            held.update(kwargs)
        return held

    def finish(self, sdk: PyFlare, span: Span, result: object) -> None:
        """Write the result of a call on its span."""
        if self.captures_output and sdk.capture.enabled and span.is_recording():
            span.set_attribute(keys.OUTPUT_PREVIEW, sdk.capture.text(result))


def _plain(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    def traced(*args: Any, **kwargs: Any) -> Any:
        sdk = PyFlare.active
        if sdk is None:
            return function(*args, **kwargs)
        span = plan.start(sdk, args, kwargs)
        inner = set_span_in_context(span)
        token = attach(inner)
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            detach(token)
            record_failure(span, error, sdk.capture)
            span.end()
            raise
        detach(token)
        if _ends_later(type(result)):
            return _later(plan, sdk, span, inner, result)
        plan.finish(sdk, span, result)
        span.end()
        return result

    return traced


def _coroutine(plan: _Plan) -> Callable[..., Any]:
    function = plan.function

    async def traced(*args: Any, **kwargs: Any) -> Any:
        sdk = PyFlare.active
        if sdk is None:
            return await function(*args, **kwargs)
        span = plan.start(sdk, args, kwargs)
        inner = set_span_in_context(span)
        token = attach(inner)
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            detach(token)
            record_failure(span, error, sdk.capture)
            span.end()
            raise
        detach(token)
        if _ends_later(type(result)):
            return _later(plan, sdk, span, inner, result)
        plan.finish(sdk, span, result)
        span.end()
        return result

    return traced


def _generator(plan: _Plan) -> Callable[..., Any]:
    def traced(*args: Any, **kwargs: Any) -> Any:
        sdk = PyFlare.active
        if sdk is None:
            return (yield from plan.function(*args, **kwargs))
        span = plan.start(sdk, args, kwargs)
        inner = set_span_in_context(span)
        return (yield from Stream(plan, sdk, span, inner, plan.function(*args, **kwargs)))

    return traced


def _async_generator(plan: _Plan) -> Callable[..., Any]:
    async def traced(*args: Any, **kwargs: Any) -> Any:
        sdk = PyFlare.active
        items = plan.function(*args, **kwargs)
        if sdk is not None:
            span = plan.start(sdk, args, kwargs)
            items = AsyncStream(plan, sdk, span, set_span_in_context(span), items)
        # What `yield from` would do, which async generators lack.
        try:
            item = await anext(items)
            while True:
                try:
                    sent = yield item
                except GeneratorExit:
                    await items.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in goes on inside
                    item = await items.athrow(error)
                else:
                    item = await items.asend(sent)
        except StopAsyncIteration:
            return

    return traced


def _ends_later(kind: type) -> bool:
    """Return whether results of a type are still to be worked through when they are returned."""
    # By identity: a metaclass of the application may have no hash.
    return kind is GeneratorType or kind is CoroutineType or kind is AsyncGeneratorType


def _later(plan: _Plan, sdk: PyFlare, span: Span, inner: Context, result: Any) -> Any:
    """Return a result that is still to be worked through, its span handed on to it."""
    if type(result) is GeneratorType:
        return Stream(plan, sdk, span, inner, result)
    if type(result) is AsyncGeneratorType:
        return AsyncStream(plan, sdk, span, inner, result)
    return _awaited(plan, sdk, span, inner, result)


async def _awaited(plan: _Plan, sdk: PyFlare, span: Span, inner: Context, result: Any) -> Any:
    token = attach(inner)
    try:
        value = await result
    except BaseException as error:
        record_failure(span, error, sdk.capture)
        raise
    else:
        plan.finish(sdk, span, value)
        return value
    finally:
        detach(token)
        span.end()


def _attributes(name: str, model_id: str | None, inference_type: str) -> dict[str, str]:
    """Return the attributes that every call of a function has."""
    found = {keys.INFERENCE_TYPE: inference_type}
    operation = keys.OPERATIONS.get(inference_type)
    if operation:
        found[keys.OPERATION] = operation
    if inference_type == "tool":
        found[keys.TOOL_NAME] = name
    elif inference_type == "agent":
        found[keys.AGENT_NAME] = name
    if model_id:
        found[keys.MODEL_ID] = found[keys.REQUEST_MODEL] = model_id
    return found


def _parameters(function: Any) -> tuple[tuple[str, ...], bool]:
    """Return the names of positional parameters, and whether the first is left out."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # built in
        return (), False
    positional = [
        parameter.name
        for parameter in parameters
        if parameter.kind in {parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD}
    ]
    skips = bool(positional) and positional[0] in {"self", "cls"}
    return tuple(positional[skips:]), skips
