"""Traces that are kept or dropped whatever the strategy says."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.config import KeepRule
from pyflare_collector.sampler.cache import DecisionCache
from pyflare_collector.sampler.facts import number_attribute
from pyflare_collector.sampler.kernels import ABSENT
from pyflare_collector.sampler.working import Working
from pyflare_proto.record import STATUS_CODES

__all__ = ["ForcedTraces"]

_PRIORITY = b"sampling.priority"
_FIRST_LABEL = 2
"""Index of the first of `labels` in the sampler's rules."""
_NANO = 10**9


class ForcedTraces:
    """Keep rules and `sampling.priority`, trace by trace, with a memory for late spans.

    Not thread-safe.

    Args:
        rules: keep rules; a span matches one when all its conditions hold.
        memory: traces that were forced.
        priority: whether `sampling.priority` is looked at.
    """

    def __init__(self, rules: Sequence[KeepRule], memory: DecisionCache, *, priority: bool) -> None:
        self._rules = tuple(rules)
        self._memory = memory
        self._priority = priority
        self.labels = ("sampling.priority", "keep.trace",
                       *(f"keep[{i}]" for i in range(len(self._rules))))  # fmt: skip

    def find(self, work: Working, cost: Callable[[], NDArray[np.float64]] | None) -> None:
        """Find the forced traces of a batch, remember them, and note them in `work.forced`."""
        matched = self._match(work, cost)
        priority = number_attribute(work.batch, _PRIORITY) if self._priority else None
        any_match = matched is not None and bool((matched >= 0).any())
        if not any_match and priority is None and not len(self._memory):
            return
        group, first = work.traces()
        ids = work.trace_id[first]
        before = self._memory.find(ids)
        now = np.full(len(first), np.nan)
        if priority is not None:
            now[group[priority <= 0]] = 0.0
            now[group[priority > 0]] = 1.0
        if matched is not None:
            now[group[matched >= 0]] = 1.0
        verdict = np.where(np.isnan(now) | (before == 1.0), before, now)
        news = ~np.isnan(verdict) & ~(verdict == before)
        if news.any():
            self._memory.put(ids, np.where(news, verdict, np.nan))
        work.forced = verdict
        work.matched = matched
        work.priority = priority

    def apply(self, work: Working) -> None:
        """Put the verdicts about forced traces in place of the strategy's decisions."""
        if work.forced is None:
            return
        group, _ = work.traces()
        verdict = work.forced[group]
        rows = ~np.isnan(verdict)
        if not rows.any():
            return
        work.replace(
            rows,
            keep=verdict == 1.0,
            probability=work.upstream,
            threshold=np.maximum(work.incoming, ABSENT),
            added=np.full(len(rows), ABSENT),
        )
        work.rule[rows] = np.where(verdict[rows] == 1.0, _FIRST_LABEL + 1, _FIRST_LABEL)
        if work.priority is not None:
            work.rule[rows & (work.priority > 0)] = _FIRST_LABEL
        if work.matched is not None:
            hit = work.matched >= 0
            work.rule[hit] = work.matched[hit] + _FIRST_LABEL + 2

    def _match(
        self, work: Working, cost: Callable[[], NDArray[np.float64]] | None
    ) -> NDArray[np.int16] | None:
        """Return (n,) the first rule that each span matches, -1 for none; None without rules."""
        if not self._rules:
            return None
        batch = work.batch
        matched = np.full(len(batch), -1, dtype=np.int16)
        costs: NDArray[np.float64] | None = None
        for position, rule in enumerate(self._rules):
            hit = matched < 0
            if rule.status:
                hit &= batch.status_code == STATUS_CODES.index(rule.status)
            if rule.duration_ms_above is not None:
                duration = batch.end_time_ns - batch.start_time_ns
                hit &= duration > rule.duration_ms_above * 1e6
            if rule.cost_usd_above is not None and hit.any():
                if costs is None and cost is not None:
                    costs = cost()
                hit &= False if costs is None else costs > rule.cost_usd_above * _NANO
            matched[hit] = position
        return matched
