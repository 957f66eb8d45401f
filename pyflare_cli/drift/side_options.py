"""Options of the commands that compare columns: what is compared with what."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_proto.errors import UsageError

if TYPE_CHECKING:
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

__all__ = [
    "ClusterOption",
    "ColumnOption",
    "CurrentOption",
    "PeriodOptions",
    "Sides",
    "UnweightedOption",
    "check_address",
    "check_fail_above",
    "open_side",
    "stored_row",
    "where_clustered",
]

CurrentOption = Annotated[
    str | None,
    typer.Option(
        metavar="C",
        help="Current rows: Parquet, CSV or any source URL.  [default: --source or --data]",
    ),
]
ColumnOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="X",
        help="Column, input_length_chars, output_length_chars or attributes.KEY; again for "
        "more.  [default: all suitable]",
    ),
]
ClusterOption = Annotated[
    str,
    typer.Option(
        metavar="COLUMN",
        help="Rows that are equal here are not independent, as the calls of a trace; none: "
        "all rows are.  [default: trace_id of spans]",
        show_default=False,
    ),
]
UnweightedOption = Annotated[
    bool, typer.Option("--unweighted", help="Count sampled spans once each.")
]


@dataclass(frozen=True, slots=True)
class PeriodOptions:
    """The part of each side that counts."""

    ref_since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Rows of the reference at or after: 7d or ISO 8601."),
    ] = None
    ref_until: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Rows of the reference before: 24h or ISO 8601."),
    ] = None
    ref_window: Annotated[
        str | None,
        typer.Option(metavar="LENGTH", help="The reference is this long before --since: 7d."),
    ] = None
    ref_where: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Condition on the reference alone.")
    ] = None
    cur_where: Annotated[
        str | None, typer.Option(metavar="EXPR", help="Condition on the current rows alone.")
    ] = None
    time_: Annotated[
        str | None,
        typer.Option(
            "--time", metavar="COLUMN", help="Column of times.  [default: start_time, or the only]"
        ),
    ] = None
    all_spans: Annotated[
        bool,
        typer.Option("--all-spans", help="Of spans, compare all instead of the calls of models."),
    ] = False

    @property
    def splits(self) -> bool:
        """Whether they tell a reference and current rows of one source apart."""
        return any((self.ref_since, self.ref_until, self.ref_window, self.ref_where))


@dataclass(frozen=True, slots=True)
class Sides:
    """Which rows of each side count, once the options are read."""

    periods: PeriodOptions
    filters: FilterOptions
    same_source: bool
    """Whether both sides are of one source."""

    def current(self, source: Source) -> Expr | None:
        """Return the condition on the current rows.

        Raises:
            UsageError: a time or an expression that cannot be read.
        """
        since, until = self.times()[2:]
        return self._condition(source, self.periods.cur_where, since, until)

    def reference(self, source: Source) -> Expr | None:
        """Return the condition on the reference.

        Raises:
            UsageError: a time or an expression that cannot be read.
        """
        since, until = self.times()[:2]
        return self._condition(source, self.periods.ref_where, since, until)

    def check_profile(self) -> None:
        """Refuse options that choose rows of a reference whose rows are gone.

        Raises:
            UsageError: there are some.
        """
        if self.periods.splits:
            raise UsageError(
                "--ref-since, --ref-until, --ref-window and --ref-where cannot choose rows of a "
                "saved profile",
                hint="give the data themselves: --ref FILE",
            )

    def times(self) -> tuple[int | None, int | None, int | None, int | None]:
        """Return since and until of the reference and of the current rows, ns since 1970.

        Raises:
            UsageError: a time that cannot be read, or times that do not go together.
        """
        from pyflare_storage.filters import parse_time
        from pyflare_storage.times import parse_duration_ns

        now_ns = time.time_ns()
        given = replace(self.filters, where=None).filters()
        since, until = given.since_ns, given.until_ns
        options = self.periods

        def moment(text: str | None, option: str) -> int | None:
            return None if text is None else parse_time(text, now_ns, option=option)

        ref_since = moment(options.ref_since, "--ref-since")
        ref_until = moment(options.ref_until, "--ref-until")
        if options.ref_window is not None:
            if since is None or ref_since is not None or ref_until is not None:
                raise UsageError(
                    f"--ref-window {options.ref_window} is the time before --since",
                    hint="--since 24h --ref-window 7d, without --ref-since and --ref-until",
                )
            try:
                length = parse_duration_ns(options.ref_window)
            except ValueError as error:
                raise UsageError(
                    f"not a length for --ref-window: {options.ref_window!r}", hint="like 24h or 7d"
                ) from error
            return since - length, since, since, until
        if self.same_source:
            if ref_since is None and ref_until is None:
                return since, until, since, until
            ref_until = since if ref_until is None else ref_until
            since = ref_until if since is None else since
            if ref_until is None:
                raise UsageError(
                    f"--ref-since {options.ref_since} alone does not end the reference",
                    hint="--ref-until TIME ends it, or --since TIME begins the current rows",
                )
        return ref_since, ref_until, since, until

    def _condition(
        self, source: Source, own: str | None, since: int | None, until: int | None
    ) -> Expr | None:
        from pyflare_analysis.drift.profiles.columns import population
        from pyflare_analysis.drift.report.report import time_column
        from pyflare_storage.expressions import Timestamp, all_of, col
        from pyflare_storage.where import parse_where

        types = source.columns()
        shared = replace(self.filters, since=None, until=None).filters(types).to_expr()
        conditions: list[Expr | None] = [
            None if self.periods.all_spans else population(source),
            shared,
            None if own is None else parse_where(own, types),
        ]
        if since is not None or until is not None:
            column = col(time_column(types, self.periods.time_))
            conditions += [
                None if since is None else column >= Timestamp(since),
                None if until is None else column < Timestamp(until),
            ]
        return all_of(conditions)


def open_side(run: Run, url: str | None, source: SourceOptions) -> Source:
    """Open one side: the address, else the source in effect.

    Files are read one after the other, so that a folder of a thousand takes no more memory
    than a folder of one: Polars reads several ahead unless it is told. Arrow takes the system's
    memory, which goes back when it is free; its own pool keeps some tens of megabytes.

    Raises:
        NotFoundError: there is nothing at that place.
        SourceUnavailableError: the server or object store does not answer.
    """
    os.environ.setdefault("POLARS_MAX_CONCURRENT_SCANS", "1")
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    from pyflare_storage.arrow_batches import give_large_blocks_back
    from pyflare_storage.source import open_source

    give_large_blocks_back()
    if url is None:
        return source.open(run.settings)
    check_address(url)
    return open_source(url, password=run.settings.clickhouse_password)


def check_address(url: str) -> None:
    """Refuse an empty address, as a variable without a value leaves it.

    Raises:
        UsageError: it is empty.
    """
    if not url.strip():
        raise UsageError("--ref or --cur is empty", hint="give an address, or leave the option out")


def check_fail_above(value: float | None) -> None:
    """Refuse a limit that no value exceeds or all do.

    Raises:
        UsageError: it is NaN or infinite.
    """
    if value is not None and not math.isfinite(value):
        raise UsageError(f"--fail-above {value}", hint="a finite number: --fail-above 0.2")


def where_clustered(cluster: str) -> str | None:
    """Return the column whose equal values belong together; None: all rows are independent."""
    return None if cluster == "none" else cluster


def stored_row(row: Mapping[str, object], answer: Mapping[str, object]) -> dict[str, object]:
    """Return a column of an answer as it is kept under `drift/`."""
    sides = {name: answer[name] for name in ("reference", "current")}
    counts = {
        f"{name}_count": side["rows"] for name, side in sides.items() if isinstance(side, Mapping)
    }
    return {
        **{name: row.get(name) for name in ("column", "kind", "p_value", "q_value", "verdict")},
        "psi": row.get("psi_smoothed"),
        "severity": row.get("severity"),
        "threshold": answer.get("threshold"),
        **counts,
        "details": {
            name: value
            for name, value in row.items()
            if name not in {"column", "kind", "p_value", "q_value", "verdict", "severity"}
        },
    }
