"""Options of the commands that compare vectors, and how their answer is shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflare_cli.command import Run
from pyflare_cli.drift.recording import StoreOptions
from pyflare_cli.drift.side_options import (
    ClusterOption,
    PeriodOptions,
    Sides,
    check_fail_above,
    open_side,
    where_clustered,
)
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document, Terminal
from pyflare_cli.text import clip, printable
from pyflare_proto.errors import GateError, NotEnoughDataError, UsageError

if TYPE_CHECKING:
    from pyflare_analysis.drift.embeddings.comparison import Comparison, MMDConfig
    from pyflare_analysis.drift.embeddings.vectors import VectorColumn
    from pyflare_analysis.embedders import Embedder
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = ["EmbedderOptions", "Gate", "SideOptions", "answer_drift"]


@dataclass(frozen=True, slots=True)
class Gate:
    """When to exit with 1."""

    fail_on: str | None
    """`drift`, or None."""
    fail_above: float | None
    """Size that a significant change must not exceed, or None."""

    def check(self) -> None:
        """Refuse what means nothing.

        Raises:
            UsageError: another word than drift, or a size that is NaN or infinite.
        """
        if self.fail_on not in (None, "drift"):
            raise UsageError(f"--fail-on {self.fail_on}", hint="--fail-on drift")
        check_fail_above(self.fail_above)


@dataclass(frozen=True, slots=True)
class SideOptions:
    """What is compared with what."""

    ref: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="Reference: Parquet, CSV or any source URL.  [default: the current source, "
            "divided by --ref-...]",
        ),
    ] = None
    cur: Annotated[
        str | None,
        typer.Option(
            metavar="C",
            help="Current rows: Parquet, CSV or any source URL.  [default: --source or --data]",
        ),
    ] = None
    column: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Lists of numbers, JSON text of such lists, or text with --embedder.",
        ),
    ] = "embedding"
    id_column: Annotated[
        str | None,
        typer.Option("--id", metavar="NAME", help="Names examples.  [default: the span's ids]"),
    ] = None
    text_column: Annotated[
        str | None,
        typer.Option("--text", metavar="NAME", help="Text of examples.  [default: input]"),
    ] = None
    cluster: ClusterOption = "trace_id"


@dataclass(frozen=True, slots=True)
class EmbedderOptions:
    """What makes vectors of text."""

    embedder: Annotated[
        str | None,
        typer.Option(
            metavar="hash|static|openai",
            help="Embed the text of --column: without a model, with a small one offline "
            "(pip install 'pyflare-suite[embed]'), or by an OpenAI-compatible endpoint.",
        ),
    ] = None
    embedding_model: Annotated[
        str | None, typer.Option(metavar="M", help="Model of the endpoint.")
    ] = None
    base_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The endpoint, with /v1; its key is read from PYFLARE_EMBEDDING_API_KEY or "
            "OPENAI_API_KEY.",
        ),
    ] = None

    def open(self) -> Embedder | None:
        """Return the embedder, None where the column has vectors.

        Raises:
            UsageError: see `pyflare_analysis.embedders.open_embedder`.
        """
        from pyflare_analysis.embedders import open_embedder

        if self.embedder is not None:
            return open_embedder(self.embedder, model=self.embedding_model, base_url=self.base_url)
        if self.embedding_model or self.base_url:
            raise UsageError(
                "--embedding-model and --base-url need an embedder", hint="--embedder openai"
            )
        return None


@contextmanager
def _opened(
    run: Run,
    *,
    sides: SideOptions,
    periods: PeriodOptions,
    source: SourceOptions,
    filters: FilterOptions,
    embedder: Embedder | None,
) -> Iterator[tuple[VectorColumn, VectorColumn]]:
    """Open reference and current vectors."""
    from pyflare_analysis.drift.clusters.effects import cluster_column
    from pyflare_analysis.drift.embeddings.vectors import VectorColumn

    chosen = Sides(periods, filters, same_source=sides.ref is None)
    if sides.ref is None and not periods.splits:
        raise UsageError(
            "what is the reference?",
            hint="--ref FILE, or part of the same source: --since 24h --ref-window 7d",
        )

    def column(opened: Source, where: Expr | None, cluster: str | None) -> VectorColumn:
        return VectorColumn(
            opened,
            sides.column,
            where=where,
            embedder=embedder,
            id_column=sides.id_column,
            text_column=sides.text_column,
            cluster=cluster,
        )

    with (
        open_side(run, sides.cur if sides.ref is None else sides.ref, source) as reference,
        open_side(run, sides.cur, source) as current,
    ):
        cluster = cluster_column(where_clustered(sides.cluster), current.columns())
        yield (
            column(reference, chosen.reference(reference), cluster),
            column(current, chosen.current(current), cluster),
        )


def answer_drift(
    run: Run,
    command: str,
    config: MMDConfig,
    method: str,
    *,
    gate: Gate,
    sides: SideOptions,
    periods: PeriodOptions,
    embedding: EmbedderOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Compare, write the answer, keep the verdict.

    Args:
        run: the run.
        command: `mmd` or `centroid`.
        config: settings.
        method: what decides.
        gate: when to exit with 1; the size is MMD², or of `centroid` the Euclidean distance.
        sides: what is compared.
        periods: the part of each side that counts.
        embedding: what makes vectors of text.
        store: whether the verdict is kept.
        source: where the current vectors are when `sides` does not say.
        filters: conditions on both sides.

    Raises:
        NotEnoughDataError: the verdict is insufficient; the answer was written.
        GateError: it fails the gate.
    """
    from pyflare_analysis.drift.embeddings.answer import embedding_drift

    gate.check()
    config.check(method)
    with _opened(
        run, sides=sides, periods=periods, source=source, filters=filters, embedder=embedding.open()
    ) as (reference, current):
        answer = embedding_drift(reference, current, config, method)
        for note in answer.notes:
            run.note(note)
        body = answer.to_dict()
        run.answer(Document(f"pyflare.drift.{command}/1", body, render=lambda t: _lines(body, t)))
        urls = (current.source.url, reference.source.url)
        store.record(run, [answer.record()], command=command, source=urls[0], reference=urls[1])
    _gate(answer.comparison, gate, command, sides.column)


