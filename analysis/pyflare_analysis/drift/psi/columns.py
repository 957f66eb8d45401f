"""PSI with its law, from counts alone, for all columns and many windows or segments at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.profiles.bins import single_values, stand_alone
from pyflare_analysis.drift.profiles.counts import NEW_CATEGORIES
from pyflare_analysis.drift.profiles.profile import certain_share
from pyflare_analysis.drift.psi.cells import (
    cell_labels,
    join_gaps,
    plain_count,
    pool_rare,
    unseen_categories,
)
from pyflare_analysis.drift.psi.config import MODERATE, SIGNIFICANT, PSIConfig, Severity
from pyflare_analysis.drift.psi.interval import psi_interval
from pyflare_analysis.drift.psi.law import null_p_values, smoothed_psi
from pyflare_analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_analysis.drift.profiles.columns import Kind
    from pyflare_analysis.drift.profiles.counts import CellCounts, Counts
    from pyflare_analysis.drift.profiles.profile import ColumnProfile, Profile

    Floats = NDArray[np.float64]

__all__ = ["PSIColumn", "overall", "psi_columns", "psi_terms"]

_NONE: tuple[Severity, ...] = ("none",)


@dataclass(frozen=True, slots=True)
class PSIColumn:
    """PSI of one column in each group; arrays are (groups,) or (groups, cells)."""

    name: str
    kind: Kind
    psi: Floats
    """Seed definition: empty cells count as epsilon."""
    psi_smoothed: Floats
    """With half a count in every cell: what the verdict rests on."""
    psi_corrected: Floats
    """`psi_smoothed` less what it is on average under no change, not below 0."""
    ci_low: Floats
    """Bounds of `psi_corrected` at the confidence 1 - alpha."""
    ci_high: Floats
    p_value: Floats
    """Under no change; NaN where nothing can be tested: no rows, or all in one bin."""
    q_value: Floats
    """`p_value` after Benjamini and Hochberg."""
    critical_value: Floats
    """PSI that is significant at alpha before correction (asymptotic law)."""
    minimum_count: Floats
    """Current rows from which a PSI of the threshold is significant; NaN: no number suffices."""
    verdict: tuple[Verdict, ...]
    severity: tuple[Severity, ...]
    reason: tuple[str | None, ...]
    """Why the verdict is insufficient."""
    labels: tuple[dict[str, object], ...]
    """What each cell holds, as in the answer."""
    reference: Floats
    """(groups, cells) weighted rows; cells that were pooled hold 0."""
    current: Floats
    """(groups, cells) weighted rows."""
    contribution: Floats
    """(groups, cells) parts of `psi`."""
    contribution_smoothed: Floats
    """(groups, cells) parts of `psi_smoothed`."""
    unseen: tuple[dict[str, object] | None, ...]
    """Current categories that the reference never had, beside what was to be expected."""

    def document(self, group: int = 0) -> dict[str, object]:
        """Return one group as it stands in JSON."""
        taking_part = np.flatnonzero((self.reference[group] + self.current[group]) > 0)
        bins = [
            {
                **self.labels[cell],
                "reference_count": plain_count(self.reference[group, cell]),
                "current_count": plain_count(self.current[group, cell]),
                "contribution": float(self.contribution[group, cell]),
                "contribution_smoothed": float(self.contribution_smoothed[group, cell]),
            }
            for cell in taking_part
        ]
        return {
            "column": self.name,
            "kind": self.kind,
            "psi": float(self.psi[group]),
            "psi_smoothed": float(self.psi_smoothed[group]),
            "psi_corrected": float(self.psi_corrected[group]),
            "ci_low": float(self.ci_low[group]),
            "ci_high": float(self.ci_high[group]),
            "severity": self.severity[group],
            "verdict": str(self.verdict[group]),
            "reason": self.reason[group],
            "p_value": float(self.p_value[group]),
            "q_value": float(self.q_value[group]),
            "critical_value": float(self.critical_value[group]),
            "minimum_current_count": plain_count(self.minimum_count[group]),
            "unseen": self.unseen[group],
            "bins": bins,
        }


def psi_terms(p: Floats, q: Floats, epsilon: float) -> Floats:
    """Return the terms (q - p) ln(q / p) of PSI; shares of 0 count as `epsilon`.

    Source: the population stability index of credit scoring; it is the symmetrised
    divergence of Kullback and Leibler 1951, first used by Jeffreys 1946.
    """
    low, high = np.maximum(p, epsilon), np.maximum(q, epsilon)
    return np.asarray((high - low) * np.log(high / low))


def psi_columns(
    profile: Profile,
    counts: Counts,
    config: PSIConfig | None = None,
    *,
    family: Literal["group", "all"] = "group",
) -> list[PSIColumn]:
    """Compare counted rows with their profile.

    Args:
        profile: the reference.
        counts: rows counted by `count_rows` with this profile.
        config: settings; bins are those of the profile.
        family: what Benjamini-Hochberg corrects over: the columns of each group, or all
            columns of all groups together.
    """
    config = config or PSIConfig()
    return judged_columns(measured_columns(profile, counts, config), config, family=family)


def judged_columns(
    columns: Sequence[PSIColumn],
    config: PSIConfig,
    *,
    family: Literal["group", "all"] = "all",
) -> list[PSIColumn]:
    """Return measured columns with q-values, verdicts and severities.

    Args:
        columns: of `measured_columns`; of several calls too where the family is `all`.
        config: settings.
        family: see `psi_columns`.
    """
    if not columns:
        return []
    p = [column.p_value for column in columns]
    if family == "all":
        corrected = benjamini_hochberg(np.concatenate(p))
        q = np.split(corrected, np.cumsum([len(part) for part in p])[:-1])
    else:
        groups = zip(*p, strict=True)
        q = list(np.array([benjamini_hochberg(np.array(group)) for group in groups]).T)
    return [
        _judged(replace(column, q_value=row), config)
        for column, row in zip(columns, q, strict=True)
    ]


def measured_columns(
    profile: Profile, counts: Counts, config: PSIConfig, *, reference: Counts | None = None
) -> list[PSIColumn]:
    """Compare counted rows with their reference, without q-values and verdicts.

    Args:
        profile: the cells, and the reference of all groups.
        counts: rows counted by `count_rows` with this profile.
        config: settings; bins are those of the profile.
        reference: a reference of its own for each group of `counts`, in the same order and
            counted with the same profile. The cells are then fixed beforehand for both sides.
    """
    return [
        _tested(profile, column, counts, config, reference) for column in profile.columns.values()
    ]


def _reference(
    profile: Profile, column: ColumnProfile, counts: Counts, reference: Counts | None
) -> tuple[Floats, Floats, Floats]:
    """Return the reference's counts (groups, cells), its weight and its effective size."""
    new = counts.columns[column.feature.name].new_categories
    groups, first = len(counts.rows), len(column.categories)
    if reference is None:
        known = np.insert(column.counts, first, np.zeros(len(new)))
        x = np.broadcast_to(known, (groups, len(known)))
        return x, np.full(groups, profile.weight), np.full(groups, profile.effective)
    cells = reference.columns[column.feature.name]
    own = dict(zip(cells.new_categories, cells.counts[:, first:].T, strict=False))
    nothing = np.zeros(groups)
    if column.feature.kind == "numeric":
        return cells.counts, reference.weight, reference.effective
    named = [own.pop(name, nothing) for name in new]
    rest = cells.counts[:, -2] + sum(own.values(), nothing)
    missing = cells.counts[:, -1]
    x = np.column_stack([cells.counts[:, :first], *named, rest, missing])
    return x, reference.weight, reference.effective


