"""`init`: arguments, environment, an application's own tracer provider, and never a crash."""

from __future__ import annotations

import inspect
import logging
import subprocess
import sys
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import pyflare
from pyflare import settings
from tests.sdk.fake_collector import FakeCollector, attributes_of
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")


def target(endpoint: str | None = None, **more: Any) -> settings.Target:
    """Return what `init` would make of an endpoint and the environment."""
    return settings.read_target(endpoint, **{"use_http": False, "headers": None, **more})


def test_signature() -> None:
    """The arguments that users were promised, of the function and of the class."""
    promised = (
        "service_name endpoint environment version enabled sample_rate debug use_http "
        "batch_export headers resource_attributes"
    ).split()

    for made in (pyflare.init, pyflare.PyFlare):
        assert list(inspect.signature(made).parameters)[:11] == promised


def test_every_promised_name_is_there() -> None:
    """Names of the contract's section 5 and of the component guide."""
    import pyflare.integrations.anthropic
    import pyflare.integrations.openai
    from pyflare.cost import CostCalculator, calculate_cost, get_cost_calculator

    for name in pyflare.__all__:
        assert getattr(pyflare, name) is not None
    assert callable(calculate_cost)
    assert callable(get_cost_calculator)
    assert {"calculate", "get_pricing", "add_pricing"} <= set(dir(CostCalculator))
    assert callable(pyflare.integrations.openai.instrument)
    assert callable(pyflare.integrations.anthropic.instrument)
    assert set(dir(pyflare)) == set(pyflare.__all__)
    with pytest.raises(AttributeError, match="nonsense"):
        _ = pyflare.nonsense


def test_import_is_light() -> None:
    """`import pyflare` loads neither the OpenTelemetry SDK, nor an exporter, nor the suite."""
    code = "import pyflare, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    heavy = (
        "opentelemetry.sdk", "opentelemetry.exporter", "requests", "grpc", "google", "numpy",
        "polars", "pyflare_", "pyflare.cost", "pyflare._prices", "pyflare.integrations", "openai",
    )  # fmt: skip

    assert [name for name in done.stdout.split() if name.startswith(heavy)] == []


