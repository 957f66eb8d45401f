"""Keep rules, their memory for late spans, and the weights that they leave unbiased."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.config import KeepRule, SamplerConfig
from pyflare_collector.sampler import Sampler, SpanView
from pyflare_collector.sampler.cache import DecisionCache
from tests.collector.sampler_helpers import Clock, S, batch_of, random_ids

RULES = (
    KeepRule(status="error"),
    KeepRule(duration_ms_above=10_000),
    KeepRule(cost_usd_above=0.5),
    KeepRule(status="ok", duration_ms_above=100),
)


def dropping(*rules: KeepRule) -> Sampler:
    """Return a sampler that keeps nothing but what its rules say."""
    return Sampler(SamplerConfig("probabilistic", probability=0.0, keep=rules))


def test_each_rule_keeps_what_meets_all_its_conditions() -> None:
    """Above means above; a rule with two conditions needs both; the first match is counted."""
    spans = [
        S(1, status="error", duration_ms=20_000),
        S(2, duration_ms=10_000),
        S(3, duration_ms=10_000.001),
        S(4),
        S(5),
        S(6, status="ok", duration_ms=100),
        S(7, status="ok", duration_ms=101),
        S(8),
    ]
    costs = np.array([0, 0, 0, 0.5e9, 0.5e9 + 1, 0, 0, np.nan])
    decision = dropping(*RULES).sample(batch_of(spans), lambda: costs)
    assert decision.keep.tolist() == [True, False, True, False, True, False, True, False]
    assert (decision.probability[decision.keep] == 1.0).all()
    named = [decision.rules[rule] for rule in decision.rule]
    assert named[0] == "keep[0]"
    assert named[2] == "keep[1]"
    assert named[4] == "keep[2]"
    assert named[6] == "keep[3]"


def test_costs_are_computed_only_when_they_can_matter() -> None:
    """No call without a cost rule, none when the other conditions exclude all spans."""
    calls = 0

    def cost() -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        nonlocal calls
        calls += 1
        return np.array([1e9])

    dropping(KeepRule(status="error")).sample(batch_of([S(1)]), cost)
    dropping(KeepRule(status="error", cost_usd_above=0.1)).sample(batch_of([S(1)]), cost)
    assert calls == 0
    two = dropping(KeepRule(cost_usd_above=2), KeepRule(cost_usd_above=0.1))
    assert two.sample(batch_of([S(1)]), cost).keep[0]
    assert calls == 1


def test_unknown_costs_meet_no_cost_rule() -> None:
    """Without prices a cost rule keeps nothing; `should_sample` takes the span's own cost."""
    sampler = dropping(KeepRule(cost_usd_above=0.5))
    assert not sampler.sample(batch_of([S(1)])).keep[0]
    trace = random_ids(1)[0].hex()
    assert not sampler.should_sample(SpanView(trace))
    assert sampler.should_sample(SpanView(trace, cost_nano_usd=600_000_000))


def test_a_constructors_cost_function_serves_all_batches() -> None:
    """`Sampler(cost=...)` prices a batch when `sample` is given no costs."""
    sampler = Sampler(
        SamplerConfig("always_off", keep=(KeepRule(cost_usd_above=1),)),
        cost=lambda batch: np.full(len(batch), 2e9),
    )
    assert sampler.sample(batch_of([S(1), S(2)])).keep.all()


@pytest.mark.parametrize("strategy", ["probabilistic", "always_off", "rate_limiting"])
def test_a_match_keeps_its_trace_in_this_batch_and_later(strategy: str) -> None:
    """The spans beside it and those that come later are kept with probability 1."""
    config = SamplerConfig(
        strategy,  # type: ignore[arg-type]  # one of three literals
        probability=0.0,
        traces_per_second=0.001,
        keep=(KeepRule(status="error"),),
    )
    sampler = Sampler(config, clock=Clock())
    if strategy == "rate_limiting":
        assert sampler.sample(batch_of([S(99)])).keep.tolist() == [True]
    first = sampler.sample(batch_of([S(1), S(2), S(1, status="error"), S(3)]))
    assert first.keep.tolist() == [True, False, True, False]
    later = sampler.sample(batch_of([S(2), S(1), S(4)]))
    assert later.keep.tolist() == [False, True, False]
    assert later.probability[1] == 1.0
    assert later.counts["keep.trace"].sampled == 1


def test_a_rule_counts_more_than_a_wish_to_drop() -> None:
    """`keep` is the operator's word: an error is kept in spite of `sampling.priority: 0`."""
    sampler = dropping(KeepRule(status="error"))
    unwanted = {"sampling.priority": 0}
    assert sampler.sample(batch_of([S(1, status="error", attributes=unwanted)])).keep[0]
    assert sampler.sample(batch_of([S(1, attributes=unwanted)])).keep[0]


