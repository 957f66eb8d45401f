"""A share of the traces, whole traces, with the share written where the collector reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import propagate, trace
from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.trace import SpanContext, TraceFlags, TraceState

import pyflare
from pyflare.sampling import thin, threshold_of
from pyflare_collector.sampler.consistent import (
    parse_trace_state,
    probability_to_threshold,
    threshold_to_probability,
)
from tests.sdk.fake_collector import FakeCollector
from tests.sdk.recorded import Recorded

pytestmark = pytest.mark.usefixtures("fresh_sdk")


@given(st.floats(0, 1))
def test_threshold_is_the_collector_s(probability: float) -> None:
    """SDK and collector turn a probability into the same threshold."""
    assert threshold_of(probability) == probability_to_threshold(probability)


def test_a_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """About a quarter of 4000 traces is kept; each span says so; children follow their root."""
    recorded = Recorded(monkeypatch, sample_rate=0.25)
    for _ in range(4000):
        with pyflare.span("root"), pyflare.span("child"):
            pass

    roots = [span for span in recorded.spans if span.parent is None]
    # 1000 expected, standard deviation sqrt(4000 * 0.25 * 0.75) = 27: five of them.
    assert 863 < len(roots) < 1137
    assert len(recorded.spans) == 2 * len(roots)
    states = {span.context.trace_state.to_header() for span in recorded.spans if span.context}
    assert states == {"ot=th:c"}
    assert threshold_to_probability(parse_trace_state("ot=th:c").threshold or 0) == 0.25


@pytest.mark.parametrize(("rate", "kept"), [(0.0, 0), (1.0, 50)])
def test_none_and_all(monkeypatch: pytest.MonkeyPatch, rate: float, kept: int) -> None:
    """0 keeps nothing and 1 everything."""
    recorded = Recorded(monkeypatch, sample_rate=rate)
    for _ in range(50):
        with pyflare.span("root"):
            pass

    assert len(recorded.spans) == kept


def test_a_callee_follows_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller's decision and its tracestate hold, whatever the callee's rate is."""
    recorded = Recorded(monkeypatch, sample_rate=0.5)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    for flag, state in (("01", "ot=th:8,other=1"), ("00", "other=1")):
        headers = {"traceparent": f"00-{trace_id}-b7ad6b7169203331-{flag}", "tracestate": state}
        token = attach(propagate.extract(headers))
        with pyflare.span(f"callee {flag}"):
            pass
        detach(token)

    span = recorded.one()
    assert span.name == "callee 01"
    assert span.context is not None
    assert span.context.trace_state.to_header() == "ot=th:8,other=1"


def test_ratio_of_opentelemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """`OTEL_TRACES_SAMPLER=parentbased_traceidratio` samples consistently, its ratio written."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0.5")
    recorded = Recorded(monkeypatch)
    for _ in range(100):
        with pyflare.span("root"):
            pass

    assert 20 < len(recorded.spans) < 80
    assert {s.context.trace_state.to_header() for s in recorded.spans if s.context} == {"ot=th:8"}
    assert recorded.sdk.sample_rate == 0.5


@pytest.mark.parametrize(("ratio", "states"), [(None, {"ot=th:8"}), (0.9, {""})])
def test_joined_only_what_pyflare_sends_is_thinned(ratio: float | None, states: set[str]) -> None:
    """The application's traces stay whole; the share is written only where it is known."""
    sampler = None if ratio is None else TraceIdRatioBased(ratio)
    provider = TracerProvider(sampler=sampler)
    trace.set_tracer_provider(provider)
    with FakeCollector() as collector:
        pyflare.init("a", collector.url, use_http=True, sample_rate=0.5)
        recording = 0
        for _ in range(300):
            with pyflare.span("root") as span, pyflare.span("child"):
                recording += span.is_recording()
        assert pyflare.flush()

        sent = collector.spans
    assert recording == 300 if ratio is None else 200 < recording < 300
    assert 0.25 * recording * 2 < len(sent) < 0.75 * recording * 2
    assert {span.trace_state for span in sent} == states
    whole = {span.trace_id for span in sent if span.name == "root"}
    assert whole == {span.trace_id for span in sent if span.name == "child"}


def test_a_second_init_samples_by_its_own_rate() -> None:
    """As in a notebook whose first cell is run again with another rate."""
    with FakeCollector() as collector:
        for rate, spans in ((0.0, 0), (1.0, 20), (0.5, None)):
            collector.requests.clear()
            pyflare.init("a", collector.url, use_http=True, sample_rate=rate)
            for _ in range(20 if spans is not None else 200):
                with pyflare.span("root"):
                    pass
            assert pyflare.flush(10)
            if spans is None:
                assert 50 < len(collector.spans) < 150
                assert {span.trace_state for span in collector.spans} == {"ot=th:8"}
            else:
                assert len(collector.spans) == spans


def _context(state: str, randomness: int = 0xFFFFFFFFFFFFFF) -> SpanContext:
    return SpanContext(
        (1 << 100) | randomness, 1, is_remote=False, trace_flags=TraceFlags(1),
        trace_state=TraceState.from_header([state] if state else []),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "after"),
    [
        ("", "ot=th:8"),
        ("a=1", "ot=th:8,a=1"),
        ("ot=th:4;x:1,a=1", "ot=th:8;x:1,a=1"),
        ("ot=th:c", "ot=th:c"),
        ("ot=rv:90000000000000", "ot=th:8;rv:90000000000000"),
        ("ot=th:nonsense", "ot=th:8"),
    ],
)
def test_thinning_raises_a_threshold_and_never_lowers_it(state: str, after: str) -> None:
    """After the specification: the higher threshold stays, other members too."""
    found = thin(_context(state), threshold_of(0.5), whole=True)

    assert found is not None
    assert found.trace_state.to_header() == after


def test_thinning_goes_by_explicit_randomness() -> None:
    """`rv` decides where it is there, else the end of the trace id."""
    half = threshold_of(0.5)

    assert thin(_context("ot=rv:70000000000000"), half, whole=True) is None
    assert thin(_context("", randomness=0x7FFFFFFFFFFFFF), half, whole=True) is None
    assert thin(_context("", randomness=0x80000000000000), half, whole=True) is not None
