"""Episodes: intervals of a series of counts in which there is more than there was before.

A series has hits h_t (failed calls, calls slower than a threshold) and an exposure e_t (calls,
times what the time of day makes of them). Within an episode the rate of hits is a constant
above the rate before it. Every interval is looked at; its baseline is what lies before it,
never inside it, without earlier episodes.

- Likelihood ratio of an interval with h1 hits on e1 against its baseline with h0 on e0, Poisson:
  LLR = h1 ln(r1 / r) + h0 ln(r0 / r), r1 = h1/e1, r0 = h0/e0, r = (h0 + h1)/(e0 + e1)
  (Kulldorff 1997, Commun. Stat. Theory Methods 26:1481-1496, with the baseline before).
- p-value of the interval: given their sum, h1 is binomial with probability e1/(e0 + e1)
  (Przyborowski and Wilenski 1940, Biometrika 31:313-323). It holds for small counts, where a
  z-test of rates does not, and it knows that the baseline is an estimate too.
- For the p-value all counts are divided by the dispersion where the series varies more than
  Poisson does (`baseline.dispersion`; Wedderburn 1974, Biometrika 61:439-447).
- The p-value is multiplied by the number of intervals that were looked at (Bonferroni).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Episode", "conditional_p", "scan_episodes"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Episode:
    """One interval of a series and its baseline."""

    first: int
    """Number of its first bucket."""
    last: int
    """Number of the bucket behind its last one."""
    llr: float
    """Logarithm of the likelihood ratio, of the counts as they are: comparable between slices."""
    p_value: float
    """Adjusted for all intervals of the series."""
    ratio: float
    """Rate within over rate before; inf where there was none before."""

    def overlaps(self, other: Episode) -> bool:
        """Return whether the two have a bucket in common."""
        return self.first < other.last and other.first < self.last


def conditional_p(
    hits: ArrayLike, exposure: ArrayLike, other_hits: ArrayLike, other_exposure: ArrayLike
) -> Floats:
    """Return the p-value of a rate being no higher than another, both estimated.

    P(X >= hits) for X binomial with hits + other_hits trials and probability
    exposure / (exposure + other_exposure), through the incomplete beta function, so that
    counts need not be whole.

    Args:
        hits: counts, 0 or more; all four are broadcast together.
        exposure: of the hits, 0 or more.
        other_hits: counts of the comparison.
        other_exposure: of the comparison.

    Returns:
        p-values in [0, 1]; 1 where there are no hits or one of the exposures is 0.
    """
    from scipy.special import betainc

    h1, e1, h0, e0 = np.broadcast_arrays(
        *(np.asarray(x, dtype=np.float64) for x in (hits, exposure, other_hits, other_exposure))
    )
    testable = (h1 > 0) & (e1 > 0) & (e0 > 0)
    share = np.where(testable, e1 / np.where(testable, e1 + e0, 1.0), 0.5)
    p = betainc(np.where(testable, h1, 1.0), np.where(testable, h0, 0.0) + 1.0, share)
    return np.where(testable, p, 1.0).astype(np.float64)


def scan_episodes(
    hits: Floats,
    exposure: Floats,
    *,
    trials: Floats,
    min_trials: float,
    first_bucket: int,
    dispersion: float = 1.0,
    alpha: float = 0.05,
    limit: int = 5,
) -> list[Episode]:
    """Return the episodes of a series, the most certain first.

    Args:
        hits: (T,) counts.
        exposure: (T,) exposures, 0 where the bucket holds nothing.
        trials: (T,) calls behind them.
        min_trials: calls that an episode and its baseline must have.
        first_bucket: no episode begins before it.
        dispersion: 1 or more; see the module.
        alpha: episodes with a higher adjusted p-value are left out.
        limit: so many at most.
    """
    hits, exposure, trials = hits.copy(), exposure.copy(), trials.copy()
    starts, ends = _intervals(len(hits), first_bucket)
    found: list[Episode] = []
    while len(found) < limit and len(starts):
        best = _best((hits, exposure, trials), (starts, ends), min_trials, dispersion)
        if best is None or best.p_value > alpha:
            break
        found.append(best)
        for values in (hits, exposure, trials):
            values[best.first : best.last] = 0.0
    return _merged(found)


@lru_cache(maxsize=4)
def _intervals(buckets: int, first_bucket: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return first bucket and end of every interval that may be an episode."""
    starts, ends = np.triu_indices(buckets + 1, 1)
    later = starts >= first_bucket
    return starts[later], ends[later]


def _best(
    series: tuple[Floats, Floats, Floats],
    intervals: tuple[NDArray[np.intp], NDArray[np.intp]],
    min_trials: float,
    dispersion: float,
) -> Episode | None:
    """Return the interval with the largest likelihood ratio."""
    (hits, exposure, trials), (starts, ends) = series, intervals
    h, e, n = (np.concatenate(([0.0], np.cumsum(x))) for x in (hits, exposure, trials))
    with np.errstate(divide="ignore", invalid="ignore"):
        rate, before = hits / exposure, h[:-1] / e[:-1]
    # The best interval begins and ends with buckets above its baseline: others would weaken it.
    begins = (rate > before) & (n[:-1] >= min_trials) & (trials > 0)
    fits = begins[starts] & (trials > 0)[ends - 1] & (n[ends] - n[starts] >= min_trials)
    fits &= rate[ends - 1] > before[starts]
    a, b = starts[fits], ends[fits]
    if not len(a):
        return None
    h1, e1, h0, e0 = h[b] - h[a], e[b] - e[a], h[a], e[a]
    with np.errstate(divide="ignore", invalid="ignore"):
        pooled = (h0 + h1) / (e0 + e1)
        r1, r0 = h1 / e1, h0 / e0
        llr = np.where(h1 > 0, h1 * np.log(r1 / pooled), 0.0)
        llr = llr + np.where(h0 > 0, h0 * np.log(r0 / pooled), 0.0)
    llr = np.where((e1 > 0) & (e0 > 0) & (r1 > r0), llr, 0.0)
    at = int(np.argmax(llr))
    if not llr[at] > 0:
        return None
    p = float(conditional_p(h1[at] / dispersion, e1[at], h0[at] / dispersion, e0[at]))
    ratio = float(r1[at] / r0[at]) if h0[at] > 0 else np.inf
    return Episode(int(a[at]), int(b[at]), float(llr[at]), min(1.0, p * len(starts)), ratio)


def _merged(found: list[Episode]) -> list[Episode]:
    """Join episodes that touch, or nearly so for their length: one alert an episode."""
    merged: list[Episode] = []
    for episode in sorted(found, key=lambda item: item.first):
        if merged:
            before = merged[-1]
            gap = episode.first - before.last
            shorter = min(episode.last - episode.first, before.last - before.first)
            if gap <= max(1, shorter // 4):
                strongest = max(before, episode, key=lambda item: item.llr)
                merged[-1] = Episode(
                    before.first,
                    episode.last,
                    before.llr + episode.llr,
                    min(before.p_value, episode.p_value),
                    strongest.ratio,
                )
                continue
        merged.append(episode)
    return sorted(merged, key=lambda item: -item.llr)
