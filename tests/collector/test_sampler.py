"""The sampler's strategies: who is kept, with which weight, and what is counted."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.config import KeepRule, SamplerConfig, SamplerStrategy
from pyflare_collector.sampler import RuleCount, Sampler, SamplingDecision, SpanView
from pyflare_collector.sampler.cache import DecisionCache
from pyflare_proto.errors import ConfigError, InvalidDataError
from tests.collector.sampler_spans import TestSpan, batch_of, counter_ids, ids_batch, span

STRATEGIES: tuple[SamplerStrategy, ...] = (
    "always_on", "always_off", "probabilistic", "rate_limiting", "parent_based", "composite",
)  # fmt: skip
ERRORS = (KeepRule(status="error"),)


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def limited(rate: float, clock: Clock, **other: object) -> Sampler:
    """Return a rate-limiting sampler on a clock of its own."""
    config = SamplerConfig(strategy="rate_limiting", traces_per_second=rate, **other)  # type: ignore[arg-type]  # further fields of the config
    return Sampler(config, clock=clock)


def keep_of(sampler: Sampler, *spans: TestSpan) -> list[bool]:
    """Return which spans of one request are kept."""
    return sampler.sample(batch_of(spans)).keep.tolist()


def dropped_trace(sampler: Sampler) -> int:
    """Return the number of a trace that the sampler drops by itself."""
    return next(number for number in range(10_000) if keep_of(sampler, span(number)) == [False])


def test_always_on_and_always_off() -> None:
    """All with probability 1, or none; `sampling.priority` changes neither."""
    spans = [span(1, attributes={"sampling.priority": 0}), span(2)]
    on, off = (Sampler(SamplerConfig(strategy=s)) for s in ("always_on", "always_off"))

    assert keep_of(on, *spans) == [True, True]
    assert on.sample(batch_of(spans)).probability.tolist() == [1.0, 1.0]
    assert keep_of(off, *spans, span(3, attributes={"sampling.priority": 1})) == [False] * 3


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_nothing_to_decide(strategy: SamplerStrategy) -> None:
    """An empty batch has an empty answer and counts nothing."""
    sampler = Sampler(SamplerConfig(strategy=strategy, keep=ERRORS))
    decision = sampler.sample(batch_of([]))

    assert len(decision.keep) == len(decision.probability) == len(decision.rule) == 0
    assert (sampler.get_sampled_count(), sampler.get_dropped_count()) == (0, 0)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("mode", ["consistent", "fnv"])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_one_decision_for_all_spans_of_a_trace(
    strategy: SamplerStrategy, mode: str, data: st.DataObject
) -> None:
    """However a trace's spans are spread over requests, all are kept or all dropped."""
    config = SamplerConfig(strategy=strategy, mode=mode, probability=0.5, traces_per_second=3)  # type: ignore[arg-type]  # both modes
    sampler = Sampler(config, clock=Clock())
    requests = data.draw(
        st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=12), min_size=1, max_size=5)
    )
    verdicts: dict[int, set[bool]] = {}
    for request in requests:
        kept = keep_of(sampler, *(span(number) for number in request))
        for number, verdict in zip(request, kept, strict=True):
            verdicts.setdefault(number, set()).add(verdict)

    assert all(len(seen) == 1 for seen in verdicts.values())


@pytest.mark.parametrize("mode", ["consistent", "fnv"])
def test_another_process_decides_alike(mode: str) -> None:
    """The decision depends on the id and the probability only: no seed of a process enters."""
    code = (
        "from pyflare_collector.sampler import Sampler; "
        "from pyflare_collector.config import SamplerConfig; "
        "from tests.collector.sampler_spans import ids_batch, counter_ids; "
        f"c = SamplerConfig(strategy='probabilistic', probability=0.3, mode={mode!r}); "
        "keep = Sampler(c).sample(ids_batch(counter_ids(500))).keep; "
        "print(''.join('01'[k] for k in keep.tolist()))"
    )
    root = __file__.rsplit("/tests/", 1)[0]
    script = f"import sys; sys.path[:0] = {[root, *sys.path]!r}; {code}"
    there = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.strip()
    config = SamplerConfig(strategy="probabilistic", probability=0.3, mode=mode)  # type: ignore[arg-type]  # both modes
    here = Sampler(config).sample(ids_batch(counter_ids(500))).keep

    assert there == "".join("01"[k] for k in here.tolist())
    assert 100 < here.sum() < 200


