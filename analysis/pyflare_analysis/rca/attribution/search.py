"""Which slices a change comes from: evidence leaf by leaf, summed over slices.

For each leaf two explanations compete. Usual: its count after the change is what its rate
before lets expect. Changed: the rate was multiplied by a factor up to 30 (or divided, when the
measure fell). Both leave room for the noise of the counts, for the uncertainty of the rate
before, and for the wander of rates (negative binomial counts). The logarithm of the ratio of
their probabilities is the leaf's evidence for that factor.

A slice is a cause when its leaves changed by one factor and the others did not (the ripple
effect of HotSpot and Squeeze: Li et al., ISSRE 2019). Its evidence is the sum over its leaves,
averaged over the factors: leaves that did not change speak against it. That is the Bayesian scan
statistic of Neill and Cooper (2010, Machine Learning 79:261-282) over slices. Evidence of one
leaf counts up to 10 nats, so that one large leaf does not decide. Each condition of a slice costs
1 nat, as Akaike's criterion charges a parameter. The leaves of a cause are then set aside, and
the search goes on while a slice has better odds than all slices had before (their number) by
20 to 1.

How much rates wander is measured between the halves of the period before, when the period after
is at least half as long as each (the estimator of DerSimonian and Laird 1986); otherwise it is
taken as 30 %, as rates of real systems do from minute to minute.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.attribution.leaves import Leaves

__all__ = ["LEAST_FACTOR", "WANDER", "ChangedSlice", "find_changed", "leaf_evidence", "wander_of"]

WANDER = 0.3
"""Standard deviation of the factor by which rates change without a cause, where it cannot be
measured; and the most that is believed."""
LEAST_WANDER = 0.05
LIMIT = 10.0
"""Most evidence that one leaf gives, in nats."""
PRICE = 1.0
"""Evidence that each condition costs."""
LEAST_ODDS = 3.0
"""Evidence that a cause needs beyond the logarithm of the number of slices: odds of 20 to 1 when
each was as likely as the others before."""
_PRIOR_EVENTS = 1.0
"""Events at the overall rate that are added to each leaf before the change."""
_LARGEST = math.log(30.0)
LEAST_FACTOR = 0.1
"""Logarithm of the smallest factor that is a change."""
_FACTORS = 12
_KNOWN_EVENTS = 10.0


@dataclass(frozen=True, slots=True)
class ChangedSlice:
    """A slice that changed."""

    codes: tuple[tuple[int, int], ...]
    """(position of the dimension, code) of each condition."""
    leaves: NDArray[np.bool_]
    """(k,) which leaves it holds."""
    evidence: float
    """Logarithm of the odds, nats."""


def leaf_evidence(
    events: NDArray[np.float64],
    exposure: NDArray[np.float64],
    rising: NDArray[np.bool_],
    *,
    wander: float = WANDER,
) -> NDArray[np.float64]:
    """Return the log odds of each factor and leaf, (f, k), within +-LIMIT.

    Args:
        events: of each leaf before and after, (2, k); not all 0 before.
        exposure: what they are out of, (2, k).
        rising: whether a change means more events, (k,).
        wander: standard deviation of the factor by which rates change without a cause.
    """
    (before, after), (exposure_before, exposure_after) = events, exposure
    usual = before.sum() / exposure_before.sum()
    rate = (before + _PRIOR_EVENTS) / (exposure_before + _PRIOR_EVENTS / usual)
    shape = 1 / (wander**2 + 1 / (before + _PRIOR_EVENTS))
    expected = exposure_after * rate
    # Changes that wander explains are none: the smallest factor is one standard deviation.
    factors = np.exp(np.linspace(max(wander, LEAST_FACTOR), _LARGEST, _FACTORS))[:, None]
    factors = np.where(rising, factors, 1 / factors)
    usually = _log_probability(after, expected, shape)
    odds = [_log_probability(after, expected * factor, shape) - usually for factor in factors]
    return np.clip(odds, -LIMIT, LIMIT)


def wander_of(events: NDArray[np.float64], exposure: NDArray[np.float64]) -> float:
    """Return the standard deviation of the factor by which the rates of leaves wander.

    Args:
        events: of each leaf in two periods without a change, (2, k).
        exposure: what they are out of, (2, k).

    Source: DerSimonian and Laird 1986, Control. Clin. Trials 7:177-188, of log ratios.
    """
    known = (events.sum(axis=0) >= _KNOWN_EVENTS) & (exposure > 0).all(axis=0)
    if known.sum() < 3:
        return WANDER
    events = events[:, known] + 0.5
    ratio = np.log(events[0] / exposure[0, known]) - np.log(events[1] / exposure[1, known])
    weight = 1 / (1 / events).sum(axis=0)
    mean = weight @ ratio / weight.sum()
    excess = weight @ (ratio - mean) ** 2 - (len(ratio) - 1)
    variance = excess / (weight.sum() - weight @ weight / weight.sum())
    # A ratio has the wander of both its periods.
    return float(np.clip(math.sqrt(max(variance, 0.0) / 2), LEAST_WANDER, WANDER))


def _log_probability(
    events: NDArray[np.float64], mean: NDArray[np.float64], shape: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log probability of negative binomial counts, up to a term of `events` alone."""
    from scipy.special import gammaln

    mean = np.maximum(mean, 1e-12)
    value = (
        gammaln(events + shape)
        - gammaln(shape)
        + shape * np.log(shape / (shape + mean))
        + events * np.log(mean / (shape + mean))
    )
    return np.asarray(value, dtype=np.float64)


