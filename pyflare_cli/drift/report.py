"""`pyflare drift report`: every suitable column over windows of time, as a heat map."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.drift.group import app
from pyflare_cli.drift.recording import StoreOptions
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.tables import Column
from pyflare_proto.errors import GateError, NotEnoughDataError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pyflare_analysis.drift.heatmap import Cell, HeatMap
    from pyflare_analysis.drift.profile import Profile
    from pyflare_storage.expressions import Expr
    from pyflare_storage.source import Source

COLUMNS = (
    Column("column"),
    Column("segment"),
    Column("window_start", "window", cut=False),
    Column("psi", "PSI", cut=False),
    Column("q_value", "q", cut=False),
    Column("severity", cut=False),
    Column("verdict", cut=False),
    Column("current_count", "rows", cut=False),
    Column("reference_count", "reference", cut=False),
    Column("moved"),
)


@dataclass(frozen=True, slots=True)
class ReferenceOptions:
    """What windows are compared with."""

    ref: Annotated[
        str | None,
        typer.Option(
            metavar="R", help="Reference: a file, folder or source URL, or a saved profile (.json)."
        ),
    ] = None
    ref_since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Rows of the reference at or after: 7d or ISO 8601."),
    ] = None
    ref_until: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Rows of the reference before. Without --ref the reference is the current "
            "data before that time, and later windows are judged.",
        ),
    ] = None
    against: Annotated[
        Literal["reference", "previous"] | None,
        typer.Option(
            help="The reference, or the window before.  "
            "[default: the reference where there is one, else previous]"
        ),
    ] = None
    same_hour_of_week: Annotated[
        bool,
        typer.Option(
            "--same-hour-of-week",
            help="Compare with the same hours of the week, so that a daily rhythm is no drift.",
        ),
    ] = False


@dataclass(frozen=True, slots=True)
class WindowOptions:
    """How time is divided."""

    every: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH",
            help="Length of a window: 1h, 6h, 1d, 1w, 1mo.  [default: by the time covered]",
        ),
    ] = None
    time_: Annotated[
        str | None,
        typer.Option(
            "--time", metavar="COLUMN", help="Column of times.  [default: start_time, or the only]"
        ),
    ] = None
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="IANA time zone of days, weeks and months.")
    ] = "UTC"


@dataclass(frozen=True, slots=True)
class GateOptions:
    """When to exit with 1."""

    fail_on: Annotated[
        Literal["drift", "moderate", "significant"] | None,
        typer.Option(
            help="Exit 1 on drift, or on a significant change that is moderate (PSI 0.1) or "
            "significant (PSI 0.25) in size, in any cell."
        ),
    ] = None
    fail_above: Annotated[
        float | None,
        typer.Option(
            metavar="X", help="Exit 1 when a statistically significant PSI is above X in any cell."
        ),
    ] = None


@command(
    app,
    "report",
    examples="""
    pyflare drift report --every 1d
    pyflare drift report --ref-until 7d --by model --html drift.html
    pyflare drift report --ref last-month.parquet --same-hour-of-week --every 1h --since 24h
    pyflare drift report --cur requests.csv --time TIMESTAMP --every 1h --svg drift.svg
    pyflare drift report --every 1d --since 8d --fail-on drift --format json
    """,
)
def report(
    run: Run,
    *,
    reference: ReferenceOptions,
    cur: Annotated[
        str | None,
        typer.Option(metavar="C", help="What is judged: as --ref.  [default: the source]"),
    ] = None,
    windows: WindowOptions,
    column: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Column; again for more.  [default: all suitable]"),
    ] = None,
    by: Annotated[
        str, typer.Option(metavar="DIM,...", help="Segments: model, feature, attributes.KEY ...")
    ] = "",
    bins: Annotated[int, typer.Option(metavar="N", help="Quantile bins of a numeric column.")] = 10,
    threshold: Annotated[
        float, typer.Option(metavar="X", help="PSI that drift must exceed.")
    ] = 0.2,
    alpha: Annotated[
        float, typer.Option(metavar="P", help="False discovery rate over all cells.")
    ] = 0.05,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the report as one HTML file.")
    ] = None,
    svg: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the heat map as SVG.")
    ] = None,
    gate: GateOptions,
    store: StoreOptions,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """Every suitable column over windows of time: the heat map of drift.

    Each window is compared with a reference, or with the window before. Drift means a PSI that
    is statistically significant, over all cells together, and above the threshold. With --by
    each segment is judged too, and what drifts is split into a change of mix and a change
    within segments. Results are kept under drift/ and raise alerts; see --no-store.
    """
    from contextlib import AbstractContextManager, ExitStack

    from pyflare_analysis.drift.psi_config import PSIConfig
    from pyflare_analysis.drift.report import drift_report, fitting_length, time_column
    from pyflare_analysis.drift.windows import Windows
    from pyflare_cli.drift.heat_text import heat_lines
    from pyflare_storage.source import open_source

    config = PSIConfig(threshold=threshold, num_bins=bins, alpha=alpha)
    with ExitStack() as stack:
        password = run.settings.clickhouse_password
        opened = source.open(run.settings) if cur is None else open_source(cur, password=password)
        current = stack.enter_context(opened)
        name = time_column(current.columns(), windows.time_)
        asked = _Asked.read(reference, filters, current, name)
        other = _reference(reference, current, password)
        if other is not current and isinstance(other, AbstractContextManager):
            stack.enter_context(other)
        every = windows.every or fitting_length(current, name, asked.where)
        heat = drift_report(
            current,
            other,
            windows=Windows(every, name, windows.timezone),
            against=reference.against,
            same_hour_of_week=reference.same_hour_of_week,
            by=[word.strip() for word in by.split(",") if word.strip()],
            columns=column or (),
            where=asked.where,
            reference_where=asked.reference_where,
            config=config,
            weighted=not unweighted,
            reference_name=asked.reference_name,
        )
    _write_pictures(heat, html, svg)
    body = heat.to_dict()
    run.answer(
        Document(
            "pyflare.drift.report/1",
            body,
            "cells",
            COLUMNS,
            render=lambda terminal: heat_lines(heat, terminal),
        )
    )
    _record(run, store, heat)
    _gate(heat, gate)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which rows count on each side."""

    where: Expr | None
    reference_where: Expr | None
    reference_name: str | None

    @classmethod
    def read(
        cls, options: ReferenceOptions, filters: FilterOptions, current: Source, name: str
    ) -> _Asked:
        """Return the conditions; times are those of the column `name`.

        Raises:
            UsageError: a time or an expression that cannot be read.
        """
        from pyflare_analysis.drift.heatmap import iso
        from pyflare_storage.expressions import Timestamp, all_of, col
        from pyflare_storage.filters import parse_time

        now_ns = time.time_ns()
        parsed = filters.filters(current.columns())
        shared = replace(parsed, since_ns=None, until_ns=None).to_expr()

        def moment(text: str | None, option: str) -> int | None:
            return None if text is None else parse_time(text, now_ns, option=option)

        ref_since = moment(options.ref_since, "--ref-since")
        ref_until = moment(options.ref_until, "--ref-until")
        since_ns = parsed.since_ns
        if options.ref is None and ref_until is not None and since_ns is None:
            since_ns = ref_until

        def within(since: int | None, until: int | None) -> Expr | None:
            return all_of(
                [
                    shared,
                    None if since is None else col(name) >= Timestamp(since),
                    None if until is None else col(name) < Timestamp(until),
                ]
            )

        label = None
        if options.ref is None and ref_until is not None:
            label = f"rows before {iso(ref_until)}"
        return cls(
            within(since_ns, parsed.until_ns),
            within(ref_since, ref_until),
            label,
        )