@settings(max_examples=40, deadline=None)
@given(
    rate=st.sampled_from([0.25, 1.0, 2.5, 7.0]),
    steps=st.lists(st.tuples(st.floats(0, 4), st.integers(1, 20)), min_size=1, max_size=25),
)
def test_rate_limit_over_every_window(rate: float, steps: list[tuple[float, int]]) -> None:
    """In any window at most burst + rate * seconds traces are admitted, whatever arrives when."""
    clock = Clock()
    sampler = limited(rate, clock)
    burst = max(1.0, rate)
    admitted: list[tuple[float, int]] = []
    number = 0
    for wait, count in steps:
        clock.now += wait
        kept = sampler.sample(ids_batch(counter_ids(count, b"\x07" * 8, first=number + 1))).keep
        number += count
        admitted.append((clock.now, int(kept.sum())))
    for start in range(len(admitted)):
        total = 0
        for now, count in admitted[start:]:
            total += count
            assert total <= burst + rate * (now - admitted[start][0]) + 1e-6


@settings(max_examples=40, deadline=None)
@given(steps=st.lists(st.tuples(st.floats(0, 4), st.integers(1, 20)), min_size=1, max_size=25))
def test_weights_add_up_to_the_traces_offered(steps: list[tuple[float, int]]) -> None:
    """After each admission the sum of 1/probability is the number of traces so far, exactly."""
    clock = Clock()
    sampler = limited(2, clock)
    offered, weights = 0, 0.0
    for wait, count in steps:
        clock.now += wait
        batch = ids_batch(counter_ids(count, b"\x07" * 8, first=offered + 1))
        decision = sampler.sample(batch)
        offered += count
        if decision.keep.any():
            weights += float((1 / decision.probability[decision.keep]).sum())
            assert weights == pytest.approx(offered, rel=1e-12)
        else:
            assert weights < offered


def test_rate_limit_by_hand() -> None:
    """2 a second, burst 2: of 10 traces 2 (weight 5), then none, and after 1 s 2 of 4 + 3 dropped.

    Weights: 2 * 5 = 10; 3 dropped; (4 + 3) / 2 = 3.5 each, 10 + 7 = 17 = 10 + 3 + 4.
    """
    clock = Clock()
    sampler = limited(2, clock)
    first = sampler.sample(ids_batch(counter_ids(10)))
    assert first.keep.sum() == 2
    assert first.probability[first.keep].tolist() == [0.2, 0.2]
    assert not sampler.sample(ids_batch(counter_ids(3, first=100))).keep.any()
    clock.now += 1
    third = sampler.sample(ids_batch(counter_ids(4, first=200)))
    assert third.keep.sum() == 2
    assert third.probability[third.keep].tolist() == [2 / 7, 2 / 7]


def test_late_spans_of_a_limited_trace_follow_it() -> None:
    """A decided trace costs no token again, keeps its probability, and a dropped one stays out."""
    clock = Clock()
    sampler = limited(1, clock)
    first = sampler.sample(batch_of([span(1), span(2), span(1)]))
    assert first.keep.tolist() in ([True, False, True], [False, True, False])
    clock.now += 100
    again = sampler.sample(batch_of([span(2), span(1)]))

    assert again.keep.tolist() == [first.keep[1], first.keep[0]]
    assert again.probability[again.keep].tolist() == [0.5]
    assert keep_of(sampler, span(3)) == [True]


def test_a_clock_that_steps_back_gives_no_tokens() -> None:
    """Time that is told twice fills the bucket once."""
    clock = Clock()
    sampler = limited(1, clock)
    assert keep_of(sampler, span(1)) == [True]
    clock.now -= 500
    assert keep_of(sampler, span(2)) == [False]
    clock.now += 500
    assert keep_of(sampler, span(3)) == [False]
    clock.now += 1
    assert keep_of(sampler, span(4)) == [True]


def test_limited_traces_lose_th_as_their_share_is_of_the_moment() -> None:
    """A bucket's probability is no threshold: `th` is erased, and its share multiplied in."""
    sampler = limited(1, Clock())
    spans = [span(n, state="ot=th:8;rv:ffffffffffffff") for n in (1, 2)]
    decision = sampler.sample(batch_of(spans))
    states = decision.trace_state

    assert decision.probability[decision.keep].tolist() == [0.25]
    assert states is not None
    assert [s for s in states if s is not None] == [b"ot=rv:ffffffffffffff"]