@pytest.mark.parametrize(
    ("endpoint", "environment", "protocol", "url"),
    [
        (None, {}, "grpc", "http://localhost:4317"),
        ("http://c:4317", {}, "grpc", "http://c:4317"),
        ("c:4317", {}, "grpc", "http://c:4317"),
        ("http://c:4318", {}, "http", "http://c:4318/v1/traces"),
        ("https://c/otlp", {}, "http", "https://c/otlp/v1/traces"),
        ("https://c/v1/traces", {}, "http", "https://c/v1/traces"),
        ("http://arg:1", {"PYFLARE_ENDPOINT": "http://env:4318"}, "http", "http://env:4318/v1/traces"),
        ("http://arg:1", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:2"}, "grpc", "http://arg:1"),
        (None, {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://env:4318"}, "http", "http://env:4318/v1/traces"),
        (
            None,
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://env:4317/own"},
            "http",
            "http://env:4317/own",
        ),
        (None, {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, "http", "http://localhost:4318/v1/traces"),
        ("http://c:4317", {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}, "http", "http://c:4318/v1/traces"),
    ],
)  # fmt: skip
def test_endpoint(
    monkeypatch: pytest.MonkeyPatch,
    endpoint: str | None,
    environment: dict[str, str],
    protocol: str,
    url: str,
) -> None:
    """PYFLARE_ENDPOINT, then the argument, then OTEL_*; port and path tell HTTP from gRPC."""
    pytest.importorskip("grpc")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    found = target(endpoint)

    assert (found.protocol, found.url) == (protocol, url)


def test_without_grpc_the_default_goes_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """The base installation sends to port 4318 where port 4317 is meant; `use_http` does too."""
    assert target("http://c:4317", use_http=True).url == "http://c:4318/v1/traces"
    monkeypatch.setattr(settings, "find_spec", lambda _: None)

    assert target().url == "http://localhost:4318/v1/traces"
    assert target("http://c:4317").url == "http://c:4318/v1/traces"


def test_exporter_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers, timeout, compression and certificates as OpenTelemetry has them."""
    for name, value in {
        "HEADERS": "Authorization=Bearer%20x,b=2,broken",
        "TRACES_TIMEOUT": "3",
        "COMPRESSION": "none",
        "CERTIFICATE": "/ca.pem",
        "CLIENT_CERTIFICATE": "/own.pem",
        "CLIENT_KEY": "/own.key",
    }.items():
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP_{name}", value)

    found = target("https://c:4317", headers={"B": "3"})

    assert dict(found.headers) == {"authorization": "Bearer x", "b": "3"}
    assert found.timeout_seconds == 3
    assert found.compression == ""
    assert (found.certificate, found.client_certificate, found.client_key) == (
        "/ca.pem", "/own.pem", "/own.key",
    )  # fmt: skip
    assert not found.insecure
    assert "Bearer" not in repr(found)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500")
    assert target().timeout_seconds == 2.5


def test_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """The application's name, version, environment and attributes, code over OTEL_*."""
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "region=eu,tier=gold,service.version=9")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "from-otel")
    with FakeCollector() as collector:
        pyflare.init(
            "shop",
            collector.url,
            "prod",
            "1.2",
            use_http=True,
            resource_attributes={"tier": "silver"},
        )
        with pyflare.span("one"):
            pass
        assert pyflare.flush()

        found = collector.resource()
    assert found["service.name"] == "shop"
    assert found["service.version"] == "1.2"
    assert found["deployment.environment.name"] == "prod"
    assert (found["region"], found["tier"]) == ("eu", "silver")


def test_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYFLARE_* over the code; OTEL_* where the code says nothing; then the defaults."""
    with FakeCollector() as collector:
        monkeypatch.setenv("PYFLARE_ENDPOINT", collector.url)
        monkeypatch.setenv("PYFLARE_ENVIRONMENT", "staging")
        monkeypatch.setenv("PYFLARE_SAMPLE_RATE", "0.25")
        monkeypatch.setenv("OTEL_SERVICE_NAME", "from-otel")
        sdk = pyflare.init(endpoint="http://nowhere:1", environment="prod", use_http=True)

    assert sdk.endpoint == f"{collector.url}/v1/traces"
    assert (sdk.service_name, sdk.environment, sdk.sample_rate) == ("from-otel", "staging", 0.25)
    monkeypatch.delenv("PYFLARE_ENVIRONMENT")
    assert pyflare.init("a", use_http=True).environment == "development"
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=qa")
    assert pyflare.init("a", use_http=True).environment == "qa"


@pytest.mark.parametrize(
    ("name", "value"), [("PYFLARE_ENABLED", "false"), ("OTEL_SDK_DISABLED", "true")]
)
def test_disabled(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Switched off, nothing is traced and no provider put in place."""
    monkeypatch.setenv(name, value)
    sdk = pyflare.init("test")

    with pyflare.span("one") as span:
        assert not span.is_recording()
    assert not sdk.enabled
    assert sdk.tracer_provider is not None
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
    assert pyflare.PyFlare.get_instance() is sdk


def test_bad_settings_are_told_and_passed_over(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A value that cannot be read gives a warning with its name, and the application runs."""
    for name, value in {
        "PYFLARE_SAMPLE_RATE": "a lot",
        "PYFLARE_ENABLED": "perhaps",
        "OTEL_BSP_MAX_QUEUE_SIZE": "-3",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "soon",
        "PYFLARE_CAPTURE_MAX_CHARS": "x",
        "OTEL_TRACES_EXPORTER": "zipkin",
    }.items():
        monkeypatch.setenv(name, value)
    sdk = pyflare.init("test", "http://localhost:4318", sample_rate=7)

    assert sdk.enabled
    assert sdk.sample_rate == 1.0
    for word in ("'a lot'", "'perhaps'", "'-3'", "'soon'", "'x'", "'zipkin'", "sample_rate is 7"):
        assert word in caplog.text
    assert caplog.text.count("hint: ") == 7


def test_a_set_up_that_fails_leaves_the_application_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever goes wrong in `init`, it returns, and decorated functions run untraced."""
    sdk = pyflare.init("test", "http://[broken")

    @pyflare.trace
    def one() -> int:
        return 1

    assert one() == 1
    assert not sdk.enabled
    assert "cannot start" in caplog.text


def test_joins_the_application_s_provider() -> None:
    """PyFlare adds itself; the application's exporter and resource stay as they are."""
    theirs = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "app", "a": 1}))
    provider.add_span_processor(SimpleSpanProcessor(theirs))
    trace.set_tracer_provider(provider)
    with FakeCollector() as collector:
        sdk = pyflare.init("ours", collector.url, "prod", use_http=True)
        assert sdk.tracer_provider is provider is trace.get_tracer_provider()
        with trace.get_tracer("app").start_as_current_span("parent"), pyflare.span("child"):
            pass
        assert pyflare.shutdown()

        assert collector.names == ["child", "parent"]
        resource = collector.resource()
    assert (resource["service.name"], resource["a"]) == ("app", 1)
    assert resource["deployment.environment.name"] == "prod"
    ended = theirs.get_finished_spans()
    assert [span.name for span in ended] == ["child", "parent"]
    assert "deployment.environment.name" not in ended[0].resource.attributes
    with trace.get_tracer("app").start_as_current_span("later"):
        pass
    assert len(theirs.get_finished_spans()) == 3


