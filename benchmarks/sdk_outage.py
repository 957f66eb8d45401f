"""An application while its collector works, is gone, hangs, and comes back.

    python benchmarks/sdk_outage.py                            # about two minutes
    python benchmarks/sdk_outage.py --backlog-bytes 100000     # more than there is room for

The application makes traced calls at a fixed rate in four phases: the real
`pyflare collect` on a port; nobody on that port (refused); a server on that port that
takes connections and never answers; the collector again, on the same data. Of each
phase the table has the time of the calls, the memory of the process, and what became
of the spans. At the end the spans in the data directory are counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "results"
PYFLARE = str(Path(sys.executable).parent / "pyflare")


@dataclass(frozen=True)
class Phase:
    """What was measured while the collector was in one state."""

    name: str
    calls: int
    p50_us: float
    p99_us: float
    slowest_ms: float
    memory_mb: float
    sent: int
    waiting: int
    lost: int


class Collector:
    """`pyflare collect` on a port, or nobody, or somebody who never answers."""

    def __init__(self, data: str) -> None:
        self._data = data
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[str] | None = None
        self._hanging: socket.socket | None = None
        self._held: list[socket.socket] = []

    def serve(self) -> None:
        """Start the collector and wait until it is ready."""
        self._process = subprocess.Popen(
            [PYFLARE, "collect", "--grpc", "127.0.0.1:0", "--http", f"127.0.0.1:{self.port}",
             "--data", self._data],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("ready"):
                threading.Thread(target=self._process.stderr.read, daemon=True).start()
                return
        raise SystemExit("the collector did not start")

    def stop(self) -> None:
        """Stop whatever is on the port."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait()
            self._process = None
        if self._hanging is not None:
            self._hanging.shutdown(socket.SHUT_RDWR)  # or `accept` holds on to the port
            self._hanging.close()
            for connection in self._held:
                connection.close()
            self._hanging = None

    def hang(self) -> None:
        """Take connections and never answer."""
        self._hanging = server = socket.create_server(("127.0.0.1", self.port))

        def accept() -> None:
            while True:
                try:
                    self._held.append(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=accept, daemon=True).start()


def calls(name: str, seconds: float, rate: float) -> Phase:
    """Make traced calls at a rate, and measure them."""
    import pyflare

    @pyflare.trace(model_id="gpt-4o", inference_type="llm")
    def answer(question: str) -> str:
        pyflare.current_span().set_usage(input_tokens=len(question), output_tokens=20)
        return "Paris has been the capital of France, with interruptions, since 987."

    process = psutil.Process()
    before = pyflare.stats()
    took: list[float] = []
    memory = 0
    start = time.perf_counter()
    while (now := time.perf_counter()) < start + seconds:
        due = start + len(took) / rate
        if now < due:
            time.sleep(due - now)
        began = time.perf_counter()
        answer(f"What is the capital of France? ({len(took)})")
        took.append(time.perf_counter() - began)
        if len(took) % 100 == 0:
            memory = max(memory, process.memory_info().rss)
    after = pyflare.stats()
    return Phase(
        name, len(took), statistics.median(took) * 1e6,
        statistics.quantiles(took, n=100)[98] * 1e6, max(took) * 1e3, memory / 1e6,
        after.sent - before.sent, after.waiting, after.lost - before.lost,
    )  # fmt: skip


def stored(data: str) -> int:
    """Return how many calls the data directory holds."""
    done = subprocess.run(
        [PYFLARE, "cost", "summary", "--data", data, "--format", "json"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(json.loads(done.stdout)["total"]["calls"])


def main() -> None:
    """Run the phases, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=200, help="calls a second")
    parser.add_argument("--hang-seconds", type=float, default=60)
    parser.add_argument("--other-seconds", type=float, default=15, help="of each other phase")
    parser.add_argument("--backlog-bytes", type=int, default=0, help="0: the SDK's default")
    parser.add_argument("-o", type=Path)
    options = parser.parse_args()
    if options.backlog_bytes:
        os.environ["PYFLARE_MAX_BACKLOG_BYTES"] = str(options.backlog_bytes)
    import pyflare

    with tempfile.TemporaryDirectory() as data:
        collector = Collector(data)
        pyflare.init("outage", f"http://127.0.0.1:{collector.port}", use_http=True)
        collector.serve()
        phases = [calls("works", options.other_seconds, options.rate)]
        collector.stop()
        phases.append(calls("refuses", options.other_seconds, options.rate))
        collector.hang()
        phases.append(calls("hangs", options.hang_seconds, options.rate))
        collector.stop()
        collector.serve()
        phases.append(calls("is back", options.other_seconds, options.rate))
        began = time.perf_counter()
        pyflare.shutdown(30)
        seconds = time.perf_counter() - began
        collector.stop()
        text = report(phases, options, seconds, stored(data))
    print(text)
    if options.o:
        options.o.write_text(text)


def report(phases: list[Phase], options: argparse.Namespace, seconds: float, kept: int) -> str:
    """Return the table as Markdown."""
    import pyflare

    after = pyflare.stats()
    ended = "left some" if after.lost_at_shutdown else "delivered all"
    made = sum(phase.calls for phase in phases)
    lines = [
        "# SDK through an outage",
        "",
        (
            f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python "
            f"{platform.python_version()}; `python {' '.join(sys.argv)}`: {options.rate:g} calls "
            "a second, every time measured in the calling thread. Compare the phases: the "
            "machine is shared."
        ),
        "",
        (
            "| the collector | calls | median µs | 99 % µs | slowest ms | memory MB | sent "
            "| waiting at its end | lost |"
        ),
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {p.name} | {p.calls:,} | {p.p50_us:.0f} | {p.p99_us:.0f} | {p.slowest_ms:.1f} | "
        f"{p.memory_mb:.0f} | {p.sent:,} | {p.waiting:,} | {p.lost:,} |"
        for p in phases
    ]
    lines += [
        "",
        (
            f"`shutdown()` took {seconds:.1f} s and {ended}. "
            f"Of {made:,} calls {after.sent:,} were sent, {after.lost:,} lost and counted; "
            f"{kept:,} are in the data directory. {after.failed_requests} of {after.requests} "
            "requests failed."
        ),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
