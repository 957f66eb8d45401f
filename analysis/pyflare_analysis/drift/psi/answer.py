"""PSI of every column that was asked for, between two sources: the answer of `drift psi`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from pyflare_analysis.drift.clusters.effects import (
    TRACE,
    cluster_column,
    on_shares,
    overall_effects,
    reference_effects,
    with_effects,
)
from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.columns import (
    Feature,
    Passed,
    check_feature,
    feature_named,
    suitable_features,
)
from pyflare_analysis.drift.profiles.counts import Counts, count_rows
from pyflare_analysis.drift.profiles.profile import ColumnProfile, Profile, fit_profile
from pyflare_analysis.drift.psi.cells import plain_count
from pyflare_analysis.drift.psi.columns import PSIColumn, judged_columns, measured_columns, overall
from pyflare_analysis.drift.psi.config import PSIConfig
from pyflare_analysis.drift.report.cells import moved
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError, nearest

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_storage.expressions import Expr

__all__ = ["PSIAnswer", "compare_columns", "fit_reference"]


@dataclass(frozen=True, slots=True)
class PSIAnswer:
    """What `compare_columns` found."""

    columns: tuple[PSIColumn, ...]
    """Drifting columns first, then by size; each has one group."""
    passed: tuple[Passed, ...]
    """Columns that were not compared, and why."""
    profile: Profile
    """The reference."""
    counts: Counts
    """The current rows, one group."""
    current: str
    """Where the current rows are."""
    config: PSIConfig
    cluster: str | None = None
    """The column whose equal values are a cluster; None where all rows are independent."""
    effects: Mapping[str, float] = field(default_factory=dict)
    """Design effect of each column in the current rows, where they are clustered."""
    reference_effects: Mapping[str, float] = field(default_factory=dict)
    """Likewise in the reference."""

    @property
    def verdict(self) -> Verdict:
        """Drift where any column drifts; insufficient where none can be judged."""
        return overall(self.columns)

    @property
    def sampled(self) -> bool:
        """Whether any row was sampled, so that weighting makes a difference."""
        return self.profile.weight != self.profile.rows or bool(
            self.counts.weight[0] != self.counts.rows[0]
        )

    def rows(self) -> list[dict[str, object]]:
        """Return the columns as they stand in JSON."""
        return [
            {
                **column.document(),
                "design_effect": self.effects.get(column.name, 1.0),
                "reference_design_effect": self.reference_effects.get(column.name, 1.0),
                "moved": moved(column, 0) if column.q_value[0] <= self.config.alpha else None,
            }
            for column in self.columns
        ]

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        counts = self.counts
        return {
            "verdict": str(self.verdict),
            "threshold": self.config.threshold,
            "alpha": self.config.alpha,
            "num_bins": self.profile.num_bins,
            "epsilon": self.config.epsilon,
            "random_seed": self.config.random_seed,
            "cluster": self.cluster,
            "weighted": self.profile.weighted,
            "sampled": self.sampled,
            "reference": {
                "source": self.profile.source,
                "rows": self.profile.rows,
                "weighted_rows": plain_count(self.profile.weight),
                "effective_rows": plain_count(self.profile.effective),
            },
            "current": {
                "source": self.current,
                "rows": int(counts.rows[0]),
                "weighted_rows": plain_count(float(counts.weight[0])),
                "effective_rows": plain_count(float(counts.effective[0])),
            },
            "columns": self.rows(),
            "passed_over": [{"column": item.column, "reason": item.reason} for item in self.passed],
        }

    def failing(self, *, above: float | None = None, on: str | None = None) -> list[PSIColumn]:
        """Return the columns whose change is significant and too large.

        Args:
            above: smoothed PSI that is too large.
            on: `drift` (larger than the threshold), `moderate` (0.1 or more) or `significant`
                (0.25 or more).
        """
        failing = []
        for column in self.columns:
            if column.verdict[0] is Verdict.INSUFFICIENT:
                continue
            significant = column.q_value[0] <= self.config.alpha
            severity = column.severity[0]
            is_on = {
                None: False,
                "drift": column.verdict[0] is Verdict.DRIFT,
                "moderate": severity != "none",
                "significant": severity == "significant",
            }[on]
            if is_on or (above is not None and significant and column.psi_smoothed[0] > above):
                failing.append(column)
        return failing


def fit_reference(
    rows: Rows,
    names: Sequence[str] = (),
    *,
    where: Expr | None = None,
    weighted: bool = True,
    config: PSIConfig | None = None,
    cluster: str | None = TRACE,
) -> tuple[Profile, list[Passed]]:
    """Fit the profile of a reference.

    Args:
        rows: the reference.
        names: columns; every suitable one when there are none.
        where: the rows that count; all when None.
        weighted: count rows 1/sampling_probability times.
        config: settings.
        cluster: as in `compare_columns`; where the reference does not have the column, the
            design effects of the current rows serve for both sides.

    Returns:
        The profile, and the columns that were passed over.

    Raises:
        SchemaError: an unknown column or one that cannot be watched; no suitable column.
        NotEnoughDataError: no rows.
    """
    config = config or PSIConfig()
    types = rows.columns()
    passed: list[Passed] = []
    if names:
        features = [feature_named(name, types) for name in dict.fromkeys(names)]
    else:
        features, passed = suitable_features(rows)
    if not features:
        reasons = "; ".join(f"{item.column} {item.reason}" for item in passed[:5])
        raise SchemaError(
            f"no column of numbers or categories in {rows.url}: {reasons or 'it has no columns'}",
            hint="--column NAME takes a column all the same",
        )
    profile = fit_profile(
        rows,
        features,
        where=where,
        weighted=weighted,
        num_bins=config.num_bins,
        min_samples_per_bin=config.min_samples_per_bin,
    )
    if not profile.rows:
        raise NotEnoughDataError(
            f"no rows in the reference {rows.url}"
            + ("" if where is None else " fulfil the conditions"),
            hint="a longer period, fewer conditions or another --ref; of spans only the calls "
            "of models count, unless --all-spans",
        )
    return with_effects(profile, rows, where, cluster), passed


def compare_columns(
    reference: Profile,
    current: Rows,
    names: Sequence[str] = (),
    *,
    where: Expr | None = None,
    config: PSIConfig | None = None,
    passed: Sequence[Passed] = (),
    cluster: str | None = TRACE,
) -> PSIAnswer:
    """Compare current rows with a reference, column by column.

    Args:
        reference: the fitted reference.
        current: the current rows.
        names: columns of the reference; all that the current rows have when there are none.
        where: the current rows that count; all when None.
        config: settings; bins are those of the reference.
        passed: columns that were passed over before.
        cluster: rows that are equal here are not independent, as the calls of a trace; see
            `pyflare_analysis.drift.clusters.effects`. None: all rows are independent, as
            without the column `trace_id`.

    Raises:
        SchemaError: a named column that the reference or the current rows do not have.
        NotEnoughDataError: no current rows.
    """
    config = config or PSIConfig()
    cluster = cluster_column(cluster, current.columns())
    left_out = list(passed)
    if names:
        chosen = {name: _named(reference, name) for name in dict.fromkeys(names)}
        profile = replace(reference, columns=_as_current(chosen, current))
    else:
        known = _as_current(reference.columns, current)
        kept = {n: c for n, c in known.items() if _fits(c.feature, current, left_out)}
        if known and not kept:
            raise SchemaError(
                f"{current.url} has none of the reference's columns, or not their types",
                hint="; ".join(item.reason for item in left_out[len(passed) :][:3]),
            )
        profile = replace(reference, columns=kept)
    counts = count_rows(profile, current, where=where)
    if not counts.rows[0]:
        raise NotEnoughDataError(
            f"no rows in {current.url}" + ("" if where is None else " fulfil the conditions"),
            hint="a longer period, fewer conditions or another --cur; of spans only the calls "
            "of models count, unless --all-spans",
        )
    if not names:
        profile = _without_empty(profile, counts, left_out)
    effects = on_shares(overall_effects(profile, current, where, cluster))
    before = reference_effects(profile, cluster, effects)
    measured = [
        _measured(profile, counts, config, name, (before.get(name, 1.0), effects.get(name, 1.0)))
        for name in profile.columns
    ]
    columns = judged_columns(measured, config, family="group")
    columns.sort(key=_order)
    return PSIAnswer(
        tuple(columns), tuple(left_out), profile, counts, current.url, config, cluster, effects,
        before,
    )  # fmt: skip


def _measured(
    profile: Profile, counts: Counts, config: PSIConfig, name: str, effects: tuple[float, float]
) -> PSIColumn:
    """Measure one column, with the numbers of rows that dependent ones are worth."""
    part = replace(
        profile,
        columns={name: profile.columns[name]},
        weight_squared=profile.weight_squared * effects[0],
    )
    worth = replace(counts, weight_squared=counts.weight_squared * effects[1])
    (column,) = measured_columns(part, worth, config)
    return replace(column, minimum_count=np.ceil(column.minimum_count * effects[1]))


def _named(reference: Profile, name: str) -> ColumnProfile:
    if name not in reference.columns:
        near = nearest(name, reference.columns)
        raise SchemaError(
            f"the reference has no column {name!r}",
            hint=f"did you mean {near}?" if near else f"columns: {', '.join(reference.columns)}",
        )
    return reference.columns[name]


def _as_current(columns: Mapping[str, ColumnProfile], current: Rows) -> dict[str, ColumnProfile]:
    """Return columns of a reference, those without any value of the kind of the current ones."""
    types = current.columns()
    found = dict(columns)
    for name, column in columns.items():
        feature = column.feature
        if column.present or feature.reading != "as_is" or feature.column not in types:
            continue
        numeric = types[feature.column] in {"int64", "float64"}
        if numeric != (feature.kind == "numeric"):
            found[name] = replace(
                column,
                feature=replace(feature, kind="numeric" if numeric else "categorical"),
                counts=np.array([0.0, column.counts[-1]]),
                distinct=0,
            )
    return found


def _fits(feature: Feature, current: Rows, left_out: list[Passed]) -> bool:
    """Return whether the current rows have a feature; else say why not."""
    try:
        check_feature(feature, current)
    except UsageError as error:
        left_out.append(Passed(feature.name, error.message))
        return False
    return True


def _without_empty(profile: Profile, counts: Counts, left_out: list[Passed]) -> Profile:
    """Leave out the columns that have no value on either side, if others have some."""
    filled = {
        name: column
        for name, column in profile.columns.items()
        if column.counts[:-1].any() or counts.columns[name].counts[0, :-1].any()
    }
    if not filled:
        return profile
    left_out += [Passed(name, "no values") for name in profile.columns if name not in filled]
    return replace(profile, columns=filled)


def _order(column: PSIColumn) -> tuple[int, float, str]:
    rank = (Verdict.DRIFT, Verdict.STABLE, Verdict.INSUFFICIENT).index(column.verdict[0])
    size = float(column.psi_smoothed[0])
    return rank, 0.0 if math.isnan(size) else -size, column.name
