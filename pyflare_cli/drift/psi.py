"""`pyflare drift psi`: which columns changed, by the population stability index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.drift.group import app
from pyflare_cli.drift.recording import StoreOptions
from pyflare_cli.drift.side_options import (
    ClusterOption,
    ColumnOption,
    CurrentOption,
    PeriodOptions,
    Sides,
    UnweightedOption,
    check_fail_above,
    open_side,
    stored_row,
    where_clustered,
)
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.tables import Column
from pyflare_proto.errors import GateError, NotEnoughDataError, UsageError

if TYPE_CHECKING:
    from pyflare_analysis.drift.profiles.columns import Passed
    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.psi.answer import PSIAnswer

COLUMNS = (
    Column("column"),
    Column("psi", "PSI", cut=False),
    Column("psi_smoothed", "smoothed", cut=False),
    Column("psi_corrected", "corrected", cut=False),
    Column("p_value", "p", cut=False),
    Column("q_value", "q", cut=False),
    Column("severity", cut=False),
    Column("verdict", cut=False),
    Column("moved"),
)


@dataclass(frozen=True, slots=True)
class GateOptions:
    """When to exit with 1."""

    fail_on: Annotated[
        Literal["drift", "moderate", "significant"] | None,
        typer.Option(
            help="Exit 1 on drift, or on a statistically significant change that is moderate "
            "(PSI 0.1) or significant (PSI 0.25) in size, in any column."
        ),
    ] = None
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Exit 1 when a statistically significant smoothed PSI is above X in any column.",
        ),
    ] = None


@command(
    app,
    "psi",
    examples="""
    pyflare drift psi --ref last-week.parquet --cur today.parquet
    pyflare drift psi --since 24h --ref-window 7d --fail-on drift
    pyflare drift psi --ref pyflare-data --ref-where "prompt_version = 'v1'" --cur-where "prompt_version = 'v2'"
    pyflare drift psi --cur requests.csv --ref-until 2023-11-16T18:45:00Z
    pyflare drift psi --ref last-week.parquet --save-profile reference.json
    pyflare drift psi --ref reference.json --cur today.parquet --column duration_ms --fail-above 0.1
    """,  # noqa: E501 - one command a line
)
def psi(
    run: Run,
    *,
    ref: Annotated[
        list[str] | None,
        typer.Option(
            metavar="R",
            help="Reference: Parquet, CSV, any source URL, or a saved profile; profiles of "
            "shards again and again.  [default: the current source, divided by --ref-...]",
        ),
    ] = None,
    cur: CurrentOption = None,
    column: ColumnOption = None,
    bins: Annotated[
        int | None,
        typer.Option(metavar="N", help="Quantile bins of a numeric column.  [default: 10]"),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="Smoothed PSI that drift must exceed.")
    ] = 0.2,
    alpha: Annotated[
        float, typer.Option(metavar="P", help="False discovery rate over the columns.")
    ] = 0.05,
    cluster: ClusterOption = "trace_id",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated law.")] = 42,
    unweighted: UnweightedOption = False,
    save_profile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Save the reference, to be given as --ref later."),
    ] = None,
    periods: PeriodOptions,
    gate: GateOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Which columns changed between a reference and the current rows, and what in them.

    Bins are quantiles of the reference. Drift means a PSI that is statistically significant,
    over all columns together, and above the threshold. --since and --until choose current
    rows; both sides where one source is divided by --ref-where alone.
    """
    from contextlib import ExitStack

    from pyflare_analysis.drift.psi.answer import compare_columns, fit_reference
    from pyflare_analysis.drift.psi.config import PSIConfig

    names = column or []
    sides = Sides(periods, filters, same_source=not ref)
    if not ref and not periods.splits:
        raise UsageError(
            "what is the reference?",
            hint="--ref FILE, or part of the same source: --since 24h --ref-window 7d",
        )
    check_fail_above(gate.fail_above)
    config = PSIConfig(
        threshold=threshold, num_bins=10 if bins is None else bins, alpha=alpha, random_seed=seed
    )
    with ExitStack() as stack:
        passed: list[Passed] = []
        if ref and _are_profiles(ref):
            sides.check_profile()
            profile = _loaded(ref, bins)
        else:
            opened = stack.enter_context(open_side(run, _only(ref) if ref else cur, source))
            profile, passed = fit_reference(
                opened,
                names,
                where=sides.reference(opened),
                weighted=not unweighted,
                config=config,
                cluster=where_clustered(cluster),
            )
        if save_profile is not None:
            profile.save(save_profile)
            run.note(f"the reference is saved: --ref {save_profile}")
            if cur is None and not _has_current(run, source) and ref:
                _answer_saved(run, profile, save_profile)
                return
        current = stack.enter_context(open_side(run, cur, source))
        where = sides.current(current)
        answer = compare_columns(
            profile,
            current,
            names,
            where=where,
            config=config,
            passed=passed,
            cluster=where_clustered(cluster),
        )
    _answer(run, answer, store)
    _gate(answer, gate)