def _reference(
    options: ReferenceOptions, current: Source, password: str | None
) -> Source | Profile | None:
    """Return the reference; the current data themselves where only its times are given.

    Raises:
        UsageError: times of a reference that there is not.
        NotFoundError, InvalidDataError: it is not there or cannot be read.
    """
    if options.ref is not None:
        if options.ref.endswith(".json"):
            from pyflare_analysis.drift.profile import Profile

            return Profile.load(options.ref)
        from pyflare_storage.source import open_source

        return open_source(options.ref, password=password)
    if options.ref_until is not None and options.against != "previous":
        return current
    if options.ref_since is not None or options.ref_until is not None:
        given = "--ref-since" if options.ref_until is None else "--ref-until"
        raise UsageError(
            f"{given} without a reference",
            hint="--ref R, or --ref-until TIME alone for the current data before that time",
        )
    return None


def _write_pictures(heat: HeatMap, html: Path | None, svg: Path | None) -> None:
    """Write the files that were asked for.

    Raises:
        StorageError: a file cannot be written.
    """
    from pyflare_cli.drift.heat_html import heat_html
    from pyflare_cli.drift.heat_svg import heat_svg

    for path, draw, option in ((html, heat_html, "--html"), (svg, heat_svg, "--svg")):
        if path is None:
            continue
        try:
            path.write_text(draw(heat), encoding="utf-8")
        except OSError as error:
            raise StorageError(
                f"cannot write {path}: {error.strerror}", hint=f"{option} FILE names another file"
            ) from error


