"""Traffic as arrays: one row a span, all drawn from one seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.workload import catalogue as cat
from pyflare_collector.workload.faults import FAULTS, Fault
from pyflare_proto.errors import UsageError, nearest
from pyflare_proto.record import SPAN_TYPES

__all__ = ["Traffic", "TrafficConfig", "make_traffic"]

HOUR_NS = 3_600_000_000_000
BASE_ERROR_RATE = 0.015
N_USERS = 400
LLM, EMBEDDING = SPAN_TYPES.index("llm"), SPAN_TYPES.index("embedding")
_ROOT_TYPES = ("workflow", "agent")


@dataclass(frozen=True, slots=True)
class TrafficConfig:
    """What to generate."""

    spans: int
    """Number of spans, exactly."""
    seed: int = 0
    """Seed of the one random generator."""
    end_time_ns: int = 1_767_225_600_000_000_000
    """End of the simulated time, nanoseconds since 1970 (default 2026-01-01)."""
    hours: float = 24.0
    """Length of the simulated time."""
    faults: Sequence[str] = ()
    """Names of faults to plant (`FAULTS`)."""

    def validate(self) -> None:
        """Raise `UsageError` for a number of spans below 1 or an unknown fault."""
        if self.spans < 1:
            raise UsageError(f"--spans is {self.spans}", hint="give a number of 1 or more")
        if self.hours <= 0:
            raise UsageError(f"--hours is {self.hours}", hint="give a number above 0")
        for name in self.faults:
            if name not in FAULTS:
                near = nearest(name, FAULTS)
                known = ", ".join(FAULTS)
                hint = f"did you mean {near}? known faults: {known}" if near else f"one of {known}"
                raise UsageError(f"unknown fault {name!r}", hint=hint)


@dataclass(slots=True)
class Traffic:
    """Spans as arrays of length n, in order of their traces' start; -1 stands for "none"."""

    trace: NDArray[np.int64]
    """Row of the trace."""
    parent: NDArray[np.int64]
    """Row of the parent span."""
    trace_key: NDArray[np.uint64]
    """(t, 2) the 16 bytes of each trace's id."""
    span_key: NDArray[np.uint64]
    """8 bytes of the span's id."""
    type: NDArray[np.int8]
    """Index into SPAN_TYPES."""
    start_ns: NDArray[np.int64]
    end_ns: NDArray[np.int64]
    feature: NDArray[np.int16]
    """Index into FEATURES."""
    model: NDArray[np.int16]
    """Index into MODELS, for calls."""
    environment: NDArray[np.int8]
    user: NDArray[np.int32]
    prompt_version: NDArray[np.int8]
    topic: NDArray[np.int8]
    tool: NDArray[np.int8]
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    cache_read_tokens: NDArray[np.int64]
    error: NDArray[np.int8]
    """Index into ERRORS."""
    score: NDArray[np.float64]
    """Score of an evaluation of the answer, NaN without one."""
    planted: list[dict[str, Any]] = field(default_factory=list)
    """What was planted: name, slice and time window of each fault."""

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.trace)

    @property
    def is_call(self) -> NDArray[np.bool_]:
        """Return (n,) True for spans that are calls of a model."""
        return np.isin(self.type, (LLM, EMBEDDING))

    def cost_nano_usd(self) -> NDArray[np.int64]:
        """Return (n,) the cost of each span by the generator's own rates; 0 where none is due."""
        rates = np.array(
            [(m.input_rate, m.cache_read_rate, m.output_rate) for m in cat.MODELS], dtype=np.int64
        )
        rate = rates[np.maximum(self.model, 0)]
        cost = (
            (self.input_tokens - self.cache_read_tokens) * rate[:, 0]
            + self.cache_read_tokens * rate[:, 1]
            + self.output_tokens * rate[:, 2]
        )
        return np.where(self.is_call & (self.error < 0), cost, 0)

    def truth(self) -> dict[str, Any]:
        """Return what an analysis of these spans must find, as plain data."""
        answered = self.is_call & (self.error < 0)
        return {
            "spans": len(self),
            "traces": int(self.trace.max()) + 1,
            "calls": int(self.is_call.sum()),
            "failed_calls": int((self.is_call & (self.error >= 0)).sum()),
            "input_tokens": int(self.input_tokens[answered].sum()),
            "output_tokens": int(self.output_tokens[answered].sum()),
            "cache_read_tokens": int(self.cache_read_tokens[answered].sum()),
            "cost_nano_usd": int(self.cost_nano_usd().sum()),
            "start_time_unix_nano": int(self.start_ns.min()),
            "end_time_unix_nano": int(self.end_ns.max()),
            "faults": self.planted,
        }


