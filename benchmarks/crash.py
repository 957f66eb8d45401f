"""Kills the collector under load, again and again, and counts what it had acknowledged.

    python benchmarks/crash.py --kills 50 --seed 1

Starts `pyflare collect` on an empty data directory, sends spans to it over OTLP/gRPC with the
official stub from several threads, and kills it with SIGKILL at random moments: mostly
under load, sometimes while it starts and recovers. A sender repeats a request that was
not answered, as exporters do, so what was durable and not answered arrives twice. The
span files are closed every half second, so that kills fall between the steps of
publishing too; `--compact` merges them meanwhile. At the end it checks that

- every acknowledged span is in the files exactly once,
- no span is there twice, and none that was not sent,
- every file can be read,

prints a table, and exits with 1 when something of it does not hold.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from google.protobuf.message import Message

START_NS = 1_795_000_000_000_000_000
_START_TIMEOUT_S = 180.0
_CONFIG = """
receiver:
  grpc: {{endpoint: "127.0.0.1:{port}"}}
  http: {{endpoint: ""}}
batcher: {{max_batch_timeout_ms: 200}}
storage: {{durability: fsync, parquet: {{directory: "{data}", roll_seconds: 0.5}}}}
"""


@dataclass
class Result:
    """What happened and what was found."""

    kills: int = 0
    kills_while_starting: int = 0
    compactions: int = 0
    requests_acknowledged: int = 0
    spans_sent: int = 0
    spans_acknowledged: int = 0
    requests_repeated: int = 0
    spans_found: int = 0
    missing: int = 0
    twice: int = 0
    foreign: int = 0
    unacknowledged_found: int = 0
    """Durable, but the answer was lost; not a fault."""
    files: int = 0
    unreadable_files: int = 0
    log_segments_left: int = 0
    exit_code: int = 0
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Return whether every promise was kept."""
        faults = (self.missing, self.twice, self.foreign, self.unreadable_files)
        return not any(faults) and self.exit_code == 0 and self.log_segments_left == 0


@dataclass
class Ledger:
    """What the senders know; shared by their threads."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    next_number: int = 1
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """(first, count) of each acknowledged request."""
    repeated: int = 0

    def take(self, count: int) -> int:
        """Return the first of `count` new span numbers."""
        with self.lock:
            first = self.next_number
            self.next_number += count
            return first


class Collector:
    """The process under test."""

    def __init__(self, folder: Path, port: int) -> None:
        self.data = folder / "data"
        self.config = folder / "pyflare.yaml"
        self.config.write_text(_CONFIG.format(port=port, data=self.data))
        self.log_path = folder / "collector.log"
        self.process: subprocess.Popen[bytes] | None = None
        self._seen = 0

    def start(self) -> None:
        """Start the process; it is not ready yet."""
        self._seen = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pyflare_cli", "--config", str(self.config), "collect"],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_ready(self) -> None:
        """Wait for the ready line.

        Raises:
            RuntimeError: the process ended, or is not ready in time.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            if b"ready grpc=" in self._new_output():
                return
            if self.process is None or self.process.poll() is not None:
                raise RuntimeError(f"the collector ended: {self._new_output().decode()}")
            time.sleep(0.01)
        raise RuntimeError("the collector was not ready in time")

    def _new_output(self) -> bytes:
        with self.log_path.open("rb") as log:
            log.seek(self._seen)
            return log.read()

    def kill(self) -> None:
        """End it as a power cut ends a process."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait(30)

    def stop(self) -> int:
        """Ask it to drain; return its exit code."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        except subprocess.TimeoutExpired:
            self.kill()
            return -1