def test_forced_traces_take_no_tokens() -> None:
    """Ten errors are kept beside the one trace that a bucket of one admits."""
    config = SamplerConfig("rate_limiting", traces_per_second=1, keep=(KeepRule(status="error"),))
    sampler = Sampler(config, clock=Clock())
    spans = [S(i, status="error") for i in range(10)] + [S(100 + i) for i in range(4)]
    decision = sampler.sample(batch_of(spans))
    assert decision.keep[:10].all()
    assert decision.keep[10:].sum() == 1
    assert decision.probability[10:][decision.keep[10:]].tolist() == [0.25]


def test_a_forced_trace_keeps_the_probability_of_samplers_upstream() -> None:
    """A rule here cannot undo that three of four such traces never came."""
    state = "ot=th:c;rv:ff000000000000"
    decision = dropping(KeepRule(status="error")).sample(
        batch_of([S(1, status="error", state=state)])
    )
    assert decision.probability.tolist() == [0.25]
    assert decision.trace_state is None


def test_weights_are_unbiased_with_rules_and_late_spans() -> None:
    """Horvitz-Thompson: over 120 samplings of the same arrivals the mean weight sum is right.

    Three batches; errors appear in the second, so that their traces are sampled in the
    first and certain afterwards. Each round uses other ids. The mean of the estimates of
    600 spans lies within 5 standard errors.
    """
    sums = []
    for round_ in range(120):
        ids = random_ids(200, seed=round_)
        sampler = Sampler(
            SamplerConfig("probabilistic", probability=0.3, keep=(KeepRule(status="error"),))
        )
        total = 0.0
        for status in ("unset", "error", "unset"):
            spans = [S(t, status=status if i % 4 == 0 else "unset") for i, t in enumerate(ids)]
            decision = sampler.sample(batch_of(spans))
            total += float((1 / decision.probability[decision.keep]).sum())
        sums.append(total)
    error = np.std(sums) / np.sqrt(len(sums))
    assert abs(np.mean(sums) - 600) < 5 * error


def test_threads_lose_no_count() -> None:
    """Eight threads, one sampler: every span is counted once."""
    sampler = Sampler(SamplerConfig("rate_limiting", keep=(KeepRule(status="error"),)))
    batches = [
        batch_of([S(1000 * t + i, status="error" if i % 7 == 0 else "ok") for i in range(50)])
        for t in range(8)
    ]
    threads = [
        threading.Thread(target=lambda b=b: [sampler.sample(b) for _ in range(20)]) for b in batches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sampler.sampled_count + sampler.dropped_count == 8 * 50 * 20


def as_ids(numbers: list[int]) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """Return ids that differ in their last bytes only."""
    raw = b"".join(n.to_bytes(16) for n in numbers)
    return np.frombuffer(raw, dtype=np.uint8).reshape(-1, 16).copy()


def test_the_memory_holds_the_traces_used_last() -> None:
    """The last `capacity` ids are always found, and memory does not grow."""
    cache = DecisionCache(64, seed=1)
    for start in range(0, 3000, 10):
        numbers = list(range(start, start + 10))
        cache.put(as_ids(numbers), np.array(numbers, dtype=np.float64))
        recent = list(range(max(0, start - 54), start + 10))
        assert cache.find(as_ids(recent)).tolist() == recent
        assert len(cache) <= 128
    assert np.isnan(cache.find(as_ids([0, 5]))).all()


def test_a_batch_larger_than_the_memory_is_taken() -> None:
    """1,000 new ids in a memory of 64: the last ones stay."""
    cache = DecisionCache(64, seed=1)
    numbers = list(range(1000))
    cache.put(as_ids(numbers), np.array(numbers, dtype=np.float64))
    assert cache.find(as_ids(numbers[-64:])).tolist() == numbers[-64:]


@given(
    st.lists(
        st.tuples(st.booleans(), st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True)),
        max_size=40,
    )
)
@settings(max_examples=60, deadline=None)
def test_the_memory_agrees_with_a_model(steps: list[tuple[bool, list[int]]]) -> None:
    """What is found is the last value that was put; the 8 ids used last are always found."""
    cache = DecisionCache(8, seed=2)
    values: dict[int, float] = {}
    used: list[int] = []
    for number, (put, ids) in enumerate(steps):
        if put:
            cache.put(as_ids(ids), np.full(len(ids), float(number)))
            values.update(dict.fromkeys(ids, float(number)))
            used = [i for i in used if i not in ids] + ids
        else:
            found = cache.find(as_ids(ids))
            known = [i for i, value in zip(ids, found, strict=True) if not np.isnan(value)]
            for i, value in zip(ids, found.tolist(), strict=True):
                assert np.isnan(value) or value == values[i]
            certain = set(used[-8:]) if len(ids) == 1 else set()
            assert certain & set(ids) <= set(known)
            used = [i for i in used if i not in known] + known
