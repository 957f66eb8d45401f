"""Anomalies of any series: strictly causal scores, one alert an episode.

The score of a point is the mean of six surprises. Each compares the point, or the mean of the
last eighth of a day, with one prediction, and divides by what such differences were in the last
seven days:

    point - mean of the day before           mean of an eighth of a day - that of the day
    point - same time of the seven days before (median)     mean of an eighth - the same, smoothed
    point - mean of the hour before
    point - the point before

Values are put on a square-root scale first (sign kept), on which counts have a steady spread.
A divisor is never below 0.3 times the standard deviation of everything so far (0.8 times for
differences from the mean of the day, which the daily swing makes large): the spread of a flat or
discrete stretch is close to 0, and dividing by it makes alarms of nothing.
What is not known yet (no day of history) counts as no surprise.

An alert needs a score of at least `threshold` that is higher than all scores of the last
`cooldown_days`. Nothing later than a point has a part in its score or its alert.

Measured in benchmarks/results/rca_series.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.patterns.changepoints import ChangePoint, change_points
from pyflare_analysis.rca.patterns.pattern import Pattern, PatternType
from pyflare_analysis.rca.patterns.trend import Trend, trend_of
from pyflare_proto.errors import NotEnoughDataError, UsageError

__all__ = [
    "MIN_POINTS",
    "SeriesConfig",
    "SeriesReport",
    "SeriesScores",
    "detect_series",
    "score_series",
]

Floats = NDArray[np.float64]
MIN_POINTS = 30
_DAY_S = 86_400.0
_DAY_FLOOR = 0.8
"""Least divisor of the differences from the mean of the day, like `scale_floor`."""
_LONGEST_PERIOD = 2880
"""Points of a period at most: a day of half minutes."""


@dataclass(frozen=True, slots=True)
class SeriesConfig:
    """Settings of the scores; one set serves every series."""

    threshold: float = 2.75
    """Score from which a point is an anomaly; smaller finds more, with more false alarms."""
    scale_floor: float = 0.3
    """Least divisor, in standard deviations of everything so far."""
    scale_days: int = 7
    """Days whose differences make the divisor, and days of the seasonal prediction."""
    cooldown_days: float = 0.45
    """After an alert only a higher score alerts again, for so long."""

    def validate(self) -> None:
        """Raise `UsageError` for a setting out of range."""
        if self.threshold <= 0:
            raise UsageError(
                f"the threshold is {self.threshold}", hint="give a number above 0, such as 2.75"
            )


@dataclass(frozen=True, slots=True)
class SeriesScores:
    """Scores of a series, each (n,)."""

    score: Floats
    """0 or more."""
    alert: NDArray[np.bool_]
    """Points that begin an alert."""
    expected: Floats
    """Prediction: the same time of the days before, else the day before; NaN at the start."""

    def at(self, place: NDArray[np.int64]) -> SeriesScores:
        """Return the scores of some of the points."""
        return SeriesScores(self.score[place], self.alert[place], self.expected[place])


@dataclass(frozen=True, slots=True)
class SeriesReport:
    """What was found in a series."""

    patterns: tuple[Pattern, ...]
    """Anomalies in order of time."""
    trend: Trend
    """Of the series as a whole, per day."""
    change_points: tuple[ChangePoint, ...]
    """Where the level changed for good."""
    points: int
    start_ns: int
    end_ns: int
    step_s: float
    """Median distance of two points."""

    def to_dict(self, every: str = "") -> dict[str, object]:
        """Return the answer as it stands in JSON.

        Args:
            every: interval that points were put into, empty where they are as they stand.
        """
        from pyflare_analysis.plain import format_time

        return {
            "start_time": format_time(self.start_ns),
            "end_time": format_time(self.end_ns),
            "every": every or None,
            "points": self.points,
            "step_seconds": self.step_s,
            "trend": {
                "slope_per_day": self.trend.slope,
                "kendall_tau": self.trend.tau,
                "p_value": self.trend.p_value,
            },
            "change_points": [
                {"time": format_time(c.time_ns), "before": c.before, "after": c.after}
                for c in self.change_points
            ],
            "patterns": [pattern.to_dict() for pattern in self.patterns],
        }


def score_series(
    times_s: Floats, values: Floats, config: SeriesConfig | None = None
) -> SeriesScores:
    """Return causal scores and alerts.

    Args:
        times_s: (n,) increasing, seconds.
        values: (n,) floats; NaN where there is none, which scores 0.
        config: settings; the defaults when None.

    Raises:
        UsageError: a setting out of range.
        ValueError: arrays of different lengths.
    """
    config = config or SeriesConfig()
    config.validate()
    if len(times_s) != len(values):
        raise ValueError(f"{len(times_s)} times and {len(values)} values")
    if len(values) < 2:
        nothing = np.zeros(len(values))
        return SeriesScores(nothing, nothing > 0, np.full(len(values), np.nan))
    place = _grid(times_s)
    if place is not None:
        spread = np.full(place[-1] + 1, np.nan)
        spread[place] = values
        return _scores(_period(times_s), spread, config).at(place)
    return _scores(_period(times_s), values, config)


def _grid(times_s: Floats) -> NDArray[np.int64] | None:
    """Return the place of each point in a series without gaps; None where there is no regularity.

    With a missing point left out, the same time of the day before would be another time.
    """
    step = float(np.median(np.diff(times_s[:1000])))
    if step <= 0:
        return None
    place = np.round((times_s - times_s[0]) / step).astype(np.int64)
    regular = np.abs(times_s - times_s[0] - place * step) < 0.05 * step
    gapless = np.all(regular) and np.all(np.diff(place) > 0)
    return place if gapless and place[-1] < 2 * len(place) + 1000 else None


def _scores(period: int, values: Floats, config: SeriesConfig) -> SeriesScores:
    """Return the scores of points at equal distances."""
    x = np.sign(values) * np.sqrt(np.abs(values))
    spread = np.nan_to_num(_lag(_spread_so_far(x), 1))
    floor = np.maximum(config.scale_floor * spread, 1e-9)
    day = _lag(_rolling_mean(x, period, 3), 1)
    seasonal = _median_of([_lag(x, period * d) for d in range(1, config.scale_days + 1)])
    hour = _lag(_rolling_mean(x, max(3, period // 24), 1), 1)
    window = period * config.scale_days
    least = max(3, period // 4)
    smooth = max(2, period // 8)
    differences = [x - day, x - seasonal, x - hour, x - _lag(x, 1)]
    # The daily swing around the mean of a day is no surprise by itself.
    floors = [np.maximum(_DAY_FLOOR * spread, 1e-9), floor, floor, floor]
    surprises = [_surprise(d, window, least, f) for d, f in zip(differences, floors, strict=True)]
    surprises += [
        # The mean of several differences spreads less than one of them.
        _surprise(_rolling_mean(d, smooth, 1), window, least, 0.7 * f)
        for d, f in zip(differences[:2], floors[:2], strict=True)
    ]
    score = np.where(np.isnan(x), 0.0, np.mean(surprises, axis=0))
    before = _highest_before(score, max(1, int(period * config.cooldown_days)))
    expected = np.where(np.isnan(seasonal), day, seasonal)
    return SeriesScores(
        score,
        (score >= config.threshold) & (score > before),
        np.sign(expected) * expected**2,
    )


def _period(times_s: Floats) -> int:
    """Return the points of a period: a day; of sparse series a week, or a dozen points.

    Read from the first thousand points, so that it does not depend on later ones.
    """
    step = float(np.median(np.diff(times_s[:1000])))
    if step <= 0:
        return 24
    if step <= _DAY_S / 4:
        return min(_LONGEST_PERIOD, max(2, round(_DAY_S / step)))
    return max(4, round(7 * _DAY_S / step)) if step <= 2 * _DAY_S else 12


def _lag(x: Floats, by: int) -> Floats:
    head = np.full(min(by, len(x)), np.nan)
    return np.concatenate((head, x[: max(0, len(x) - by)]))


def _rolling_mean(x: Floats, window: int, least: int) -> Floats:
    import polars as pl

    series = pl.Series(x, nan_to_null=True)
    return series.rolling_mean(window, min_samples=least).fill_null(np.nan).to_numpy()


def _median_of(parts: Sequence[Floats]) -> Floats:
    """Return the median of arrays, point by point, over those that are known."""
    stacked = np.sort(np.array(parts), axis=0)  # NaN is sorted last
    known = (~np.isnan(stacked)).sum(axis=0)
    columns = np.arange(stacked.shape[1])
    low = stacked[np.maximum((known - 1) // 2, 0), columns]
    high = stacked[np.maximum(known // 2, 0).clip(0, len(parts) - 1), columns]
    return np.where(known > 0, (low + high) / 2, np.nan)


def _spread_so_far(x: Floats) -> Floats:
    """Return the standard deviation of everything up to each point."""
    known = ~np.isnan(x)
    first = x[known][0] if known.any() else 0.0
    shifted = np.where(known, x - first, 0.0)  # for the precision of the difference below
    n = np.maximum(np.cumsum(known), 1)
    mean = np.cumsum(shifted) / n
    variance: Floats = np.maximum(np.cumsum(shifted**2) / n - mean**2, 0.0)
    spread: Floats = np.sqrt(variance)
    return spread


def _surprise(difference: Floats, window: int, least: int, floor: Floats) -> Floats:
    """Return |difference| over what differences were before, 0 where it is unknown."""
    import polars as pl

    series = pl.Series(difference, nan_to_null=True)
    spread = series.rolling_std(window, min_samples=least).fill_null(np.nan).to_numpy()
    with np.errstate(invalid="ignore"):
        result = np.abs(difference) / np.maximum(_lag(spread, 1), floor)
    return np.asarray(np.nan_to_num(result, nan=0.0, posinf=0.0), dtype=np.float64)


def _highest_before(score: Floats, window: int) -> Floats:
    import polars as pl

    series = pl.Series(score).shift(1)
    return series.rolling_max(window, min_samples=1).fill_null(0.0).to_numpy()


def detect_series(
    ns: NDArray[np.int64],
    values: Floats,
    *,
    metric: str,
    config: SeriesConfig | None = None,
) -> SeriesReport:
    """Return the anomalies, the trend and the changes of level of a series.

    Args:
        ns: (n,) increasing, ns since 1970.
        values: (n,) finite.
        metric: what the values are called.
        config: settings; the defaults when None.

    Raises:
        NotEnoughDataError: fewer than `MIN_POINTS` points.
    """
    config = config or SeriesConfig()
    if len(ns) < MIN_POINTS:
        raise NotEnoughDataError(
            f"{len(ns)} point{'' if len(ns) == 1 else 's'} of {metric}: not enough for a baseline",
            hint=f"a series needs {MIN_POINTS} points, two days of them to know the time of day",
        )
    seconds = ns / 1e9
    scores = score_series(seconds, values, config)
    period = _period(seconds)
    gap = max(1, int(period * config.cooldown_days))
    patterns = [
        _pattern((ns, values), scores, bounds, metric, config)
        for bounds in _episodes(scores, config, gap)
    ]
    days = (seconds - seconds[0]) / _DAY_S
    return SeriesReport(
        tuple(patterns),
        trend_of(*_period_means(days, values, period)),
        tuple(change_points(ns, values, period=period)),
        len(ns),
        int(ns[0]),
        int(ns[-1]),
        float(np.median(np.diff(seconds))),
    )


def _period_means(days: Floats, values: Floats, period: int) -> tuple[Floats, Floats]:
    """Return times and values of whole periods, where there are enough: a season is no trend."""
    if len(values) < 10 * period:
        return days, values
    whole = len(values) // period * period
    times, means = (x[:whole].reshape(-1, period).mean(axis=1) for x in (days, values))
    return times, means


def _episodes(scores: SeriesScores, config: SeriesConfig, gap: int) -> list[tuple[int, int]]:
    """Return first and last point of each episode: alerts no further apart than `gap`."""
    above = np.flatnonzero(scores.score >= config.threshold)
    if not len(above):
        return []
    breaks = np.flatnonzero(np.diff(above) > gap)
    firsts = np.concatenate(([0], breaks + 1))
    lasts = np.concatenate((breaks, [len(above) - 1]))
    return [(int(above[a]), int(above[b])) for a, b in zip(firsts, lasts, strict=True)]


def _pattern(
    points: tuple[NDArray[np.int64], Floats],
    scores: SeriesScores,
    bounds: tuple[int, int],
    metric: str,
    config: SeriesConfig,
) -> Pattern:
    (ns, values), (first, last) = points, bounds
    inside = slice(first, last + 1)
    peak = first + int(np.argmax(scores.score[inside]))
    expected, observed = float(scores.expected[peak]), float(values[peak])
    excess = float(scores.score[peak]) / config.threshold
    length = last - first + 1
    return Pattern(
        type=PatternType.CUSTOM,
        start_ns=int(ns[first]),
        end_ns=int(ns[last]),
        metric=metric,
        unit="",
        baseline=expected,
        observed=observed,
        severity=round(1 - 1 / excess, 4),
        confidence=round(1 - 0.5 / excess**2, 4),
        affected={},
        suggested_actions=(
            (
                f"Look at what changed in {metric} between {_text(ns[first])} and "
                f"{_text(ns[last])}: {observed:.6g} where {expected:.6g} was expected"
            ),
        ),
        observed_count=length,
        baseline_count=first,
        shape=("spike" if observed >= expected else "dip") if length <= 3 else "step",
        ongoing=last == len(ns) - 1,
        details={"score": float(scores.score[peak]), "peak_time": _text(ns[peak])},
    )


def _text(ns: np.int64) -> str:
    from pyflare_analysis.plain import format_time

    return format_time(int(ns))[:19] + "Z"