def make_traffic(config: TrafficConfig) -> Traffic:
    """Generate traffic.

    Traces start at random within the simulated time, more often by day than by
    night (a cosine with its peak at 14:00 UTC); latency and token counts are
    lognormal; 1.5 % of the calls fail unless a fault says otherwise.

    Raises:
        UsageError: the configuration is not valid.
    """
    config.validate()
    rng = np.random.default_rng(config.seed)
    faults: list[Fault] = [FAULTS[name]() for name in config.faults]
    spans = _skeleton(config, rng)
    _choose_models(spans, rng)
    _count_tokens(spans, rng)
    spans.score[:] = np.where(
        (spans.type == LLM) & (rng.random(len(spans)) < 0.3),
        np.clip(rng.normal(0.88, 0.07, len(spans)), 0, 1),
        np.nan,
    )
    latency_ms = _latency(spans, rng)
    error_rate = np.where(spans.is_call, BASE_ERROR_RATE, 0.0)
    for fault in faults:
        fault.apply(spans, latency_ms, error_rate, rng)
        spans.planted.append(fault.truth)
    failed = rng.random(len(spans)) < error_rate
    spans.error[:] = np.where(failed, rng.integers(0, len(cat.ERRORS), len(spans)), -1)
    for counts in (spans.input_tokens, spans.output_tokens, spans.cache_read_tokens):
        counts[failed] = 0
    spans.score[failed] = np.nan
    _lay_out_times(spans, latency_ms)
    return spans


def _skeleton(config: TrafficConfig, rng: np.random.Generator) -> Traffic:
    weights = np.array([f.weight for f in cat.FEATURES])
    plans = [cat.PLANS[f.plan] for f in cat.FEATURES]
    lengths = np.array([len(p) for p in plans])
    feature = rng.choice(len(weights), size=config.spans, p=weights / weights.sum())
    count = int(np.searchsorted(np.cumsum(lengths[feature]), config.spans)) + 1
    feature = feature[:count]
    starts = _trace_starts(config, count, rng)
    trace = np.repeat(np.arange(count), lengths[feature])[: config.spans]
    first = np.concatenate(([0], np.cumsum(lengths[feature])[:-1]))
    position = np.arange(len(trace)) - first[trace]
    widest = int(lengths.max())
    types = np.full((len(plans), widest), -1)
    parents = np.full((len(plans), widest), -1)
    for row, plan in enumerate(plans):
        types[row, : len(plan)] = [SPAN_TYPES.index(s.type) for s in plan]
        parents[row, : len(plan)] = [s.parent for s in plan]
    parent = parents[feature[trace], position]
    n = len(trace)
    return Traffic(
        trace=trace,
        parent=np.where(parent >= 0, first[trace] + parent, -1),
        trace_key=rng.integers(1, 2**64, (count, 2), dtype=np.uint64),
        span_key=rng.integers(1, 2**64, n, dtype=np.uint64),
        type=types[feature[trace], position].astype(np.int8),
        start_ns=starts[trace],
        end_ns=starts[trace],
        feature=feature[trace].astype(np.int16),
        model=np.full(n, -1, dtype=np.int16),
        environment=(rng.random(count) < 0.12).astype(np.int8)[trace],
        user=_users(count, rng)[trace],
        prompt_version=rng.integers(1, 4, count).astype(np.int8)[trace],
        topic=rng.integers(0, len(cat.TOPICS), count).astype(np.int8)[trace],
        tool=rng.integers(0, len(cat.TOOLS), n).astype(np.int8),
        input_tokens=np.zeros(n, dtype=np.int64),
        output_tokens=np.zeros(n, dtype=np.int64),
        cache_read_tokens=np.zeros(n, dtype=np.int64),
        error=np.full(n, -1, dtype=np.int8),
        score=np.full(n, np.nan),
    )