def test_parents_decide_for_their_children() -> None:
    """The attribute, then the sampled bit where flags are sent, else kept; roots by probability."""
    config = SamplerConfig(strategy="parent_based", probability=0.0)
    spans = [
        span(1),
        span(2, parent=9),
        span(3, parent=9, flags=0x01),
        span(4, parent=9, flags=0x02),
        span(5, parent=9, flags=0x100),
        span(6, parent=9, flags=0x01, attributes={"pyflare.parent.sampled": False}),
        span(7, parent=9, flags=0x02, attributes={"pyflare.parent.sampled": True}),
        span(8, parent=9, attributes={"pyflare.parent.sampled": "false"}),
        span(9, attributes={"pyflare.parent.sampled": True}),
    ]

    kept = keep_of(Sampler(config), *spans)

    assert kept == [False, True, True, False, True, False, True, False, False]


def test_children_follow_a_root_that_was_decided_here() -> None:
    """With the root in the batch or seen before, a child has the root's decision and weight."""
    sampler = Sampler(SamplerConfig(strategy="parent_based", probability=0.25))
    roots = [span(n) for n in range(200)]
    children = [span(n, parent=9) for n in range(200)]
    together = sampler.sample(batch_of([*roots, *children]))
    later = sampler.sample(batch_of(children))

    assert together.keep[:200].tolist() == together.keep[200:].tolist() == later.keep.tolist()
    assert 20 < together.keep[:200].sum() < 90
    assert set(together.probability[together.keep].tolist()) == {0.25}
    assert set(later.probability[later.keep].tolist()) == {0.25}


def test_composite_has_a_share_per_service() -> None:
    """Each service's own share, everyone else the default; the weights say which."""
    config = SamplerConfig(
        strategy="composite", probability=0.5, service_rates={"vital": 1.0, "loud": 0.01}
    )
    spans = [span(n, service=s) for n in range(600) for s in ("vital", "loud", "other")]
    decision = Sampler(config).sample(batch_of(spans))
    vital, loud, other = (decision.keep[place::3] for place in range(3))

    assert vital.all()
    assert loud.sum() < 25
    assert 240 < other.sum() < 360
    assert not (loud & ~other).any(), "the smaller share lies in the larger"
    assert set(decision.probability[0::3].tolist()) == {1.0}
    assert np.allclose(decision.probability[1::3][loud], 0.01, rtol=1e-12)
    assert set(decision.probability[2::3][other].tolist()) == {0.5}
    assert set(decision.counts) == {"composite", "service_rates"}


@pytest.mark.parametrize("strategy", ["always_off", "rate_limiting", "parent_based"])
def test_service_rates_stand_before_every_strategy(strategy: SamplerStrategy) -> None:
    """A service with the rate 1 is kept, and one with 0 dropped, where the strategy says else."""
    config = SamplerConfig(
        strategy=strategy, traces_per_second=1e6, service_rates={"vital": 1.0, "mute": 0.0}
    )
    sampler = Sampler(config, clock=Clock())

    assert keep_of(sampler, span(1, service="vital"), span(2, service="mute", parent=4)) == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (KeepRule(status="error"), {"error": True}, {}),
        (KeepRule(duration_ms_above=100), {"duration_ms": 100.001}, {"duration_ms": 100.0}),
        (
            KeepRule(status="error", duration_ms_above=100),
            {"error": True, "duration_ms": 101.0},
            {"error": True},
        ),
    ],
)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_keep_rules_hold_whatever_the_strategy_says(
    strategy: SamplerStrategy, rule: KeepRule, good: dict[str, object], bad: dict[str, object]
) -> None:
    """A span that meets all conditions is kept for certain, its trace with it, then and later."""
    config = SamplerConfig(
        strategy=strategy, probability=0.0, traces_per_second=1e-9, service_rates={"x": 0.0},
        keep=(rule,),
    )  # fmt: skip
    clock = Clock()
    sampler = Sampler(config, clock=clock)
    sampler.sample(batch_of([span(100)]))  # takes the one token of the bucket
    decision = sampler.sample(
        batch_of([span(1), span(1, parent=1, service="x", **good), span(2, service="x", **bad)])
    )

    assert decision.keep[:2].all()
    assert decision.probability[:2].tolist() == [1.0, 1.0]
    assert not decision.keep[2]
    assert decision.counts["keep[0]"] == RuleCount(1, 0)
    assert decision.counts["keep.trace"] == RuleCount(1, 0)
    later = sampler.sample(batch_of([span(1, parent=1, service="x")]))
    assert later.keep.tolist() == [True]
    assert later.probability.tolist() == [1.0]


