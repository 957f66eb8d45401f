"""The sampler as a whole: one decision per trace, samplers in a row, and input from outside."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.config import KeepRule, SamplerConfig, SamplerMode, SamplerStrategy
from pyflare_collector.sampler import RuleCount, Sampler
from pyflare_collector.sampler.consistent import format_threshold, probability_to_threshold
from tests.collector.sampler_helpers import Clock, S, batch_of, ids_batch, random_ids

STRATEGIES: tuple[SamplerStrategy, ...] = (
    "always_on", "always_off", "probabilistic", "rate_limiting", "parent_based", "composite",
)  # fmt: skip
MODES: tuple[SamplerMode, ...] = ("consistent", "fnv")
N = 10_000
FAMILIES = {
    "random": random_ids(N),
    "fixed prefix, counter": [
        bytes.fromhex("5f1a9c07e244b180") + i.to_bytes(8, "big") for i in range(N)
    ],
    "counter": [i.to_bytes(16, "big") for i in range(1, N + 1)],
    "epoch, 96 random bits": [b"\x68\xe7\x78\x00" + raw[4:] for raw in random_ids(N, seed=2)],
    "counter from 10^9": [b"\x5f" * 8 + (10**9 + i).to_bytes(8, "big") for i in range(N)],
    "prefix of 12 bytes, counter": [
        bytes(range(200, 212)) + i.to_bytes(4, "big") for i in range(N)
    ],
    "digits in order, counter": [
        bytes.fromhex("0123456789abcdef01234567") + i.to_bytes(4, "big") for i in range(N)
    ],
}


def probabilistic(probability: float, mode: SamplerMode = "consistent") -> Sampler:
    """Return a probabilistic sampler."""
    return Sampler(SamplerConfig(strategy="probabilistic", probability=probability, mode=mode))


def keep_of(sampler: Sampler, *spans: S) -> list[bool]:
    """Return which spans of one request are kept."""
    return [bool(kept) for kept in sampler.sample(batch_of(spans)).keep]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", list(FAMILIES))
def test_samplers_in_a_row_keep_the_same_traces(family: str, mode: SamplerMode) -> None:
    """A tenth is kept of every family; a consistent sampler behind drops none of it at p >= 0.1.

    It goes by the tracestate that the first one wrote, with counters and in mode fnv too. At
    p = 0.05 about half is left, with 0.05 recorded. 5 standard deviations of the share of
    10,000 are 0.015, and of half of about 1000 they are 0.08.
    """
    ids = FAMILIES[family]
    first = probabilistic(0.1, mode).sample(ids_batch(ids))
    states = first.trace_state
    assert states is not None
    assert abs(first.keep.mean() - 0.1) < 0.015
    spans = [S(ids[row], state=(states[row] or b"").decode()) for row in np.flatnonzero(first.keep)]
    for later in (0.1, 0.4, 1.0):
        decision = probabilistic(later).sample(batch_of(spans))
        assert decision.keep.all()
        assert np.allclose(decision.probability, 0.1, rtol=1e-12)
    narrower = probabilistic(0.05).sample(batch_of(spans))
    assert abs(narrower.keep.mean() - 0.5) < 0.08
    assert np.allclose(narrower.probability, 0.05, rtol=1e-12)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", MODES)
@given(
    requests=st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1, max_size=5)
)
@settings(max_examples=25, deadline=None)
def test_one_decision_for_a_trace_however_it_arrives(
    strategy: SamplerStrategy, mode: SamplerMode, requests: list[list[int]]
) -> None:
    """However a trace's spans are spread over requests, all are kept or all are dropped."""
    config = SamplerConfig(strategy=strategy, mode=mode, probability=0.5, traces_per_second=3)
    sampler = Sampler(config, clock=Clock())
    verdicts: dict[int, set[bool]] = {}
    for request in requests:
        kept = keep_of(sampler, *(S(number) for number in request))
        for number, verdict in zip(request, kept, strict=True):
            verdicts.setdefault(number, set()).add(verdict)

    assert all(len(seen) == 1 for seen in verdicts.values())


def test_the_random_flag_is_read_beside_the_remote_bits() -> None:
    """OTLP's flags hold more than the W3C byte; of it only the second bit says "random"."""
    low = b"\x11" * 9 + b"\x00" * 6 + b"\x01"
    high = b"\x11" * 9 + b"\xff" * 7
    marked = [S(trace, flags=flags) for flags in (0x302, 0x301) for trace in (low, high)]
    decision = probabilistic(0.6).sample(batch_of(marked))
    threshold = format_threshold(probability_to_threshold(0.6))

    assert decision.keep.tolist()[:2] == [False, True]
    states = decision.trace_state
    assert states is not None
    assert states[1] == f"ot=th:{threshold}".encode()
    assert decision.randomness is not None
    assert (decision.randomness >= 0).tolist() == [False, False, True, True]


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    """Time that is told twice fills the bucket once."""
    clock = Clock()
    config = SamplerConfig(strategy="rate_limiting", traces_per_second=1)
    sampler = Sampler(config, clock=clock)
    assert keep_of(sampler, S(1)) == [True]
    clock.now -= 500
    assert keep_of(sampler, S(2)) == [False]
    clock.now += 500
    assert keep_of(sampler, S(3)) == [False]
    clock.now += 1
    assert keep_of(sampler, S(4)) == [True]


def test_limited_traces_lose_th_as_their_share_is_of_the_moment() -> None:
    """A bucket's probability is no threshold: `th` is erased, and its share multiplied in."""
    sampler = Sampler(SamplerConfig("rate_limiting", traces_per_second=1), clock=Clock())
    spans = [S(number, state="ot=th:8;rv:ffffffffffffff") for number in (1, 2)]
    decision = sampler.sample(batch_of(spans))
    states = decision.trace_state

    assert decision.probability[decision.keep].tolist() == [0.25]
    assert states is not None
    assert [state for state in states if state is not None] == [b"ot=rv:ffffffffffffff"]


def test_many_rules_each_count_for_themselves() -> None:
    """The first rule that matches is the one that counts, also with more than 127 rules."""
    rules = tuple(KeepRule(duration_ms_above=1000.0 - number) for number in range(300))
    sampler = Sampler(SamplerConfig(strategy="always_off", keep=rules))
    decision = sampler.sample(batch_of([S(1, duration_ms=701.5), S(2, duration_ms=2000.0)]))

    assert decision.counts == {"keep[299]": RuleCount(1, 0), "keep[0]": RuleCount(1, 0)}


@pytest.mark.parametrize(
    ("value", "probability", "kept"),
    [(value, 0.0, True) for value in (1, 5, 0.5, True, "1", " true ")]
    + [(value, 1.0, False) for value in (0, 0.0, False, "0", -1)]
    + [(value, p, p == 1.0) for value in ("soon", "", b"1", [1], "nan") for p in (0.0, 1.0)],
)
def test_a_priority_of_any_type(value: object, probability: float, *, kept: bool) -> None:
    """Above 0 keeps, 0 and below drops, as a number or as text; anything else says nothing."""
    sampler = probabilistic(probability)

    assert keep_of(sampler, S(1, attributes={"sampling.priority": value})) == [kept]


@pytest.mark.parametrize("size", [0, -5, 1])
def test_the_smallest_memory_still_decides(size: int) -> None:
    """A memory for one trace at most forgets, and neither hangs nor fails."""
    config = SamplerConfig("rate_limiting", traces_per_second=3)
    sampler = Sampler(config, clock=Clock(), cache_size=size)

    assert sum(keep_of(sampler, *(S(number) for number in range(8)))) == 3
