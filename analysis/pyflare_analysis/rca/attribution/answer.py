"""Where a change between two periods comes from: slices that got worse, or that grew.

Example:
    >>> change = attribute_spans(source, "error_rate", before=(t0, t1), after=(t1, t2))
    >>> for cause in change.causes:
    ...     print(dict(cause.definition), cause.explanatory_power, cause.before, cause.after)
    {'model': 'gpt-4o-2024-08-06'} 0.97 0.015 0.3

The change of a ratio is split exactly (Kitagawa 1955, J. Am. Stat. Assoc. 50:1168-1194): with
the share w of a slice in the count, its rate r, and the overall rate R, all before (0) and
after (1),

    rate_effect = (w0 + w1)/2 (r1 - r0)
    mix_effect  = (w1 - w0) ((r0 + r1)/2 - (R0 + R1)/2)

and the two, summed over slices that divide all rows, are R1 - R0. A total has no mix: its
rate_effect is what it is beyond what was expected. Explanatory power and surprise are those of
Adtributor (Bhagwan et al., NSDI 2014), of any combination of values. Where the rest changed by
much the same factor as the most probable slice, the cause is everything: a slice without
conditions.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.rca.attribution.leaves import Leaves, before_and_after
from pyflare_analysis.rca.attribution.search import (
    LEAST_FACTOR,
    WANDER,
    ChangedSlice,
    find_changed,
    leaf_evidence,
    wander_of,
)
from pyflare_analysis.rca.coded import Label
from pyflare_proto.errors import NotEnoughDataError, UsageError

__all__ = ["Attribution", "AttributionConfig", "ChangeCause", "explain"]

MIX_SHARE = 0.3
"""Share of the change from which on moved traffic is looked at as a cause."""

MOVED_ERRORS = 3.0
"""Standard errors by which the rate of a cause as a whole changed at least."""


@dataclass(frozen=True, slots=True)
class AttributionConfig:
    """How causes are looked for.

    Raises:
        UsageError: a value out of range.
    """

    depth: int = 3
    """Conditions that a cause combines at most, 1 to 3."""
    limit: int = 5
    """Causes at most."""
    min_power: float = 0.1
    """Share of the change that a cause explains at least."""
    weighted: bool = True
    """Count sampled rows 1/sampling_probability each."""
    bins: int = 5
    """Bins of numbers, between quantiles."""
    timezone: str = "UTC"
    """IANA name, of hours and weekdays."""

    def __post_init__(self) -> None:
        checks = (
            ("depth", 1 <= self.depth <= 3, "1 to 3"),
            ("limit", self.limit >= 1, "1 or more"),
            ("min_power", 0 <= self.min_power < 1, "from 0 to below 1"),
            ("bins", 2 <= self.bins <= 100, "2 to 100"),
        )
        for name, good, range_ in checks:
            if not good:
                flag = name.replace("_", "-")
                raise UsageError(
                    f"--{flag} is {getattr(self, name)}", hint=f"--{flag} takes {range_}"
                )


@dataclass(frozen=True, slots=True)
class ChangeCause:
    """One slice that the change comes from."""

    definition: Mapping[str, Label]
    explanatory_power: float
    """Share of the change that the slice carries: its two effects over the change."""
    surprise: float
    """Jensen-Shannon term of its share of the value before and after, nats."""
    before: float | None
    """Its rate before, or its expected total; null where it did not exist."""
    after: float | None
    mix_effect: float
    """Change by its share of the count, in the unit of the measure."""
    rate_effect: float
    """Change by its own rate."""
    kind: str
    """rate: it got worse or better; mix: it grew or shrank."""
    evidence: float
    """Logarithm of the odds that it changed, nats; see `search`."""
    before_count: float
    after_count: float
    """Counts that its rates are out of; exposures of a total."""

    def to_dict(self) -> dict[str, object]:
        """Return the cause as it stands in JSON."""
        return {
            "slice": dict(self.definition),
            "explanatory_power": self.explanatory_power,
            "surprise": self.surprise,
            "before": self.before,
            "after": self.after,
            "mix_effect": self.mix_effect,
            "rate_effect": self.rate_effect,
            "kind": self.kind,
            "evidence": self.evidence,
            "before_count": self.before_count,
            "after_count": self.after_count,
        }


@dataclass(frozen=True, slots=True)
class Attribution:
    """A change, and where it comes from."""

    measure: str
    unit: str
    ratio: bool
    """Whether the measure is a ratio; else it is a total."""
    before: float
    """The measure before; of a total what the period before lets expect."""
    after: float
    mix_effect: float
    """Part of the change by moved traffic, over the finest slices looked at."""
    rate_effect: float
    """Part of the change by rates within them."""
    before_rows: int
    after_rows: int
    dimensions: tuple[str, ...]
    """Dimensions that causes were looked for in."""
    causes: tuple[ChangeCause, ...]
    """The most probable first."""

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        return {
            "measure": self.measure,
            "unit": self.unit or None,
            "ratio": self.ratio,
            "before": self.before,
            "after": self.after,
            "change": self.change,
            "change_percentage": 100 * self.change / abs(self.before) if self.before else None,
            "mix_effect": self.mix_effect,
            "rate_effect": self.rate_effect,
            "before_rows": self.before_rows,
            "after_rows": self.after_rows,
            "dimensions": list(self.dimensions),
            "causes": [cause.to_dict() for cause in self.causes],
        }


def explain(
    leaves: Leaves, config: AttributionConfig, *, measure: str, unit: str, ratio: bool
) -> Attribution:
    """Return where the change between the two periods of leaves comes from.

    Args:
        leaves: the leaves; of a total, `counts` holds the exposure of the whole.
        config: how to look.
        measure: name of what changed.
        unit: its unit.
        ratio: whether it is value over count, or the value itself.

    Raises:
        NotEnoughDataError: a period is empty, or there is nothing to explain.
    """
    split = _Split(leaves, ratio=ratio)
    found: list[tuple[str, ChangedSlice]] = []
    if split.change:
        rates = find_changed(
            leaves, split.rate_evidence(), depth=config.depth, most=4 * config.limit
        )
        rates = [item for item in rates if split.has_moved(item)]
        if rates and split.is_everywhere(rates[0]):
            rates = [split.everything(rates[0])]
        found = [("rate", item) for item in rates]
        if ratio and split.mix_total / split.change >= MIX_SHARE:
            mixes = find_changed(
                leaves, split.mix_evidence(), depth=config.depth, most=4 * config.limit
            )
            moved = [("mix", item) for item in mixes]
            first = abs(split.mix_total) > abs(split.rate_total)
            found = [*moved, *found] if first else [*found, *moved]
    causes = _kept(split, found, config.min_power)
    return Attribution(
        measure=measure,
        unit=unit,
        ratio=ratio,
        before=split.before,
        after=split.after,
        mix_effect=split.mix_total,
        rate_effect=split.rate_total,
        before_rows=int(leaves.rows[:2].sum()),
        after_rows=int(leaves.rows[2]),
        dimensions=tuple(dimension.name for dimension in leaves.dimensions),
        causes=tuple(causes[: config.limit]),
    )


def _kept(
    split: _Split, found: Sequence[tuple[str, ChangedSlice]], min_power: float
) -> list[ChangeCause]:
    """Return the causes that explain enough beyond the causes before them."""
    explained = np.zeros(split.size, np.bool_)
    seen: set[tuple[tuple[int, int], ...]] = set()
    result = []
    for kind, item in found:
        if item.codes not in seen and split.power(kind, item.leaves & ~explained) >= min_power:
            seen.add(item.codes)
            explained |= item.leaves
            result.append(split.cause(kind, item))
    return result


class _Split:
    """The change of leaves, and of sums of them, in its parts."""

    def __init__(self, leaves: Leaves, *, ratio: bool) -> None:
        self._leaves = leaves
        self._ratio = ratio
        self._value = leaves.value
        self._count = leaves.count
        self._totals = leaves.value.sum(axis=1)
        self._whole = leaves.count.sum(axis=1)
        read = (leaves.rows[:2].sum(), leaves.rows[2])
        for name, rows, whole in zip(("before", "after"), read, self._whole, strict=True):
            if not rows or whole <= 0:
                raise NotEnoughDataError(
                    f"nothing to compare: no rows {name} the change",
                    hint="check the times: --since, --until, --at and the baseline's",
                )
        if ratio:
            self.before, self.after = (float(x) for x in self._totals / self._whole)
        else:
            # What the exposure after the change lets expect of the period before.
            self.before = float(self._totals[0] * self._whole[1] / self._whole[0])
            self.after = float(self._totals[1])
        self.change = self.after - self.before
        mix, rate = self._effects(self._value, self._exposures(np.ones(self._value.shape[1])))
        self.mix_total, self.rate_total = float(mix.sum()), float(rate.sum())

    def _exposures(self, members: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (2, k) what the values of leaves are out of."""
        if self._ratio:
            return self._count
        return np.asarray(self._whole[:, None] * np.ones_like(members), dtype=np.float64)

    def _effects(
        self, value: NDArray[np.float64], count: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mix and rate effect of slices, from (2, k) sums each."""
        if not self._ratio:
            expected = value[0] * self._whole[1] / self._whole[0]
            return np.zeros_like(expected), value[1] - expected
        share = count / self._whole[:, None]
        rate = np.divide(value, count, out=np.zeros_like(value), where=count > 0)
        # A slice that exists in one period only has the rate of that period in both.
        rate[0] = np.where(count[0] > 0, rate[0], rate[1])
        rate[1] = np.where(count[1] > 0, rate[1], rate[0])
        usual = (self.before + self.after) / 2
        mix = (share[1] - share[0]) * (rate.mean(axis=0) - usual)
        return mix, share.mean(axis=0) * (rate[1] - rate[0])

    def _scale(self) -> NDArray[np.float64]:
        """Return the value that is worth one event, of each leaf.

        n values of mean m and variance v are as uncertain, relative to their mean, as n m^2 / v
        events, so an event is worth v / m. Events themselves are worth 1 - rate. Of other values
        the coefficient of variation is taken to be the same in all leaves, as it nearly is where
        large values spread more. Of a total, whose n is random too, an event is worth
        E[x^2] / E[x].
        """
        value, count = self._value.sum(axis=0), self._count.sum(axis=0)
        total, squares = float(value.sum()), float(self._leaves.squares.sum())
        if total <= 0:
            return np.ones(self.size)
        if not self._ratio:
            return np.full(self.size, squares / total)
        if math.isclose(total, squares):
            return np.full(self.size, max(1 - total / float(count.sum()), 1e-9))
        usual = np.divide(
            self._value**2, self._count, out=np.zeros_like(self._value), where=self._count > 0
        )
        left = max(float(count.sum()) - np.count_nonzero(self._count), 1.0)
        within = max(squares - float(usual.sum()), 0.0) / left
        variation = max(within / (float(usual.sum()) / float(count.sum())), 1e-9)
        mean = np.divide(value, count, out=np.zeros_like(value), where=count > 0)
        return np.asarray(variation * np.where(mean > 0, mean, total / count.sum()))

    def rate_evidence(self) -> NDArray[np.float64]:
        """Return the evidence that the rate of each leaf changed the way of the whole."""
        events = np.maximum(self._leaves.values, 0.0) / self._scale()
        ones = np.ones_like(events)
        exposure = self._leaves.counts * ones
        rising = np.full(events.shape[1], self.change > 0)
        wander = wander_of(events[:2], exposure[:2]) if self._long_enough else WANDER
        before, spent = before_and_after(events), before_and_after(exposure)
        if not before[0].sum():
            # Nothing at all before: compare with half an event over the whole.
            before[0] += 0.5 * spent[0] / spent[0].sum()
        return leaf_evidence(before, spent, rising, wander=wander)

    @property
    def _long_enough(self) -> bool:
        """Whether the halves before tell how much rates wander over the period after.

        They do where it is at least half as long as each: short periods wander more.
        """
        return bool(self._leaves.counts[2].sum() > self._leaves.counts[:2].sum() / 4)

    def mix_evidence(self) -> NDArray[np.float64]:
        """Return the evidence that the share of each leaf changed in the way of the whole."""
        value, count = self._value.sum(axis=0), self._count.sum(axis=0)
        rate = np.divide(value, count, out=np.zeros_like(value), where=count > 0)
        rising = (rate - (self.before + self.after) / 2) * self.change > 0
        counts = self._leaves.counts
        whole = counts.sum(axis=1, keepdims=True) * np.ones_like(counts)
        wander = wander_of(counts[:2], whole[:2]) if self._long_enough else WANDER
        return leaf_evidence(self._count, before_and_after(whole), rising, wander=wander)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return int(self._value.shape[1])

    def _sums(self, members: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return value and count of some leaves together, (2, 1) each."""
        value = self._value[:, members].sum(axis=1, keepdims=True)
        if not self._ratio:
            return value, self._whole[:, None]
        return value, self._count[:, members].sum(axis=1, keepdims=True)

    def power(self, kind: str, members: NDArray[np.bool_]) -> float:
        """Return the share of the change that some leaves carry by mix or by rate."""
        if not members.any():
            return 0.0
        mix, rate = self._effects(*self._sums(members))
        return float((mix if kind == "mix" else rate)[0]) / self.change

    def is_everywhere(self, item: ChangedSlice) -> bool:
        """Return whether the rest changed by a like factor: at least the slice's square root."""
        inside, outside = (self._log_factor(m)[0] for m in (item.leaves, ~item.leaves))
        return inside * outside > 0 and abs(outside) >= abs(inside) / 2

    def has_moved(self, item: ChangedSlice) -> bool:
        """Return whether the rate of a slice as a whole changed the way of everything.

        Leaves of few rows take their rate before partly from the whole: in a slice that was
        always worse, many of them seem to have changed.
        """
        factor, error = self._log_factor(item.leaves)
        factor *= math.copysign(1.0, self.change)
        return error == 0 or factor >= max(LEAST_FACTOR, MOVED_ERRORS * error)

    def _log_factor(self, members: NDArray[np.bool_]) -> tuple[float, float]:
        """Return the logarithm of the factor by which a rate changed, and its standard error.

        Those of two Poisson rates, with half an event added to each (Haldane 1956, Ann. Hum.
        Genet. 20:309-311); (0, 0) where one of the periods has nothing of the slice.
        """
        value, count = (sums[:, 0] for sums in self._sums(members))
        if not members.any() or (count <= 0).any():
            return 0.0, 0.0
        events = np.maximum(value, 0.0) / float(self._scale()[members].mean()) + 0.5
        rate = np.log(events / count)
        return float(rate[1] - rate[0]), math.sqrt(float((1 / events).sum()))

    def everything(self, item: ChangedSlice) -> ChangedSlice:
        """Return the slice of all rows, which has no condition."""
        return ChangedSlice((), np.ones(self.size, np.bool_), item.evidence)

    def cause(self, kind: str, item: ChangedSlice) -> ChangeCause:
        """Return what a slice that changed carries."""
        value, count = self._sums(item.leaves)
        mix, rate = (float(effect[0]) for effect in self._effects(value, count))
        shown = value[:, 0] / np.where(count[:, 0] > 0, count[:, 0], np.nan)
        if not self._ratio:
            shown = np.array([value[0, 0] * self._whole[1] / self._whole[0], value[1, 0]])
        dimensions = self._leaves.dimensions
        return ChangeCause(
            definition={
                dimensions[position].name: dimensions[position].label(code, code)
                for position, code in item.codes
            },
            explanatory_power=(mix + rate) / self.change,
            surprise=_surprise(*(value[:, 0] / np.where(self._totals > 0, self._totals, 1.0))),
            before=None if np.isnan(shown[0]) else float(shown[0]),
            after=None if np.isnan(shown[1]) else float(shown[1]),
            mix_effect=mix,
            rate_effect=rate,
            kind=kind,
            evidence=item.evidence,
            before_count=float(count[0, 0]),
            after_count=float(count[1, 0]),
        )


def _surprise(p: float, q: float) -> float:
    """Return 0.5 (p ln 2p/(p+q) + q ln 2q/(p+q)), the term of Adtributor."""
    p, q = max(float(p), 0.0), max(float(q), 0.0)
    return 0.5 * sum(x * float(np.log(2 * x / (p + q))) for x in (p, q) if x > 0)