def test_a_rule_on_cost_asks_for_costs_only_then() -> None:
    """Over 0.5 USD is kept, at 0.5 and unknown not; costs are computed once, and only if needed."""
    config = SamplerConfig(strategy="always_off", keep=(KeepRule(cost_usd_above=0.5),) * 2)
    asked: list[int] = []

    def cost() -> np.ndarray:
        asked.append(1)
        return np.array([500_000_000.0, 500_000_001.0, np.nan])

    batch = batch_of([span(1), span(2), span(3)])
    assert Sampler(config).sample(batch, cost).keep.tolist() == [False, True, False]
    assert asked == [1]
    assert not Sampler(config).sample(batch).keep.any()
    own = Sampler(config, cost=lambda b: np.full(len(b), 6e8))
    assert own.sample(batch).keep.all()
    plain = Sampler(SamplerConfig(strategy="always_off", keep=ERRORS))
    plain.sample(batch, cost)
    assert asked == [1]


def test_many_rules_each_count_for_themselves() -> None:
    """The first rule that matches is the one that counts, also with more than 127 rules."""
    rules = tuple(KeepRule(duration_ms_above=1000.0 - n) for n in range(300))
    sampler = Sampler(SamplerConfig(strategy="always_off", keep=rules))
    decision = sampler.sample(batch_of([span(1, duration_ms=701.5), span(2, duration_ms=2000.0)]))

    assert decision.counts == {"keep[299]": RuleCount(1, 0), "keep[0]": RuleCount(1, 0)}


@pytest.mark.parametrize("value", [1, 5, 1.0, True, "1"])
def test_priority_keeps_a_trace(value: object) -> None:
    """`sampling.priority` above 0 keeps the span's trace, of any type that says so."""
    sampler = Sampler(SamplerConfig(strategy="probabilistic", probability=0.0))
    decision = sampler.sample(
        batch_of([span(1, attributes={"sampling.priority": value}), span(1, parent=1), span(2)])
    )

    assert decision.keep.tolist() == [True, True, False]
    assert decision.probability[:2].tolist() == [1.0, 1.0]
    assert keep_of(sampler, span(1, parent=1)) == [True]


@pytest.mark.parametrize("value", [0, 0.0, False, "0", -1])
def test_priority_drops_a_trace(value: object) -> None:
    """`sampling.priority` of 0 drops the span's trace; a rule of `keep` counts more."""
    sampler = Sampler(SamplerConfig(strategy="probabilistic", probability=1.0, keep=ERRORS))
    priority = {"sampling.priority": value}
    spans = [span(1, attributes=priority), span(1, parent=1), span(2),
             span(3, attributes=priority), span(3, parent=1, error=True)]  # fmt: skip

    assert keep_of(sampler, *spans) == [False, False, True, True, True]
    assert keep_of(sampler, span(1, parent=1), span(3, parent=1)) == [False, True]
    assert sampler.get_rule_counts()["sampling.priority"].dropped == 3


@pytest.mark.parametrize("value", ["soon", "", b"1", [1]])
def test_a_priority_that_is_no_number_is_none(value: object) -> None:
    """What cannot be read as a number changes nothing."""
    spans = [span(1, attributes={"sampling.priority": value})]

    assert keep_of(Sampler(SamplerConfig(strategy="probabilistic", probability=0.0)), *spans) == [
        False
    ]
    assert keep_of(Sampler(SamplerConfig(strategy="probabilistic", probability=1.0)), *spans) == [
        True
    ]


def test_forced_and_sampled_spans_estimate_the_total() -> None:
    """Sums weighted by 1/probability meet the truth: 20,000 traces, a tenth of them errors.

    Errors count once each; the 18,000 others at p = 0.2 with standard deviation
    sqrt(18000 * 0.8 / 0.2) = 268; 5 sigma are 1342.
    """
    ids = np.random.default_rng(77).integers(0, 256, (20_000, 16)).astype(np.uint8)
    status = np.zeros(20_000, np.int32)
    status[::10] = 2
    batch = dataclasses.replace(ids_batch(ids), status_code=status)
    config = SamplerConfig(strategy="probabilistic", probability=0.2, keep=ERRORS)
    decision = Sampler(config).sample(batch)
    weights = 1 / decision.probability[decision.keep]

    assert decision.keep[::10].all()
    assert abs(weights.sum() - 20_000) < 1342
    assert decision.counts["keep[0]"] == RuleCount(2000, 0)


