"""The OTLP receiver: both servers, one gate, one life cycle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from typing import Literal

import orjson

from pyflare_collector.config import ReceiverConfig
from pyflare_collector.ingest import Ingest, IngestResult
from pyflare_collector.receiver.auth import BearerAuth
from pyflare_collector.receiver.grpc_server import GrpcServer
from pyflare_collector.receiver.http_server import HttpServer, Page, Stream
from pyflare_collector.receiver.intake import Intake
from pyflare_proto.errors import PyFlareError, UsageError
from pyflare_proto.otlp.batch import OtlpBatch

__all__ = ["DEFAULT_MAX_IN_FLIGHT_BYTES", "OtlpReceiver", "State"]

_LOG = logging.getLogger("pyflare.receiver")

DEFAULT_MAX_IN_FLIGHT_BYTES = 512 * 1024 * 1024
"""Sum of the requests in work, compressed and decompressed, beyond which new ones wait outside.

A client then hears UNAVAILABLE or 503 and tries again. Besides these, each gRPC
worker may be receiving one message of at most `max_recv_msg_size_bytes`.
"""

State = Literal["starting", "ready", "draining", "stopped"]

SpansCallback = Callable[[OtlpBatch], None]


class OtlpReceiver:
    """Accepts OTLP over gRPC and HTTP, protobuf and JSON.

    A client is answered with the outcome of `ingest`, when it has one: spans are
    acknowledged only after `ingest` has returned.

    Args:
        config: addresses, limits, tokens, transport security.
        ingest: takes the protobuf bytes of one request; called by many threads at
            once. Without one the spans go to the callbacks of `on_spans` alone.
        status: what `/status` shows beside the receiver's own state, JSON values.
        metrics: what `/metrics` shows beside the receiver's own, Prometheus text.
        watch: the bytes of `/tail`, an Arrow IPC stream of spans as they are taken, in
            pieces that come every second or so; there is no such page when None.
        max_in_flight_bytes: bound of the requests in work.
        clock: monotonic seconds.

    Raises:
        ConfigError: a bearer token is empty.
    """

    def __init__(
        self,
        config: ReceiverConfig,
        ingest: Ingest | None = None,
        *,
        status: Callable[[], Mapping[str, object]] | None = None,
        metrics: Callable[[], str] | None = None,
        watch: Callable[[], Stream] | None = None,
        max_in_flight_bytes: int = DEFAULT_MAX_IN_FLIGHT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ingest = ingest
        self._status = status
        self._metrics = metrics
        self._callbacks: list[SpansCallback] = []
        self._calling = threading.Lock()
        self._state: State = "starting"
        self._changing = threading.Lock()
        auth = BearerAuth(config.auth)
        self._intake = Intake(self._take, max_bytes=max_in_flight_bytes, clock=clock)
        pages: dict[str, Page] = {
            "/health": self._health_page,
            "/metrics": self._metrics_page,
            "/status": self._status_page,
        }
        self._grpc = GrpcServer(config.grpc, auth, self._intake) if config.grpc.endpoint else None
        self._http = (
            HttpServer(config.http, auth, self._intake, pages, watch)
            if config.http.endpoint
            else None
        )
        self._clock = clock

    @property
    def state(self) -> State:
        """Where the receiver is in its life."""
        return self._state

    @property
    def ready(self) -> bool:
        """Whether requests are taken."""
        return self._state == "ready"

    @property
    def grpc_address(self) -> str:
        """`HOST:PORT` of the gRPC server, empty when it is off or not started."""
        return self._grpc.address if self._grpc else ""

    @property
    def http_address(self) -> str:
        """`HOST:PORT` of the HTTP server, empty when it is off or not started."""
        return self._http.address if self._http else ""

    def on_spans(self, callback: SpansCallback) -> None:
        """Call `callback` with the spans of each request, those with valid ids.

        Callbacks run one at a time, before the client is answered. Behind an
        `ingest` they only watch: they run after it, an error of theirs is logged,
        and decoding costs extra. Without an `ingest` they are who takes the spans,
        and their errors are the client's answer as those of an `ingest` are.
        """
        self._callbacks.append(callback)

    def start(self) -> None:
        """Listen on both addresses, or on none; returns when clients can connect.

        Raises:
            ConfigError: an address cannot be had, or a certificate cannot be loaded.
            UsageError: the receiver has been started before.
        """
        with self._changing:
            if self._state != "starting":
                raise UsageError(f"the receiver cannot be started, it is {self._state}")
            try:
                for server in (self._grpc, self._http):
                    if server is not None:
                        server.start()
            except PyFlareError:
                self._stop_servers(0.0)
                raise
            self._state = "ready"

    def shutdown(self, timeout_s: float = 30.0) -> None:
        """Refuse new requests, answer those in work, then stop listening.

        May be called at any time, also twice and without `start`. When it returns,
        nothing more reaches `ingest`. While it waits, new requests are answered
        UNAVAILABLE or 503 with a time to try again, and `/health` says 503.

        Args:
            timeout_s: longest wait for the requests in work, seconds.
        """
        with self._changing:
            if self._state == "stopped":
                return
            self._state = "draining"
            deadline = self._clock() + timeout_s
            if not self._intake.drain(timeout_s):
                _LOG.warning("requests were still in work after %g s", timeout_s)
            self._stop_servers(max(0.5, min(2.0, deadline - self._clock())))
            self._state = "stopped"

    def _stop_servers(self, grace_s: float) -> None:
        if self._grpc is not None:
            self._grpc.stop(grace_s)
        if self._http is not None:
            self._http.stop()

    def _take(self, payload: bytes) -> IngestResult:
        if self._ingest is None:
            return self._take_alone(payload)
        result = self._ingest(payload)
        if self._callbacks:
            try:
                batch, _ = _decode(payload)
                self._call_back(batch)
            except Exception:  # noqa: BLE001 - a watcher's error is not the client's
                # The spans are kept already; a watcher must not make the client send again.
                _LOG.exception("a callback of on_spans failed")
        return result

    def _take_alone(self, payload: bytes) -> IngestResult:
        batch, rejected = _decode(payload)
        self._call_back(batch)
        message = f"{rejected} spans without a valid trace and span id" if rejected else ""
        return IngestResult(accepted=len(batch), rejected=rejected, message=message)

    def _call_back(self, batch: OtlpBatch) -> None:
        with self._calling:
            for callback in self._callbacks:
                callback(batch)

    def _health_page(self) -> tuple[int, str, bytes]:
        word = "ok" if self.ready else self._state
        return (200 if self.ready else 503), "application/json", orjson.dumps({"status": word})

    def _status_page(self) -> tuple[int, str, bytes]:
        document: dict[str, object] = {
            "schema": "pyflare.collector.status/1",
            "state": self._state,
            "grpc": self.grpc_address or None,
            "http": self.http_address or None,
            "requests_in_flight": self._intake.requests_in_flight,
            "bytes_in_flight": self._intake.bytes_in_flight,
            "requests": [
                {"protocol": protocol, "signal": signal, "outcome": outcome, "count": count}
                for (protocol, signal, outcome), count in sorted(self._intake.answers().items())
            ],
        }
        if self._status is not None:
            document.update(self._status())
        return 200, "application/json", orjson.dumps(document, default=str)

    def _metrics_page(self) -> tuple[int, str, bytes]:
        lines = [
            "# HELP pyflare_receiver_requests_total Answered OTLP requests.",
            "# TYPE pyflare_receiver_requests_total counter",
            *(
                f'pyflare_receiver_requests_total{{protocol="{protocol}",signal="{signal}",'
                f'outcome="{outcome}"}} {count}'
                for (protocol, signal, outcome), count in sorted(self._intake.answers().items())
            ),
            "# HELP pyflare_receiver_requests_in_flight Requests in work.",
            "# TYPE pyflare_receiver_requests_in_flight gauge",
            f"pyflare_receiver_requests_in_flight {self._intake.requests_in_flight}",
            "# HELP pyflare_receiver_bytes_in_flight Bytes of the requests in work.",
            "# TYPE pyflare_receiver_bytes_in_flight gauge",
            f"pyflare_receiver_bytes_in_flight {self._intake.bytes_in_flight}",
        ]
        text = "\n".join(lines) + "\n"
        if self._metrics is not None:
            text += self._metrics()
        return 200, "text/plain; version=0.0.4; charset=utf-8", text.encode()


def _decode(payload: bytes) -> tuple[OtlpBatch, int]:
    """Return the spans with valid ids, and how many have none."""
    from pyflare_proto.otlp.decode import KeyTable, decode, select

    batch = decode([payload], KeyTable(()))
    rejected = len(batch) - int(batch.valid_ids.sum())
    return (select(batch, batch.valid_ids) if rejected else batch), rejected
