"""`pyflare rca report`: everything about a trouble on one page."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command
from pyflare_cli.options import FilterOptions, SourceOptions
from pyflare_cli.output import Document, Terminal
from pyflare_cli.rca.clusters import ClusterOptions, open_state
from pyflare_cli.rca.group import app
from pyflare_cli.rca.slices import open_evaluations
from pyflare_proto.errors import GateError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyflare_analysis.rca.report.page import RcaReport

__all__ = ["report"]


@command(
    app,
    "report",
    examples="""
    pyflare rca report
    pyflare rca report --since 24h --html report.html
    pyflare rca report --model gpt-4o --format markdown -o incident.md
    pyflare rca report --since 1h --fail-on-trouble
    """,
)
def report(
    run: Run,
    *,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the page as one HTML file as well."),
    ] = None,
    fail_on_trouble: Annotated[
        bool, typer.Option("--fail-on-trouble", help="Exit 1 when something was found.")
    ] = False,
    no_state: Annotated[
        bool, typer.Option("--no-state", help="Neither read nor write known clusters.")
    ] = False,
    unweighted: Annotated[
        bool, typer.Option("--unweighted", help="Count sampled spans once each.")
    ] = False,
    source: SourceOptions,
    filters: FilterOptions,
) -> None:
    """One page for whoever is on call: what changed, since when, for whom, and what to try.

    Joins `rca patterns`, `rca attribution`, `rca slices` and `rca clusters`. A part without
    enough data says so, and the rest of the page stands; without any it exits with 4.
    """
    from pyflare_analysis.rca.clusters.state import Registry
    from pyflare_analysis.rca.report.page import ReportConfig, build_report

    with ExitStack() as stack:
        spans = stack.enter_context(source.open(run.settings))
        evaluations = open_evaluations(run, source)
        if evaluations is not None:
            stack.enter_context(evaluations)
        state = open_state(run, ClusterOptions(no_state=no_state), source, stack, spans=True)
        registry = Registry(state.known() if state is not None else ())
        answer = build_report(
            spans,
            filters.filters(),
            config=ReportConfig(weighted=not unweighted),
            evaluations=evaluations,
            registry=registry,
        )
        if state is not None and answer.clusters is not None:
            state.record([*answer.clusters.known(), *registry.taken_in()])
    if html is not None:
        _write_html(answer, html)
        run.note(f"wrote {html}")
    _answer(run, answer)
    if fail_on_trouble and answer.verdict == "trouble":
        raise GateError(answer.headline, hint="pyflare rca report shows what was found")


def _answer(run: Run, answer: RcaReport) -> None:
    from pyflare_cli.rca.report_page import page_of
    from pyflare_cli.rca.report_text import markdown_page, text_page

    if run.output.form() == "markdown":
        run.output.write_text(markdown_page(page_of(answer)))
        return

    def render(terminal: Terminal) -> Iterable[str]:
        return text_page(page_of(answer), terminal)

    run.answer(Document("pyflare.rca.report/1", answer.to_dict(), rows="changes", render=render))


def _write_html(answer: RcaReport, path: Path) -> None:
    from pyflare_cli.rca.report_html import html_page
    from pyflare_cli.rca.report_page import page_of

    try:
        path.write_text(html_page(page_of(answer)), encoding="utf-8")
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}", hint="--html FILE names another file"
        ) from error