def test_counters_add_up() -> None:
    """Kept and dropped, in all and by rule, are those of the decisions, from every thread."""
    config = SamplerConfig(strategy="composite", probability=0.5, keep=ERRORS,
                           service_rates={"loud": 0.1})  # fmt: skip
    sampler = Sampler(config)
    batches = [
        batch_of([span(n * 50 + i, error=i % 7 == 0, service=("loud", "b")[i % 2])
                  for i in range(50)])
        for n in range(20)
    ]  # fmt: skip
    decisions: list[SamplingDecision] = []

    def work(part: int) -> None:
        decisions.extend(sampler.sample(batch) for batch in batches[part::4])

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = sum(int(d.keep.sum()) for d in decisions)
    rules = sampler.get_rule_counts()

    assert (sampler.sampled_count, sampler.dropped_count) == (kept, 1000 - kept)
    assert sum(c.sampled for c in rules.values()) == kept
    assert sum(c.dropped for c in rules.values()) == 1000 - kept
    assert rules["keep[0]"] == RuleCount(160, 0)
    assert set(rules) == {"composite", "service_rates", "keep[0]"}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_one_span_is_decided_as_in_a_batch(strategy: SamplerStrategy) -> None:
    """`should_sample` gives the decision of `sample`, attributes, service and status included."""
    config = SamplerConfig(
        strategy=strategy, probability=0.3, keep=(*ERRORS, KeepRule(cost_usd_above=0.5)),
        traces_per_second=1e6, service_rates={"mute": 0.0},
    )  # fmt: skip
    one, many = Sampler(config, clock=Clock()), Sampler(config, clock=Clock())
    shared: dict[str, object] = {"sampling.priority": 1, "x": "y", "f": 0.5, "b": True}
    for n in range(60):
        attributes = shared if n % 10 == 9 else {}
        item = span(n, error=n % 11 == 10, service="mute" if n % 3 else "loud",
                    parent=n % 2, attributes=attributes, flags=n % 3)  # fmt: skip
        view = SpanView(
            item.trace.hex(),
            parent_span_id=f"{item.parent:016x}" if item.parent else "",
            service_name=item.service,
            status_code="error" if item.error else "unset",
            duration_ms=item.duration_ms,
            attributes=attributes,  # type: ignore[arg-type]  # scalars
            flags=item.flags,
        )
        assert [one.should_sample(view)] == keep_of(many, item)
    assert one.get_sampled_count() == many.get_sampled_count()
    assert one.should_sample(SpanView("ab" * 16, service_name="mute", cost_nano_usd=600_000_000))


@pytest.mark.parametrize(
    "view",
    [SpanView("12"), SpanView("zz" * 16), SpanView("12" * 16, parent_span_id="1"),
     SpanView("12" * 16, status_code="failed")],
)  # fmt: skip
def test_a_span_that_cannot_be(view: SpanView) -> None:
    """Ids of another form and unknown statuses are refused with what was given."""
    with pytest.raises(InvalidDataError):
        Sampler(SamplerConfig()).should_sample(view)


def test_a_bad_configuration_is_named() -> None:
    """The key is in the message."""
    with pytest.raises(ConfigError, match=r"sampler\.probability"):
        Sampler(SamplerConfig(strategy="probabilistic", probability=1.5))


@settings(max_examples=40, deadline=None)
@given(
    capacity=st.integers(1, 20),
    steps=st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=10, unique=True), max_size=40),
)
def test_the_memory_of_decisions_is_bounded_and_forgets_the_oldest(
    capacity: int, steps: list[list[int]]
) -> None:
    """Of any run of uses the last `capacity` traces are known; it never holds over twice that."""
    cache = DecisionCache(capacity, seed=1)
    used: list[int] = []
    for step in steps:
        ids = np.array([list(n.to_bytes(16, "big")) for n in step], dtype=np.uint8)
        found = cache.find(ids)
        recent = list(dict.fromkeys(reversed(used)))[:capacity]
        for number, value in zip(step, found.tolist(), strict=True):
            assert value == number or (np.isnan(value) and number not in recent)
        cache.put(ids, np.array(step, dtype=np.float64))
        used.extend(step)
        assert len(cache) <= 2 * capacity
