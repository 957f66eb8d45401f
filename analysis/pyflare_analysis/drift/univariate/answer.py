"""Univariate tests of columns between two sources: the answer of `drift univariate`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyflare_analysis.drift.clusters.effects import (
    TRACE,
    ColumnEffect,
    cluster_column,
    overall_effects,
)
from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.columns import (
    Feature,
    Passed,
    check_feature,
    feature_named,
    suitable_features,
)
from pyflare_analysis.drift.profiles.profile import profile_of
from pyflare_analysis.drift.psi.cells import plain_count
from pyflare_analysis.drift.univariate.columns import (
    TESTS,
    UnivariateColumn,
    UnivariateConfig,
    measure_columns,
    overall_verdict,
)
from pyflare_analysis.drift.univariate.summary import Summary, summarize_rows
from pyflare_proto.errors import NotEnoughDataError, SchemaError, UsageError

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_storage.expressions import Expr

__all__ = ["UnivariateAnswer", "examine_columns"]


@dataclass(frozen=True, slots=True)
class UnivariateAnswer:
    """What `examine_columns` found."""

    columns: tuple[UnivariateColumn, ...]
    """One entry a column and test."""
    passed: tuple[Passed, ...]
    """Columns that were not tested, and why."""
    sides: tuple[Summary, Summary]
    """Reference and current rows."""
    urls: tuple[str, str]
    """Where they are."""
    weighted: bool
    config: UnivariateConfig
    cluster: str | None = None
    """The column whose equal values are a cluster; None where all rows are independent."""

    @property
    def verdict(self) -> Verdict:
        """Drift where any test says so; insufficient where none can say anything."""
        return overall_verdict(self.columns)

    @property
    def sampled(self) -> bool:
        """Whether any row was sampled, so that weighting makes a difference."""
        return any(side.weight != side.rows for side in self.sides)

    def rows(self) -> list[dict[str, object]]:
        """Return the tests as they stand in JSON."""
        return [column.document() for column in self.columns]

    def to_dict(self) -> dict[str, object]:
        """Return the answer as it stands in JSON."""
        sides = {
            name: {
                "source": url,
                "rows": side.rows,
                "weighted_rows": plain_count(side.weight),
                "effective_rows": plain_count(side.effective),
            }
            for name, url, side in zip(("reference", "current"), self.urls, self.sides, strict=True)
        }
        return {
            "verdict": str(self.verdict),
            "threshold": self.config.threshold,
            "alpha": self.config.alpha,
            "random_seed": self.config.random_seed,
            "cluster": self.cluster,
            "weighted": self.weighted,
            "sampled": self.sampled,
            **sides,
            "columns": self.rows(),
            "passed_over": [{"column": item.column, "reason": item.reason} for item in self.passed],
        }

    def failing(
        self, *, above: float | None = None, on: str | None = None
    ) -> list[UnivariateColumn]:
        """Return the tests that are significant and whose effect is too large.

        Args:
            above: effect size that is too large.
            on: `drift`: the verdict.
        """
        return [
            column
            for column in self.columns
            if (on == "drift" and column.verdict is Verdict.DRIFT)
            or (
                above is not None
                and column.measured is not None
                and column.q_value <= self.config.alpha
                and column.measured.effect_size > above
            )
        ]


def examine_columns(
    reference: Rows,
    current: Rows,
    names: Sequence[str] = (),
    *,
    reference_where: Expr | None = None,
    where: Expr | None = None,
    weighted: bool = True,
    config: UnivariateConfig | None = None,
    cluster: str | None = TRACE,
) -> UnivariateAnswer:
    """Test every column by every test that fits it, in one pass over each side.

    Args:
        reference: the reference.
        current: the current rows.
        names: columns; every suitable one when there are none.
        reference_where: rows of the reference that count; all when None.
        where: current rows that count; all when None.
        weighted: count rows 1/sampling_probability times.
        config: settings.
        cluster: rows that are equal here are not independent, as the calls of a trace; see
            `pyflare_analysis.drift.clusters.effects`. None: all rows are independent, as
            without the column `trace_id`.

    Raises:
        SchemaError: an unknown column, or one that cannot be tested.
        UsageError: no test fits any column.
        NotEnoughDataError: no rows on one side.
    """
    config = config or UnivariateConfig()
    cluster = cluster_column(cluster, current.columns())
    features, passed = _features(reference, current, names)
    tested = [f for f in features if set(TESTS[f.kind]) & set(config.tests)]
    passed += [
        Passed(f.name, f"is {f.kind}, and {', '.join(config.tests)} test the other kind")
        for f in features
        if f not in tested
    ]
    if not tested:
        reasons = "; ".join(f"{item.column} {item.reason}" for item in passed[:5])
        raise UsageError(
            f"no column that {', '.join(config.tests)} can test: {reasons}",
            hint="ks and wasserstein test numbers, chi2 categories, js both",
        )
    sides = []
    for rows, condition, option in (
        (reference, reference_where, "--ref"),
        (current, where, "--cur"),
    ):
        side = summarize_rows(rows, tested, where=condition, weighted=weighted)
        if not side.rows:
            raise NotEnoughDataError(
                f"no rows in {rows.url}" + ("" if condition is None else " fulfil the conditions"),
                hint=f"a longer period, fewer conditions or another {option}; of spans only the "
                "calls of models count, unless --all-spans",
            )
        sides.append(side)
    effects: tuple[Mapping[str, ColumnEffect], Mapping[str, ColumnEffect]] = ({}, {})
    if cluster is not None:
        profile = profile_of(sides[0], tested)
        now = overall_effects(profile, current, where, cluster)
        known = cluster in reference.columns()
        before = overall_effects(profile, reference, reference_where, cluster) if known else now
        effects = before, now
    columns = measure_columns(tested, sides[0], sides[1], config, effects=effects)
    return UnivariateAnswer(
        tuple(columns), tuple(passed), (sides[0], sides[1]), (reference.url, current.url),
        weighted, config, cluster,
    )  # fmt: skip


def _features(
    reference: Rows, current: Rows, names: Sequence[str]
) -> tuple[list[Feature], list[Passed]]:
    if names:
        types = reference.columns()
        named = [feature_named(name, types) for name in dict.fromkeys(names)]
        return [_of_both(feature, reference, current) for feature in named], []
    features, passed = suitable_features(reference)
    kept: list[Feature] = []
    for feature in features:
        try:
            kept.append(_of_both(feature, reference, current))
        except SchemaError as error:
            passed.append(Passed(feature.name, error.message))
    return kept, passed


def _of_both(feature: Feature, reference: Rows, current: Rows) -> Feature:
    """Return a feature of the reference, of the kind of the side that has values.

    Raises:
        SchemaError: the current rows do not have it, or both have values of different kinds.
    """
    try:
        check_feature(feature, current)
    except SchemaError as error:
        try:
            other = feature_named(feature.name, current.columns())
            check_feature(other, reference)
        except SchemaError:
            raise error from None
        return other
    return feature
