"""OpenTelemetry's thresholds, randomness and tracestate, against vectors and the SDK."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace._sampling_experimental import (
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace._sampling_experimental._trace_state import OtelTraceState
from opentelemetry.sdk.trace._sampling_experimental._util import calculate_threshold
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.trace import TraceState

from pyflare_collector.config import SamplerConfig
from pyflare_collector.sampler import Sampler
from pyflare_collector.sampler.consistent import (
    MAX_THRESHOLD,
    format_threshold,
    parse_trace_state,
    probability_to_threshold,
    threshold_to_probability,
    update_trace_state,
)
from pyflare_collector.sampler.working import Working
from tests.collector.sampler_helpers import S, batch_of, ids_batch, random_ids

THRESHOLDS = st.integers(0, MAX_THRESHOLD - 1)
# The table of 1-in-N sampling in the specification: N, then `th` at precision 3, 4 and 5.
ONE_IN_N = [
    (1, "0", "0", "0"),
    (2, "8", "8", "8"),
    (3, "aab", "aaab", "aaaab"),
    (4, "c", "c", "c"),
    (5, "ccd", "cccd", "ccccd"),
    (8, "e", "e", "e"),
    (10, "e66", "e666", "e6666"),
    (16, "f", "f", "f"),
    (100, "fd71", "fd70a", "fd70a4"),
    (1000, "ffbe7", "ffbe77", "ffbe76d"),
    (10_000, "fff972", "fff9724", "fff97247"),
    (100_000, "ffff584", "ffff583a", "ffff583a5"),
    (1_000_000, "ffffef4", "ffffef39", "ffffef391"),
]


@pytest.mark.parametrize(("n", "three", "four", "five"), ONE_IN_N)
def test_thresholds_are_those_of_the_specification(
    n: int, three: str, four: str, five: str
) -> None:
    """One in N, at three precisions, as the specification's table has it."""
    written = [format_threshold(probability_to_threshold(1 / n, p)) for p in (3, 4, 5)]
    assert written == [three, four, five]


@given(st.floats(2**-56, 1))
def test_full_precision_agrees_with_the_sdk(probability: float) -> None:
    """All 56 bits of the threshold are what opentelemetry-sdk computes."""
    assert probability_to_threshold(probability) == calculate_threshold(probability)


@pytest.mark.parametrize(
    ("probability", "threshold"),
    [(0.0, MAX_THRESHOLD), (1.0, 0), (2**-56, MAX_THRESHOLD - 1), (1e-300, MAX_THRESHOLD - 1)],
)
def test_the_ends_are_exact(probability: float, threshold: int) -> None:
    """Nothing, everything, and the smallest share that is more than nothing."""
    assert probability_to_threshold(probability) == threshold


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([1, 3, 5, 12, 14]))
def test_a_larger_share_has_no_larger_threshold(a: float, b: float, precision: int) -> None:
    """Thresholds fall as probabilities rise: whoever is kept at p is kept at every more."""
    low, high = sorted((a, b))
    assert probability_to_threshold(low, precision) >= probability_to_threshold(high, precision)


@given(THRESHOLDS, st.none() | THRESHOLDS)
def test_what_is_written_is_read_back_by_us_and_by_the_sdk(
    threshold: int, randomness: int | None
) -> None:
    """`th` and `rv` survive the way through a tracestate, here and in opentelemetry-sdk."""
    text = update_trace_state("", threshold, randomness)
    assert parse_trace_state(text) == (threshold, randomness)
    theirs = OtelTraceState.parse(TraceState.from_header([text]))
    assert theirs.threshold == threshold
    assert theirs.random_value == (-1 if randomness is None else randomness)
    assert threshold_to_probability(threshold) == (2**56 - threshold) / 2**56


