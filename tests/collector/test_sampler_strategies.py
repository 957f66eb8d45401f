"""The strategies: which traces are kept, with which probability, whatever the ids look like."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyflare_collector.config import SamplerConfig, SamplerMode, SamplerStrategy
from pyflare_collector.sampler import RuleCount, Sampler, SpanView
from pyflare_collector.sampler.kernels import hash_traces
from pyflare_proto.errors import ConfigError, InvalidDataError
from tests.collector.sampler_helpers import Clock, S, batch_of, ids_batch, random_ids

MODES: tuple[SamplerMode, ...] = ("consistent", "fnv")
N = 10_000


def probabilistic(p: float, mode: SamplerMode = "consistent") -> Sampler:
    """Return a sampler that keeps a share of the traces."""
    return Sampler(SamplerConfig("probabilistic", mode, p))


@cache
def families() -> dict[str, list[bytes]]:
    """Return ids as they are found: random, counters, and counters behind a prefix."""
    rng = np.random.default_rng(11)
    return {
        "random": random_ids(N),
        "counter": [i.to_bytes(16) for i in range(1, N + 1)],
        "prefix": [b"\xde\xad\xbe\xef\x01\x02\x03\x04" + i.to_bytes(8) for i in range(N)],
        "repeated": [b"\xaa" * 12 + i.to_bytes(4) for i in range(N)],
        "little": [b"trace-id" + i.to_bytes(8, "little") for i in range(N)],
        "epoch": [(1_760_000_000 + i // 50).to_bytes(4) + rng.bytes(12) for i in range(N)],
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", list(families()))
def test_the_share_holds_for_every_family_of_ids(mode: SamplerMode, family: str) -> None:
    """At 10 %, |share - 0.1| stays below 5 standard deviations (0.015) of a fair sampler."""
    keep = probabilistic(0.1, mode).sample(ids_batch(families()[family])).keep
    assert abs(keep.mean() - 0.1) < 5 * np.sqrt(0.1 * 0.9 / N)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("family", ["random", "counter", "prefix", "repeated"])
def test_decisions_look_independent_of_the_order_of_ids(mode: SamplerMode, family: str) -> None:
    """Chi-square of kept traces over 20 runs of 500 consecutive ids: p above 1e-6 (df 19)."""
    keep = probabilistic(0.2, mode).sample(ids_batch(families()[family])).keep
    per_run = keep.reshape(20, -1).sum(axis=1)
    expected = N / 20 * 0.2
    statistic = (((per_run - expected) ** 2) / (expected * 0.8)).sum()
    assert statistic < 64.6


@pytest.mark.parametrize("mode", MODES)
@given(low=st.floats(0, 1), high=st.floats(0, 1))
@settings(max_examples=30)
def test_a_trace_kept_at_a_share_is_kept_at_every_larger_one(
    mode: SamplerMode, low: float, high: float
) -> None:
    """Monotone in p, on random ids and on counters."""
    low, high = sorted((low, high))
    fewer = probabilistic(low, mode).sample(MIXED).keep
    more = probabilistic(high, mode).sample(MIXED).keep
    assert not (fewer & ~more).any()


MIXED = ids_batch(random_ids(300) + [i.to_bytes(16) for i in range(1, 300)])


@pytest.mark.parametrize("mode", MODES)
def test_nothing_and_everything_are_exact(mode: SamplerMode) -> None:
    """P = 0 keeps none, p = 1 keeps all with probability 1 and writes no tracestate."""
    none = probabilistic(0.0, mode).sample(MIXED)
    assert not none.keep.any()
    everything = probabilistic(1.0, mode).sample(MIXED)
    assert everything.keep.all()
    assert (everything.probability == 1.0).all()
    assert everything.trace_state is None


@pytest.mark.parametrize("mode", MODES)
def test_the_smallest_share_keeps_nothing_by_rounding(mode: SamplerMode) -> None:
    """1e-18 is not rounded up to a share that keeps spans."""
    assert not probabilistic(1e-18, mode).sample(MIXED).keep.any()


@pytest.mark.parametrize("mode", MODES)
def test_the_recorded_probability_is_the_configured_one(mode: SamplerMode) -> None:
    """0.1 is recorded in double precision: float32 would say 0.10000000149."""
    decision = probabilistic(0.1, mode).sample(MIXED)
    assert decision.probability.dtype == np.float64
    assert np.abs(decision.probability - 0.1).max() < 1e-16


@pytest.mark.parametrize("mode", MODES)
def test_all_spans_of_a_trace_share_its_decision(mode: SamplerMode) -> None:
    """Whatever their order, batch, parent, status or service."""
    ids = random_ids(200)
    rng = np.random.default_rng(2)
    spans = [
        S(trace, root=bool(rng.integers(2)), service=f"s{rng.integers(3)}", status="error",
          duration_ms=float(rng.integers(1000)))
        for trace in ids for _ in range(5)
    ]  # fmt: skip
    order = rng.permutation(len(spans))
    sampler = probabilistic(0.3, mode)
    first = sampler.sample(batch_of([spans[i] for i in order])).keep
    by_trace: dict[int, set[bool]] = {}
    for position, kept in zip(order.tolist(), first.tolist(), strict=True):
        by_trace.setdefault(position // 5, set()).add(kept)
    assert all(len(decisions) == 1 for decisions in by_trace.values())
    alone = probabilistic(0.3, mode).sample(ids_batch(ids)).keep
    assert [by_trace[i].pop() for i in range(200)] == alone.tolist()


@pytest.mark.parametrize("mode", MODES)
def test_another_process_decides_alike(mode: SamplerMode) -> None:
    """Nothing of the process (hash seed, memory, order) is in a decision."""
    ids = random_ids(50, seed=3) + [i.to_bytes(16) for i in range(1, 50)]
    program = (
        "import sys\n"
        "from pyflare_collector.config import SamplerConfig\n"
        "from pyflare_collector.sampler import Sampler, SpanView\n"
        "sampler = Sampler(SamplerConfig('probabilistic', sys.argv[1], 0.4))\n"
        "print(''.join('01'[sampler.should_sample(SpanView(i))] for i in sys.argv[2:]))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, mode, *(i.hex() for i in ids)],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": "77"},
    )
    here = probabilistic(0.4, mode).sample(ids_batch(ids)).keep
    assert run.stdout.strip() == "".join("01"[int(k)] for k in here)


@given(st.binary(min_size=16, max_size=16))
def test_the_hash_is_fnv_1a_finished_with_fmix64(trace: bytes) -> None:
    """The compiled hash equals its definition in Python integers."""
    value = 0xCBF29CE484222325
    for byte in trace:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    for multiplier in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        value = (value ^ value >> 33) * multiplier % 2**64
    value ^= value >> 33
    out = np.empty(1, dtype=np.uint64)
    hash_traces(np.frombuffer(trace, dtype=np.uint8).reshape(1, 16).copy(), out)
    assert int(out[0]) == value


def test_ids_marked_as_random_are_taken_at_their_word() -> None:
    """With the random flag, `rv` or `th`, a counter is not hashed: the plain rule holds."""
    counter = (5).to_bytes(16)
    sampler = probabilistic(0.9)
    assert not sampler.sample(batch_of([S(counter, flags=0x103)])).keep[0]
    assert not sampler.sample(batch_of([S(counter, state="ot=th:0")])).keep[0]
    assert sampler.sample(batch_of([S(counter, state="ot=rv:ffffffffffffff")])).keep[0]


def test_a_hashed_id_says_so_in_its_tracestate() -> None:
    """`rv` is added for ids that are evidently not random, so later samplers decide alike."""
    ids = [i.to_bytes(16) for i in range(1, 200)]
    first = probabilistic(0.5).sample(ids_batch(ids))
    states = [s for s in first.trace_state or [] if s is not None]
    assert len(states) == first.keep.sum() > 50
    assert all(b";rv:" in state for state in states)
    kept = [trace for trace, keep in zip(ids, first.keep, strict=True) if keep]
    again = batch_of([S(t, state=s.decode()) for t, s in zip(kept, states, strict=True)])
    assert probabilistic(0.5).sample(again).keep.all()


@pytest.mark.parametrize(("strategy", "kept"), [("always_on", True), ("always_off", False)])
def test_always(strategy: SamplerStrategy, *, kept: bool) -> None:
    """Everything or nothing, counted, whatever priority says."""
    sampler = Sampler(SamplerConfig(strategy))
    decision = sampler.sample(
        batch_of([S(1), S(2, attributes={"sampling.priority": int(not kept)})])
    )
    assert decision.keep.tolist() == [kept, kept]
    counts = RuleCount(2 * kept, 2 * (not kept))
    assert decision.counts == {strategy: counts} == sampler.get_rule_counts()
    assert (sampler.get_sampled_count(), sampler.get_dropped_count()) == tuple(counts)
    assert (sampler.sampled_count, sampler.dropped_count) == tuple(counts)


def test_composite_uses_the_rate_of_each_service() -> None:
    """Listed services have their own share, the others `probability`; the rule is recorded."""
    config = SamplerConfig(
        "composite", probability=0.5, service_rates={"critical": 1.0, "chatty": 0.01, "off": 0.0}
    )
    ids = random_ids(2000)
    for service, low, high, rule in [
        ("critical", 1.0, 1.0, "service_rates"),
        ("chatty", 0.002, 0.02, "service_rates"),
        ("off", 0.0, 0.0, "service_rates"),
        ("other", 0.45, 0.55, "composite"),
        ("", 0.45, 0.55, "composite"),
    ]:
        decision = Sampler(config).sample(batch_of([S(t, service=service) for t in ids]))
        assert low <= decision.keep.mean() <= high
        assert set(decision.counts) == {rule}
    mixed = Sampler(config).sample(batch_of([S(t, service="critical") for t in ids[:3]] + [S(7)]))
    assert mixed.probability.tolist() == [1.0, 1.0, 1.0, 0.5]


@pytest.mark.parametrize("strategy", ["always_off", "rate_limiting", "parent_based"])
def test_service_rates_stand_before_every_strategy(strategy: SamplerStrategy) -> None:
    """A critical service is kept whatever the strategy says, and takes no tokens."""
    config = SamplerConfig(
        strategy, probability=0.0, traces_per_second=1, service_rates={"critical": 1.0}
    )
    sampler = Sampler(config, clock=Clock())
    decision = sampler.sample(batch_of([S(i, service="critical") for i in range(50)]))
    assert decision.keep.all()
    rest = sampler.sample(batch_of([S(100)]))
    assert rest.keep.tolist() == [strategy == "rate_limiting"]


def limited(rate: float) -> tuple[Sampler, Clock]:
    """Return a rate-limiting sampler and its clock."""
    clock = Clock()
    return Sampler(SamplerConfig("rate_limiting", traces_per_second=rate), clock=clock), clock


def test_the_bucket_admits_its_burst_and_then_its_rate() -> None:
    """10 a second: 10 at once, none, 5 after half a second, 10 again after a minute."""
    sampler, clock = limited(10)
    numbers = iter(range(10_000))
    kept = []
    for elapsed in (0.0, 0.0, 0.5, 0.05, 0.05, 60.0):
        clock.now += elapsed
        batch = batch_of([S(next(numbers)) for _ in range(40)])
        kept.append(int(sampler.sample(batch).keep.sum()))
    assert kept == [10, 0, 5, 0, 1, 10]


def test_a_rate_below_one_admits_a_first_trace() -> None:
    """One trace in ten seconds: the burst is at least one."""
    sampler, clock = limited(0.1)
    kept = []
    for number in range(21):
        kept.append(bool(sampler.sample(batch_of([S(number)])).keep[0]))
        clock.now += 1
    assert [i for i, keep in enumerate(kept) if keep] == [0, 10, 20]


@given(
    st.floats(0.5, 50),
    st.lists(st.tuples(st.integers(0, 12), st.floats(0, 2)), min_size=1, max_size=25),
)
@settings(max_examples=60, deadline=None)
def test_admissions_and_weights(rate: float, steps: list[tuple[int, float]]) -> None:
    """Any window admits at most burst + rate * window; weights add up to what was offered."""
    sampler, clock = limited(rate)
    numbers = iter(range(10_000))
    log: list[tuple[float, int]] = []
    offered, pending, weight = 0, 0, 0.0
    for size, elapsed in steps:
        clock.now += elapsed
        decision = sampler.sample(batch_of([S(next(numbers)) for _ in range(size)]))
        kept = int(decision.keep.sum())
        log.append((clock.now, kept))
        offered += size
        weight += float((1 / decision.probability[decision.keep]).sum())
        pending = 0 if kept else pending + size
    assert weight == pytest.approx(offered - pending)
    for first in range(len(log)):
        for last in range(first, len(log)):
            window = log[last][0] - log[first][0]
            admitted = sum(kept for _, kept in log[first : last + 1])
            assert admitted <= max(1.0, rate) + rate * window + 1e-6


def test_a_trace_keeps_its_admission() -> None:
    """Late spans of admitted and of refused traces follow, and take no tokens."""
    sampler, clock = limited(5)
    traces = list(range(20))
    first = sampler.sample(batch_of([S(t) for t in traces]))
    clock.now += 100
    late = sampler.sample(batch_of([S(t, root=False) for t in traces for _ in range(2)]))
    assert late.keep.tolist() == np.repeat(first.keep, 2).tolist()
    assert set(late.probability[late.keep].tolist()) == {0.25}
    assert sampler.sample(batch_of([S(t) for t in range(100, 140)])).keep.sum() == 5


def test_which_traces_are_admitted_is_no_matter_of_place() -> None:
    """The admitted ones of a batch are spread over it, not its first."""
    sampler, _ = limited(50)
    keep = sampler.sample(batch_of([S(t) for t in range(1000)])).keep
    assert keep.sum() == 50
    assert 10 < keep[:500].sum() < 40


def parents(spans: Sequence[S], p: float = 0.0) -> NDArray[np.bool_]:
    """Return the decisions of a parent-based sampler."""
    return Sampler(SamplerConfig("parent_based", probability=p)).sample(batch_of(spans)).keep


@pytest.mark.parametrize(
    ("span", "kept"),
    [
        (S(1), False),
        (S(1, attributes={"pyflare.parent.sampled": True}), False),
        (S(1, root=False), True),
        (S(1, root=False, attributes={"pyflare.parent.sampled": True}), True),
        (S(1, root=False, attributes={"pyflare.parent.sampled": False}), False),
        (S(1, root=False, attributes={"pyflare.parent.sampled": "false"}), False),
        (S(1, root=False, flags=0x100), True),
        (S(1, root=False, flags=0x101), True),
        (S(1, root=False, flags=0x102), False),
        (S(1, root=False, flags=0x103), True),
        (S(1, root=False, flags=0x102, attributes={"pyflare.parent.sampled": True}), True),
    ],
)
def test_spans_with_a_parent_follow_it(span: S, *, kept: bool) -> None:
    """Roots by the root's share (0 here), others by attribute, flags, else kept."""
    assert parents([span]).tolist() == [kept]


