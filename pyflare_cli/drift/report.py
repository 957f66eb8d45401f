"""`pyflare drift report`: every suitable column over windows of time, as a heat map."""

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
    check_address,
    check_fail_above,
    open_side,
    where_clustered,
)
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document
from pyflare_cli.tables import Column
from pyflare_proto.errors import GateError, NotEnoughDataError, StorageError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import ExitStack

    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.report.heatmap import Cell, HeatMap
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
class WindowOptions:
    """How time is divided, and what a window is compared with."""

    every: Annotated[
        str | None,
        typer.Option(
            metavar="LENGTH",
            help="Length of a window: 1h, 6h, 1d, 1w, 1mo.  [default: by the time covered]",
        ),
    ] = None
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="IANA time zone of days, weeks and months.")
    ] = "UTC"
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
    ref: Annotated[
        str | None,
        typer.Option(
            metavar="R",
            help="Reference: Parquet, CSV, any source URL, or a saved profile.  "
            "[default: the current source, divided by --ref-..., else the window before]",
        ),
    ] = None,
    cur: CurrentOption = None,
    windows: WindowOptions,
    periods: PeriodOptions,
    column: ColumnOption = None,
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
    cluster: ClusterOption = "trace_id",
    seed: Annotated[int, typer.Option(metavar="N", help="Of the simulated law.")] = 42,
    unweighted: UnweightedOption = False,
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
    from contextlib import ExitStack

    from pyflare_analysis.drift.profiles.profile import Profile
    from pyflare_analysis.drift.psi.config import PSIConfig
    from pyflare_analysis.drift.report.report import drift_report, fitting_length, time_column
    from pyflare_analysis.drift.report.windows import Windows
    from pyflare_cli.drift.heat_text import heat_lines

    sides = Sides(periods, filters, same_source=ref is None)
    check_fail_above(gate.fail_above)
    config = PSIConfig(threshold=threshold, num_bins=bins, alpha=alpha, random_seed=seed)
    with ExitStack() as stack:
        current = stack.enter_context(open_side(run, cur, source))
        name = time_column(current.columns(), periods.time_)
        reference = _reference(run, ref, current, sides, against=windows.against, stack=stack)
        where = sides.current(current)
        heat = drift_report(
            current,
            reference,
            windows=Windows(
                windows.every or fitting_length(current, name, where), name, windows.timezone
            ),
            against=windows.against,
            same_hour_of_week=windows.same_hour_of_week,
            by=[word.strip() for word in by.split(",") if word.strip()],
            columns=column or (),
            where=where,
            reference_where=None
            if reference is None or isinstance(reference, Profile)
            else sides.reference(reference),
            config=config,
            weighted=not unweighted,
            cluster=where_clustered(cluster),
            reference_name=_part_of(sides) if reference is current else None,
        )
    _write_pictures(heat, html, svg)
    run.answer(
        Document(
            "pyflare.drift.report/1",
            heat.to_dict(),
            "cells",
            COLUMNS,
            render=lambda terminal: heat_lines(heat, terminal),
        )
    )
    _record(run, store, heat)
    _gate(heat, gate)


def _reference(
    run: Run,
    ref: str | None,
    current: Source,
    sides: Sides,
    *,
    against: str | None,
    stack: ExitStack,
) -> Source | Profile | None:
    """Return the reference; the current data themselves where a part of them is it.

    Raises:
        UsageError: a reference together with the window before.
        NotFoundError, InvalidDataError: it is not there or cannot be read.
    """
    if ref is None:
        if sides.periods.splits and against == "previous":
            raise UsageError(
                "--ref-since, --ref-until, --ref-window or --ref-where together with the window "
                "before",
                hint="leave them out, or write --against reference",
            )
        return current if sides.periods.splits else None
    from pyflare_analysis.drift.profiles.profile_file import is_profile_file

    check_address(ref)
    if is_profile_file(ref) or ref.endswith(".json"):
        from pyflare_analysis.drift.profiles.profile import Profile

        sides.check_profile()
        return Profile.load(ref)
    from pyflare_storage.source import open_source

    return stack.enter_context(open_source(ref, password=run.settings.clickhouse_password))


def _part_of(sides: Sides) -> str:
    """Return what a part of the current data is called as the reference."""
    from pyflare_analysis.drift.report.heatmap import iso

    since, until = sides.times()[:2]
    parts = [
        f"from {iso(since)}" if since is not None else "",
        f"before {iso(until)}" if until is not None else "",
        f"where {sides.periods.ref_where}" if sides.periods.ref_where else "",
    ]
    return f"rows {' '.join(part for part in parts if part)}"


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