def _are_profiles(urls: list[str]) -> bool:
    from pyflare_analysis.drift.profiles.profile_file import is_profile_file

    return all(is_profile_file(url) or url.endswith(".json") for url in urls)


def _only(urls: list[str]) -> str:
    if len(urls) > 1:
        raise UsageError(
            f"{len(urls)} references, and not all of them are profiles",
            hint="one --ref; a folder or a glob takes several files: --ref 'week/*.parquet'",
        )
    return urls[0]


def _loaded(urls: list[str], bins: int | None) -> Profile:
    from pyflare_analysis.drift.profiles.profile import Profile, merge_profiles

    profile = merge_profiles([Profile.load(url) for url in urls])
    if bins is not None and bins != profile.num_bins:
        raise UsageError(
            f"--bins {bins}, and the profile has {profile.num_bins}",
            hint=f"leave --bins out, or save another: --ref DATA --bins {bins} --save-profile FILE",
        )
    return profile


def _has_current(run: Run, source: SourceOptions) -> bool:
    """Return whether there are current rows without `--cur`: a source was named or is there."""
    if source.source is not None or run.settings["source"].source != "default":
        return True
    return run.settings.data.exists()


def _answer_saved(run: Run, profile: Profile, path: Path) -> None:
    """Write what was saved, where there is nothing to compare it with."""
    rows = [
        {"column": name, "kind": column.feature.kind, "cells": len(column.counts)}
        for name, column in profile.columns.items()
    ]
    body = {"profile": str(path), "source": profile.source, "rows": profile.rows, "columns": rows}
    run.answer(Document("pyflare.drift.profile/1", body, "columns"))


def _answer(run: Run, answer: PSIAnswer, store: StoreOptions) -> None:
    for item in answer.passed:
        if item.reason != "no values":
            run.note(f"passed over {item.column}: {item.reason}")
    if answer.sampled and answer.profile.weighted:
        run.note(
            "some rows were sampled: counts are weighted by 1/sampling_probability, the law "
            "takes the effective number of rows; --unweighted counts them as they are stored"
        )
    body = answer.to_dict()
    rows = answer.rows()
    run.answer(Document("pyflare.drift.psi/1", body, "columns", COLUMNS))
    store.record(
        run,
        [stored_row(row, body) for row in rows],
        command="psi",
        source=answer.current,
        reference=answer.profile.source,
    )


def _gate(answer: PSIAnswer, gate: GateOptions) -> None:
    """Say no where a gate was asked for, or that nothing can be said.

    Raises:
        NotEnoughDataError: no column could be judged.
        GateError: a column fails the gate.
    """
    if answer.verdict == "insufficient":
        reasons = {column.reason[0] for column in answer.columns if column.reason[0]}
        raise NotEnoughDataError(
            f"no column could be judged: {min(reasons, default='no columns')}",
            hint="longer periods, or fewer --bins",
        )
    failing = answer.failing(above=gate.fail_above, on=gate.fail_on)
    if failing:
        asked = f"--fail-on {gate.fail_on}"
        if gate.fail_above is not None:
            asked = f"--fail-above {gate.fail_above:g}"
        worst = max(failing, key=lambda column: float(column.psi_smoothed[0]))
        raise GateError(
            f"{len(failing)} of {len(answer.columns)} columns fail {asked}; the largest: "
            f"{worst.name}, PSI {worst.psi_smoothed[0]:.3g}",
            hint=f"pyflare drift psi --column {worst.name} --format json shows the bins",
        )
