"""The official exporters deliver what they sent, attribute by attribute, types included."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pyflare_collector.config import GrpcConfig
from pyflare_collector.ingest import IngestResult
from pyflare_proto.errors import RetryableError
from tests.collector.exporter_twin import documents_of, send
from tests.collector.receiver_helpers import Sink, running, spans_in

NODE_FOLDER = Path(__file__).parent / "node_exporters"


def arrived(sink: Sink) -> list[dict[str, Any]]:
    """Return the spans that arrived in comparable form, by name, the root first."""
    documents = [span for payload in sink.payloads for span in documents_of(payload)]
    return [normal(span) for span in sorted(documents, key=lambda span: span["name"] != "root")]


def normal(value: Any) -> Any:
    """Return a document with lists that are empty written in one way.

    JSON of protobuf leaves an empty list out (`{"arrayValue": {}}`).
    """
    if isinstance(value, dict):
        return {k: normal(v) for k, v in value.items() if v != []}
    return [normal(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_the_python_exporters(protocol: str, compression: str) -> None:
    """Every type of attribute, events, links and the status arrive as they were sent."""
    sink = Sink()
    with running(sink) as receiver:
        http_url = f"http://{receiver.http_address}/v1/traces"
        url = receiver.grpc_address if protocol == "grpc" else http_url
        sent = send(protocol, url, compression)
    assert arrived(sink) == normal(sent["spans"])


@pytest.fixture(scope="module")
def node_folder(request: pytest.FixtureRequest) -> Path:
    """Return a folder with the JavaScript exporters, installed once and kept between runs."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        _cannot("needs node and npm")
    cache = request.config.cache
    assert cache is not None
    folder = cache.mkdir("node_exporters")
    wanted = (NODE_FOLDER / "package.json").read_text()
    installed = folder / "installed.json"
    if not installed.exists() or installed.read_text() != wanted:
        (folder / "package.json").write_text(wanted)
        done = subprocess.run(
            ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        if done.returncode:
            _cannot(f"npm cannot install the exporters: {done.stderr.strip()[-300:]}")
        installed.write_text(wanted)
    # Beside node_modules, where node looks for the packages that a script imports.
    shutil.copy(NODE_FOLDER / "send.mjs", folder)
    return folder


@pytest.mark.service
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("kind", ["http", "proto"])
def test_the_javascript_exporters(kind: str, compression: str, node_folder: Path) -> None:
    """The npm exporters' JSON and protobuf arrive as they were sent."""
    sink = Sink()
    with running(sink) as receiver:
        done = subprocess.run(
            ["node", "send.mjs", kind, f"http://{receiver.http_address}/v1/traces", compression],
            cwd=node_folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    assert arrived(sink) == normal(json.loads(done.stdout)["spans"])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_exporter_repeats_what_was_refused(protocol: str) -> None:
    """After an answer to try again, the same spans come once more and are acknowledged once."""
    refusals = [RetryableError("busy", retry_after_s=0.01)]

    def answer(payload: bytes) -> IngestResult:
        if refusals:
            raise refusals.pop()
        return IngestResult(spans_in(payload))

    sink = Sink(answer)
    with running(sink) as receiver:
        http_url = f"http://{receiver.http_address}/v1/traces"
        sent = send(protocol, receiver.grpc_address if protocol == "grpc" else http_url, "none")
    assert refusals == []
    assert arrived(sink) == normal(sent["spans"])


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_an_exporter_gives_up_what_is_final(protocol: str) -> None:
    """Without a token the export fails at once, and the exporter reports it."""
    sink = Sink()
    with running(sink, tokens=("secret",), grpc_config=GrpcConfig()) as receiver:
        http_url = f"http://{receiver.http_address}/v1/traces"
        with pytest.raises(RuntimeError, match="FAILURE"):
            send(protocol, receiver.grpc_address if protocol == "grpc" else http_url, "none")
    assert sink.payloads == []


def _cannot(reason: str) -> None:
    if os.environ.get("PYFLARE_REQUIRE_SERVICES"):
        pytest.fail(reason)
    pytest.skip(reason)
