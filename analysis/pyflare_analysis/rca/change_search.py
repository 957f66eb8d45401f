"""Which slices a change comes from: evidence leaf by leaf, summed over slices.

For each leaf two explanations compete. Usual: its count after the change is what its rate
before lets expect. Changed: the rate was multiplied by a factor that is unknown, between 1.5
and 30 (or their inverses, when the measure fell). Both leave room for the noise of the counts,
for the uncertainty of the rate before, and for the wander of rates of about 30 % that real
systems show from minute to minute (negative binomial counts). The logarithm of the ratio of
their probabilities is the leaf's evidence.

A slice is a cause when its leaves changed and the others did not, so the slice with the largest
sum of evidence is the cause: leaves that did not change speak against it. That is a scan
statistic (Neill and Cooper 2010, "A multivariate Bayesian scan statistic", Machine Learning 79)
over slices, in the spirit of the ripple effect of Squeeze (Li et al., ISSRE 2019): all leaves of
a cause change, by factors that may differ. Evidence of one leaf counts up to 10 (odds of e^10),
so that one large leaf does not decide. Each condition of a slice costs 1, as Akaike's criterion
charges a parameter. The leaves of a cause are then set aside, and the search goes on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.change_leaves import Leaves

__all__ = ["ChangedSlice", "find_changed", "leaf_evidence"]

WANDER = 0.3
"""Standard deviation of the factor by which rates change without a cause."""
LIMIT = 10.0
"""Most evidence that one leaf gives, in nats."""
PRICE = 1.0
"""Evidence that each condition costs."""
LEAST_ODDS = 3.0
"""Evidence that a cause needs beyond the logarithm of the number of slices: odds of 20 to 1 when
each was as likely as the others before."""
_PRIOR_EVENTS = 1.0
"""Events at the overall rate that are added to each leaf before the change."""
_FACTORS = np.exp(np.linspace(np.log(1.5), np.log(30.0), 12))


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
    before: NDArray[np.float64],
    exposure_before: NDArray[np.float64],
    after: NDArray[np.float64],
    exposure_after: NDArray[np.float64],
    rising: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Return the log odds that each leaf changed rather than not, (k,), within +-LIMIT.

    Args:
        before: events of each leaf before, (k,).
        exposure_before: what they are out of.
        after: events after.
        exposure_after: what they are out of.
        rising: whether a change means more events, (k,).
    """
    usual = before.sum() / exposure_before.sum()
    rate = (before + _PRIOR_EVENTS) / (exposure_before + _PRIOR_EVENTS / usual)
    shape = 1 / (WANDER**2 + 1 / (before + _PRIOR_EVENTS))
    expected = exposure_after * rate
    factors = np.where(rising, _FACTORS[:, None], 1 / _FACTORS[:, None])
    changed = np.logaddexp.reduce(
        [_log_probability(after, expected * factor, shape) for factor in factors], axis=0
    ) - np.log(len(_FACTORS))
    odds = changed - _log_probability(after, expected, shape)
    return np.asarray(np.clip(odds, -LIMIT, LIMIT), dtype=np.float64)


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
        evidence: log odds of each, (k,).
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
        evidence[best.leaves] = 0.0
    return found


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
        sums = np.bincount(table.slice_of, weights=evidence, minlength=len(table.codes))
        sums = np.where(table.named, sums - PRICE * (len(table.positions) - 1), -np.inf)
        index = int(np.argmax(sums))
        if best is None or sums[index] > best.evidence + 1e-9:
            pairs = zip(table.positions, table.codes[index], strict=True)
            best = ChangedSlice(
                tuple((position, int(code)) for position, code in pairs),
                table.slice_of == index,
                float(sums[index]),
            )
    return best