def build(first: int, count: int, rng: random.Random) -> Message:
    """Return a request of `count` GenAI spans whose ids hold their numbers."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for number in range(first, first + count):
        span = spans.add(
            trace_id=(number // 3 + 1).to_bytes(16, "big"),
            span_id=number.to_bytes(8, "big"),
            name="chat gpt-4o",
            start_time_unix_nano=START_NS + number * 1000,
            end_time_unix_nano=START_NS + number * 1000 + 500,
        )
        span.attributes.add(key="gen_ai.operation.name").value.string_value = "chat"
        span.attributes.add(key="gen_ai.request.model").value.string_value = "gpt-4o"
        span.attributes.add(key="text").value.string_value = "x" * rng.randrange(400)
    return request


def send(address: str, ledger: Ledger, stop: threading.Event, seed: int) -> None:
    """Send requests one after the other until told to stop; repeat what was not answered."""
    import grpc
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

    rng = random.Random(seed)
    options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
    with grpc.insecure_channel(address, options=options) as channel:
        stub = TraceServiceStub(channel)
        while not stop.is_set():
            count = rng.choice((1, 3, 20, 100, 512))
            first = ledger.take(count)
            request = build(first, count, rng)
            tries = 0
            while not stop.is_set():
                tries += 1
                try:
                    stub.Export(request, timeout=10)
                except grpc.RpcError:
                    if tries > 1 and rng.random() < 0.05:
                        break  # gives up, as an exporter whose time is over
                    time.sleep(0.02)
                    continue
                with ledger.lock:
                    ledger.acknowledged.append((first, count))
                    ledger.repeated += tries > 1
                break


def crash_run(
    folder: Path, *, kills: int, seed: int, senders: int = 4, compact: bool = False
) -> Result:
    """Run the whole experiment in `folder` and return what was found.

    Raises:
        RuntimeError: the collector does not start.
    """
    begun = time.monotonic()
    rng = random.Random(seed)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    collector, ledger, result = Collector(folder, port), Ledger(), Result()
    stop = threading.Event()
    threads = [
        threading.Thread(
            target=send, args=(f"127.0.0.1:{port}", ledger, stop, rng.getrandbits(32)), daemon=True
        )
        for _ in range(senders)
    ]
    collector.start()
    collector.wait_ready()
    for thread in threads:
        thread.start()
    try:
        while result.kills < kills:
            time.sleep(rng.uniform(0.05, 2.5))
            if compact and rng.random() < 0.3:
                result.compactions += _compact(collector)
            collector.kill()
            result.kills += 1
            collector.start()
            if result.kills < kills and rng.random() < 0.15:
                time.sleep(rng.uniform(0.5, 4.0))
                collector.kill()
                result.kills += 1
                result.kills_while_starting += 1
                collector.start()
            collector.wait_ready()
        time.sleep(1.0)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        result.exit_code = collector.stop()
    _check(collector.data, ledger, result)
    result.seconds = time.monotonic() - begun
    return result


def _compact(collector: Collector) -> int:
    """Merge the small files while the collector runs; return how many runs succeeded."""
    done = subprocess.run(
        [sys.executable, "-m", "pyflare_cli", "--config", str(collector.config), "compact"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYFLARE_DATA": str(collector.data)},
    )
    return int(done.returncode == 0)


def _check(data: Path, ledger: Ledger, result: Result) -> None:
    """Compare the files with what was acknowledged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from pyflare_storage.dataset import DataDirectory

    found: collections.Counter[int] = collections.Counter()
    for file in DataDirectory(data).list_files():
        result.files += 1
        try:
            table = pq.read_table(file.path)
        except (OSError, pa.ArrowException):
            result.unreadable_files += 1
            continue
        found.update(int(text, 16) for text in table["span_id"].to_pylist())
    acknowledged = {
        number for first, count in ledger.acknowledged for number in range(first, first + count)
    }
    result.spans_sent = ledger.next_number - 1
    result.requests_acknowledged = len(ledger.acknowledged)
    result.requests_repeated = ledger.repeated
    result.spans_acknowledged = len(acknowledged)
    result.spans_found = found.total()
    result.missing = len(acknowledged - found.keys())
    result.twice = sum(count > 1 for count in found.values())
    result.foreign = sum(not 0 < number < ledger.next_number for number in found)
    result.unacknowledged_found = len(found.keys() - acknowledged)
    result.log_segments_left = len(list((data / "wal").iterdir()))


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--senders", type=int, default=4)
    parser.add_argument("--compact", action="store_true", help="merge files between the kills")
    parser.add_argument("--keep", type=Path, help="folder to run in, which is kept")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = arguments.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        result = crash_run(
            folder,
            kills=arguments.kills,
            seed=arguments.seed,
            senders=arguments.senders,
            compact=arguments.compact,
        )
    for name, value in vars(result).items():
        print(f"{name.replace('_', ' '):24} {round(value, 1):>12,}")
    print("every promise kept" if result.good else "A PROMISE WAS BROKEN")
    return 0 if result.good else 1


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keeps the paragraphs of the text and shows defaults."""


if __name__ == "__main__":
    sys.exit(main())