def test_a_nameless_application_gets_the_name_of_init() -> None:
    """Where the application's provider names no service, the name of `init` is sent."""
    trace.set_tracer_provider(TracerProvider())
    with FakeCollector() as collector:
        pyflare.init("ours", collector.url, use_http=True)
        with pyflare.span("one"):
            pass
        assert pyflare.flush()
        assert collector.resource()["service.name"] == "ours"


def test_a_second_init_takes_the_place_of_the_first() -> None:
    """Each span is sent once, to the second's collector, under the second's name."""
    with FakeCollector() as first, FakeCollector() as second:
        pyflare.init("one", first.url, use_http=True)
        with pyflare.span("early"):
            pass
        sdk = pyflare.init("two", second.url, use_http=True)
        with pyflare.span("late"):
            pass
        assert pyflare.shutdown()

        assert (first.names, second.names) == (["early"], ["late"])
        assert second.resource()["service.name"] == "two"
    assert pyflare.PyFlare.get_instance() is sdk


def test_headers_are_sent_and_never_told(caplog: pytest.LogCaptureFixture) -> None:
    """A token reaches the collector and no log."""
    caplog.set_level(logging.DEBUG)
    with FakeCollector(status=401) as collector:
        headers = {"Authorization": "Bearer s3cret"}
        pyflare.init(
            "a",
            collector.url.replace("//", "//user:pass@"),
            use_http=True,
            headers=headers,
            debug=True,
        )
        with pyflare.span("one"):
            pass
        assert not pyflare.flush()
        assert collector.seen_headers[0]["authorization"] == "Bearer s3cret"
    assert "HTTP 401" in caplog.text
    assert "s3cret" not in caplog.text + str(pyflare.stats())
    assert "pass@" not in caplog.text + str(pyflare.stats())


def test_each_span_by_itself() -> None:
    """`batch_export=False` sends every span in a request of its own, at once."""
    with FakeCollector() as collector:
        pyflare.init("a", collector.url, use_http=True, batch_export=False)
        for number in range(3):
            with pyflare.span(f"span {number}"):
                pass
        assert pyflare.flush()

        assert [len(r.resource_spans[0].scope_spans[0].spans) for r in collector.requests] == [
            1
        ] * 3


def test_console(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """`OTEL_TRACES_EXPORTER=console` prints spans."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    pyflare.init("a")
    with pyflare.context(user_id="u"), pyflare.span("printed"):
        pass

    printed = capsys.readouterr().out
    assert '"name": "printed"' in printed
    assert '"user.id": "u"' in printed


def test_spans_carry_the_scope_of_the_sdk() -> None:
    """The instrumentation scope names PyFlare and its version."""
    with FakeCollector() as collector:
        pyflare.init("a", collector.url, use_http=True)
        with pyflare.span("one", attributes={"n": 1, "list": ["a"]}):
            pass
        assert pyflare.flush()

        scope = collector.requests[0].resource_spans[0].scope_spans[0].scope
        assert (scope.name, scope.version) == ("pyflare", pyflare.__version__)
        assert attributes_of(collector.spans[0]) == {"n": 1, "list": ["a"]}


def test_sampler_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_TRACES_SAMPLER=always_off` keeps nothing; children are not captured either."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    recorded = Recorded(monkeypatch)
    with pyflare.span("one") as span:
        assert not span.is_recording()
    assert recorded.spans == []
