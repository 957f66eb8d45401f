"""The SDK's one object: what it is set to, and the tracer that everything else uses."""

from __future__ import annotations

import atexit
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from opentelemetry import trace as otel
from opentelemetry.trace import SpanKind

from pyflare import keys, settings
from pyflare._version import __version__
from pyflare.capture import CaptureConfig
from pyflare.log import logger, say_everything, warn

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.sampling import Sampler

    from pyflare.delivery.outcome import Sender
    from pyflare.delivery.processor import PyFlareProcessor
    from pyflare.delivery.statistics import Statistics
    from pyflare.spans import LLMSpan, SpanContextManager

__all__ = ["PyFlare", "init"]

SCOPE = "pyflare"
_DEFAULT_ENVIRONMENT = "development"
_UNKNOWN_SERVICE = "unknown_service"
_EXPORTERS = ("otlp", "console", "none")
_own_providers: WeakSet[otel.TracerProvider] = WeakSet()
"""Tracer providers that PyFlare made. The first stays in place for good, as OpenTelemetry wants."""


class PyFlare:
    """The SDK, set up; `pyflare.init` makes one.

    Where the application has a tracer provider already, PyFlare adds its processor to
    it; else it makes one and puts it in place. A second `PyFlare` takes the place of
    the first. The constructor does not raise: what is wrong with its arguments or the
    environment is reported in the log of `pyflare`, and without a working set-up
    nothing is traced.

    Each setting is taken from its `PYFLARE_*` variable, else from the argument, else
    from OpenTelemetry's `OTEL_*` variable, else from the default.

    Args:
        service_name: of the application; default `OTEL_SERVICE_NAME`.
        endpoint: where the collector is, default `http://localhost:4317`
            (`PYFLARE_ENDPOINT`). Spans go over gRPC where the extra `grpc` is installed
            and nothing asks for HTTP, else over HTTP; port 4317 stands for 4318 then.
        environment: default `development` (`PYFLARE_ENVIRONMENT`).
        version: of the application.
        enabled: False traces nothing (`PYFLARE_ENABLED`, `OTEL_SDK_DISABLED`).
        sample_rate: share of the traces to keep, 0 to 1 (`PYFLARE_SAMPLE_RATE`);
            default all, or what `OTEL_TRACES_SAMPLER` says.
        debug: log details, on stderr where no logging is set up.
        use_http: send over HTTP, whatever is installed.
        batch_export: False sends each span by itself as soon as it has ended.
        headers: sent with each request, for example an authorization.
        resource_attributes: further attributes of the application.
        capture: False keeps no input and output; a `CaptureConfig` says how much, and
            through which mask (`PYFLARE_CAPTURE`, `PYFLARE_CAPTURE_MAX_CHARS`).
    """

    _instance: ClassVar[PyFlare | None] = None
    active: ClassVar[PyFlare | None] = None
    """The instance if it traces, else None: what the decorators look at."""

    def __init__(
        self,
        service_name: str | None = None,
        endpoint: str | None = None,
        environment: str | None = None,
        version: str = "",
        enabled: bool = True,
        sample_rate: float | None = None,
        debug: bool = False,
        use_http: bool = False,
        batch_export: bool = True,
        headers: Mapping[str, str] | None = None,
        resource_attributes: Mapping[str, Any] | None = None,
        capture: CaptureConfig | bool | None = None,
    ) -> None:
        if debug:
            say_everything()
        if PyFlare._instance is not None:
            PyFlare._instance.shutdown()
        self.debug = debug
        self.version = version
        self.enabled = settings.flag("PYFLARE_ENABLED", enabled) and not settings.flag(
            "OTEL_SDK_DISABLED", default=False
        )
        self.sample_rate = 1.0
        self.capture = settings.read_capture(capture)
        self.tracer_provider: otel.TracerProvider = otel.NoOpTracerProvider()
        self.tracer: otel.Tracer = otel.NoOpTracer()
        self.service_name = service_name or os.environ.get("OTEL_SERVICE_NAME", "")
        self.environment = os.environ.get("PYFLARE_ENVIRONMENT") or environment or ""
        self.endpoint = ""
        self._limits = settings.read_delivery()
        self._processor: PyFlareProcessor | None = None
        self._own_provider: TracerProvider | None = None
        if self.enabled:
            try:
                self._set_up(
                    settings.read_target(endpoint, use_http=use_http, headers=headers),
                    settings.read_sample_rate(sample_rate),
                    resource_attributes or {},
                    immediately=not batch_export,
                )
            except Exception as error:  # noqa: BLE001 - the application starts, traced or not
                self.enabled = False
                warn("PyFlare cannot start: %s", error, hint="nothing is traced until it can")
        PyFlare._instance = self
        PyFlare.active = self if self.enabled else None
        atexit.register(self.shutdown)

    @classmethod
    def get_instance(cls) -> PyFlare | None:
        """Return the instance that was made last, None before the first."""
        return cls._instance

    def span(
        self,
        name: str,
        kind: SpanKind = SpanKind.INTERNAL,
        attributes: Mapping[str, Any] | None = None,
    ) -> SpanContextManager[otel.Span]:
        """Return a span as a context manager; see `pyflare.span`."""
        from pyflare.spans import span

        return span(name, kind=kind, attributes=attributes)

    def llm_span(
        self, name: str, model_id: str, provider: str = "", **attributes: Any
    ) -> SpanContextManager[LLMSpan]:
        """Return the span of a model call as a context manager; see `pyflare.llm_span`."""
        from pyflare.spans import llm_span

        return llm_span(name, model_id, provider, **attributes)

    def flush(self, timeout_seconds: float = 10.0) -> bool:
        """Send what has ended, now; wait for it up to a limit.

        Returns:
            True if the collector has all of it.
        """
        processor = self._processor
        return processor is None or processor.force_flush(int(timeout_seconds * 1000))

    def shutdown(self, timeout_seconds: float | None = None) -> bool:
        """Send what has ended, within a limit, and stop tracing.

        Called at the end of the process by itself.

        Args:
            timeout_seconds: limit; default 5 (`PYFLARE_SHUTDOWN_TIMEOUT_SECONDS`).

        Returns:
            True if the collector has all of it; what it has not is in `stats().lost`.
        """
        limit = self._limits.shutdown_seconds if timeout_seconds is None else timeout_seconds
        atexit.unregister(self.shutdown)
        if PyFlare.active is self:
            PyFlare.active = None
        self.enabled = False
        pipeline = self._processor.pipeline if self._processor is not None else None
        complete = pipeline is None or pipeline.shutdown(limit)
        provider, self._own_provider = self._own_provider, None
        if provider is not None:
            provider.shutdown()  # the processors that the application added to it
        return complete

    def stats(self) -> Statistics:
        """Return what became of the spans so far."""
        from pyflare.delivery.statistics import Statistics

        pipeline = self._processor.pipeline if self._processor is not None else None
        return Statistics() if pipeline is None else pipeline.statistics()

    # Setting up

    def _set_up(
        self,
        target: settings.Target,
        sample_rate: float | None,
        attributes: Mapping[str, Any],
        *,
        immediately: bool,
    ) -> None:
        from opentelemetry.sdk.trace import TracerProvider

        from pyflare.delivery.encoding import hashed
        from pyflare.sampling import ConsistentSampler

        self.endpoint = target.url
        self.sample_rate = 1.0 if sample_rate is None else sample_rate
        resource = self._resource(attributes)
        existing = otel.get_tracer_provider()
        joined = existing if isinstance(existing, TracerProvider) else None
        provider = joined or TracerProvider(
            sampler=_sampler(sample_rate), resource=hashed(resource), shutdown_on_exit=False
        )
        self._processor = self._make_processor(
            target, resource, joined, sample_rate, immediately=immediately
        )
        provider.add_span_processor(self._processor)
        if provider in _own_providers and isinstance(provider.sampler, ConsistentSampler):
            provider.sampler.set_probability(self.sample_rate)
        if joined is None:
            self._own_provider = provider
            _own_providers.add(provider)
            otel.set_tracer_provider(provider)
        self.tracer_provider = provider
        self.tracer = provider.get_tracer(SCOPE, __version__)

    def _resource(self, attributes: Mapping[str, Any]) -> Resource:
        from opentelemetry.sdk.resources import Resource

        given: dict[str, Any] = dict(attributes)
        if self.service_name:
            given[keys.SERVICE_NAME] = self.service_name
        if self.version:
            given[keys.SERVICE_VERSION] = self.version
        if self.environment:
            given[keys.ENVIRONMENT] = self.environment
        resource = Resource.create(given)
        if not resource.attributes.get(keys.ENVIRONMENT):
            resource = resource.merge(Resource({keys.ENVIRONMENT: _DEFAULT_ENVIRONMENT}))
        self.environment = str(resource.attributes[keys.ENVIRONMENT])
        self.service_name = str(resource.attributes[keys.SERVICE_NAME])
        return resource

    def _make_processor(
        self,
        target: settings.Target,
        resource: Resource,
        joined: TracerProvider | None,
        sample_rate: float | None,
        *,
        immediately: bool,
    ) -> PyFlareProcessor:
        from pyflare.delivery.encoding import Encoder, Rewrite
        from pyflare.delivery.pipeline import Pipeline
        from pyflare.delivery.processor import ConsoleProcessor, PyFlareProcessor
        from pyflare.sampling import threshold_of

        exporter = os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() or _EXPORTERS[0]
        if exporter not in _EXPORTERS:
            warn(
                "OTEL_TRACES_EXPORTER is %r: PyFlare sends OTLP",
                exporter,
                hint=f"PyFlare knows {', '.join(_EXPORTERS)}",
            )
        if exporter == "none":
            return PyFlareProcessor(None)
        if exporter == "console":
            return ConsoleProcessor()
        rewrite = None
        if joined in _own_providers:  # of an earlier instance
            rewrite = Rewrite(lambda _: resource, 0, whole=True)
        elif joined is not None:
            rewrite = Rewrite(
                lambda theirs: _joined_resource(theirs, resource),
                threshold_of(sample_rate) if sample_rate is not None else 0,
                whole="AlwaysOn" in joined.sampler.get_description().partition(",")[0],
            )
        sender = _sender(target)
        logger.debug("spans go to %s over %s", sender.address, target.protocol)
        pipeline = Pipeline(
            sender,
            Encoder(sender.pack, rewrite),
            self._limits,
            timeout_seconds=target.timeout_seconds,
            immediately=immediately,
        )
        return PyFlareProcessor(pipeline, rewrite, self._limits.shutdown_seconds)


