"""`pyflare collect` as a process: ready, served, drained, and its refusals."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pyflare
from tests.otlp_payloads import genai_request

READY = re.compile(r"^ready grpc=(\S+:\d+) http=(\S+:\d+)$")
ANY_PORTS = ("--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0")


@dataclass
class Collector:
    """A running collector."""

    process: subprocess.Popen[str]
    http: str = ""
    lines: list[str] = field(default_factory=list)
    """Its stderr so far."""

    def post(self, payload: bytes, token: str = "") -> int:
        """Send one request to the traces path and return the status."""
        headers = {"Content-Type": "application/x-protobuf", "Authorization": f"Bearer {token}"}
        return self._ask("POST", "/v1/traces", payload, headers)[0]

    def status(self, token: str = "") -> dict[str, Any]:
        """Return the document of /status."""
        headers = {"Authorization": f"Bearer {token}"}
        answer: dict[str, Any] = json.loads(self._ask("GET", "/status", headers=headers)[1])
        return answer

    def wait_for_watcher(self, token: str) -> None:
        """Wait until somebody follows the spans."""
        deadline = time.monotonic() + 60
        while not self.status(token)["watchers"]:
            assert time.monotonic() < deadline, "nobody watches"
            time.sleep(0.05)

    def _ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        connection = HTTPConnection(self.http, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@contextmanager
def collector_process(*words: str) -> Iterator[Collector]:
    """Run `pyflare collect` on free ports; killed at the end if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pyflare_cli", "collect", *ANY_PORTS, *words],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        env=os.environ.copy(),
    )
    assert process.stderr is not None
    running = Collector(process)
    try:
        for line in process.stderr:
            running.lines.append(line)
            if found := READY.match(line):
                running.http = found[2]
                break
        else:
            pytest.fail(f"the collector did not start: {''.join(running.lines)}")
        rest = process.stderr
        threading.Thread(target=lambda: running.lines.extend(rest), daemon=True).start()
        yield running
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(timeout=30)


@pytest.mark.service
def test_what_is_sent_is_answered_and_a_signal_drains(pyflare: Pyflare) -> None:
    """512 calls sent over HTTP are in the answers after SIGTERM, and the process exits 0."""
    with collector_process() as collector:
        sent = collector.post(genai_request(512, seed=1))
        status = collector.status()
        code = collector.stop()

    total = pyflare("cost", "summary").json()["total"]
    assert (sent, code) == (200, 0)
    assert status["spans"]["accepted"] == 512
    assert total["calls"] == 512


@pytest.mark.service
def test_settings_reach_the_collector(pyflare: Pyflare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler of the configuration file drops what it says, a token of it guards the door."""
    monkeypatch.setenv("TOKEN", "hunter2")
    Path("pyflare.yaml").write_text(
        "sampler: {strategy: always_off}\nreceiver: {auth: {bearer_tokens: ['${TOKEN}']}}\n"
    )
    with collector_process("--data", "elsewhere") as collector:
        refused = collector.post(genai_request(1))
        code = collector.stop()

    assert (refused, code) == (401, 0)
    assert "hunter2" not in "".join(collector.lines)
    assert pyflare("traces", "list", "--data", "elsewhere").json()["traces"] == []


def test_a_port_that_is_taken_is_a_matter_of_configuration(pyflare: Pyflare) -> None:
    """Exit 2, with the flag that names another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        result = pyflare("collect", "--grpc", "127.0.0.1:0", "--http", f"127.0.0.1:{port}")

    error, hint = [line for line in result.err.splitlines() if line[:5] in ("error", "hint:")]
    assert result.code == 2
    assert str(port) in error
    assert "--http" in hint


def test_a_data_directory_that_is_a_file_takes_no_data(pyflare: Pyflare) -> None:
    """Exit 3, with the way out."""
    Path("file").write_text("")

    result = pyflare("collect", *ANY_PORTS, "--data", "file")

    assert result.code == 3
    assert "file" in result.err
    assert "--data" in result.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--sampler", "sometimes"], "sometimes"),
        (["--durability", "maybe"], "maybe"),
        (["--grpc", "localhost"], "localhost"),
        (["--kafka", "broker:9092"], "kafka.brokers"),
        (["--clickhouse", "clickhouse://h:8123/d"], "storage.clickhouse.url"),
    ],
)
def test_flags_that_cannot_be_met_are_refused_at_once(
    words: list[str], message: str, pyflare: Pyflare
) -> None:
    """Exit 2 before anything is opened or made."""
    result = pyflare("collect", *ANY_PORTS, *words)

    assert result.code == 2
    assert message in result.err
    assert "hint: " in result.err
    assert not Path("pyflare-data").exists()