def _trace_starts(config: TrafficConfig, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw (t,) start times from the daily pattern by inverting its distribution function."""
    length_ns = int(config.hours * HOUR_NS)
    begin = config.end_time_ns - length_ns
    grid = np.linspace(0, length_ns, 4097)
    hour = ((begin + grid) / HOUR_NS) % 24
    density = 1.0 + 0.7 * np.cos((hour - 14.0) * 2 * np.pi / 24)
    cumulative = np.concatenate(([0.0], np.cumsum((density[1:] + density[:-1]) / 2)))
    drawn = np.interp(rng.random(count) * cumulative[-1], cumulative, grid)
    return np.sort(begin + drawn.astype(np.int64))


def _users(count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw (t,) users, a few of them much more active than the rest."""
    weights = 1.0 / np.arange(1, N_USERS + 1) ** 0.6
    return rng.choice(N_USERS, size=count, p=weights / weights.sum()).astype(np.int32)


def _choose_models(spans: Traffic, rng: np.random.Generator) -> None:
    chat = rng.choice(len(cat.MODELS) - 1, size=len(spans), p=(0.45, 0.33, 0.22))
    spans.model[:] = np.where(
        spans.type == LLM, chat, np.where(spans.type == EMBEDDING, len(cat.MODELS) - 1, -1)
    )


def _count_tokens(spans: Traffic, rng: np.random.Generator) -> None:
    n = len(spans)
    medians = np.array([(f.input_tokens, f.output_tokens) for f in cat.FEATURES])[spans.feature]
    given = np.maximum(1, medians[:, 0] * rng.lognormal(0.0, 0.5, n)).astype(np.int64)
    made = np.maximum(1, medians[:, 1] * rng.lognormal(0.0, 0.6, n)).astype(np.int64)
    is_llm = spans.type == LLM
    short = np.maximum(1, rng.lognormal(2.5, 0.5, n)).astype(np.int64)
    spans.input_tokens[:] = np.where(is_llm, given, np.where(spans.type == EMBEDDING, short, 0))
    spans.output_tokens[:] = np.where(is_llm, made, 0)
    cached = is_llm & (given > 1024) & (rng.random(n) < 0.5)
    share = rng.uniform(0.2, 0.9, n)
    spans.cache_read_tokens[:] = np.where(cached, (given * share).astype(np.int64), 0)


def _latency(spans: Traffic, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (n,) milliseconds of each span that is no root: overhead plus time per token."""
    speed = np.array([(m.ms_per_token, m.overhead_ms) for m in cat.MODELS])
    own = speed[np.maximum(spans.model, 0)]
    noise = rng.lognormal(0.0, 0.25, len(spans))
    other = rng.lognormal(3.6, 0.6, len(spans))
    called = (own[:, 1] + own[:, 0] * spans.output_tokens) * noise
    return np.where(spans.is_call, called, other)


def _lay_out_times(spans: Traffic, latency_ms: NDArray[np.float64]) -> None:
    """Put the children of a root one after the other and close the root behind the last."""
    root_type = np.isin(spans.type, [SPAN_TYPES.index(t) for t in _ROOT_TYPES])
    lasts = np.where(root_type, 2e6, latency_ms * 1e6).astype(np.int64)
    total = np.cumsum(lasts)
    first = np.searchsorted(spans.trace, spans.trace)
    since = total - lasts - (total[first] - lasts[first])
    spans.start_ns[:] = spans.start_ns + since
    spans.end_ns[:] = spans.start_ns + lasts
    last = np.searchsorted(spans.trace, spans.trace, side="right") - 1
    spans.end_ns[:] = np.where(root_type, spans.end_ns[last] + 1_000_000, spans.end_ns)
