"""Inputs that drifted along with an episode.

For each episode of errors, latency or scores, within its slice: the population stability index
of each window of time against the time before the episode, for token counts and for the mix of
models, features, prompts and so on. A link is told when the whole episode drifted
(PSI less its expectation under no change at least 0.1, and significant), and when PSI and the
metric rise and fall together over the windows: Pearson's correlation at least 0.5, and higher
than for nearly all circular shifts of one series against the other, which keeps the
autocorrelation of both. (Of two series that step at one time ranks see mostly the noise before and
after the step.) That two things move together does not say that one causes the other.

PSI = sum (q_i - p_i) ln(q_i / p_i), with half a count added to each bin; under no change it is
(1/n + 1/m) chi-square with B - 1 degrees of freedom (Yurdakul and Naranjo 2020, J. Risk Model
Validation 14).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.calls import CALL
from pyflare_analysis.rca.patterns.cells import Grid, SliceKey
from pyflare_analysis.rca.patterns.incidents import Incident
from pyflare_analysis.rca.patterns.scope import Scope
from pyflare_storage.aggregates import Bins, Count, TimeBucket
from pyflare_storage.expressions import Expr, Not, all_of, col

if TYPE_CHECKING:
    from pyflare_storage.source import Source

__all__ = ["DriftLink", "correlation", "find_drift_links", "stability"]

Floats = NDArray[np.float64]
_NUMBERS = ("input_tokens", "output_tokens")
_TOKEN_EDGES = (0.0, *(float(2.0 ** (k / 2)) for k in range(49)), 1e12)
_WINDOWS = 28
_MOST_BINS = 10
_LEAST_PSI = 0.1
_LEAST_CORRELATION = 0.5


@dataclass(frozen=True, slots=True)
class DriftLink:
    """A column that drifted along with an incident."""

    column: str
    psi: float
    """Of the episode against the time before it, less its expectation under no change."""
    psi_before: float
    """Median of the windows before the episode."""
    p_value: float
    """Of the drift."""
    correlation: float
    """Pearson's, of PSI and metric over the windows."""
    p_shift: float
    """Share of circular shifts that correlate at least as much; at least one in the windows."""
    windows: int
    reference_count: float
    current_count: float


def find_drift_links(
    scope: Scope, incident: Incident, keys: Mapping[str, SliceKey]
) -> list[DriftLink]:
    """Return the columns that drifted along with an incident, the strongest first.

    Args:
        scope: what is looked at.
        incident: an episode, with its series.
        keys: dimensions by name.
    """
    source, grid, where = scope.source, scope.grid, scope.where
    if incident.dimension is not None:
        key = keys[incident.dimension]
        where = all_of([where, Not(key.outside(incident.value))])
    columns = [name for name in _NUMBERS if name in source.columns()]
    names = [*columns, *(name for name in keys if name != incident.dimension)]
    found = []
    for name in names:
        counts = (
            _number_counts(source, grid, name, where)
            if name in columns
            else _category_counts(source, grid, keys[name], where)
        )
        link = _link(name, counts, incident, scope.config.alpha / len(names))
        if link is not None:
            found.append(link)
    return sorted(found, key=lambda link: (-link.correlation * link.psi, link.column))


def _number_counts(source: Source, grid: Grid, column: str, where: Expr | None) -> Floats:
    """Return (T, B) values of a column of numbers by interval and bin."""
    frame = source.aggregate(
        {"n": Count()},
        [TimeBucket(every=grid.every), Bins(column, _TOKEN_EDGES)],
        all_of([CALL, col(column).is_not_null(), where]),
    )
    at, bins = grid.buckets(frame["time"]), frame["bin"].fill_null(-1).to_numpy()
    counts = np.zeros((grid.count, len(_TOKEN_EDGES) - 1))
    inside = (at >= 0) & (at < grid.count) & (bins >= 0)
    np.add.at(counts, (at[inside], bins[inside]), frame["n"].to_numpy()[inside].astype(float))
    return counts


