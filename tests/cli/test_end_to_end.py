"""From an exporter over real OTLP through the collector to the answers."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Pyflare
from tests.collector.exporter_twin import send
from tests.collector.test_exporters import node_folder
from tests.shared_data import shared_path

__all__ = ["node_folder"]

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
STATUS = ("unset", "ok", "error")


@contextmanager
def collecting(data: Path) -> Iterator[tuple[str, str]]:
    """Run `pyflare collect`; yield its gRPC and HTTP addresses; drain it at the end."""
    words = ["collect", "--data", str(data), "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    environment = {**os.environ, "HOME": os.environ["HOME"]}
    with subprocess.Popen(
        [sys.executable, "-m", "pyflare_cli", *words],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stderr is not None
        seen: list[str] = []
        for line in process.stderr:
            seen.append(line)
            if found := re.match(r"ready grpc=(\S+) http=(\S+)", line):
                break
        else:
            pytest.fail("the collector did not start: " + "".join(seen))
        try:
            yield found[1], found[2]
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=120)
    assert process.returncode == 0


def plain(value: dict[str, Any]) -> Any:
    """Return an OTLP/JSON AnyValue as `traces show` prints it."""
    (kind, inner), *rest = value.items() or [("none", None)]
    assert not rest
    if kind == "intValue":
        return int(inner)
    if kind == "arrayValue":
        return [plain(item) for item in inner.get("values", [])]
    if kind == "kvlistValue":
        return {item["key"]: plain(item.get("value", {})) for item in inner.get("values", [])}
    if kind == "bytesValue":
        return {"bytesValue": inner}
    return float(inner) if kind == "doubleValue" else inner


def attributes(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return OTLP/JSON key-value pairs as an object."""
    return {pair["key"]: plain(pair.get("value", {})) for pair in pairs}


def assert_shown(sent: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    """Compare what an exporter sent with span records: values and their types."""
    assert [s["spanId"] for s in sent] == [s["span_id"] for s in shown]
    for theirs, ours in zip(sent, shown, strict=True):
        assert ours["trace_id"] == theirs["traceId"]
        assert (ours["parent_span_id"] or "") == theirs["parentSpanId"]
        assert ours["name"] == theirs["name"]
        assert ours["kind"] == KINDS[theirs["kind"]]
        assert ours["status_code"] == STATUS[theirs["status"]["code"]]
        assert (ours["status_message"] or "") == theirs["status"].get("message", "")
        assert (ours["scope_name"], ours["scope_version"]) == tuple(theirs["scope"].values())
        # JSON text tells 1 from 1.0 and true, where Python's == does not.
        for name, pairs in (("attributes", "attributes"), ("resource_attributes", "resource")):
            wanted = attributes(theirs[pairs])
            assert json.dumps(ours[name], sort_keys=True) == json.dumps(wanted, sort_keys=True)
        events = [
            {
                "time_unix_nano": int(e["timeUnixNano"]),
                "name": e["name"],
                "attributes": attributes(e.get("attributes", [])),
            }
            for e in theirs["events"]
        ]
        assert [
            {k: e[k] for k in ("time_unix_nano", "name", "attributes")}
            for e in ours["events"] or []
        ] == events
        links = [(x["traceId"], x["spanId"], attributes(x["attributes"])) for x in theirs["links"]]
        assert links == [
            (x["trace_id"], x["span_id"], x["attributes"]) for x in ours["links"] or []
        ]


Send = Callable[[str, str], dict[str, Any]]


def _through(data: Path, pyflare: Pyflare, deliver: Send) -> None:
    with collecting(data) as (grpc, http):
        sent = deliver(grpc, http)["spans"]
    shown = pyflare("traces", "show", sent[0]["traceId"], "--data", data, "--format", "json")
    assert shown.code == 0, shown.err
    assert_shown(sent, shown.json()["spans"])


@pytest.mark.service
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_what_python_exporters_send_is_what_traces_show_prints(
    tmp_path: Path, pyflare: Pyflare, protocol: str, compression: str
) -> None:
    """Every attribute of every type, events, links and status come back as they were."""

    def deliver(grpc: str, http: str) -> dict[str, Any]:
        url = grpc if protocol == "grpc" else f"http://{http}/v1/traces"
        return send(protocol, url, compression)

    _through(tmp_path / "data", pyflare, deliver)


@pytest.mark.service
@pytest.mark.parametrize("protocol", ["http", "proto"])
def test_what_node_exporters_send_is_what_traces_show_prints(
    tmp_path: Path,
    pyflare: Pyflare,
    node_folder: Path,
    protocol: str,
) -> None:
    """The JavaScript exporters (JSON and protobuf) come back as they were sent."""

    def deliver(_grpc: str, http: str) -> dict[str, Any]:
        done = subprocess.run(
            ["node", "send.mjs", protocol, f"http://{http}/v1/traces", "gzip"],
            cwd=node_folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        return document

    _through(tmp_path / "data", pyflare, deliver)


@pytest.mark.service
@pytest.mark.slow
def test_real_traffic_comes_back_to_the_last_token(tmp_path: Path, pyflare: Pyflare) -> None:
    """19,366 real requests through the collector have their sums and their cost by hand."""
    source = shared_path("data", "llm-traffic", "azure-llm-2023-conversation.csv")
    rows = [line.split(",") for line in source.read_text().splitlines()[1:]]
    given, made = (sum(int(row[column]) for row in rows) for column in (1, 2))
    data = tmp_path / "data"

    with collecting(data) as (grpc, _):
        sent = pyflare("generate", "--like", source, "--otlp-endpoint", f"grpc://{grpc}")
    total = pyflare("cost", "summary", "--data", data).json()["total"]

    assert sent.json()["spans_sent"] == len(rows) == 19366
    assert total["calls"] == 19366
    assert total["unpriced_calls"] == 0
    assert (total["input_tokens"], total["output_tokens"]) == (given, made)
    # gpt-4o: $2.50 a million tokens in and $10.00 out are 2,500 and 10,000 n$ a token.
    assert total["cost_nano_usd"] == given * 2500 + made * 10000


@pytest.mark.service
def test_the_demo_finds_what_it_sent(tmp_path: Path, pyflare: Pyflare) -> None:
    """The demo's answers equal its generator's arithmetic."""
    shown = pyflare("demo", "--spans", 1500, "--data", tmp_path / "demo", "--format", "json")

    assert shown.code == 0, shown.err
    assert shown.json()["matches_expected"] is True
    assert shown.json()["found"]["spans"] == 1500


def test_the_demo_wants_a_folder_of_its_own(tmp_path: Path, pyflare: Pyflare) -> None:
    """A folder that holds something is refused: its spans would mix with the demo's."""
    (tmp_path / "other").write_text("")

    shown = pyflare("demo", "--data", tmp_path)

    assert shown.code == 2
    assert "not empty" in shown.err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--spans", 10), "no destination"),
        (("--spans", 0, "-o", "x.jsonl"), "--spans is 0"),
        (("--fault", "spike", "-o", "x.jsonl"), "unknown fault"),
        (("--otlp-endpoint", "ftp://nowhere"), "--otlp-endpoint"),
        (("--rate", 0, "-o", "x.jsonl"), "--rate is 0"),
    ],
)
def test_generate_refuses_what_makes_no_sense(
    pyflare: Pyflare, words: tuple[object, ...], text: str
) -> None:
    """Bad options are usage errors that say the option and its value."""
    result = pyflare("generate", *words)

    assert result.code == 2
    assert text in result.err
    assert "hint:" in result.err
