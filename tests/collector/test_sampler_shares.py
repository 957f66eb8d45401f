"""Which share of the traces is kept, for ids of every kind, here and by the samplers behind."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.trace._sampling_experimental import (
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import TraceState

from pyflare_collector.config import SamplerConfig, SamplerMode
from pyflare_collector.sampler import Sampler, SamplingDecision
from pyflare_collector.sampler.consistent import (
    MAX_THRESHOLD,
    format_threshold,
    probability_to_threshold,
    threshold_to_probability,
)
from tests.collector.sampler_spans import (
    TestSpan,
    batch_of,
    counter_ids,
    id_families,
    ids_batch,
    span,
)

MODES: tuple[SamplerMode, ...] = ("consistent", "fnv")
FAMILIES = id_families(50_000)
PROBABILITY = st.floats(2**-56, 1.0)
IDS = st.binary(min_size=16, max_size=16).filter(any)
RANDOM_VALUES = st.integers(0, MAX_THRESHOLD - 1)


def probabilistic(probability: float, mode: SamplerMode = "consistent") -> Sampler:
    """Return a probabilistic sampler."""
    return Sampler(SamplerConfig(strategy="probabilistic", probability=probability, mode=mode))


def decide(probability: float, *spans: TestSpan) -> SamplingDecision:
    """Return the decision in the mode `consistent`."""
    return probabilistic(probability).sample(batch_of(spans))


def state_of(decision: SamplingDecision, row: int = 0) -> str | None:
    """Return the new tracestate of a span, None where it stays."""
    states = decision.trace_state
    value = None if states is None else states[row]
    return None if value is None else value.decode()


@given(numerator=st.integers(1, 2**53))
def test_a_threshold_is_exact_where_the_probability_can_be_written(numerator: int) -> None:
    """A share p = k/2^56 gives T = 2^56 - k and comes back: nothing passes through float32."""
    threshold = probability_to_threshold(numerator / 2**56)

    assert threshold == MAX_THRESHOLD - numerator
    assert threshold_to_probability(threshold) == numerator / 2**56


def test_probabilities_that_single_precision_would_move() -> None:
    """1/3 keeps its 53 bits: T is round(2/3 * 2^56), not that of float32's third."""
    third = probability_to_threshold(1 / 3)

    assert abs(third * 3 - 2 * MAX_THRESHOLD) < 3 * 8
    assert third != probability_to_threshold(float(np.float32(1 / 3)))


@settings(max_examples=60, deadline=None)
@given(
    ids=st.lists(IDS, min_size=1, max_size=6),
    numerator=st.integers(0, 2**20),
    random_values=st.lists(st.none() | RANDOM_VALUES, min_size=6, max_size=6),
)
def test_decides_and_writes_as_opentelemetry_does(
    ids: list[bytes], numerator: int, random_values: list[int | None]
) -> None:
    """For marked ids the decision and the tracestate are those of the SDK's own sampler."""
    probability = numerator / 2**20
    oracle = composite_sampler(composable_traceid_ratio_based(probability))
    states = ["" if rv is None else f"ot=rv:{rv:014x}" for rv in random_values]
    spans = [span(i, state=s, flags=0x03) for i, s in zip(ids, states, strict=False)]
    decision = decide(probability, *spans)
    for row, item in enumerate(spans):
        before = TraceState.from_header([item.state]) if item.state else None
        expected = oracle.should_sample(
            None, int.from_bytes(item.trace, "big"), "span", trace_state=before
        )
        assert decision.keep[row] == (expected.decision is Decision.RECORD_AND_SAMPLE)
        if decision.keep[row] and probability < 1:
            assert expected.trace_state is not None
            assert state_of(decision, row) == expected.trace_state.to_header()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "ids"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_share_of_any_family_of_ids(name: str, ids: np.ndarray, mode: SamplerMode) -> None:
    """At p = 0.1 a tenth is kept of random ids and of counters alike (4.5 sigma of 50,000).

    sigma = sqrt(0.1 * 0.9 / 50000) = 0.00134.
    """
    decision = probabilistic(0.1, mode).sample(ids_batch(ids))

    assert abs(decision.keep.mean() - 0.1) < 0.006, name
    assert np.allclose(decision.probability[decision.keep], 0.1)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "ids"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_kept_ids_are_spread_evenly(name: str, ids: np.ndarray, mode: SamplerMode) -> None:
    """The kept ones of 50 runs of 1000 ids follow the binomial law: chi-square, 49 degrees.

    The 1e-6 quantiles of chi-square with 50 degrees of freedom are 13.2 and 119.
    """
    keep = probabilistic(0.1, mode).sample(ids_batch(ids)).keep
    runs = keep.reshape(50, 1000).sum(axis=1)
    statistic = float(((runs - 100.0) ** 2 / (1000 * 0.1 * 0.9)).sum())

    assert 13.2 < statistic < 119, (name, statistic)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "ids"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_a_larger_share_holds_the_smaller(name: str, ids: np.ndarray, mode: SamplerMode) -> None:
    """What is kept at p is kept at every larger p."""
    batch = ids_batch(ids)
    before = np.zeros(len(ids), np.bool_)
    for probability in (0.0, 1e-6, 0.01, 0.1, 0.5, 0.999, 1.0):
        keep = probabilistic(probability, mode).sample(batch).keep
        assert not (before & ~keep).any(), name
        before = keep
    assert before.all()


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=60, deadline=None)
@given(a=PROBABILITY, b=PROBABILITY, ids=st.lists(IDS, min_size=1, max_size=20))
def test_monotone_in_p(a: float, b: float, ids: list[bytes], mode: SamplerMode) -> None:
    """For any two probabilities and any ids, the smaller set lies in the larger."""
    low, high = sorted((a, b))
    batch = batch_of([span(i) for i in ids])

    less = probabilistic(low, mode).sample(batch).keep
    more = probabilistic(high, mode).sample(batch).keep

    assert not (less & ~more).any()


