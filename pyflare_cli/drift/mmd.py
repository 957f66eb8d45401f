"""`pyflare drift mmd`: whether vectors changed, and how."""

from __future__ import annotations

from typing import Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.drift.group import app
from pyflare_cli.drift.recording import StoreOptions
from pyflare_cli.drift.side_options import PeriodOptions
from pyflare_cli.drift.vector_options import EmbedderOptions, Gate, SideOptions, answer_drift
from pyflare_cli.options import FilterOptions, SourceOptions


@command(
    app,
    "mmd",
    examples="""
    pyflare drift mmd --ref last-week.parquet --cur today.parquet
    pyflare drift mmd --ref last-week.parquet --cur today.parquet --method auto --fail-on drift
    pyflare drift mmd --since 24h --ref-window 7d --method auto
    pyflare drift mmd --since 24h --ref-window 7d --fail-above 0.01
    pyflare drift mmd --ref-where "prompt_version = 'v1'" --cur-where "prompt_version = 'v2'" --column output --embedder static
    pyflare drift mmd --ref a.parquet --cur b.parquet --method rff
    """,  # noqa: E501 - one command a line
)
def mmd(
    run: Run,
    *,
    sides: SideOptions,
    method: Annotated[
        str,
        typer.Option(
            metavar="mmd|fuse|topics|spread|rff|classifier|centroid|auto",
            help="What decides: docs/drift-embeddings.md says which change each one sees.",
        ),
    ] = "mmd",
    permutations: Annotated[
        int, typer.Option(metavar="N", help="Random splits; the smallest p-value is 1/(N+1).")
    ] = 100,
    sigma: Annotated[
        float, typer.Option(metavar="S", help="Bandwidth of the RBF kernel; 0: median heuristic.")
    ] = 0.0,
    alpha: Annotated[
        float, typer.Option(metavar="P", help="Drift needs a p-value of at most this.")
    ] = 0.05,
    threshold: Annotated[
        float,
        typer.Option(
            metavar="X", help="MMD² above which drift is significant; 0 permutations: drift at all."
        ),
    ] = 0.1,
    min_effect: Annotated[
        float, typer.Option(metavar="X", help="Drift needs an MMD² of more than this.")
    ] = 0.0,
    max_samples: Annotated[
        int,
        typer.Option(
            metavar="N",
            help="Vectors a side at most, drawn with the seed; 0: 10,000, or 2,000 texts.",
        ),
    ] = 0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of splits and samples; 0: a fresh one, which is told.")
    ] = 0,
    fail_on: Annotated[
        str | None, typer.Option(metavar="drift", help="Exit with 1 when the verdict is drift.")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(metavar="X", help="Exit 1 when a statistically significant MMD² is above X."),
    ] = None,
    periods: PeriodOptions,
    embedding: EmbedderOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Whether the vectors of two samples have the same law, by maximum mean discrepancy.

    Vectors are a column of lists (the `embedding` of spans), JSON text in a CSV, or text
    that an embedder turns into vectors.
    """
    from pyflare_analysis.drift.embeddings.comparison import MMDConfig

    config = MMDConfig(
        threshold=threshold,
        rbf_sigma=sigma,
        num_permutations=permutations,
        p_value_threshold=alpha,
        max_samples=max_samples,
        random_seed=seed,
        min_effect=min_effect,
    )
    answer_drift(
        run,
        "mmd",
        config,
        method,
        gate=Gate(fail_on, fail_above),
        sides=sides,
        periods=periods,
        embedding=embedding,
        store=store,
        source=source,
        filters=filters,
    )