def _known_to_both(column: ColumnProfile, cells: CellCounts, reference: Counts | None) -> Floats:
    """Return the current counts, categories that the reference may hold uncounted in the rest."""
    if reference is None:
        return cells.counts
    own = set(reference.columns[column.feature.name].new_categories)
    if not column.least_share and len(own) < NEW_CATEGORIES:
        return cells.counts
    first = len(column.categories)
    unsure = [first + i for i, name in enumerate(cells.new_categories) if name not in own]
    counts = cells.counts.copy()
    counts[:, -2] += counts[:, unsure].sum(axis=1)
    counts[:, unsure] = 0.0
    return counts


def _surely_counted(
    profile: Profile, column: ColumnProfile, pooled: Floats, reference: Counts | None
) -> NDArray[np.bool_]:
    """Return which cells (groups, cells) the profile counts whatever chance did.

    Those of the whole decide where groups have references of their own: these are parts of
    what the profile was made from.
    """
    if not column.least_share:
        return np.ones(pooled.shape, bool)
    if reference is not None:
        pooled = np.broadcast_to(pooled.sum(axis=0), pooled.shape)
    total = pooled.sum(axis=1, keepdims=True)
    # Dependent rows were fewer chances to be counted than there are rows.
    least = max(column.least_share, certain_share(profile.effective))
    return np.asarray(pooled >= least * total)


