"""`pyflare rca clusters`: what the failures say, in groups."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.rca.group import app
from pyflare_cli.tables import Column
from pyflare_proto.errors import GateError, NotFoundError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyflare_analysis.rca.clusters.clusterer import ClusterAnswer, FailureClustererConfig
    from pyflare_analysis.rca.clusters.state import ClusterStore, Registry

__all__ = ["ClusterOptions", "clusters", "growth_text", "open_state"]

MEMBERS = 1_000
ROWS = 20
GATES = {"new": {"new"}, "growing": {"new", "growing"}}


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """How failures are clustered and how much of each cluster is listed."""

    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="Clusters at most.  [default: 20 in a table, else all]"),
    ] = None
    recent: Annotated[
        str,
        typer.Option(
            metavar="LENGTH|SHARE",
            help="Recent part that is compared with what was before: 6h, or a share of the time.",
        ),
    ] = "0.25"
    members: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Latest members and traces listed for each cluster.  "
            "[default: 1000 of spans, all with --input]",
        ),
    ] = None
    all_members: Annotated[
        bool, typer.Option("--all-members", help="List every member and trace.")
    ] = False
    state: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Known clusters, whose ids are kept.  [default: those of the data directory]",
        ),
    ] = None
    no_state: Annotated[
        bool, typer.Option("--no-state", help="Neither read nor write known clusters.")
    ] = False

    def config(self, *, spans: bool = True) -> FailureClustererConfig:
        """Return the options as the clusterer takes them.

        Args:
            spans: whether spans are read, and not any table.

        Raises:
            UsageError: an option out of range.
        """
        from pyflare_analysis.rca.clusters.clusterer import FailureClustererConfig

        for name, value in (("--limit", self.limit), ("--members", self.members)):
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}", hint=f"{name} takes a number from 1")
        members = self.members if self.members is not None or not spans else MEMBERS
        return FailureClustererConfig(
            recent=_recent(self.recent), max_members=None if self.all_members else members
        )


@dataclass(frozen=True, slots=True)
class TextOptions:
    """Any table instead of spans."""

    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="Any table: Parquet, CSV or JSON lines, not spans."
        ),
    ] = None
    text: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="With --input: the messages.")
    ] = None
    id_column: Annotated[
        str | None,
        typer.Option("--id", metavar="COLUMN", help="With --input: names a row, else its number."),
    ] = None
    type_column: Annotated[
        str | None,
        typer.Option("--type", metavar="COLUMN", help="With --input: types of exceptions."),
    ] = None
    time_column: Annotated[
        str | None, typer.Option("--time", metavar="COLUMN", help="With --input: times.")
    ] = None
    trace_column: Annotated[
        str | None, typer.Option("--trace", metavar="COLUMN", help="With --input: trace ids.")
    ] = None
    stack_column: Annotated[
        str | None, typer.Option("--stack", metavar="COLUMN", help="With --input: stack traces.")
    ] = None

    def check(self, filters: FilterOptions) -> None:
        """Refuse combinations that would be passed over in silence.

        Raises:
            UsageError: a column without a file, a file without a column, filters of spans.
        """
        columns = (
            *(self.text, self.id_column, self.type_column),
            *(self.time_column, self.trace_column, self.stack_column),
        )
        if self.input_file is None:
            if any(columns):
                raise UsageError(
                    "columns without a table",
                    hint="--text, --id, --type, --time, --trace and --stack go with --input FILE",
                )
            return
        if self.text is None:
            raise UsageError(
                f"which column of {self.input_file} holds the messages?", hint="--text COLUMN"
            )
        if filters != FilterOptions():
            raise UsageError(
                "filters of spans together with --input",
                hint="filter the file before, or drop them",
            )


def _trend(value: object) -> str:
    return growth_text(value) if isinstance(value, dict) else "-"


def _share(value: object) -> str:
    return f"{float(str(value)):.1%}"


def _time(value: object) -> str:
    return str(value)[:19].replace("T", " ")


COLUMNS = (
    Column("id", cut=False),
    Column("size", cut=False),
    Column("share", show=_share, cut=False),
    Column("affected_trace_count", "traces", cut=False),
    Column("severity", cut=False, show=lambda value: f"{float(str(value)):.2f}"),
    Column("growth", show=_trend, cut=False),
    Column("last_seen", show=_time, cut=False),
    Column("error_type", "type"),
    Column("template"),
)


@command(
    app,
    "clusters",
    examples="""
    pyflare rca clusters
    pyflare rca clusters --since 24h --recent 2h --fail-on growing
    pyflare rca clusters --model gpt-4o --all-members --format json
    pyflare rca clusters --input app.csv --text message --id line --time at
    """,
)
def clusters(
    run: Run,
    *,
    options: ClusterOptions,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="new|growing", help="Exit 1 when a cluster is new, or grows."),
    ] = None,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False,
    table: TextOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """What the failures say: groups of the same error, the most severe first.

    Failed spans with the same type of exception, the same frames of the application and the
    same wording are one cluster; ids, numbers, names and other values do not count as wording.
    A cluster keeps its id from run to run. The growth compares the rate in the recent part of
    the time with the rate before.
    """
    from pyflare_analysis.rca.clusters.state import Registry

    if fail_on is not None and fail_on not in GATES:
        raise UsageError(f"--fail-on {fail_on}", hint="--fail-on new or --fail-on growing")
    table.check(filters)
    config = options.config(spans=table.input_file is None)
    with ExitStack() as stack:
        state = open_state(run, options, source, stack, spans=table.input_file is None)
        registry = Registry(state.known() if state is not None else ())
        answer = _answer(
            run, table, source, filters, config=config, registry=registry, weighted=not unweighted
        )
        if state is not None:
            state.record([*answer.known(), *registry.taken_in()])
    limit = options.limit
    if limit is None and run.output.form() in ("table", "markdown"):
        limit = ROWS
    body = answer.to_dict()
    shown = [cluster.to_dict() for cluster in answer.clusters[:limit]]
    body |= {"cluster_count": len(answer.clusters), "clusters": shown}
    run.answer(Document("pyflare.rca.clusters/1", body, rows="clusters", columns=COLUMNS))
    _remark(run, answer, len(shown))
    _gate(answer, fail_on)


def _answer(
    run: Run,
    table: TextOptions,
    source: SourceOptions,
    filters: FilterOptions,
    *,
    config: FailureClustererConfig,
    registry: Registry,
    weighted: bool,
) -> ClusterAnswer:
    from pyflare_analysis.rca.clusters.clusterer import cluster_spans, cluster_table
    from pyflare_storage.source import open_source

    if table.input_file is None:
        with source.open(run.settings) as opened:
            return cluster_spans(
                opened, filters.filters(), config=config, registry=registry, weighted=weighted
            )
    assert table.text is not None  # noqa: S101 - `TextOptions.check` says so
    with open_source(table.input_file) as opened:
        return cluster_table(
            opened,
            text=table.text,
            id_column=table.id_column,
            error_type=table.type_column,
            time=table.time_column,
            trace=table.trace_column,
            stack=table.stack_column,
            config=config,
            registry=registry,
        )


def open_state(
    run: Run, options: ClusterOptions, source: SourceOptions, stack: ExitStack, *, spans: bool
) -> ClusterStore | None:
    """Return the known clusters that the options name; None for none.

    By default those of the data directory, when its spans are read. A data directory that
    cannot be written is read without them.
    """
    from pyflare_analysis.rca.clusters.state import ClusterStore
    from pyflare_storage.dataset import DataDirectory

    if options.no_state:
        if options.state is not None:
            raise UsageError("--state together with --no-state", hint="give one of the two")
        return None
    if options.state is not None:
        return stack.enter_context(ClusterStore(options.state))
    if not spans or source.url(run.settings) != str(run.settings.data):
        return None
    data = DataDirectory(run.settings.data)
    if not data.path.exists():
        raise NotFoundError(
            f"no data directory {data.path}",
            hint="pyflare import FILE... or pyflare collect brings spans in; "
            "--data DIR or --source URL reads others",
        )
    try:
        return stack.enter_context(ClusterStore(data.state_db))
    except StorageError as error:
        run.note(f"ids of clusters are not kept: {error.message}")
        return None


def growth_text(growth: Mapping[str, object]) -> str:
    """Return a growth in a few words: `growing x3.1`."""
    trend, ratio = str(growth["trend"]), growth["ratio"]
    if trend in ("growing", "shrinking") and isinstance(ratio, float):
        return f"{trend} x{ratio:.2g}"
    return "too few" if trend == "insufficient" else trend


def _recent(text: str) -> float:
    from pyflare_storage.times import is_duration, parse_duration_ns

    if is_duration(text):
        return float(parse_duration_ns(text))
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise UsageError(
            f"--recent {text}", hint="--recent takes a length like 6h, or a share in (0, 1)"
        )
    return share


def _remark(run: Run, answer: ClusterAnswer, shown: int) -> None:
    if len(answer.clusters) > shown:
        run.note(f"{shown} of {len(answer.clusters)} clusters; --limit shows more")
    if answer.unclustered:
        run.note(
            f"{answer.unclustered} failures fit no template of the {answer.distinct_forms} "
            "messages that were compared"
        )


def _gate(answer: ClusterAnswer, fail_on: str | None) -> None:
    if fail_on is None:
        return
    found = [
        cluster.id
        for cluster in answer.clusters
        if cluster.growth is not None and cluster.growth.trend.value in GATES[fail_on]
    ]
    if found:
        raise GateError(
            f"{len(found)} clusters are {fail_on}: {', '.join(found[:5])}",
            hint="pyflare traces show TRACE_ID shows an affected trace",
        )