def init(
    service_name: str | None = None,
    endpoint: str | None = None,
    environment: str | None = None,
    version: str = "",
    enabled: bool = True,
    sample_rate: float | None = None,
    debug: bool = False,
    use_http: bool = False,
    batch_export: bool = True,
    headers: Mapping[str, str] | None = None,
    resource_attributes: Mapping[str, Any] | None = None,
    capture: CaptureConfig | bool | None = None,
) -> PyFlare:
    """Set the SDK up, once, where the application starts; arguments as of `PyFlare`."""
    return PyFlare(
        service_name,
        endpoint,
        environment,
        version,
        enabled,
        sample_rate,
        debug,
        use_http,
        batch_export,
        headers,
        resource_attributes,
        capture,
    )


def _sampler(sample_rate: float | None) -> Sampler | None:
    """Return the sampler of an own provider; None leaves it to `OTEL_TRACES_SAMPLER`."""
    from pyflare.sampling import ConsistentSampler

    if sample_rate is None and os.environ.get("OTEL_TRACES_SAMPLER"):
        return None
    return ConsistentSampler(1.0 if sample_rate is None else sample_rate)


def _sender(target: settings.Target) -> Sender:
    if target.protocol == "grpc":
        from pyflare.delivery.grpc_sender import GrpcSender

        return GrpcSender(target)
    from pyflare.delivery.http_sender import HttpSender

    return HttpSender(target)


def _joined_resource(theirs: Resource, ours: Resource) -> Resource:
    """Return the application's resource, completed by what only `init` knows."""
    from opentelemetry.sdk.resources import Resource

    attributes = {**ours.attributes, **theirs.attributes}
    if str(attributes.get(keys.SERVICE_NAME, "")).startswith(_UNKNOWN_SERVICE):
        attributes[keys.SERVICE_NAME] = ours.attributes[keys.SERVICE_NAME]
    return Resource(attributes, theirs.schema_url)