def find_changed(
    leaves: Leaves, evidence: NDArray[np.float64], *, depth: int, most: int
) -> list[ChangedSlice]:
    """Return slices whose leaves changed, the most probable first, none sharing a leaf's evidence.

    Args:
        leaves: the leaves.
        evidence: log odds of each factor and leaf, (f, k).
        depth: conditions of a slice at most.
        most: slices at most.
    """
    evidence = evidence.copy()
    tables = _tables(leaves, depth)
    least = LEAST_ODDS + math.log(max(1, sum(int(table.named.sum()) for table in tables)))
    found: list[ChangedSlice] = []
    while len(found) < most:
        best = _best(tables, evidence)
        if best is None or best.evidence < least:
            break
        found.append(best)
        evidence[:, best.leaves] = 0.0
    return found


def _averaged(log_odds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the log of the average odds over factors, the first axis of (f, s)."""
    average = np.logaddexp.reduce(log_odds, axis=0) - math.log(len(log_odds))
    return np.asarray(average, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Table:
    """The slices of one combination of dimensions."""

    positions: tuple[int, ...]
    slice_of: NDArray[np.int64]
    """(k,) the slice that each leaf belongs to."""
    codes: NDArray[np.int64]
    """(s, len(positions)) codes of each slice."""
    named: NDArray[np.bool_]
    """(s,) whether all its values are slices of their own, not the rest of a dimension."""


def _tables(leaves: Leaves, depth: int) -> list[_Table]:
    sizes = [dimension.rest + 1 for dimension in leaves.dimensions]
    tables = []
    for level in range(1, min(depth, len(sizes)) + 1):
        for positions in combinations(range(len(sizes)), level):
            codes = leaves.codes[list(positions)]
            unique, inverse = np.unique(codes, axis=1, return_inverse=True)
            rest = np.array([sizes[position] - 1 for position in positions])[:, None]
            named = (unique != rest).all(axis=0)
            tables.append(_Table(positions, inverse.ravel(), unique.T, named))
    return tables


def _best(tables: Sequence[_Table], evidence: NDArray[np.float64]) -> ChangedSlice | None:
    best: ChangedSlice | None = None
    for table in tables:
        size = len(table.codes)
        by_factor = [np.bincount(table.slice_of, row, minlength=size) for row in evidence]
        sums = _averaged(np.array(by_factor)) - PRICE * (len(table.positions) - 1)
        sums = np.where(table.named, sums, -np.inf)
        index = int(np.argmax(sums))
        if best is None or sums[index] > best.evidence + 1e-9:
            pairs = zip(table.positions, table.codes[index], strict=True)
            best = ChangedSlice(
                tuple((position, int(code)) for position, code in pairs),
                table.slice_of == index,
                float(sums[index]),
            )
    return best
