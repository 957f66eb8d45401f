"""`Sampler`: which spans are kept, decided for whole batches, whole traces at a time."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.config import SamplerConfig
from pyflare_collector.sampler.cache import DecisionCache
from pyflare_collector.sampler.consistent import MAX_THRESHOLD, probability_to_threshold
from pyflare_collector.sampler.decision import RuleCount, SamplingDecision
from pyflare_collector.sampler.facts import number_attribute, resource_names
from pyflare_collector.sampler.forced import ForcedTraces
from pyflare_collector.sampler.kernels import ABSENT, hash_traces
from pyflare_collector.sampler.limiter import TraceLimiter
from pyflare_collector.sampler.span_view import SpanView
from pyflare_collector.sampler.working import Working
from pyflare_proto.otlp.batch import OtlpBatch

__all__ = ["CostOf", "Sampler"]

CostOf = Callable[[], NDArray[np.float64]]
"""Returns (n,) costs in nano-dollars, NaN where unknown; called only when a rule asks."""

_STRATEGY, _SERVICE = 0, 1
_PARENT_SAMPLED = b"pyflare.parent.sampled"
_TRACE_FLAGS = 0xFF
_SAMPLED_FLAG = 0x01


class Sampler:
    """Decides which spans are kept. Thread-safe.

    **Order.** First the traces that are forced: a span that a rule of `keep`
    matches (all its conditions) is kept with its whole trace, and so is one with
    the attribute `sampling.priority` above 0; one with 0 is dropped with its trace
    (`keep` counts more; `always_on` and `always_off` do not look at priorities).
    Then the share of the span's service in `service_rates`, whatever the strategy.
    Then the strategy:

    - `always_on`, `always_off`.
    - `probabilistic`: a share of the traces, the same decision for all spans of a
      trace in every process. `composite` is the same with `service_rates`.
    - `rate_limiting`: a token bucket over traces, see `TraceLimiter`. A trace keeps
      its decision while it is among the `cache_size` traces used last.
    - `parent_based`: roots by `probability`; other spans as the root of their trace
      was decided here, or by the attribute `pyflare.parent.sampled` (which counts
      more), or by the sampled bit where the lowest byte of the OTLP flags is set
      at all (most exporters leave it 0), else kept.

    **Mode `consistent`** is OpenTelemetry's: kept when R >= T, equalizing: a span
    that was sampled upstream at a higher threshold keeps that one, and a `th` that
    its randomness contradicts is erased. R is `rv` when there is one, else the last
    56 bits of the trace id. Home-made ids are often a counter behind a fixed prefix,
    whose last 56 bits are all below any T: the plain rule would keep none. The
    random flag cannot tell them, as the usual exporters do not send the flags. So
    an id is taken as evidently not random when neither flag, `th` nor `rv` is there
    and three of its last seven bytes are zero (2e-6 of random ids), or bytes 12 and 13
    counted from 0 are (2e-5: a counter of 32 bits below 65,536), or at most ten of its
    sixteen bytes are distinct (6e-7): then R is a hash of the id, which is added as
    `rv` so that later samplers decide alike. This depends on the id alone, so that all
    processes agree. A larger counter behind twelve bytes that look random is not seen;
    mode `fnv` serves such ids.

    **Mode `fnv`** hashes the whole id (FNV-1a, 64 bits, finished with fmix64
    because FNV's high bits do not see a counter at the end) and keeps it below
    probability * 2^64, compared exactly. It is independent of what samplers
    upstream went by: probabilities multiply, and a `th` that is there is erased;
    where there is neither `th` nor `rv`, both are written so that they fit the
    decision.

    **Weights.** `probability` is the probability that the span got this far, given
    the order of arrival (Horvitz-Thompson: sums weighted by its inverse are
    unbiased). A forced trace has probability 1 from the batch on in which it was
    forced; its earlier spans keep the probability that they were kept with then,
    because nothing that came later could bring a dropped one back. The share of a
    sampler upstream (`th`) is in it. Spans that were dropped by an application's
    wish (`sampling.priority`, the parent) are not represented by others.

    Args:
        config: strategy and rules.
        clock: monotonic seconds, for `rate_limiting`.
        cost: prices a batch for `cost_usd_above` where `sample` is given no costs.
        cache_size: traces remembered at least, per kind of memory (96 bytes each).
        seed: places traces in the memory; random when None; changes no decision.
    """

    def __init__(
        self,
        config: SamplerConfig,
        *,
        clock: Callable[[], float] = time.monotonic,
        cost: Callable[[OtlpBatch], NDArray[np.float64]] | None = None,
        cache_size: int = 65536,
        seed: int | None = None,
    ) -> None:
        config.validate("sampler")
        self.config = config
        self._cost = cost
        self._lock = threading.Lock()
        self._limiter = TraceLimiter(config.traces_per_second, clock)
        self._decided = DecisionCache(cache_size, seed=seed)
        heeds_priority = config.strategy not in {"always_on", "always_off"}
        self._forced = ForcedTraces(
            config.keep, DecisionCache(cache_size, seed=seed), priority=heeds_priority
        )
        self._services = tuple(config.service_rates)
        self._rates = _Rates([_default_rate(config), *config.service_rates.values()])
        self.rules = (config.strategy, "service_rates", *self._forced.labels)
        plain = config.strategy == "always_on" and not config.keep
        self._passes_all = plain and not self._services
        self._sampled: Counter[str] = Counter()
        self._dropped: Counter[str] = Counter()

    def sample(self, batch: OtlpBatch, cost_nano_usd: CostOf | None = None) -> SamplingDecision:
        """Decide about the spans of a batch and count them.

        Args:
            batch: the spans; their ids should be valid.
            cost_nano_usd: (n,) costs, computed when a rule of `keep` asks for them.
        """
        n = len(batch)
        if n == 0 or (self._passes_all and not batch.trace_state.length.any()):
            decision = SamplingDecision(
                batch=batch,
                keep=np.ones(n, np.bool_),
                probability=np.ones(n),
                rule=np.zeros(n, np.int16),
                rules=self.rules,
                threshold=None,
                randomness=None,
                changed=None,
            )
        else:
            work = Working(batch, self.config.mode)
            if cost_nano_usd is None and self._cost is not None:
                price = self._cost
                cost_nano_usd = lambda: price(batch)  # noqa: E731  # a closure of one call
            with self._lock:
                self._forced.find(work, cost_nano_usd)
                self._decide(work)
            self._forced.apply(work)
            decision = work.decision(self.rules)
        self._count(decision)
        return decision

    def should_sample(self, span: SpanView) -> bool:
        """Decide about one span, by the same rules as `sample`, and count it.

        Raises:
            InvalidDataError: the span's ids or status are not valid.
        """
        cost = np.nan if span.cost_nano_usd is None else float(span.cost_nano_usd)
        decision = self.sample(span.batch(), lambda: np.array([cost]))
        return bool(decision.keep[0])

    def get_sampled_count(self) -> int:
        """Return the number of spans kept so far."""
        with self._lock:
            return self._sampled.total()

    def get_dropped_count(self) -> int:
        """Return the number of spans dropped so far."""
        with self._lock:
            return self._dropped.total()

    sampled_count = property(get_sampled_count)
    dropped_count = property(get_dropped_count)

    def get_rule_counts(self) -> Mapping[str, RuleCount]:
        """Return how many spans each rule kept and dropped so far."""
        with self._lock:
            return {
                rule: RuleCount(self._sampled[rule], self._dropped[rule])
                for rule in self.rules
                if self._sampled[rule] or self._dropped[rule]
            }

    def _count(self, decision: SamplingDecision) -> None:
        counts = decision.counts
        with self._lock:
            for rule, count in counts.items():
                self._sampled[rule] += count.sampled
                self._dropped[rule] += count.dropped

    def _decide(self, work: Working) -> None:
        """Fill in the decisions of strategy and service rates, for all spans."""
        service = None
        if self._services:
            service = resource_names(work.batch, self._services)
            work.rule[service >= 0] = _SERVICE
        self._by_probability(work, service)
        governed = None if service is None else service < 0
        if self.config.strategy == "rate_limiting":
            self._by_rate(work, governed)
        elif self.config.strategy == "parent_based":
            self._by_parent(work, governed)

    def _by_probability(self, work: Working, service: NDArray[np.int64] | None) -> None:
        """Decide each span by the share of its service, else the strategy's own."""
        which = 0 if service is None else service + 1
        threshold = self._rates.threshold[which]
        if self.config.mode == "consistent":
            work.threshold = np.maximum(work.incoming, threshold)
            work.keep = work.randomness >= work.threshold
            work.probability = (MAX_THRESHOLD - work.threshold) / MAX_THRESHOLD
            narrowed = threshold > 0
            work.threshold = np.where(narrowed, work.threshold, np.maximum(work.incoming, ABSENT))
            work.added = np.where(work.derived & narrowed, work.randomness, ABSENT)
            return
        hashes = work.hashes()
        share = self._rates.share[which]
        work.keep = (hashes <= self._rates.last[which]) & (share > 0)
        work.probability = work.upstream * share
        alone = (work.incoming == ABSENT) & (work.explicit < 0)
        narrowed = share < 1
        work.threshold = np.where(
            narrowed, np.where(alone, threshold, ABSENT), np.maximum(work.incoming, ABSENT)
        )
        fitting = (~hashes >> np.uint64(8)).astype(np.int64)
        work.added = np.where(alone & narrowed, fitting, ABSENT)

    def _by_rate(self, work: Working, governed: NDArray[np.bool_] | None) -> None:
        """Decide by the token bucket, once for each trace."""
        group, first = work.traces()
        ids = work.trace_id[first]
        value = self._decided.find(ids)
        open_ = np.isnan(value)
        if governed is not None:
            open_ &= np.bincount(group[governed], minlength=len(first)) > 0
        if work.forced is not None:
            open_ &= np.isnan(work.forced)
        waiting = np.flatnonzero(open_)
        if len(waiting):
            admitted, probability = self._limiter.admit(len(waiting))
            value[waiting] = 0.0
            if admitted:
                hashes = np.empty(len(waiting), dtype=np.uint64)
                hash_traces(np.ascontiguousarray(ids[waiting]), hashes)
                chosen = waiting
                if admitted < len(waiting):
                    chosen = waiting[np.argpartition(hashes, admitted - 1)[:admitted]]
                value[chosen] = probability
            fresh = np.full(len(first), np.nan)
            fresh[waiting] = value[waiting]
            self._decided.put(ids, fresh)
        share = np.nan_to_num(value)[group]
        kept = np.maximum(work.incoming, ABSENT)
        work.replace(
            governed,
            keep=share > 0,
            probability=work.upstream * share,
            threshold=np.where(share == 1, kept, ABSENT),
            added=np.full(len(share), ABSENT),
        )

    def _by_parent(self, work: Working, governed: NDArray[np.bool_] | None) -> None:
        """Decide the spans that are no roots by their parents."""
        group, first = work.traces()
        root = ~work.batch.parent_span_id.any(axis=1)
        seen = self._decided.find(work.trace_id[first])
        here = np.bincount(group[root], minlength=len(first)) > 0
        if (here & np.isnan(seen)).any():
            self._decided.put(work.trace_id[first], np.where(here & np.isnan(seen), 1.0, np.nan))
        as_root = root | (here | ~np.isnan(seen))[group]
        flags = work.flags & _TRACE_FLAGS
        sampled = (flags == 0) | ((flags & _SAMPLED_FLAG) != 0)
        told = number_attribute(work.batch, _PARENT_SAMPLED)
        if told is not None:
            given = ~np.isnan(told) & ~root
            sampled = np.where(given, told != 0, sampled)
            as_root &= ~given
        rows = ~as_root if governed is None else ~as_root & governed
        work.replace(
            rows,
            keep=sampled,
            probability=work.upstream,
            threshold=np.maximum(work.incoming, ABSENT),
            added=np.full(len(sampled), ABSENT),
        )


class _Rates:
    """Shares of traces in the forms that decisions compare with, one entry per rate."""

    def __init__(self, rates: list[float]) -> None:
        self.share = np.array(rates, dtype=np.float64)
        self.threshold = np.array([probability_to_threshold(r) for r in rates], dtype=np.int64)
        scaled = [min(round(Fraction(float(r)) * 2**64), 2**64) for r in rates]
        self.last = np.array([max(s - 1, 0) for s in scaled], dtype=np.uint64)
        """Largest hash that is kept; meaningless for a share of 0."""


def _default_rate(config: SamplerConfig) -> float:
    if config.strategy == "always_on":
        return 1.0
    if config.strategy == "always_off":
        return 0.0
    return config.probability
