"""What `init` was told, what the environment says, and what follows from both.

The order is the same everywhere: `PYFLARE_*` (what an operator sets for PyFlare),
then the argument (what the application says), then `OTEL_*` (what the machine is set
to for everyone), then the default. A value that cannot be read is reported in the log
and passed over: settings never stop the application.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal, TypeAlias, TypeVar
from urllib.parse import unquote, urlsplit

from pyflare.capture import DEFAULT_MAX_CHARS, CaptureConfig
from pyflare.log import warn

__all__ = [
    "DEFAULT_ENDPOINT",
    "DeliverySettings",
    "Protocol",
    "Target",
    "flag",
    "number",
    "read_capture",
    "read_delivery",
    "read_sample_rate",
    "read_target",
]

DEFAULT_ENDPOINT = "http://localhost:4317"
"""Where `pyflare collect` listens; over HTTP it is port 4318."""

Protocol: TypeAlias = Literal["grpc", "http"]
_T = TypeVar("_T", int, float)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_GRPC_PORT, _HTTP_PORT = 4317, 4318
_TRACES_PATH = "/v1/traces"
# OpenTelemetry's specification gives the timeout in milliseconds, its Python SDK reads
# seconds: nobody waits a thousand seconds for a collector.
_LEAST_MILLISECONDS = 1000.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where spans are sent and how.

    Attributes:
        protocol: `grpc` or `http` (OTLP as protobuf in both).
        url: for HTTP the whole URL, for gRPC its scheme and address.
        headers: sent with each request, names in lower case. May hold secrets.
        timeout_seconds: for one request.
        compression: `gzip`, or empty for none.
        insecure: gRPC without TLS.
        certificate: path of the certificates that servers are checked against.
        client_certificate: path of the own certificate.
        client_key: path of its key.
    """

    protocol: Protocol
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_seconds: float = 10.0
    compression: Literal["", "gzip"] = "gzip"
    insecure: bool = True
    certificate: str = ""
    client_certificate: str = ""
    client_key: str = ""


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """Limits of what waits between the application and the collector.

    Attributes:
        max_queue_size: spans that wait to be encoded; further ones are dropped, counted.
        max_batch_size: spans of a request.
        delay_seconds: how long a span waits for others to share its request.
        max_backlog_bytes: encoded requests that wait for a collector that is away.
        shutdown_seconds: how long the end of the process may wait for delivery.
    """

    max_queue_size: int = 2048
    max_batch_size: int = 512
    delay_seconds: float = 1.0
    max_backlog_bytes: int = 16 * 1024 * 1024
    shutdown_seconds: float = 5.0


def flag(name: str, default: bool) -> bool:
    """Return the environment variable `name` as yes or no."""
    text = os.environ.get(name, "").strip().lower()
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if text:
        warn("%s is %r, which is neither yes nor no", name, text, hint=f"set {name}=true or false")
    return default


def number(
    name: str, default: _T, least: float, most: float = float("inf"), *, kind: Callable[[str], _T]
) -> _T:
    """Return the environment variable `name` as a number from `least` to `most`."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    if value is not None and least <= value <= most:
        return value
    limits = f"{least:g} or more" if most == float("inf") else f"from {least:g} to {most:g}"
    warn("%s is %r, not a number %s", name, text, limits, hint=f"{default} is used")
    return default


def read_capture(given: CaptureConfig | bool | None) -> CaptureConfig:
    """Return how input and output are kept: `PYFLARE_CAPTURE*` over what `init` was given."""
    config = (
        given if isinstance(given, CaptureConfig) else CaptureConfig(enabled=given is not False)
    )
    chars = number("PYFLARE_CAPTURE_MAX_CHARS", config.max_chars, 0, kind=int)
    if chars < 0:
        chars = DEFAULT_MAX_CHARS
    return CaptureConfig(flag("PYFLARE_CAPTURE", config.enabled), chars, config.mask)


def read_sample_rate(given: float | None) -> float | None:
    """Return the share of traces to keep, 0 to 1; None where only `OTEL_*` may say.

    `OTEL_TRACES_SAMPLER=traceidratio` (or `parentbased_traceidratio`) is a share too.
    """
    default = -1.0
    rate = number("PYFLARE_SAMPLE_RATE", default, 0, 1, kind=float)
    if rate != default:
        return rate
    if given is not None:
        if 0 <= given <= 1:
            return float(given)
        warn("sample_rate is %r, not from 0 to 1", given, hint="all traces are kept")
        return None
    if os.environ.get("OTEL_TRACES_SAMPLER", "").lower().endswith("traceidratio"):
        return number("OTEL_TRACES_SAMPLER_ARG", 1.0, 0, 1, kind=float)
    return None


def read_delivery() -> DeliverySettings:
    """Return the limits of delivery, from OpenTelemetry's variables for batches."""
    default = DeliverySettings()
    queue = number("OTEL_BSP_MAX_QUEUE_SIZE", default.max_queue_size, 1, kind=int)
    batch = number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", default.max_batch_size, 1, kind=int)
    delay_ms = number("OTEL_BSP_SCHEDULE_DELAY", default.delay_seconds * 1000, 0, kind=float)
    backlog = number("PYFLARE_MAX_BACKLOG_BYTES", default.max_backlog_bytes, 0, kind=int)
    shutdown = number(
        "PYFLARE_SHUTDOWN_TIMEOUT_SECONDS", default.shutdown_seconds, 0, 3600, kind=float
    )
    return DeliverySettings(queue, min(batch, queue), delay_ms / 1000, backlog, shutdown)