def test_a_root_that_was_decided_here_decides_for_its_trace() -> None:
    """In the same batch and in later ones, unless the span knows better."""
    sampler = Sampler(SamplerConfig("parent_based", probability=0.0))
    now = sampler.sample(
        batch_of([S(1, root=False), S(1), S(2, root=False),
                  S(1, root=False, attributes={"pyflare.parent.sampled": True})])
    )  # fmt: skip
    assert now.keep.tolist() == [False, False, True, True]
    later = sampler.sample(batch_of([S(1, root=False, flags=0x101), S(2, root=False)]))
    assert later.keep.tolist() == [False, True]


def test_priority_is_the_applications_word() -> None:
    """Above 0 keeps the trace with probability 1, 0 drops it, late spans included."""
    sampler = probabilistic(0.0)
    first = sampler.sample(
        batch_of([S(1), S(1, attributes={"sampling.priority": 1}), S(2),
                  S(3, attributes={"sampling.priority": 0.5}),
                  S(4, attributes={"sampling.priority": "2"})])
    )  # fmt: skip
    assert first.keep.tolist() == [True, True, False, True, True]
    assert first.probability[first.keep].tolist() == [1.0] * 4
    assert sampler.sample(batch_of([S(1), S(2)])).keep.tolist() == [True, False]
    everything = probabilistic(1.0)
    unwanted = everything.sample(batch_of([S(1), S(1, attributes={"sampling.priority": 0}), S(2)]))
    assert unwanted.keep.tolist() == [False, False, True]
    assert everything.sample(batch_of([S(1)])).keep.tolist() == [False]
    assert unwanted.counts["sampling.priority"].dropped >= 1


