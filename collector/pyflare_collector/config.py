"""Settings of the collector: one frozen dataclass per component, defaults visible.

The keys are those of the configuration file; `pyflare_collector.config` declares
names, types, defaults and limits, and reading a file, the environment and the
command line into them is the command line's business. Each class's `validate`
raises `ConfigError` that names the key by its dotted path.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Literal

from pyflare_proto.errors import ConfigError

__all__ = [
    "AuthConfig",
    "BatcherConfig",
    "BudgetsConfig",
    "ClickHouseConfig",
    "CollectorConfig",
    "Durability",
    "GrpcConfig",
    "HttpConfig",
    "KafkaConfig",
    "KafkaProducerConfig",
    "KafkaSaslConfig",
    "KafkaSecurityConfig",
    "KafkaSslConfig",
    "KafkaTopicsConfig",
    "KeepRule",
    "KeepaliveConfig",
    "OnFull",
    "ParquetConfig",
    "ReceiverConfig",
    "SamplerConfig",
    "SamplerMode",
    "SamplerStrategy",
    "StorageConfig",
    "TlsConfig",
    "validate_tree",
]

Durability = Literal["fsync", "os", "none"]
SamplerStrategy = Literal[
    "always_on", "always_off", "probabilistic", "rate_limiting", "parent_based", "composite"
]
SamplerMode = Literal["consistent", "fnv"]
OnFull = Literal["block", "refuse", "drop_oldest"]

MEBIBYTE = 1024 * 1024


def _require(*, condition: bool, path: str, value: object, rule: str) -> None:
    if not condition:
        raise ConfigError(f"{path} is {value!r}", hint=f"set {path} to {rule}")


@dataclass(frozen=True, slots=True)
class TlsConfig:
    """Transport security of one server; off while both files are empty."""

    cert_file: str = ""
    """PEM certificate chain of the server."""
    key_file: str = ""
    """PEM private key of the server."""
    client_ca_file: str = ""
    """PEM authorities; when given, a client must show a certificate of one of them."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` when only a part of a key pair is given."""
        half = bool(self.cert_file) != bool(self.key_file)
        _require(
            condition=not half and not (self.client_ca_file and not self.cert_file),
            path=path,
            value=self.cert_file or self.key_file or self.client_ca_file,
            rule="both cert_file and key_file",
        )


@dataclass(frozen=True, slots=True)
class KeepaliveConfig:
    """HTTP/2 pings of the gRPC server."""

    time_seconds: int = 30
    """Seconds without traffic after which a ping is sent."""
    timeout_seconds: int = 10
    """Seconds to wait for the answer before the connection is closed."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for a time below one second."""
        _require(
            condition=self.time_seconds >= 1,
            path=f"{path}.time_seconds",
            value=self.time_seconds,
            rule="1 or more",
        )
        _require(
            condition=self.timeout_seconds >= 1,
            path=f"{path}.timeout_seconds",
            value=self.timeout_seconds,
            rule="1 or more",
        )