def _category_counts(source: Source, grid: Grid, key: SliceKey, where: Expr | None) -> Floats:
    """Return (T, B) calls by interval and value of a dimension."""
    frame = source.aggregate(
        {"n": Count()}, [TimeBucket(every=grid.every), *key.keys], all_of([CALL, where])
    )
    shown = frame.select(frame.columns[1 : 1 + len(key.keys)])
    values = [str(value) for value in key.values(shown).unique().drop_nulls().sort()]
    at, place = grid.buckets(frame["time"]), key.places(shown, values)
    counts = np.zeros((grid.count, len(values)))
    inside = (at >= 0) & (at < grid.count) & (place >= 0)
    np.add.at(counts, (at[inside], place[inside]), frame["n"].to_numpy()[inside].astype(float))
    return counts


def _link(name: str, counts: Floats, incident: Incident, alpha: float) -> DriftLink | None:
    """Return the link of one column, None where there is none."""
    first, last = incident.episode.first, incident.episode.last
    before, within = counts[:first].sum(axis=0), counts[first:last].sum(axis=0)
    if before.sum() < 100 or within.sum() < 50 or counts.shape[1] < 2:
        return None
    joined = _joined_bins(before)
    counts = np.add.reduceat(counts[:, joined[0]], joined[1], axis=1)
    before, within = counts[:first].sum(axis=0), counts[first:last].sum(axis=0)
    psi, p_value = stability(before, within)
    if psi < _LEAST_PSI or p_value > alpha:
        return None
    assert incident.series is not None  # noqa: S101 - every accepted incident has one
    size = max(1, -(-len(counts) // _WINDOWS), -(-(last - first) // 14))
    edges = np.arange(0, len(counts), size)
    windows = np.add.reduceat(counts, edges, axis=0)
    scores = np.array([stability(before, w)[0] if w.sum() >= 20 else np.nan for w in windows])
    metric = np.array([_mean(incident.series[a : a + size]) for a in edges])
    rho, p_shift = correlation(
        scores, metric if incident.within.value > incident.before.value else -metric
    )
    if rho < _LEAST_CORRELATION or p_shift > 2.5 / len(edges):
        return None
    return DriftLink(
        name,
        psi,
        _mean(np.sort(scores[edges < first])),
        p_value,
        rho,
        p_shift,
        int(np.isfinite(scores).sum()),
        float(before.sum()),
        float(within.sum()),
    )


def _joined_bins(reference: Floats) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return an order of bins and where groups of them begin, each a tenth of the reference."""
    order = np.arange(len(reference))
    share = np.cumsum(reference) / reference.sum()
    group = np.minimum((np.concatenate(([0.0], share[:-1])) * _MOST_BINS).astype(int), 9)
    starts = np.flatnonzero(np.diff(np.concatenate(([-1], group))))
    return order, starts


def stability(reference: Floats, current: Floats) -> tuple[float, float]:
    """Return the population stability index less its expectation, and the p-value of no change.

    Args:
        reference: (B,) counts.
        current: (B,) counts.
    """
    from scipy.stats import chi2

    bins, n, m = len(reference), reference.sum(), current.sum()
    if bins < 2 or n <= 0 or m <= 0:
        return 0.0, 1.0
    p = (reference + 0.5) / (n + 0.5 * bins)
    q = (current + 0.5) / (m + 0.5 * bins)
    psi = float(((q - p) * np.log(q / p)).sum())
    unit = 1 / n + 1 / m
    return max(0.0, psi - (bins - 1) * unit), float(chi2.sf(psi / unit, bins - 1))


def correlation(first: Sequence[float] | Floats, second: Floats) -> tuple[float, float]:
    """Return Pearson's correlation, and the share of circular shifts with at least as much.

    Args:
        first: (W,) scores, NaN where unknown.
        second: (W,) the metric, NaN where unknown.
    """
    x, y = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) < 8 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0, 1.0
    a, b = (x - x.mean()) / x.std(), (y - y.mean()) / y.std()
    shifted = np.array([float((np.roll(a, k) * b).mean()) for k in range(len(a))])
    return float(shifted[0]), float((shifted >= shifted[0] - 1e-12).mean())


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")