@pytest.mark.parametrize(
    ("text", "threshold", "randomness"),
    [
        ("", None, None),
        ("ot=th:8", 2**55, None),
        ("ot=th:0", 0, None),
        ("a=1, ot=rv:00000000000001;th:c ,b=2", 3 * 2**54, 1),
        ("ot=x:1;th:8;y:2", 2**55, None),
        ("ot=th:", None, None),
        ("ot=th:8F", None, None),
        ("ot=th:fffffffffffffff", None, None),
        ("ot=rv:123", None, None),
        ("ot=th:8;rv:zz000000000000", 2**55, None),
        ("xot=th:8", None, None),
        ("ot=" + "a:1;" * 70 + "th:8", None, None),
        ("ot", None, None),
        (",,=,ot=th:8", 2**55, None),
        ("ot=th:+8", None, None),
        ("ot=th: 8", None, None),
    ],
)
def test_tracestates_in_the_wild(text: str, threshold: int | None, randomness: int | None) -> None:
    """Malformed parts count as absent; order, spaces and other entries do not matter."""
    assert parse_trace_state(text) == (threshold, randomness)
    assert compiled(text) == (threshold, randomness)


PIECES = st.sampled_from(
    ["ot=", "th:", "rv:", "8", "c", "00000000000001", "ffffffffffffff", ";", ",", " ", "\t", "=",
     ":", "F", "x", "a:1"]
)  # fmt: skip


@given(st.lists(PIECES, max_size=14).map("".join))
def test_the_compiled_parser_reads_what_the_plain_one_reads(text: str) -> None:
    """Any arrangement of the pieces of a tracestate means the same to both parsers."""
    assert compiled(text) == parse_trace_state(text)


def compiled(text: str) -> tuple[int | None, int | None]:
    """Return what the kernel reads; the id's own randomness is the largest, so none is erased."""
    if not text:
        return None, None
    work = Working(batch_of([S(b"\xff" * 15 + b"\xfe", state=text)]), "consistent")
    threshold, explicit = int(work.incoming[0]), int(work.explicit[0])
    if threshold == -2:
        threshold = parse_trace_state(text).threshold or 0
    return (None if threshold < 0 else threshold), (None if explicit < 0 else explicit)


@pytest.mark.parametrize(
    ("before", "threshold", "randomness", "after"),
    [
        ("a=1", 2**55, None, "ot=th:8,a=1"),
        ("a=1,ot=th:8;p:2;rv:00000000000001,b=2", 3 * 2**54, 7,
         "ot=th:c;rv:00000000000001;p:2,a=1,b=2"),
        ("ot=th:8,a=1", None, None, "a=1"),
        ("ot=th:8;p:2", None, None, "ot=p:2"),
        ("ot=th:8", None, None, ""),
        ("", None, 5, "ot=rv:00000000000005"),
    ],
)  # fmt: skip
def test_a_tracestate_is_rewritten_without_losing_other_entries(
    before: str, threshold: int | None, randomness: int | None, after: str
) -> None:
    """`th` changes, `rv` is never overwritten, other sub-keys and members stay."""
    assert update_trace_state(before, threshold, randomness) == after


def test_a_tracestate_stays_within_its_limits() -> None:
    """At most 256 characters in `ot` and 32 members, the sampling values first."""
    long = "ot=" + ";".join(f"k{i}:{'v' * 20}" for i in range(10))
    entry = update_trace_state(long, 1, 2).removeprefix("ot=")
    assert len(entry) <= 256
    assert entry.startswith("th:00000000000001;rv:00000000000002;k0:")
    many = ",".join(f"m{i}=1" for i in range(32))
    members = update_trace_state(many, 1, None).split(",")
    assert len(members) == 32
    assert members[0] == "ot=th:00000000000001"


