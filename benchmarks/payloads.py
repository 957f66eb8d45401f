"""Export requests for the benchmarks: 512 spans of about 549 bytes with 12 GenAI attributes each.

Every request has ids of its own, written into a serialised template by NumPy, so that the
client costs next to nothing and the collector's removal of repeated spans finds none.
"""

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

SPANS = 512
MODELS = ("gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "claude-sonnet-4-5-20250929")
PROVIDERS = ("openai", "openai", "anthropic")


def _message(number: int) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    for key, value in (
        ("service.name", "chat-api"),
        ("service.version", "2.4.1"),
        ("deployment.environment.name", "production"),
    ):
        resource.resource.attributes.add(key=key).value.string_value = value
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "opentelemetry.instrumentation.openai", "0.62.4"
    for row in range(SPANS):
        model = row % 3
        span = scope.spans.add(
            trace_id=b"T" * 8 + (1 + number * SPANS + row // 4).to_bytes(8, "big"),
            span_id=b"S" * 4 + (1 + row).to_bytes(4, "big"),
            parent_span_id=b""
            if row % 4 == 0
            else b"S" * 4 + (1 + row - row % 4).to_bytes(4, "big"),
            name=f"chat {MODELS[model]}",
            kind=3,
            start_time_unix_nano=1_795_000_000_000_000_000 + row * 1_000_003,
            end_time_unix_nano=1_795_000_000_900_000_000 + row * 1_700_021,
        )
        span.status.code = 1
        text = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": PROVIDERS[model],
            "gen_ai.request.model": MODELS[model],
            "gen_ai.response.model": MODELS[model],
            "gen_ai.response.id": f"chatcmpl-{number:06d}{row:05d}{'x' * 14}",
            "user.id": f"user-{row % 97:04d}",
            "session.id": f"session-{row // 4:08d}",
            "pyflare.feature": ("chat", "search", "summarize")[row % 3],
        }
        for key, value in text.items():
            span.attributes.add(key=key).value.string_value = value
        for key, count in (
            ("gen_ai.usage.input_tokens", 900 + row),
            ("gen_ai.usage.output_tokens", 100 + row % 200),
            ("gen_ai.usage.cache_read.input_tokens", row % 64),
        ):
            span.attributes.add(key=key).value.int_value = count
        span.attributes.add(key="gen_ai.request.temperature").value.double_value = 0.2
    return request


class Requests:
    """An endless supply of distinct requests made from one template."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._template = np.frombuffer(_message(0).SerializeToString(), dtype=np.uint8).copy()
        raw = self._template.tobytes()
        traces, spans, parents = [], [], []
        at = 0
        for row in range(SPANS):
            at = raw.index(b"T" * 8 + (1 + row // 4).to_bytes(8, "big"), at)
            traces.append(at)
            at = raw.index(b"S" * 4 + (1 + row).to_bytes(4, "big"), at)
            spans.append(at)
            if row % 4:
                at = raw.index(b"S" * 4 + (1 + row - row % 4).to_bytes(4, "big"), at + 8)
                parents.append(at)
        self._traces = self._places(traces, 16)
        self._spans = self._places(spans, 8)
        self._parents = self._places(parents, 8)
        self._root_of = np.array([row - row % 4 for row in range(SPANS) if row % 4])

    @property
    def size(self) -> int:
        """Bytes of a request."""
        return len(self._template)

    def next(self) -> bytes:
        """Return a request whose ids no other has."""
        traces = self._rng.integers(1, 256, (SPANS // 4, 16), dtype=np.uint8)
        spans = self._rng.integers(1, 256, (SPANS, 8), dtype=np.uint8)
        self._template[self._traces] = np.repeat(traces, 4, axis=0)
        self._template[self._spans] = spans
        self._template[self._parents] = spans[self._root_of]
        return self._template.tobytes()

    @staticmethod
    def _places(starts: list[int], width: int) -> NDArray[np.int64]:
        return np.array(starts)[:, None] + np.arange(width)


if __name__ == "__main__":
    requests = Requests(0)
    first = ExportTraceServiceRequest.FromString(requests.next())
    print(requests.size / SPANS, "bytes a span;", len(first.resource_spans[0].scope_spans[0].spans))