@dataclass(frozen=True, slots=True)
class GrpcConfig:
    """The OTLP/gRPC server."""

    endpoint: str = "127.0.0.1:4317"
    """HOST:PORT; port 0 picks a free one; empty switches the server off."""
    max_recv_msg_size_bytes: int = 64 * MEBIBYTE
    """Largest request, after decompression."""
    max_concurrent_streams: int = 100
    """Concurrent calls per connection."""
    enable_reflection: bool = False
    """Offer gRPC server reflection."""
    keepalive: KeepaliveConfig = field(default_factory=KeepaliveConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for a bad address or a limit below 1."""
        _require_endpoint(self.endpoint, f"{path}.endpoint")
        for name in ("max_recv_msg_size_bytes", "max_concurrent_streams"):
            value = getattr(self, name)
            _require(condition=value >= 1, path=f"{path}.{name}", value=value, rule="1 or more")


@dataclass(frozen=True, slots=True)
class HttpConfig:
    """The OTLP/HTTP server, which also answers `/health`, `/metrics` and `/status`."""

    endpoint: str = "127.0.0.1:4318"
    """HOST:PORT; port 0 picks a free one; empty switches the server off."""
    max_request_body_bytes: int = 64 * MEBIBYTE
    """Largest body, before and after decompression."""
    read_timeout_seconds: float = 30
    """Seconds in which a whole request must arrive."""
    cors_allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may send (`https://*.example.com` allowed); none by default."""
    tls: TlsConfig = field(default_factory=TlsConfig)

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for a bad address or a limit that is not positive."""
        _require_endpoint(self.endpoint, f"{path}.endpoint")
        for name in ("max_request_body_bytes", "read_timeout_seconds"):
            value = getattr(self, name)
            _require(condition=value > 0, path=f"{path}.{name}", value=value, rule="more than 0")


@dataclass(frozen=True, slots=True)
class AuthConfig:
    """Who may send."""

    bearer_tokens: tuple[str, ...] = field(default=(), metadata={"secret": True})
    """Accepted bearer tokens; without any, everyone who reaches the port may send."""


@dataclass(frozen=True, slots=True)
class ReceiverConfig:
    """Where spans come in."""

    grpc: GrpcConfig = field(default_factory=GrpcConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    auth: AuthConfig = field(default_factory=AuthConfig)

    def validate(self, path: str) -> None:
        """Raise `ConfigError` when both servers are off."""
        _require(
            condition=bool(self.grpc.endpoint or self.http.endpoint),
            path=path,
            value="no endpoint",
            rule="at least one endpoint",
        )


@dataclass(frozen=True, slots=True)
class KeepRule:
    """Spans that are kept whatever the strategy says: all given conditions hold."""

    status: Literal["", "error", "ok", "unset"] = ""
    """Status code of the span."""
    duration_ms_above: float | None = None
    """Duration over this many milliseconds."""
    cost_usd_above: float | None = None
    """Cost over this many US dollars."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for a rule without a condition."""
        empty = not self.status and self.duration_ms_above is None and self.cost_usd_above is None
        _require(
            condition=not empty,
            path=path,
            value="empty",
            rule="one of status, duration_ms_above, cost_usd_above",
        )


@dataclass(frozen=True, slots=True)
class SamplerConfig:
    """Which spans are kept."""

    strategy: SamplerStrategy = "always_on"
    mode: SamplerMode = "consistent"
    """For probabilistic decisions: OpenTelemetry's th/rv, or FNV-1a of the trace id."""
    probability: float = 1.0
    """Share of the traces to keep, 0 to 1."""
    traces_per_second: float = 100.0
    """Rate and burst of the token bucket of `rate_limiting`."""
    service_rates: Mapping[str, float] = field(default_factory=dict)
    """Share of the traces to keep per service name, for `composite` and before the strategy."""
    keep: tuple[KeepRule, ...] = ()
    """Rules that keep a span whatever the strategy says."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for probabilities outside 0 to 1 and rates not above 0."""
        _require(
            condition=0 <= self.probability <= 1,
            path=f"{path}.probability",
            value=self.probability,
            rule="a number from 0 to 1",
        )
        _require(
            condition=self.traces_per_second > 0,
            path=f"{path}.traces_per_second",
            value=self.traces_per_second,
            rule="more than 0",
        )
        for service, rate in self.service_rates.items():
            _require(
                condition=0 <= rate <= 1,
                path=f"{path}.service_rates.{service}",
                value=rate,
                rule="a number from 0 to 1",
            )


@dataclass(frozen=True, slots=True)
class BatcherConfig:
    """How spans are gathered between the receiver and the exporters."""

    max_batch_size: int = 512
    """Spans in a batch, at most."""
    max_batch_timeout_ms: int = 5000
    """Milliseconds after which a batch that is not full is handed on."""
    max_queue_size: int = 10000
    """Spans waiting at most, over all batches."""
    num_workers: int = 4
    """Threads that hand batches on."""
    on_full: OnFull = "block"
    """When the queue is full: let the sender wait, refuse it, or drop the oldest spans."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for sizes below 1 or a queue smaller than a batch."""
        for name in ("max_batch_size", "max_batch_timeout_ms", "max_queue_size", "num_workers"):
            value = getattr(self, name)
            _require(condition=value >= 1, path=f"{path}.{name}", value=value, rule="1 or more")
        _require(
            condition=self.max_queue_size >= self.max_batch_size,
            path=f"{path}.max_queue_size",
            value=self.max_queue_size,
            rule=f"max_batch_size ({self.max_batch_size}) or more",
        )


@dataclass(frozen=True, slots=True)
class ParquetConfig:
    """The Parquet files of the data directory."""

    enabled: bool = True
    directory: str = "./pyflare-data"
    """The data directory; `--data` and `PYFLARE_DATA` take precedence."""
    compression: Literal["zstd", "lz4", "snappy", "gzip", "none"] = "zstd"
    roll_seconds: float = 60
    """Age at which a file is closed and appears."""
    roll_mib: float = 128
    """Size at which a file is closed and appears, in MiB of wire bytes."""

    def validate(self, path: str) -> None:
        """Raise `ConfigError` for limits that are not positive."""
        for name in ("roll_seconds", "roll_mib"):
            value = getattr(self, name)
            _require(condition=value > 0, path=f"{path}.{name}", value=value, rule="more than 0")


@dataclass(frozen=True, slots=True)
class ClickHouseConfig:
    """A ClickHouse server to write to; off while the URL is empty."""

    url: str = ""
    password: str = field(default="", metadata={"secret": True})


@dataclass(frozen=True, slots=True)
class StorageConfig:
    """Where spans are kept, and what "kept" means when a client is answered."""

    parquet: ParquetConfig = field(default_factory=ParquetConfig)
    clickhouse: ClickHouseConfig = field(default_factory=ClickHouseConfig)
    durability: Durability = "fsync"
    """Answer when the log is on the disk (fsync), handed to the system (os), or queued (none)."""


@dataclass(frozen=True, slots=True)
class KafkaTopicsConfig:
    """Topics by signal."""

    traces: str = "pyflare.traces"
    metrics: str = "pyflare.metrics"
    logs: str = "pyflare.logs"


@dataclass(frozen=True, slots=True)
class KafkaProducerConfig:
    """Settings of the producer, by their librdkafka meaning."""

    batch_size: int = 16384
    linger_ms: float = 5
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "lz4"
    acks: Literal["all", "1", "0"] = "all"
    retries: int = 3
    enable_idempotence: bool = True


@dataclass(frozen=True, slots=True)
class KafkaSaslConfig:
    """SASL credentials."""

    mechanism: str = "SCRAM-SHA-256"
    username: str = ""
    password: str = field(default="", metadata={"secret": True})


@dataclass(frozen=True, slots=True)
class KafkaSslConfig:
    """Certificate files of the Kafka client."""

    ca_location: str = ""
    certificate_location: str = ""
    key_location: str = ""


@dataclass(frozen=True, slots=True)
class KafkaSecurityConfig:
    """How to reach the brokers."""

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl: KafkaSaslConfig = field(default_factory=KafkaSaslConfig)
    ssl: KafkaSslConfig = field(default_factory=KafkaSslConfig)


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    """Kafka as a destination; off while there are no brokers."""

    brokers: tuple[str, ...] = ()
    topics: KafkaTopicsConfig = field(default_factory=KafkaTopicsConfig)
    encoding: Literal["otlp_proto", "otlp_json", "pyflare_json"] = "otlp_proto"
    producer: KafkaProducerConfig = field(default_factory=KafkaProducerConfig)
    security: KafkaSecurityConfig = field(default_factory=KafkaSecurityConfig)


@dataclass(frozen=True, slots=True)
class BudgetsConfig:
    """Where budgets are kept."""

    store: str = ""
    """sqlite:///PATH or redis://HOST:PORT/DB; empty: `state.db` in the data directory."""


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """All settings of `pyflare collect`."""

    receiver: ReceiverConfig = field(default_factory=ReceiverConfig)
    sampler: SamplerConfig = field(default_factory=SamplerConfig)
    batcher: BatcherConfig = field(default_factory=BatcherConfig)
    storage: StorageConfig = field(default_factory=StorageConfig)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    budgets: BudgetsConfig = field(default_factory=BudgetsConfig)

    def validate(self) -> None:
        """Validate every component. Raises `ConfigError` that names the first bad key."""
        validate_tree(self, "")


def validate_tree(config: object, path: str) -> None:
    """Call `validate(path)` on `config`'s parts, depth first, with their dotted paths."""
    if not is_dataclass(config):
        return
    for item in fields(config):
        value = getattr(config, item.name)
        inner = f"{path}.{item.name}" if path else item.name
        if is_dataclass(value):
            validate_tree(value, inner)
        elif isinstance(value, tuple):
            for position, element in enumerate(value):
                validate_tree(element, f"{inner}[{position}]")
    if path and hasattr(config, "validate"):
        config.validate(path)


def _require_endpoint(endpoint: str, path: str) -> None:
    if not endpoint:
        return
    host, separator, port = endpoint.rpartition(":")
    good = bool(separator and host) and port.isdigit() and int(port) <= 65535
    _require(condition=good, path=path, value=endpoint, rule="HOST:PORT, such as 127.0.0.1:4317")