def _tested(
    profile: Profile,
    column: ColumnProfile,
    counts: Counts,
    config: PSIConfig,
    reference: Counts | None,
) -> PSIColumn:
    """Return everything but what the other columns decide."""
    cells = counts.columns[column.feature.name]
    least = config.min_samples_per_bin
    groups = len(counts.rows)
    x, weight, n = _reference(profile, column, counts, reference)
    y, m = cells.counts, counts.effective
    # Effective counts: what the sampled rows are worth.
    to_n = n / np.maximum(weight, 1e-300)
    to_m = m / np.where(counts.weight > 0, counts.weight, 1.0)
    is_numeric = column.feature.kind == "numeric"
    if not is_numeric:
        y = _known_to_both(column, cells, reference)
        sure = _surely_counted(profile, column, x * to_n[:, None] + y * to_m[:, None], reference)
        x, y = pool_rare(x, y, to_n, to_m, sure=sure, least=least)
    xe, ye = x * to_n[:, None], y * to_m[:, None]
    cell = (xe + ye > 0).astype(np.float64)
    number = cell.sum(axis=1)
    smoothed = smoothed_psi(xe, ye, cell)
    own_bins = is_numeric and reference is None
    alone = own_bins and stand_alone(column.edges, column.counts[:-1])
    tested, observed = (xe, ye), smoothed
    if alone and len(column.edges):
        tested = join_gaps(xe, ye, single_values(column.edges))
        observed = smoothed_psi(*tested, (tested[0] + tested[1] > 0).astype(np.float64))
    p_value = null_p_values(
        *tested, observed, quantile_bins=own_bins and not alone, seed=config.random_seed
    )
    half = 0.5 * cell
    share = _shares(x), _shares(y)
    terms = psi_terms(*share, config.epsilon) * cell
    terms_smoothed = psi_terms(_shares(xe + half), _shares(ye + half), 1e-300) * cell
    both = (n > 0) & (m > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        noise = 1 / n + 1 / m
        quantile = _chi2_quantile(1 - config.alpha, number - 1)
        rest = config.threshold / quantile - 1 / n
        minimum = np.where(rest > 0, np.ceil(1 / rest), np.nan)
    undefined = np.where(both, 1.0, np.nan)
    low, high = psi_interval(xe, ye, 1 - config.alpha)
    # The table of names is one for all groups.
    verdict, reason = _sufficient(column, (xe, ye), n, m, config)
    return PSIColumn(
        name=column.feature.name,
        kind=column.feature.kind,
        psi=terms.sum(axis=1) * undefined,
        psi_smoothed=smoothed * undefined,
        psi_corrected=np.maximum(smoothed - (number - 1) * noise, 0.0) * undefined,
        ci_low=low * undefined,
        ci_high=high * undefined,
        p_value=np.where([v is None for v in verdict], p_value, np.nan),
        q_value=np.full(groups, np.nan),
        critical_value=quantile * noise * undefined,
        minimum_count=np.where(number > 1, minimum, 0.0),
        verdict=tuple(v or Verdict.STABLE for v in verdict),
        severity=_NONE * groups,
        reason=reason,
        labels=cell_labels(column, cells.new_categories),
        reference=x,
        current=y,
        contribution=terms,
        contribution_smoothed=terms_smoothed,
        unseen=tuple(unseen_categories(column, cells, g) for g in range(groups)),
    )


def _chi2_quantile(q: float, degrees: Floats) -> Floats:
    from scipy.special import chdtri

    return np.where(degrees > 0, chdtri(np.maximum(degrees, 1), 1 - q), 0.0)


def _shares(counts: Floats) -> Floats:
    total = counts.sum(axis=1, keepdims=True)
    return np.asarray(counts / np.where(total > 0, total, 1.0))


def _sufficient(
    column: ColumnProfile, cells: tuple[Floats, Floats], n: Floats, m: Floats, config: PSIConfig
) -> tuple[list[Verdict | None], tuple[str | None, ...]]:
    """Return where there is too little to compute anything, and why."""
    x, y = cells
    least = 2 * config.min_samples_per_bin
    numeric = column.feature.kind == "numeric"
    least_reference = max(least, config.num_bins if numeric else 0)
    verdicts: list[Verdict | None] = []
    reasons: list[str | None] = []
    for i in range(len(n)):
        held = np.flatnonzero(x[i] + y[i] > 0)
        reason = None
        size = float(x[i, :-1].sum()) if numeric and not y[i, -1] + x[i, -1] else float(n[i])
        if size < least_reference:
            reason = f"the reference has {size:.0f} rows, fewer than {least_reference}"
        elif m[i] < least:
            reason = f"{m[i]:.0f} current rows, fewer than {least}"
        elif len(held) == 1 and held[0] == x.shape[1] - 1:
            reason = "no values on either side"
        elif len(held) == 1 and not numeric and held[0] == x.shape[1] - 2:
            reason = "no category is frequent enough for a bin of its own"
        verdicts.append(Verdict.INSUFFICIENT if reason else None)
        reasons.append(reason)
    return verdicts, tuple(reasons)


def _judged(column: PSIColumn, config: PSIConfig) -> PSIColumn:
    """Return the column with verdicts and severities."""
    verdicts: list[Verdict] = []
    severities: list[Severity] = []
    reasons: list[str | None] = []
    for i, given in enumerate(column.verdict):
        significant = bool(column.q_value[i] <= config.alpha)
        size = float(column.psi_smoothed[i])
        verdict, reason = given, column.reason[i]
        if given is not Verdict.INSUFFICIENT:
            if significant and size > config.threshold:
                verdict = Verdict.DRIFT
            elif not significant and column.critical_value[i] > config.threshold:
                verdict = Verdict.INSUFFICIENT
                needed = plain_count(column.minimum_count[i])
                reason = (
                    f"a PSI of {config.threshold:g} would not be significant with so few rows"
                    + (f": {needed} current rows are needed" if needed else " of the reference")
                )
        verdicts.append(verdict)
        reasons.append(reason)
        if not significant or size < MODERATE:
            severities.append("none")
        else:
            severities.append("moderate" if size < SIGNIFICANT else "significant")
    return replace(
        column, verdict=tuple(verdicts), severity=tuple(severities), reason=tuple(reasons)
    )


def overall(columns: Sequence[PSIColumn], group: int = 0) -> Verdict:
    """Return drift where any column drifts, insufficient where none can be judged."""
    verdicts = {column.verdict[group] for column in columns}
    if Verdict.DRIFT in verdicts:
        return Verdict.DRIFT
    return Verdict.STABLE if Verdict.STABLE in verdicts else Verdict.INSUFFICIENT