@pytest.mark.parametrize("mode", MODES)
def test_zero_and_one_are_exact(mode: SamplerMode) -> None:
    """The share 0 keeps nothing and 1 everything, ids of all ones or almost all zeros included."""
    ids = np.concatenate(
        [
            np.full((1, 16), 255, np.uint8),
            counter_ids(300),
            np.random.default_rng(5).integers(0, 256, (2000, 16)).astype(np.uint8),
        ]
    )
    batch = ids_batch(ids)

    assert not probabilistic(0.0, mode).sample(batch).keep.any()
    everything = probabilistic(1.0, mode).sample(batch)
    assert everything.keep.all()
    assert (everything.probability == 1).all()
    assert everything.trace_state is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "ids"), FAMILIES, ids=[name for name, _ in FAMILIES])
def test_a_sampler_behind_decides_alike(name: str, ids: np.ndarray, mode: SamplerMode) -> None:
    """A consistent sampler behind, at the same or a larger p, keeps all that was kept.

    The tracestate that was written is what it goes by, with counters and in mode fnv too.
    """
    first = probabilistic(0.1, mode).sample(ids_batch(ids[:2000]))
    states = first.trace_state
    assert states is not None
    rows = np.flatnonzero(first.keep)
    assert len(rows) > 100
    spans = [span(ids[row].tobytes(), state=(states[row] or b"").decode()) for row in rows]
    for later in (0.1, 0.4, 1.0):
        decision = probabilistic(later).sample(batch_of(spans))
        assert decision.keep.all(), name
        assert np.allclose(decision.probability, 0.1, rtol=1e-12)
    narrower = probabilistic(0.05).sample(batch_of(spans))
    assert 0.3 < narrower.keep.mean() < 0.7
    assert np.allclose(narrower.probability, 0.05, rtol=1e-12)


@pytest.mark.parametrize("later", [0.1, 0.6])
def test_ids_that_are_marked_random_are_not_hashed(later: float) -> None:
    """With the random flag the last 56 bits are R, whatever they look like: no `rv` is written."""
    kept = b"\x11" * 9 + b"\xff" * 7
    dropped = b"\x11" * 9 + b"\x00" * 6 + b"\x01"
    decision = decide(later, span(kept, flags=0x02), span(dropped, flags=0x02))

    assert decision.keep.tolist() == [True, False]
    assert state_of(decision) == f"ot=th:{format_threshold(probability_to_threshold(later))}"


def test_the_random_flag_reaches_the_kernel_from_the_wire() -> None:
    """The flags field of OTLP carries more than the W3C byte: its remote bits do not disturb."""
    trace = b"\x11" * 9 + b"\xff" * 7
    decision = decide(0.5, span(trace, flags=0x302), span(trace, flags=0x103))

    assert decision.keep.tolist() == [True, True]
    assert decision.randomness is None or (decision.randomness < 0).all()