def read_target(
    endpoint: str | None, *, use_http: bool, headers: Mapping[str, str] | None
) -> Target:
    """Return where spans go, from the arguments of `init` and the environment."""
    given = os.environ.get("PYFLARE_ENDPOINT") or endpoint
    whole = "" if given else os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "")
    url = given or whole or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or DEFAULT_ENDPOINT
    url = url if "://" in url else f"http://{url}"
    protocol = _protocol(url, use_http=use_http)
    certificate = _otlp("CERTIFICATE")
    return Target(
        protocol=protocol,
        url=url if protocol == "grpc" else _http_url(url, whole=bool(whole)),
        headers=_headers(_otlp("HEADERS")) | {k.lower(): v for k, v in (headers or {}).items()},
        timeout_seconds=_timeout(),
        compression="" if _otlp("COMPRESSION").lower() == "none" else "gzip",
        insecure=url.startswith("http://")
        if not _otlp("INSECURE")
        else _otlp("INSECURE") == "true",
        certificate=certificate,
        client_certificate=_otlp("CLIENT_CERTIFICATE"),
        client_key=_otlp("CLIENT_KEY"),
    )


def _otlp(name: str) -> str:
    """Return a variable of OpenTelemetry's exporters, the one for traces first."""
    return (
        os.environ.get(f"OTEL_EXPORTER_OTLP_TRACES_{name}")
        or os.environ.get(f"OTEL_EXPORTER_OTLP_{name}")
        or ""
    ).strip()


def _protocol(url: str, *, use_http: bool) -> Protocol:
    parts = urlsplit(url)
    asked = _otlp("PROTOCOL").lower()
    if use_http or asked.startswith("http") or _port(url) == _HTTP_PORT or parts.path.strip("/"):
        return "http"
    if find_spec("grpc") is not None:
        return "grpc"
    if asked == "grpc":
        warn(
            "OTEL_EXPORTER_OTLP_PROTOCOL is grpc, which is not installed: spans go over HTTP",
            hint="pip install 'pyflare-suite[grpc]'",
        )
    return "http"


def _http_url(url: str, *, whole: bool) -> str:
    """Return the URL that requests are posted to; port 4317 speaks gRPC only, 4318 HTTP."""
    if whole:
        return url
    parts = urlsplit(url)
    address = parts.netloc
    if _port(url) == _GRPC_PORT:
        address = address.removesuffix(str(_GRPC_PORT)) + str(_HTTP_PORT)
    path = parts.path.rstrip("/")
    path = path if path.endswith(_TRACES_PATH) else path + _TRACES_PATH
    return parts._replace(netloc=address, path=path).geturl()


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None


def _timeout() -> float:
    name = next(
        (
            name
            for name in ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")
            if os.environ.get(name)
        ),
        "OTEL_EXPORTER_OTLP_TIMEOUT",
    )
    value = number(name, 10.0, 0.001, kind=float)
    return value / 1000 if value >= _LEAST_MILLISECONDS else value


def _headers(text: str) -> dict[str, str]:
    """Return `name=value,...` as headers, values URL-decoded (OTLP exporter specification)."""
    pairs = (item.partition("=") for item in text.split(","))
    return {
        unquote(name).strip().lower(): unquote(value).strip()
        for name, found, value in pairs
        if found and name.strip()
    }
