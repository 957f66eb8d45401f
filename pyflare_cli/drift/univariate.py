"""`pyflare drift univariate`: classical two-sample tests, column by column."""

from __future__ import annotations

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
    from pyflare_analysis.drift.univariate.answer import UnivariateAnswer

COLUMNS = (
    Column("column"),
    Column("test", cut=False),
    Column("statistic", cut=False),
    Column("effect_size", "effect", cut=False),
    Column("ci_low", "from", cut=False),
    Column("ci_high", "to", cut=False),
    Column("p_value", "p", cut=False),
    Column("q_value", "q", cut=False),
    Column("verdict", cut=False),
)


@command(
    app,
    "univariate",
    examples="""
    pyflare drift univariate --ref last-week.parquet --cur today.parquet
    pyflare drift univariate --since 24h --ref-window 7d --test ks --column duration_ms
    pyflare drift univariate --ref a.csv --cur b.csv --test wasserstein --fail-above 0.2
    """,
)
def univariate(
    run: Run,
    *,
    ref: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="Reference: Parquet, CSV or any source URL.  "
            "[default: the current source, divided by --ref-...]",
        ),
    ] = None,
    cur: CurrentOption = None,
    column: ColumnOption = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ks|wasserstein|js|chi2",
            help="Test; again for more.  [default: all that fit the column]",
        ),
    ] = None,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="Effect size that drift must exceed.")
    ] = 0.1,
    alpha: Annotated[
        float, typer.Option(metavar="P", help="False discovery rate over columns and tests.")
    ] = 0.05,
    cluster: ClusterOption = "trace_id",
    seed: Annotated[int, typer.Option(metavar="N", help="Of permutations and bootstraps.")] = 42,
    unweighted: UnweightedOption = False,
    fail_on: Annotated[
        Literal["drift"] | None, typer.Option(help="Exit 1 when any test says drift.")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(metavar="X", help="Exit 1 when a significant effect size is above X."),
    ] = None,
    periods: PeriodOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Kolmogorov-Smirnov, Wasserstein, Jensen-Shannon and chi-square, with effect sizes.

    Effect sizes: D of Kolmogorov-Smirnov; the Wasserstein distance in standard deviations of
    the reference; the Jensen-Shannon distance over its maximum; Cramer's V of chi-square.
    """
    from contextlib import ExitStack
    from dataclasses import replace

    from pyflare_analysis.drift.univariate.answer import examine_columns
    from pyflare_analysis.drift.univariate.columns import UnivariateConfig

    sides = Sides(periods, filters, same_source=ref is None)
    if ref is None and not periods.splits:
        raise UsageError(
            "what is the reference?",
            hint="--ref FILE, or part of the same source: --since 24h --ref-window 7d",
        )
    check_fail_above(fail_above)
    config = UnivariateConfig(threshold=threshold, alpha=alpha, random_seed=seed)
    if test:
        config = replace(config, tests=tuple(dict.fromkeys(test)))
    with ExitStack() as stack:
        reference = stack.enter_context(open_side(run, cur if ref is None else ref, source))
        current = stack.enter_context(open_side(run, cur, source))
        answer = examine_columns(
            reference,
            current,
            column or (),
            reference_where=sides.reference(reference),
            where=sides.current(current),
            weighted=not unweighted,
            config=config,
            cluster=where_clustered(cluster),
        )
    _answer(run, answer, store)
    _gate(answer, fail_on, fail_above)


def _answer(run: Run, answer: UnivariateAnswer, store: StoreOptions) -> None:
    for item in answer.passed:
        run.note(f"passed over {item.column}: {item.reason}")
    if answer.sampled and answer.weighted:
        run.note(
            "some rows were sampled: they are weighted by 1/sampling_probability, the tests "
            "take the effective number of rows; --unweighted counts them as they are stored"
        )
    body = answer.to_dict()
    run.answer(Document("pyflare.drift.univariate/1", body, "columns", COLUMNS))
    store.record(
        run,
        [stored_row(row, body) for row in answer.rows()],
        command="univariate",
        source=answer.urls[1],
        reference=answer.urls[0],
    )


def _gate(answer: UnivariateAnswer, on: str | None, above: float | None) -> None:
    """Say no where a gate was asked for, or that nothing can be said.

    Raises:
        NotEnoughDataError: no test could say anything.
        GateError: a test fails the gate.
    """
    if answer.verdict == "insufficient":
        reasons = {column.reason for column in answer.columns if column.reason}
        raise NotEnoughDataError(
            f"no column could be judged: {min(reasons, default='no columns')}",
            hint="longer periods, or a larger --threshold",
        )
    failing = answer.failing(above=above, on=on)
    if failing:
        asked = f"--fail-on {on}" if above is None else f"--fail-above {above:g}"
        worst = failing[0]
        raise GateError(
            f"{len(failing)} of {len(answer.columns)} tests fail {asked}; the first: "
            f"{worst.test} of {worst.name}",
            hint=f"pyflare drift psi --column {worst.name} shows which values moved",
        )
