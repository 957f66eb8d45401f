"""Delivery over gRPC: the same outcomes as over HTTP."""

from __future__ import annotations

import pytest

import pyflare
from tests.sdk.fake_collector import until

pytest.importorskip("grpc", reason="comes with the extra grpc")

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo

from tests.sdk.grpc_collector import GrpcCollector

pytestmark = pytest.mark.usefixtures("fresh_sdk")


def one_span() -> None:
    """Make and end a span."""
    with pyflare.span("one"):
        pass


def test_spans_arrive_with_headers() -> None:
    """The default transport where grpc is installed."""
    with GrpcCollector() as collector:
        pyflare.init(
            "a", f"http://127.0.0.1:{collector.port}", headers={"Authorization": "Bearer x"}
        )
        one_span()
        assert pyflare.flush(10)

        assert collector.names == ["one"]
        assert collector.metadata[0]["authorization"] == "Bearer x"
    assert pyflare.stats().sent == 1


def test_nobody_there() -> None:
    """Unreachable is tried again; the end of the process does not wait for it."""
    with GrpcCollector() as collector:
        port = collector.port
    pyflare.init("a", f"http://127.0.0.1:{port}")
    one_span()
    assert until(lambda: pyflare.stats().failed_requests >= 1)
    assert pyflare.stats().waiting == 1
    assert not pyflare.shutdown(5)
    assert pyflare.stats().lost_at_shutdown == 1


def test_a_wait_that_is_asked_for() -> None:
    """RESOURCE_EXHAUSTED with RetryInfo is tried again, then; the span arrives."""
    asked = RetryInfo(retry_delay=Duration(nanos=50_000_000)).SerializeToString()
    trailer = (("google.rpc.retryinfo-bin", asked),)
    with GrpcCollector(grpc.StatusCode.RESOURCE_EXHAUSTED, trailer) as collector:
        pyflare.init("a", f"http://127.0.0.1:{collector.port}")
        one_span()
        assert until(lambda: pyflare.stats().failed_requests >= 2)
        collector.code = None
        assert pyflare.flush(10)
        assert collector.names == ["one"]


@pytest.mark.parametrize(
    "code",
    [
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.UNIMPLEMENTED,
    ],
)
def test_a_refusal_is_final(code: grpc.StatusCode) -> None:
    """What OTLP forbids to send again is counted as lost."""
    with GrpcCollector(code) as collector:
        pyflare.init("a", f"http://127.0.0.1:{collector.port}")
        one_span()
        assert not pyflare.flush(10)
        assert pyflare.stats().lost_refused == 1
        assert len(collector.metadata) == 1
