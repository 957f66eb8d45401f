"""Finished spans to OTLP requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext

from pyflare.log import logger
from pyflare.sampling import thin

__all__ = ["Encoder", "Request", "Rewrite", "hashed"]

# Under the 4 MiB at which gRPC servers refuse a message unless told otherwise.
_LARGEST_BYTES = 3_500_000


class Request(NamedTuple):
    """An encoded request."""

    body: bytes
    spans: int


class _Hashed(Resource):
    """A resource that works its hash out once; OpenTelemetry's writes JSON each time."""

    _known: int | None = None

    def __hash__(self) -> int:
        if self._known is None:
            self._known = super().__hash__()
        return self._known

    __eq__ = Resource.__eq__

    def merge(self, other: Resource) -> Resource:
        """Return the merged resource, as one of this kind: providers merge after a fork."""
        return hashed(super().merge(other))


def hashed(resource: Resource) -> Resource:
    """Return a resource by which spans are grouped quickly when they are encoded."""
    return _Hashed(dict(resource.attributes), resource.schema_url)


class Rewrite:
    """How spans of a tracer provider that is not PyFlare's own look when PyFlare sends them.

    Only what PyFlare sends is changed; what other processors of that provider see is not.

    Args:
        resource: changes the resource of a span; called once for each resource.
        threshold: rejection threshold of a sampler, 0 to keep all.
        whole: whether the provider's own sampler keeps everything.
    """

    def __init__(
        self, resource: Callable[[Resource], Resource], threshold: int, *, whole: bool
    ) -> None:
        self._resource = resource
        self._threshold = threshold
        self._whole = whole
        self._resources: list[tuple[Resource, Resource]] = []

    def keeps(self, span: ReadableSpan) -> bool:
        """Return whether a span passes the threshold."""
        return not self._threshold or self._context(span) is not None

    def apply(self, span: ReadableSpan) -> ReadableSpan:
        """Return the span as it is sent; one that `keeps` takes."""
        return ReadableSpan(
            name=span.name,
            context=self._context(span) or span.context,
            parent=span.parent,
            resource=self._sent(span.resource),
            attributes=span._attributes,  # noqa: SLF001 - the bounded ones, which know what was dropped
            events=span._events,  # noqa: SLF001 - likewise
            links=span._links,  # noqa: SLF001 - likewise
            kind=span.kind,
            status=span.status,
            start_time=span.start_time,
            end_time=span.end_time,
            instrumentation_scope=span.instrumentation_scope,
        )

    def _context(self, span: ReadableSpan) -> SpanContext | None:
        context: SpanContext | None = span.context
        if context is None or not self._threshold:
            return context
        return thin(context, self._threshold, whole=self._whole)

    def _sent(self, resource: Resource) -> Resource:
        for known, sent in self._resources:
            if known is resource:
                return sent
        sent = hashed(self._resource(resource))
        self._resources = [*self._resources[-7:], (resource, sent)]
        return sent


class Encoder:
    """Turns spans into requests; a span that cannot be encoded costs no other.

    Args:
        pack: turns an encoded request into what goes over the wire.
        rewrite: changes spans before; None sends them as they are.
    """

    def __init__(self, pack: Callable[[bytes], bytes], rewrite: Rewrite | None) -> None:
        self._pack = pack
        self._rewrite = rewrite

    def encode(self, spans: Sequence[ReadableSpan]) -> tuple[list[Request], int]:
        """Return the requests, in order, and how many spans could not be encoded."""
        requests: list[Request] = []
        lost = 0
        parts = [list(spans)]
        while parts:
            part = parts.pop()
            try:
                body = self._one(part)
            except Exception as error:  # noqa: BLE001 - a span of the application's making; see above
                if len(part) == 1:
                    logger.debug("span %r cannot be encoded: %s", part[0].name, error)
                    lost += 1
                    continue
                body = None
            if body is not None and (len(body) <= _LARGEST_BYTES or len(part) == 1):
                requests.append(Request(self._pack(body), len(part)))
                continue
            half = len(part) // 2
            parts += [part[half:], part[:half]]
        return requests, lost

    def _one(self, spans: Sequence[ReadableSpan]) -> bytes:
        if self._rewrite is not None:
            spans = [self._rewrite.apply(span) for span in spans]
        return encode_spans(spans).SerializeToString()
