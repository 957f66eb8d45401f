"""OTLP/JSON documents for tests: any message as one, and requests of one span."""

from __future__ import annotations

import base64
import math
import random
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp import jsonotlp
from pyflare_proto.otlp.jsonotlp import transcode

TRACE_ID = "5B8EFFF798038103D269B633813FC60C"
SPAN_ID = "EEE19B7EC3C1B174"
IDS = {"trace_id", "span_id", "parent_span_id"}
SPAN_PATH = "resourceSpans[0].scopeSpans[0].spans[0]"


@pytest.fixture(autouse=True, params=["fast", "slow"], scope="module")
def both_ways(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run each test with the compiled way before the description of the messages, and without."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "slow":
            patch.setattr(jsonotlp, "fast_transcode", lambda *_: None)
        yield


def otlp_json(message: Any, rng: random.Random) -> dict[str, Any]:
    """Return a message as OTLP/JSON; what may be written in several ways varies."""
    document: dict[str, Any] = {}
    for field, value in message.ListFields():
        if field.is_repeated:
            document[field.json_name] = [scalar_json(field, item, rng) for item in value]
        else:
            document[field.json_name] = scalar_json(field, value, rng)
    for field in message.DESCRIPTOR.fields:
        if field.json_name not in document and rng.random() < 0.05:
            document[field.json_name] = None
    if rng.random() < 0.1:
        document["later"] = {"deep": [1, {"x": None}]}
    names = list(document)
    rng.shuffle(names)
    return {name: document[name] for name in names}


def scalar_json(field: Any, value: Any, rng: random.Random) -> Any:
    """Return one value of a field as OTLP/JSON."""
    if field.message_type is not None:
        return otlp_json(value, rng)
    if field.name in IDS:
        return rng.choice((value.hex(), value.hex().upper()))
    if isinstance(value, bytes):
        encode = rng.choice((base64.b64encode, base64.urlsafe_b64encode))
        return rng.choice((encode(value), encode(value).rstrip(b"="))).decode()
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else f"{'-' if value < 0 else ''}Infinity"
    if field.enum_type is None and type(value) is int:
        return rng.choice((value, str(value)))
    return value


def request_of(span: Any) -> bytes:
    """Return a document of one span."""
    return orjson.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]})


def span_of(**fields: Any) -> Span:
    """Return the span that a document of these fields becomes."""
    request = ExportTraceServiceRequest.FromString(transcode(request_of(fields)))
    return request.resource_spans[0].scope_spans[0].spans[0]


def value_of(value: Any) -> AnyValue:
    """Return the attribute value that a JSON AnyValue becomes."""
    return span_of(attributes=[{"key": "k", "value": value}]).attributes[0].value


def fault_of(**fields: Any) -> str:
    """Return the message of the refusal of a span with these fields."""
    with pytest.raises(InvalidDataError) as caught:
        transcode(request_of(fields))
    return caught.value.message