def _record(run: Run, store: StoreOptions, heat: HeatMap) -> None:
    """Keep the verdicts. A segment raises an alert only where all rows together do not."""
    told = {
        (cell.column, cell.window.start_ns)
        for cell in heat.cells()
        if cell.is_drift and not cell.segment
    }
    cells = [cell for cell in heat.cells() if cell.judged or cell.current_count]
    rows = [_stored(cell, heat) for cell in cells]
    alerting = [
        row
        for cell, row in zip(cells, rows, strict=True)
        if not (cell.segment and (cell.column, cell.window.start_ns) in told)
    ]
    store.record(
        run,
        rows,
        command="report",
        source=heat.source,
        reference=heat.reference,
        alerting=alerting,
    )


def _stored(cell: Cell, heat: HeatMap) -> Mapping[str, object]:
    return {
        "column": cell.column,
        "kind": cell.kind,
        "window_start": cell.window.start_ns,
        "window_end": cell.window.end_ns,
        "segment": dict(cell.segment) or None,
        "psi": cell.psi,
        "p_value": cell.p_value,
        "q_value": cell.q_value,
        "threshold": heat.threshold,
        "severity": cell.severity,
        "verdict": cell.verdict,
        "reference_count": cell.reference_count,
        "current_count": cell.current_count,
        "details": {
            "against": heat.against,
            "every": heat.every,
            "same_hour_of_week": heat.same_hour_of_week,
            "psi_corrected": cell.psi_corrected,
            "moved": cell.moved,
            "mix": cell.mix,
            "within": cell.within,
            "reason": cell.reason,
        },
    }


def _gate(heat: HeatMap, gate: GateOptions) -> None:
    """Say no where a gate was asked for, or that nothing can be said.

    Raises:
        NotEnoughDataError: no cell could be judged.
        GateError: a cell fails the gate.
    """
    if heat.verdict == "insufficient":
        reasons = {cell.reason for cell in heat.cells() if cell.reason and cell.current_count}
        raise NotEnoughDataError(
            f"no window of {heat.every} could be judged: {min(reasons, default='no rows')}",
            hint="longer windows (--every), a larger reference, or fewer segments (--by)",
        )
    failing = [cell for cell in heat.cells() if _fails(cell, heat, gate)]
    if not failing:
        return
    worst = max(failing, key=lambda cell: cell.psi or 0.0)
    asked = f"--fail-on {gate.fail_on}" if gate.fail_above is None else "--fail-above"
    if gate.fail_above is not None:
        asked = f"--fail-above {gate.fail_above:g}"
    raise GateError(
        f"{len(failing)} of {heat.figures()['judged_cells']} cells fail {asked}; "
        f"the largest: {worst.column}, PSI {worst.psi:.3g}, {worst.moved or ''}",
        hint="pyflare drift report --format table shows when and what; pyflare drift psi one "
        "column",
    )


def _fails(cell: Cell, heat: HeatMap, gate: GateOptions) -> bool:
    if not cell.judged or cell.q_value is None or cell.q_value > heat.alpha:
        return False
    above = gate.fail_above is not None and (cell.psi or 0.0) > gate.fail_above
    on = {
        None: False,
        "drift": cell.is_drift,
        "moderate": cell.severity != "none",
        "significant": cell.severity == "significant",
    }[gate.fail_on]
    return above or on