@pytest.mark.parametrize("probability", [0.5, 0.1, 0.01])
def test_decisions_on_random_ids_are_those_of_the_sdk(probability: float) -> None:
    """The collector keeps exactly the traces that opentelemetry-sdk would, with its `th`."""
    ids = random_ids(2000)
    decision = Sampler(SamplerConfig("probabilistic", probability=probability)).sample(
        ids_batch(ids)
    )
    oracle = composite_sampler(composable_traceid_ratio_based(probability))
    states = decision.trace_state
    assert states is not None
    for trace, keep, state in zip(ids, decision.keep, states, strict=True):
        result = oracle.should_sample(None, int.from_bytes(trace), "name")
        assert keep == (result.decision == Decision.RECORD_AND_SAMPLE)
        if keep:
            assert state is not None
            assert result.trace_state is not None
            assert state.decode() == result.trace_state.to_header()


@given(THRESHOLDS, THRESHOLDS, st.floats(0.001, 1))
def test_equalizing_never_lowers_a_threshold(incoming: int, randomness: int, p: float) -> None:
    """The final threshold is the larger of both, and the probability is its own."""
    state = update_trace_state("", incoming, randomness)
    decision = Sampler(SamplerConfig("probabilistic", probability=p)).sample(
        batch_of([S(5, state=state)])
    )
    own = probability_to_threshold(p)
    consistent = randomness >= incoming
    final = max(incoming, own) if consistent else own
    assert bool(decision.keep[0]) == (randomness >= final)
    assert decision.probability[0] == threshold_to_probability(final)
    if decision.keep[0]:
        changed = decision.trace_state
        after = state if changed is None or changed[0] is None else changed[0].decode()
        expected = final if consistent or own else None
        assert parse_trace_state(after) == (expected, randomness)


@pytest.mark.parametrize("mode", ["consistent", "fnv"])
def test_an_upstream_probability_multiplies_in_when_everything_is_kept(mode: str) -> None:
    """`always_on` after a sampler of 1/4: the span stands for four, the tracestate stays."""
    state = "ot=th:c;rv:ff000000000000"
    decision = Sampler(SamplerConfig("always_on", mode=mode)).sample(  # type: ignore[arg-type]  # one of two literals
        batch_of([S(1, state=state), S(2)])
    )
    assert decision.probability.tolist() == [0.25, 1.0]
    assert decision.trace_state is None


def test_an_inconsistent_threshold_is_erased() -> None:
    """A span below its own `th` cannot have been sampled by it: the claim is dropped."""
    state = "ot=th:8;rv:00000000000000"
    decision = Sampler(SamplerConfig("always_on")).sample(batch_of([S(1, state=state)]))
    assert decision.probability.tolist() == [1.0]
    assert decision.trace_state == [b"ot=rv:00000000000000"]


def test_fnv_multiplies_with_what_is_upstream_and_erases_its_threshold() -> None:
    """The two samplings are independent: 1/4 of 1/2 is 1/8, which no `th` can say."""
    state = "ot=th:c;rv:ff000000000000"
    decision = Sampler(SamplerConfig("probabilistic", "fnv", 0.5)).sample(
        batch_of([S(i, state=state) for i in range(64)])
    )
    assert np.unique(decision.probability[decision.keep]).tolist() == [0.125]
    assert {s for s in decision.trace_state or [] if s} == {b"ot=rv:ff000000000000"}
    assert 16 < decision.keep.sum() < 48


def test_fnv_writes_what_lets_later_samplers_decide_alike() -> None:
    """With its `rv` a consistent sampler of the same share keeps all, one of half keeps fewer."""
    ids = random_ids(4000)
    first = Sampler(SamplerConfig("probabilistic", "fnv", 0.5)).sample(ids_batch(ids))
    kept = [
        S(trace, state=state.decode())
        for trace, state in zip(ids, first.trace_state or [], strict=True)
        if state is not None
    ]
    assert len(kept) == first.keep.sum()
    again = Sampler(SamplerConfig("probabilistic", probability=0.5)).sample(batch_of(kept))
    assert again.keep.all()
    half = Sampler(SamplerConfig("probabilistic", probability=0.25)).sample(batch_of(kept))
    assert 0.4 < half.keep.mean() < 0.6
    assert set(half.probability[half.keep].tolist()) == {0.25}
