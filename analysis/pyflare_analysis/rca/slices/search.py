"""One search over coded rows: counts, tests, causes, and what each of them measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.slices.analyzer import (
    SliceAnalysis,
    SliceAnalysisResult,
    SliceAnalyzerConfig,
    SliceDefinition,
    percentage,
)
from pyflare_analysis.rca.slices.causes import CauseFinder, Item, SliceKey, matching, tally
from pyflare_analysis.rca.slices.cells import Cells, Sums, find_cells, totals
from pyflare_analysis.rca.slices.comparison import mean_test, rate_test, tail
from pyflare_analysis.rca.slices.values import (
    Estimate,
    mean_estimates,
    quantile_estimates,
    quantile_of,
    rate_estimates,
)
from pyflare_analysis.statistics import benjamini_hochberg, wilson_interval
from pyflare_proto.errors import NotEnoughDataError

if TYPE_CHECKING:
    from pyflare_analysis.rca.coded import Block, CodedRows
    from pyflare_analysis.rca.metrics import Metric

__all__ = ["Search"]

STOP_LEVEL = 0.01
"""Level of the Bonferroni test that a cause must pass."""


class Search:
    """Looks at the slices of coded rows.

    Args:
        rows: the rows, with the dimensions that vary.
        metric: what is measured.
        config: how to look.
        weighted: whether rows have weights.
        sampled: whether any row was sampled.
    """

    def __init__(
        self,
        rows: CodedRows,
        metric: Metric,
        config: SliceAnalyzerConfig,
        *,
        weighted: bool,
        sampled: bool,
    ) -> None:
        self._metric = metric
        self._config = config
        self._weighted = weighted
        self._sampled = sampled
        self._values = rows
        self._value = math.nan
        if metric.kind == "quantile":
            self._value = quantile_of(rows, metric.q)
            rows = rows.above(self._value)
        self._rows = rows
        self._binary = metric.kind != "mean"
        self._total = totals(rows)
        if metric.kind != "quantile" and self.count:
            self._value = float(self._total.mean[0])
        self._least = max(config.min_samples, math.ceil(config.min_support * self.count))
        self._sign = {"higher": 1, "lower": -1, "either": 0}[metric.worse]

    @property
    def count(self) -> int:
        """Number of rows with a number."""
        return int(self._total.rows[0])

    def check(self) -> None:
        """Say when nothing can be found, whatever the slices are.

        Raises:
            NotEnoughDataError: too few rows, all the same, or too few bad ones.
        """
        n, least = self.count, self._config.min_samples
        what = f"{n:,} rows with a value of {self._metric.name}"
        if n < 2 * least:
            raise NotEnoughDataError(
                f"{what}: a slice and the rest need {least} each",
                hint=f"bring in at least {2 * least - n} more (widen --since), "
                "or pass a lower --min-samples",
            )
        first, weight = float(self._total.first[0]), float(self._total.weight[0])
        spread = float(self._total.second[0]) / weight - (first / weight) ** 2
        if spread <= 1e-12 * max(1.0, (first / weight) ** 2):
            raise self._no_variation(what, first / weight)
        if self._binary and self._sign >= 0:
            self._check_bad(what)

    def _no_variation(self, what: str, mean: float) -> NotEnoughDataError:
        if self._metric.kind == "rate" and mean == 0:
            bound = float(wilson_interval(0, float(self._total.effective[0])).high)
            return NotEnoughDataError(
                f"{what}, none of them bad: slices cannot differ",
                hint=f"the rate is below {100 * bound:.2g} % with 95 % confidence; look further "
                "back with --since, or at another --metric",
            )
        return NotEnoughDataError(
            f"{what}, all the same ({self._value:g}): slices cannot differ",
            hint="look further back with --since, or at another --metric",
        )

    def _check_bad(self, what: str) -> None:
        """Refuse where even a slice that holds all bad rows would not be significant."""
        n, bad = float(self._total.effective[0]), float(self._total.first[0])
        bad *= n / float(self._total.weight[0])
        # Of so many bad rows, all in a slice of the least size: would that be significant?
        k = np.arange(1.0, 1000.0)
        size = np.maximum(k, self._least)
        level = STOP_LEVEL / max(1, sum(d.rest for d in self._rows.dimensions))
        good = np.flatnonzero(2 * tail(k, size, size * np.minimum(k / n, 1.0)) <= level)
        needed = int(k[good[0]]) if len(good) else len(k)
        if bad < needed:
            kind = "bad" if self._metric.kind == "rate" else "above the quantile"
            raise NotEnoughDataError(
                f"{what}, {bad:.3g} of them {kind}: no slice could be told from chance",
                hint=f"at least {needed} bad rows are needed; look further back with --since",
            )

    def _least_bad(self, level: float) -> int:
        """Return the bad rows that a slice of the least size needs to be significant."""
        share = float(self._total.first[0] / self._total.weight[0])
        k = np.arange(1.0, 10_000.0)
        n = np.maximum(k, self._least)
        good = np.flatnonzero(2 * tail(k, n, share * n) <= level)
        return int(k[good[0]]) if len(good) else len(k)

    def _cells(self) -> tuple[Cells, NDArray[np.float64], NDArray[np.float64]]:
        """Return the slices with enough rows, their p-values and q-values."""
        prune = self._binary and self._sign > 0 and not self._weighted
        cells = find_cells(
            self._rows,
            self._config.depth,
            self._least,
            binary=self._binary,
            least_bad=self._least_bad(self._config.alpha) if prune else -math.inf,
        )
        p = self._test(cells.sums)
        return cells, p, benjamini_hochberg(p)

    def _test(self, sums: Sums) -> NDArray[np.float64]:
        if self._binary:
            return rate_test(sums, self._total, weighted=self._weighted)
        return mean_test(sums, self._total)

    def causes(self, limit: int) -> SliceAnalysis:
        """Return the causes, the strongest first."""
        cells, p, _ = self._cells()
        finder = CauseFinder(
            self._rows,
            cells,
            self._total,
            binary=self._binary,
            sign=self._sign,
            level=STOP_LEVEL,
            least_effect=self._config.min_effect,
        )
        found = finder.find(limit) if len(cells) else []
        keys = [cause.key for cause in found]
        impacts = self._impacts(keys)
        results = self._results(
            keys, self._inside(keys), p, impacts, [cause.equivalent for cause in found]
        )
        return self._analysis(
            cells, [result for result in results if result.is_statistically_significant]
        )

    def everything(self, limit: int) -> SliceAnalysis:
        """Return the slices that differ significantly, the strongest evidence first."""
        cells, p, q = self._cells()
        chosen = np.flatnonzero(q <= self._config.alpha)
        with np.errstate(invalid="ignore"):
            gap = (cells.sums.mean - self._total.mean) * (self._sign or 1)
            strength = np.abs(gap) * np.sqrt(cells.sums.effective)
        bad = chosen[(gap[chosen] > 0) | (self._sign == 0)]
        order = bad[np.lexsort((-strength[bad], p[bad]))]
        results = self._results_of(cells, order[: 10 * limit], p)
        listed = [result for result in results if result.is_statistically_significant]
        return self._analysis(cells, listed[:limit])

    def values(self) -> SliceAnalysis:
        """Return every value with enough rows, the worst first."""
        cells, p, _ = self._cells()
        results = self._results_of(cells, np.arange(len(cells)), p)
        results.sort(key=lambda r: -(self._sign or 1) * r.deviation)
        return self._analysis(cells, results)

    def _analysis(self, cells: Cells, results: Sequence[SliceAnalysisResult]) -> SliceAnalysis:
        return SliceAnalysis(
            metric=self._metric,
            value=self._value,
            sample_count=self.count,
            weighted=self._weighted,
            sampled=self._sampled,
            dimensions=tuple(d.name for d in self._rows.dimensions),
            depth=self._config.depth,
            slices_tested=len(cells),
            min_samples=self._least,
            slices=tuple(results),
        )

    def _inside(self, keys: Sequence[SliceKey]) -> Sums:
        """Return the sums of slices, (k,)."""
        parts = [tally(self._rows, _membership(key), 1).columns() for key in keys]
        empty = [(np.zeros(0),) * 6]
        return Sums(*(np.concatenate(column) for column in zip(*(parts or empty), strict=True)))

    def _results_of(
        self, cells: Cells, index: NDArray[np.intp], p_values: NDArray[np.float64]
    ) -> list[SliceAnalysisResult]:
        """Return slices as they were counted, each judged by itself."""
        inside = cells.sums.take(index)
        keys = [_key(cells, int(i)) for i in index]
        return self._results(keys, inside, p_values, self._shares(inside))

    def _results(
        self,
        keys: Sequence[SliceKey],
        inside: Sums,
        p_values: NDArray[np.float64],
        impacts: Sequence[float],
        equivalent: Sequence[Sequence[SliceKey]] = (),
    ) -> list[SliceAnalysisResult]:
        if not keys:
            return []
        estimates = self._estimates(keys, inside, self._total.minus(inside))
        p = self._test(inside)
        names = [*equivalent, *((),) * (len(keys) - len(equivalent))]
        return [
            self._result(
                key,
                estimates[i],
                rows=int(inside.rows[i]),
                effective=float(inside.effective[i]),
                p=float(p[i]),
                q=float(benjamini_hochberg(np.append(p_values, p[i]))[-1]),
                impact=impacts[i],
                names=names[i],
            )
            for i, key in enumerate(keys)
        ]

    def _estimates(self, keys: Sequence[SliceKey], inside: Sums, rest: Sums) -> list[Estimate]:
        if self._metric.kind == "rate":
            return rate_estimates(inside, rest)
        if self._metric.kind == "mean":
            return mean_estimates(inside, rest)
        return quantile_estimates(self._values, keys, self._metric.q)

    def _result(
        self,
        key: SliceKey,
        estimate: Estimate,
        *,
        rows: int,
        effective: float,
        p: float,
        q: float,
        impact: float,
        names: Sequence[SliceKey],
    ) -> SliceAnalysisResult:
        deviation = estimate.value - estimate.baseline
        relative = deviation / abs(estimate.baseline) if estimate.baseline else math.inf * deviation
        worse = abs(relative) if self._sign == 0 else self._sign * relative
        return SliceAnalysisResult(
            definition=self._definition(key),
            metric=self._metric.name,
            sample_count=rows,
            metric_value=estimate.value,
            baseline_value=estimate.baseline,
            deviation=deviation,
            deviation_percentage=percentage(deviation, estimate.baseline),
            ci_low=estimate.ci_low,
            ci_high=estimate.ci_high,
            p_value=p,
            q_value=q,
            is_statistically_significant=bool(
                q <= self._config.alpha and worse >= self._config.min_effect
            ),
            impact_score=impact,
            baseline_count=self.count - rows,
            effective_count=effective,
            equivalent=tuple(self._definition(name) for name in names),
        )

    def _definition(self, key: SliceKey) -> SliceDefinition:
        dimensions = self._rows.dimensions
        return {
            dimensions[item.dim].name: dimensions[item.dim].label(item.low, item.high)
            for item in key
        }

    def _impacts(self, causes: Sequence[SliceKey]) -> list[float]:
        """Return the share of the total deviation that causes carry.

        The total is the sum of values minus what it would be if every row had the mean of the
        rows that no cause holds.
        """

        def first_cause(block: Block) -> NDArray[np.int64]:
            group = np.zeros(block.codes.shape[1], np.int64)
            for number in range(len(causes), 0, -1):
                group[matching(block.codes, causes[number - 1])] = number
            return group

        sums = tally(self._rows, first_cause, len(causes) + 1)
        usual = float(sums.mean[0]) if sums.weight[0] else 0.0
        excess = sums.first[1:] - sums.weight[1:] * usual
        total = float(excess.sum())
        return [float(x) / total if total else 0.0 for x in excess]

    def _shares(self, inside: Sums) -> list[float]:
        """Return the share of all values that slices carry beyond what the rest would."""
        rest = self._total.minus(inside)
        excess = inside.first - inside.weight * np.nan_to_num(rest.mean)
        total = float(self._total.first[0]) or 1.0
        return [float(x) / total for x in excess]


def _membership(key: SliceKey) -> Callable[[Block], NDArray[np.int64]]:
    """Return a key for `tally`: 0 for the rows of a slice, -1 for the others."""
    return lambda block: matching(block.codes, key).astype(np.int64) - 1


def _key(cells: Cells, index: int) -> SliceKey:
    return tuple(
        Item(int(dim), int(code), int(code))
        for dim, code in zip(cells.dims[index], cells.codes[index], strict=True)
        if dim >= 0
    )