def _gate(found: Comparison, gate: Gate, command: str, column: str) -> None:
    """Say no where a gate was asked for, or that nothing can be said.

    Raises:
        NotEnoughDataError: the verdict is insufficient.
        GateError: the comparison fails the gate.
    """
    from pyflare_analysis.drift.detector import Verdict

    if found.verdict is Verdict.INSUFFICIENT:
        raise NotEnoughDataError(
            f"not enough data to say: {found.reason}",
            hint="compare longer periods, or raise --permutations"
            if found.reference_count and found.current_count
            else f"is {column} filled? --column input --embedder static embeds text",
        )
    tested = bool(found.config.num_permutations)
    how = f"p = {found.p_value:.3g} by {found.method}" if tested else "without a test"
    says = "pyflare drift mmd --method auto says what changed"
    if gate.fail_on and found.verdict is Verdict.DRIFT:
        raise GateError(f"{column} drifted: {how}", hint=f"--fail-on drift was given; {says}")
    significant = not tested or found.p_value <= found.config.p_value_threshold
    name, size = "MMD²", found.mmd2
    if command == "centroid":
        name, size = "centroids apart by", found.euclidean
    if gate.fail_above is not None and significant and size > gate.fail_above:
        raise GateError(
            f"{column} fails --fail-above {gate.fail_above:g}: {name} {size:.3g}, {how}", hint=says
        )


def _lines(body: dict[str, Any], terminal: Terminal) -> list[str]:
    away, effect = body["centroid"], body["effect"]
    low, high = _number(effect["mmd2_ci_low"]), _number(effect["mmd2_ci_high"])
    lines = [
        (
            f"{body['verdict']}  {body['column']}, {body['current']['rows']:,} vectors against "
            f"{body['reference']['rows']:,}, {body['dimensions']} dimensions"
        ),
        *([f"  {body['reason']}"] if body["reason"] else []),
        (
            f"  p = {_number(body['p_value'])} by {body['method']} "
            f"({body['permutations']} permutations, seed {body['seed']})"
        ),
        (
            f"  MMD² {_number(body['mmd2'])}, 95 % interval {low} to {high}; "
            f"no change gives up to {_number(effect['mmd2_expected_high'])}"
        ),
        f"  centroids {_number(away['euclidean'])} apart, cosine {_number(away['cosine'])}",
    ]
    if len(body["tests"]) > 1:
        parts = [f"{test['method']} {_number(test['p_value'])}" for test in body["tests"][1:]]
        lines.append(f"  p by method: {', '.join(parts)}")
    if body["method"] == "mmd" and body["verdict"] == "stable":
        lines.append(
            "  --method auto also sees small new topics, and topics that close up or spread"
        )
    for topic in body.get("topics", ()):
        if topic["p_value"] <= body["alpha"]:
            lines += _topic_lines(topic)
    width = terminal.columns if terminal.is_tty else 200
    return [clip(printable(line), width) for line in lines]


def _topic_lines(topic: dict[str, Any]) -> list[str]:
    words = ", ".join(topic.get("words", ()))
    lines = [
        f"  topic {topic['status']}: {topic['reference_share']:.1%} -> "
        f"{topic['current_share']:.1%} (p = {_number(topic['p_value'])})"
        + (f": {words}" if words else "")
    ]
    for example in topic["current_examples"] or topic["reference_examples"]:
        named = "  ".join(str(value) for value in example.values())
        lines.append(f"    {named}")
    return lines


def _number(value: float) -> str:
    return f"{value:.3g}" if value == value else "-"  # noqa: PLR0124 - NaN is not itself
