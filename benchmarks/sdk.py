"""What a decorated call costs, beside bare OpenTelemetry and the decorators of two peers.

    python benchmarks/sdk.py                 # the table, into results/sdk.md
    python benchmarks/sdk.py --rounds 3      # quicker, rougher

The traced function returns a fixed text, so all that is measured is tracing. Each
subject writes the same on its span: the type of the call, the model, input and output;
bare OpenTelemetry is written as its documentation shows it. With an exporter, spans go
in batches over OTLP/HTTP to a local server that takes all; the calls come in portions
that fit every queue, and each portion is flushed. `caller` is the CPU time of the
thread that makes the calls, `process` that of all threads, exporting included. Subjects
take turns, each in a fresh process of its own environment; the figure is the median of
the rounds. The peers are installed from the index into environments of their own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import venv
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
SUBJECTS = ("plain", "opentelemetry", "pyflare", "langfuse", "traceloop")
PEERS = {
    "langfuse": ("langfuse",),
    "traceloop": ("traceloop-sdk", "httpx"),
}  # it needs httpx and does not say so
PORTION = 500
BARE_START = (
    "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter; "
    "from opentelemetry.sdk.trace import TracerProvider; "
    "from opentelemetry.sdk.trace.export import BatchSpanProcessor; "
    "TracerProvider().add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))"
)
QUESTION = "What is the capital of France, and since when has it been the capital?"
ANSWER = "Paris has been the capital of France, with interruptions, since 987."
MODEL = "gpt-4o"


# The subjects: each returns the traced functions and what flushes. Run in a process of
# their own, in which nothing but the standard library and the subject is there.

Traced = tuple[Callable[[str], str], Callable[[str], Any], Callable[[], Any]]


def answer(question: str) -> str:  # noqa: ARG001 - it is captured
    """Return the fixed answer."""
    return ANSWER


async def answer_async(question: str) -> str:  # noqa: ARG001 - it is captured
    """Return the fixed answer."""
    return ANSWER


def plain(endpoint: str) -> Traced:  # noqa: ARG001 - the others' signature
    """No tracing."""
    return answer, answer_async, lambda: None


def opentelemetry(endpoint: str) -> Traced:
    """The OpenTelemetry SDK by itself."""
    from opentelemetry import trace
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider()
    if endpoint:
        provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces"))
        )
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("benchmark")
    kind = trace.SpanKind.CLIENT
    attributes = {
        "pyflare.inference.type": "llm",
        "gen_ai.operation.name": "chat",
        "pyflare.model.id": MODEL,
        "gen_ai.request.model": MODEL,
    }

    def traced(question: str) -> str:
        with tracer.start_as_current_span("answer", kind=kind, attributes=attributes) as span:
            span.set_attribute("pyflare.input.preview", json.dumps({"question": question}))
            result = answer(question)
            span.set_attribute("pyflare.output.preview", result)
            return result

    async def traced_async(question: str) -> str:
        with tracer.start_as_current_span("answer", kind=kind, attributes=attributes) as span:
            span.set_attribute("pyflare.input.preview", json.dumps({"question": question}))
            result = await answer_async(question)
            span.set_attribute("pyflare.output.preview", result)
            return result

    return traced, traced_async, provider.force_flush


def pyflare(endpoint: str) -> Traced:
    """`pyflare.trace`."""
    if not endpoint:
        os.environ["OTEL_TRACES_EXPORTER"] = "none"
    import pyflare as sdk

    sdk.init("benchmark", endpoint=endpoint or None, use_http=True)
    trace = sdk.trace(model_id=MODEL, inference_type=sdk.InferenceType.LLM)
    return trace(answer), trace(answer_async), sdk.flush


def langfuse(endpoint: str) -> Traced:
    """`langfuse.observe`; without an exporter it gets one that does nothing."""
    from langfuse import Langfuse, get_client, observe

    more: dict[str, Any] = {} if endpoint else {"span_exporter": _idle_exporter()}
    Langfuse(public_key="pk", secret_key="sk", base_url=endpoint or None, **more)  # noqa: S106 - not a secret
    trace = observe(as_type="generation")
    return trace(answer), trace(answer_async), get_client().flush


def traceloop(endpoint: str) -> Traced:
    """`traceloop.sdk.decorators.task`; without an exporter it gets one that does nothing."""
    from opentelemetry import trace as otel
    from traceloop.sdk import Traceloop
    from traceloop.sdk.decorators import task

    os.environ["TRACELOOP_TELEMETRY"] = "false"
    Traceloop.init(
        app_name="benchmark",
        api_endpoint=endpoint or "http://127.0.0.1:9",
        exporter=None if endpoint else _idle_exporter(),
        telemetry_enabled=False,
        instruments=set(),
    )
    return task()(answer), task()(answer_async), otel.get_tracer_provider().force_flush


def _idle_exporter() -> object:
    from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

    class Idle(SpanExporter):
        """Drops everything."""

        def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002 - the interface
            return SpanExportResult.SUCCESS

    return Idle()


def measure(subject: str, endpoint: str, calls: int) -> dict[str, float]:
    """Return microseconds of CPU time a call, by caller and by process, sync and async."""
    traced, traced_async, flush = globals()[subject](endpoint)

    def sync() -> None:
        for _ in range(PORTION):
            traced(QUESTION)

    async def many() -> None:
        for _ in range(PORTION):
            await traced_async(QUESTION)

    loop = asyncio.new_event_loop()
    found = {}
    for name, run in (("sync", sync), ("async", lambda: loop.run_until_complete(many()))):
        run()  # warms up
        flush()
        caller = process = 0.0
        for _ in range(max(1, calls // PORTION)):
            process -= time.process_time()
            caller -= time.thread_time()
            run()
            caller += time.thread_time()
            flush()
            process += time.process_time()
        done = max(1, calls // PORTION) * PORTION
        found[f"{name} caller"] = caller / done * 1e6
        found[f"{name} process"] = process / done * 1e6
    return found


# The run


class Sink(BaseHTTPRequestHandler):
    """Takes every request."""

    protocol_version = "HTTP/1.1"
    spans = 0

    def do_POST(self) -> None:
        """Answer 200 with an empty message."""
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - the name that the server calls

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def pythons(folder: Path) -> dict[str, str]:
    """Return the interpreter of each subject; install the peers where they are missing."""
    found = dict.fromkeys(SUBJECTS, sys.executable)
    for subject, packages in PEERS.items():
        home = folder / packages[0]
        python = home / "bin" / "python"
        if not python.exists():
            print(f"installing {packages[0]}", file=sys.stderr)
            venv.create(home, with_pip=True)
            # pip alone looks for minutes for versions of traceloop-sdk's parts that agree.
            subprocess.run([python, "-m", "pip", "install", "-q", "uv"], check=True)
            uv = [home / "bin" / "uv", "pip", "install", "-q", "--python", python]
            subprocess.run([*uv, *packages], check=True)
        found[subject] = str(python)
    return found


def version(python: str, package: str) -> str:
    """Return the version of a package in an environment."""
    code = f"import importlib.metadata as m; print(m.version({package!r}))"
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def run(python: str, subject: str, endpoint: str, calls: int) -> dict[str, float]:
    """Measure a subject in a process of its own."""
    done = subprocess.run(
        [python, __file__, "--subject", subject, "--endpoint", endpoint, "--calls", str(calls)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LANGFUSE_TIMEOUT": "10", "PYTHONPATH": ""},
    )
    if done.returncode:
        raise SystemExit(f"{subject} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=4000, help="of each kind in a round")
    parser.add_argument(
        "--peers", type=Path, default=Path(tempfile.gettempdir()) / "pyflare-benchmark-peers"
    )
    parser.add_argument("-o", type=Path, default=RESULTS / "sdk.md")
    parser.add_argument("--subject", choices=SUBJECTS, help=argparse.SUPPRESS)
    parser.add_argument("--endpoint", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject:
        print(json.dumps(measure(options.subject, options.endpoint, options.calls)))
        return
    python = pythons(options.peers)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoints = {"none": "", "OTLP/HTTP": f"http://127.0.0.1:{server.server_port}"}
    figures: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(options.rounds):
        for exporter, endpoint in endpoints.items():
            for subject in SUBJECTS:
                if subject == "plain" and endpoint:
                    continue
                found = run(python[subject], subject, endpoint, options.calls)
                for kind, value in found.items():
                    figures.setdefault((exporter, kind, subject), []).append(value)
                print(exporter, subject, {k: round(v, 1) for k, v in found.items()}, flush=True)
    versions = {
        "opentelemetry": version(sys.executable, "opentelemetry-sdk"),
        "pyflare": version(sys.executable, "pyflare-suite"),
        **{subject: version(python[subject], names[0]) for subject, names in PEERS.items()},
    }
    text = report(figures, versions, options.rounds, options.calls)
    print(text)
    options.o.write_text(text)


def import_ms(statement: str) -> float:
    """Return milliseconds of CPU time that a statement takes in a new process, best of 15."""
    code = f"import time; t = time.process_time(); {statement}; print(time.process_time() - t)"
    command = [sys.executable, "-c", code]
    took = [
        float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        for _ in range(15)
    ]
    return min(took) * 1e3


def report(
    figures: dict[tuple[str, str, str], list[float]],
    versions: dict[str, str],
    rounds: int,
    calls: int,
) -> str:
    """Return the table as Markdown."""
    middle = {key: statistics.median(values) for key, values in figures.items()}
    traced = [subject for subject in SUBJECTS if subject != "plain"]
    lines = [
        "# SDK",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; `python benchmarks/sdk.py`: median of {rounds} "
            f"rounds of {calls:,} calls. Microseconds of CPU time a call, and times bare "
            "OpenTelemetry. Read the ratios: the machine is shared."
        ),
        "",
        "| exporter | call | " + " | ".join(f"{s} {versions[s]}" for s in traced) + " |",
        "|---|---|" + "---:|" * len(traced),
    ]
    for exporter, kind in dict.fromkeys((key[0], key[1]) for key in middle):
        if exporter == "none" and kind.endswith("process"):
            continue  # no other thread works there
        bare = middle[exporter, kind, "opentelemetry"]
        cells = [
            f"{middle[exporter, kind, subject]:.1f} ({middle[exporter, kind, subject] / bare:.2f}x)"
            for subject in traced
        ]
        lines.append(f"| {exporter} | {kind} | " + " | ".join(cells) + " |")
    untraced = middle["none", "sync caller", "plain"], middle["none", "async caller", "plain"]
    start = {
        statement: import_ms(statement)
        for statement in (
            "import pyflare",
            "import opentelemetry.sdk.trace",
            "import pyflare; pyflare.init('a', 'http://localhost:4318')",
            BARE_START,
        )
    }
    ours, theirs, ready, bare_ready = start.values()
    lines += [
        "",
        f"The same call untraced: {untraced[0]:.2f} sync, {untraced[1]:.2f} async.",
        "",
        (
            f"`import pyflare` takes {ours:.0f} ms, `import opentelemetry.sdk.trace` "
            f"{theirs:.0f} ms; with `pyflare.init` {ready:.0f} ms, against {bare_ready:.0f} ms for "
            "a tracer provider with a batch processor and the HTTP exporter."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
