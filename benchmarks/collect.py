"""The collector beside its limits, in one run: decode, normalise and price, and end to end.

    python benchmarks/collect.py                      # the table, into results/collect.md
    python benchmarks/collect.py --spans 10000000     # memory over many spans

Each figure is for spans of about 560 bytes with 12 GenAI attributes in requests of 512.
`FromString` is what any receiver built on the protobuf classes pays before it has done
anything; the loop is what the plain way to columns costs.
"""

import argparse
import base64
import json
import multiprocessing
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from payloads import SPANS, Requests

EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
RESULTS = Path(__file__).parent / "results"
BATCH_REQUESTS = 32
IN_FLIGHT = 6
CLIENTS = 2


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    spans_per_cpu_s: float
    note: str = ""


def stages(requests: int) -> list[Row]:
    """Measure the steps in this process, one core, best of three passes by CPU time."""
    from pyflare_collector.calls import RecentCalls, RecentSpans
    from pyflare_collector.normalize import KEYS, normalize
    from pyflare_proto.otlp.decode import decode
    from pyflare_proto.otlp.jsonotlp import transcode
    from pyflare_storage.prices import PriceBook

    source = Requests(1)
    payloads = [source.next() for _ in range(requests)]
    groups = [payloads[i : i + BATCH_REQUESTS] for i in range(0, requests, BATCH_REQUESTS)]
    prices = PriceBook.load(None)

    def parse() -> None:
        for payload in payloads:
            ExportTraceServiceRequest.FromString(payload)

    def loop() -> None:
        for payload in payloads[: max(1, requests // 8)]:
            for resource in ExportTraceServiceRequest.FromString(payload).resource_spans:
                for scope in resource.scope_spans:
                    for span in scope.spans:
                        _as_dict(span)

    def decode_each() -> None:
        for payload in payloads:
            decode([payload], KEYS)

    def records() -> None:
        for group in groups:
            normalize(decode(group, KEYS), prices)

    def settled() -> None:
        spans, calls = RecentSpans(), RecentCalls()
        for group in groups:
            batch = decode(group, KEYS)
            spans.first_seen(batch.trace_id, batch.span_id)
            calls.apply(normalize(batch, prices))

    documents = [_as_json(payload) for payload in payloads[: max(1, requests // 8)]]

    def json_alone() -> None:
        for document in documents:
            json.loads(document)

    def json_to_wire() -> None:
        for document in documents:
            transcode(document)

    total = requests * SPANS
    return [
        Row("protobuf FromString alone", total / _best(parse)),
        Row(
            "FromString, every attribute into a dict",
            max(1, requests // 8) * SPANS / _best(loop),
            "a Python loop per span",
        ),
        Row("decode alone", total / _best(decode_each), "offset arrays, a request at a time"),
        Row(
            "decode + normalise + price",
            total / _best(records),
            f"to the Arrow table, {BATCH_REQUESTS} requests at a time",
        ),
        Row("the same + repeated spans, calls told twice", total / _best(settled)),
        Row("json.loads of OTLP/JSON alone", len(documents) * SPANS / _best(json_alone)),
        Row(
            "OTLP/JSON to the wire format",
            len(documents) * SPANS / _best(json_to_wire),
            "then as above",
        ),
    ]


def _as_dict(span: object) -> dict[str, object]:
    return {
        a.key: getattr(a.value, a.value.WhichOneof("value"))
        for a in span.attributes  # type: ignore[attr-defined]  # a protobuf Span
    }


def _as_json(payload: bytes) -> bytes:
    """Return a request as OTLP/JSON, the way exporters write it: ids in hexadecimal."""
    request = json_format.MessageToDict(ExportTraceServiceRequest.FromString(payload))
    for resource in request["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                span["kind"] = Span.SpanKind.Value(span.get("kind", "SPAN_KIND_UNSPECIFIED"))
                if "code" in span.get("status", {}):
                    span["status"]["code"] = Status.StatusCode.Value(span["status"]["code"])
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span:
                        span[name] = base64.b64decode(span[name]).hex()
    return json.dumps(request, separators=(",", ":")).encode()


def _best(step: object, passes: int = 3) -> float:
    """Return the least CPU seconds of some passes, after one that compiles."""
    assert callable(step)
    step()
    seconds = []
    for _ in range(passes):
        begun = time.process_time()
        step()
        seconds.append(time.process_time() - begun)
    return min(seconds)


def client(address: str, requests: int, seed: int) -> None:
    """Send distinct requests over gRPC with some calls in flight; every one must be taken."""
    import grpc

    supply = Requests(seed)
    room = threading.Semaphore(IN_FLIGHT)
    failed: list[str] = []

    def done(future: Future[bytes]) -> None:
        if future.exception() is not None:
            failed.append(str(future.exception()))
        room.release()

    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(EXPORT)
        for _ in range(requests):
            room.acquire()
            call.future(supply.next(), timeout=60, wait_for_ready=True).add_done_callback(done)
        for _ in range(IN_FLIGHT):
            room.acquire()
    if failed:
        sys.exit(f"{len(failed)} calls failed, the first: {failed[0]}")


@dataclass(frozen=True)
class EndToEnd:
    """What a run of the real collector took."""

    spans: int
    wall_s: float
    cpu_s: float
    rss: list[tuple[int, float]]
    """(spans written, MB resident)"""
    stored: int
    file_mb: float


def end_to_end(requests: int, durability: str = "fsync") -> EndToEnd:
    """Run `pyflare collect` under load from two client processes and drain it."""
    with tempfile.TemporaryDirectory(prefix="pyflare-bench-") as folder:
        words = [sys.executable, "-m", "pyflare_cli", "collect", "--data", folder]
        words += ["--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--durability", durability]
        collector = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert collector.stderr is not None
        address = ""
        for line in collector.stderr:
            if found := re.search(r"ready grpc=(\S+)", line):
                address = found[1]
                break
        process = psutil.Process(collector.pid)
        _run_clients(address, 4 * CLIENTS, 90)  # the first requests load what is lazy
        warm = 4 * CLIENTS * SPANS
        before = process.cpu_times()
        begun = time.perf_counter()
        rss: list[tuple[int, float]] = []
        clients = _start_clients(address, requests, 1)
        per_second = 0
        while any(c.is_alive() for c in clients):
            time.sleep(1)
            per_second += 1
            rss.append((per_second, process.memory_info().rss / 1e6))
        if any(c.exitcode for c in clients):
            collector.kill()
            sys.exit("a client failed")
        sent = time.perf_counter() - begun
        collector.send_signal(signal.SIGTERM)
        cpu = before
        while collector.poll() is None:
            try:
                cpu = process.cpu_times()
            except psutil.Error:
                break
            time.sleep(0.005)
        spent = cpu.user + cpu.system - before.user - before.system
        files = list(Path(folder, "spans").glob("*.parquet"))
        stored = _rows(files)
        size = sum(f.stat().st_size for f in files) / 1e6
        expected = requests // CLIENTS * CLIENTS * SPANS + warm
        if collector.wait() != 0 or stored != expected:
            sys.exit(f"stored {stored} of {expected}, exit code {collector.returncode}")
        return EndToEnd(expected - warm, sent, spent, rss, stored, size)


def _start_clients(address: str, requests: int, seed: int) -> list[multiprocessing.Process]:
    started = []
    for number in range(CLIENTS):
        context = multiprocessing.get_context("spawn")
        one = context.Process(target=client, args=(address, requests // CLIENTS, seed + number))
        one.start()
        started.append(one)
    return started  # type: ignore[return-value]  # spawned processes have the same interface


def _run_clients(address: str, requests: int, seed: int) -> None:
    for one in _start_clients(address, requests, seed):
        one.join()


def _rows(files: list[Path]) -> int:
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(f).num_rows for f in files)


def report(rows: list[Row], run: EndToEnd) -> str:
    """Return the table as Markdown."""
    loop = rows[1].spans_per_cpu_s
    lines = [
        "# Collector",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, "
            f"Python {platform.python_version()}; `python benchmarks/collect.py`. "
            "Read the ratios: the machine is shared."
        ),
        "",
        "| what | spans per CPU-second | of the loop | |",
        "|---|---:|---:|---|",
    ]
    rows = [
        *rows,
        Row(
            "end to end",
            run.spans / run.cpu_s,
            f"gRPC, fsync, Parquet; {run.spans / run.wall_s:,.0f} spans/s by the clock "
            f"with {CLIENTS} clients on the same cores",
        ),
    ]
    lines += [
        f"| {r.name} | {r.spans_per_cpu_s:,.0f} | {r.spans_per_cpu_s / loop:.1f} | {r.note} |"
        for r in rows
    ]
    peak = max(mb for _, mb in run.rss)
    tenth = run.rss[len(run.rss) // 10][1]
    lines += [
        "",
        (
            f"End to end: {run.spans:,} spans, all {run.stored:,} stored once, "
            f"{run.file_mb:,.0f} MB of Parquet; resident memory {tenth:,.0f} MB after a tenth of "
            f"the run, {peak:,.0f} MB at the most."
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000, help="spans end to end")
    parser.add_argument("--requests", type=int, default=128, help="requests for the single steps")
    parser.add_argument("-o", type=Path, default=RESULTS / "collect.md")
    options = parser.parse_args()
    rows = stages(options.requests)
    for row in rows:
        print(f"{row.name:48} {row.spans_per_cpu_s:12,.0f} spans per CPU-second", flush=True)
    run = end_to_end(options.spans // SPANS)
    text = report(rows, run)
    print(text)
    options.o.parent.mkdir(exist_ok=True)
    options.o.write_text(text)


if __name__ == "__main__":
    main()
