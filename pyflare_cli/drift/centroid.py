"""`pyflare drift centroid`: how far the mean of vectors moved."""

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
    "centroid",
    examples="""
    pyflare drift centroid --ref last-week.parquet --cur today.parquet
    pyflare drift centroid --ref last-week.parquet --cur today.parquet --fail-on drift
    pyflare drift centroid --ref last-week.parquet --cur today.parquet --fail-above 0.1
    """,
)
def centroid(
    run: Run,
    *,
    sides: SideOptions,
    permutations: Annotated[
        int, typer.Option(metavar="N", help="Random splits; the smallest p-value is 1/(N+1).")
    ] = 100,
    alpha: Annotated[
        float, typer.Option(metavar="P", help="Drift needs a p-value of at most this.")
    ] = 0.05,
    max_samples: Annotated[
        int, typer.Option(metavar="N", help="Vectors a side at most, drawn with the seed.")
    ] = 0,
    seed: Annotated[
        int, typer.Option(metavar="N", help="Of splits and samples; 0: a fresh one, which is told.")
    ] = 0,
    fail_on: Annotated[
        str | None, typer.Option(metavar="drift", help="Exit with 1 when the verdict is drift.")
    ] = None,
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Exit 1 when a statistically significant Euclidean distance is above X.",
        ),
    ] = None,
    periods: PeriodOptions,
    embedding: EmbedderOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Whether the mean of the vectors moved: Euclidean and cosine distance, with p-values.

    The same as `pyflare drift mmd --method centroid`. It does not see a new topic that is
    small, nor vectors that spread or close up around the same mean.
    """
    from pyflare_analysis.drift.embeddings.comparison import MMDConfig

    config = MMDConfig(
        num_permutations=permutations,
        p_value_threshold=alpha,
        max_samples=max_samples,
        random_seed=seed,
    )
    answer_drift(
        run,
        "centroid",
        config,
        "centroid",
        gate=Gate(fail_on, fail_above),
        sides=sides,
        periods=periods,
        embedding=embedding,
        store=store,
        source=source,
        filters=filters,
    )