def test_one_span_is_decided_like_a_batch_of_one() -> None:
    """`should_sample` and `sample` agree and count together."""
    sampler = probabilistic(0.5)
    ids = random_ids(100)
    batch = sampler.sample(ids_batch(ids)).keep
    one = [sampler.should_sample(SpanView(trace.hex())) for trace in ids]
    assert one == batch.tolist()
    assert sampler.sampled_count + sampler.dropped_count == 200
    assert sampler.sampled_count == 2 * batch.sum()


@pytest.mark.parametrize(
    "span",
    [
        SpanView("abc"),
        SpanView("z" * 32),
        SpanView("0" * 31 + "1", parent_span_id="12"),
        SpanView("0" * 31 + "1", status_code="broken"),
    ],
)
def test_a_span_that_is_none_is_refused(span: SpanView) -> None:
    """Bad ids and unknown statuses are errors, not decisions."""
    with pytest.raises(InvalidDataError):
        probabilistic(0.5).should_sample(span)


@pytest.mark.parametrize(
    "config",
    [
        SamplerConfig("probabilistic", probability=1.5),
        SamplerConfig("probabilistic", probability=float("nan")),
        SamplerConfig("rate_limiting", traces_per_second=0),
        SamplerConfig("composite", service_rates={"a": -0.1}),
    ],
)
def test_impossible_settings_are_refused(config: SamplerConfig) -> None:
    """Probabilities outside 0 to 1 and rates that admit nothing are configuration errors."""
    with pytest.raises(ConfigError, match="sampler"):
        Sampler(config)


@pytest.mark.parametrize("strategy", ["always_on", "probabilistic", "rate_limiting"])
def test_an_empty_batch_is_decided(strategy: SamplerStrategy) -> None:
    """No spans, no decision, no count."""
    sampler = Sampler(SamplerConfig(strategy))
    decision = sampler.sample(batch_of([]))
    assert len(decision.keep) == 0
    assert decision.counts == {}
    assert sampler.sampled_count == 0
