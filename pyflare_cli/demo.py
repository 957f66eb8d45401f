"""`pyflare demo`: the main job from end to end, with nothing but this program."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pyflare_cli import diagnostics
from pyflare_cli.command import Run, command, single_command
from pyflare_cli.options import DataOptions
from pyflare_cli.output import Document, Terminal
from pyflare_proto.errors import SourceUnavailableError, UsageError

if TYPE_CHECKING:
    from pyflare_collector.workload import Traffic

app = single_command()

READY = re.compile(r"ready grpc=(\S+) http=(\S+)")
START_TIMEOUT_S = 120.0
EXPORT_SPANS = 512


@command(
    app,
    "demo",
    examples="""
    pyflare demo
    pyflare demo --spans 20000 --data ./demo-data
    """,
)
def demo(
    run: Run,
    *,
    data: DataOptions,  # noqa: ARG001 - taken up by the settings
    spans: Annotated[int, typer.Option(metavar="N", help="Spans to send.")] = 6000,
    seed: Annotated[int, typer.Option(metavar="S", help="The same seed, the same spans.")] = 1,
) -> None:
    """Send a day of synthetic traffic and answer from it.

    Starts a collector on free ports, sends spans through OpenTelemetry's own exporter, stops
    the collector, and answers from the files it wrote: what was spent on what, which traces
    cost most, what failed. The figures are checked against the generator's own arithmetic.
    """
    from pyflare_collector.workload import TrafficConfig, make_traffic

    folder = _folder(run)
    traffic = make_traffic(TrafficConfig(spans, seed=seed, end_time_ns=time.time_ns()))
    run.note("starting a collector (the first start compiles its kernels)")
    with _collector(folder) as endpoint:
        run.note(f"sending {len(traffic):,} spans to {endpoint} with OpenTelemetry's exporter")
        _export(traffic, endpoint)
    run.note(f"the collector has stopped; reading {folder}")
    body = _report(folder, traffic)
    run.answer(Document("pyflare.demo/1", body, render=lambda t: _lines(folder, body, t)))
    if not body["matches_expected"]:
        raise AssertionError("the answers differ from what was sent")


def _folder(run: Run) -> Path:
    """Return an empty folder: what is answered must be what was sent."""
    if run.settings["data"].source == "default":
        return Path(tempfile.mkdtemp(prefix="pyflare-demo-"))
    folder = Path(run.settings.data)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(
            f"{folder} is not empty", hint="the demo wants a folder of its own: --data NEW_DIR"
        )
    return folder


@contextmanager
def _collector(folder: Path) -> Iterator[str]:
    """Run a collector; yield the URL of its OTLP/HTTP endpoint; drain it at the end."""
    words = ["collect", "--data", str(folder), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(  # noqa: S603 - this program itself
        [sys.executable, "-m", "pyflare_cli", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield f"http://{_wait_until_ready(process)}"
        finally:
            process.send_signal(signal.SIGTERM)
            _, rest = process.communicate(timeout=START_TIMEOUT_S)
            for line in rest.splitlines():
                diagnostics.progress_line(line)
    if process.returncode != 0:
        raise SourceUnavailableError(
            f"the collector ended with exit code {process.returncode}", hint="pyflare doctor"
        )


def _wait_until_ready(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None  # noqa: S101 - it is a pipe
    for line in process.stderr:
        found = READY.search(line)
        if found:
            return found[2]
        diagnostics.progress_line(line.rstrip())
    raise SourceUnavailableError("the collector did not start", hint="pyflare doctor")


def _export(traffic: Traffic, endpoint: str) -> None:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace.export import SpanExportResult

    from pyflare_collector.workload.sdk_spans import readable_spans

    exporter = OTLPSpanExporter(
        endpoint=f"{endpoint}/v1/traces", compression=Compression.Gzip, headers={}
    )
    stream = readable_spans(traffic)
    while batch := list(islice(stream, EXPORT_SPANS)):
        if exporter.export(batch) is not SpanExportResult.SUCCESS:
            raise SourceUnavailableError(
                f"{endpoint} did not take the spans", hint="pyflare doctor"
            )
    exporter.shutdown()


def _report(folder: Path, traffic: Traffic) -> dict[str, Any]:
    from pyflare_analysis.cost import summarize
    from pyflare_analysis.traces import list_traces
    from pyflare_storage.source import open_source

    truth = traffic.truth()
    with open_source(str(folder)) as source:
        by_model = summarize(source, by=["model"])
        by_feature = summarize(source, by=["feature"]).to_dict()
        traces = [t.to_dict() for t in list_traces(source, limit=5, order="cost")]
        stored = source.count()
    total = by_model.total.to_dict()
    found = {
        "spans": stored,
        **{k: total[k] for k in ("calls", "input_tokens", "output_tokens", "cost_nano_usd")},
    }
    expected = {key: truth[key] for key in found}
    return {
        "data": str(folder),
        "found": found,
        "expected": expected,
        "matches_expected": found == expected,
        "cost_by_model": by_model.to_dict()["rows"],
        "cost_by_feature": by_feature["rows"],
        "costliest_traces": traces,
    }


def _lines(folder: Path, body: dict[str, Any], terminal: Terminal) -> list[str]:
    from pyflare_analysis.traces import show_trace
    from pyflare_cli.cost import FIGURES
    from pyflare_cli.figures import usd
    from pyflare_cli.tables import Column, text_table
    from pyflare_cli.trace_view import trace_lines
    from pyflare_cli.traces import LIST_COLUMNS
    from pyflare_storage.source import open_source

    found = body["found"]
    limit = terminal.columns if terminal.is_tty else None

    def table(name: str, columns: list[Column]) -> list[str]:
        return text_table(columns, body[name], (), limit=limit, color=terminal.color).splitlines()

    with open_source(str(folder)) as source:
        costliest = show_trace(source, body["costliest_traces"][0]["trace_id"])
    verdict = "as sent" if body["matches_expected"] else f"but sent were {body['expected']}"
    return [
        (
            f"{found['spans']:,} spans stored, {found['calls']:,} calls, "
            f"{usd(found['cost_nano_usd'])} spent: {verdict}"
        ),
        "",
        "What was spent, by model",
        *table("cost_by_model", [Column("model"), *FIGURES]),
        "",
        "What was spent, by feature",
        *table("cost_by_feature", [Column("feature"), *FIGURES]),
        "",
        "Costliest traces",
        *table("costliest_traces", list(LIST_COLUMNS)),
        "",
        "Inside the costliest",
        *trace_lines(costliest, terminal),
        "",
        "Try next",
        f"  export PYFLARE_DATA={folder}",
        "  pyflare cost summary --by user_id --limit 5",
        "  pyflare traces list --where \"status_code = 'error'\"",
        f"  pyflare traces show {costliest.trace_id[:8]}",
    ]
