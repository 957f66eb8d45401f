"""`pyflare drift report` from words to pictures, stored results, alerts and gates."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import polars as pl
import pytest

from pyflare_storage.dataset import DataDirectory
from pyflare_storage.drift_results import heatmap_cells, read_drift_results
from tests.analysis.drift.report_tables import events
from tests.cli.conftest import Pyflare
from tests.shared_data import shared_path
from tests.span_rows import START_NS, data_directory, span

CUT = "2026-11-05T00:00:00Z"
TERMINAL = """\
{file} against rows before 2026-11-05T00:00:00Z: 3 columns, 2 windows of 1d
drift: 1 of 3 columns drift, in 1 of 6 cells judged

      11-05
size  ·  ██    0.43  from 1,383: 10 % → 36 %
kind  ·  ·
team  ·  ·

· stable   █ drift of PSI 0.25 or more   drift: q <= 0.05 and PSI > 0.2

What moved most
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Five days of events; on the last day sizes of team blue are four times as large."""
    frame = events(120, 60)
    late = (pl.col("hour") >= 96) & (pl.col("team") == "blue")
    frame = frame.with_columns(
        pl.when(late).then(pl.col("size") * 40).otherwise(pl.col("size")).alias("size"),
        pl.col("team").replace("blue", "<b>&blue\x1b[31m"),
    )
    path = tmp_path / "work" / "events.parquet"
    frame.drop("hour").write_parquet(path)
    return path


def _report(pyflare: Pyflare, table: Path, *words: object) -> Any:
    return pyflare("drift", "report", "--cur", table, "--ref-until", CUT, *words)


def test_the_document_has_the_documented_keys(pyflare: Pyflare, table: Path) -> None:
    """Schema, what was asked, windows, columns, cells; figures agree with the cells."""
    result = _report(pyflare, table, "--every", "1d", "--by", "team")
    document = result.json()

    assert (result.code, document["schema"]) == (0, "pyflare.drift.report/1")
    assert (
        list(document)
        == (
            "schema source reference against every timezone same_hour_of_week by alpha threshold "
            "weighted verdict cell_count judged_cells drift_cells windows columns movers cells "
            "passed_columns"
        ).split()
    )
    assert (
        list(document["cells"][0])
        == (
            "column kind segment window_start window_end psi psi_corrected p_value q_value "
            "severity verdict reference_count current_count moved mix within parts reason"
        ).split()
    )
    assert document["verdict"] == "drift"
    assert document["drift_cells"] == sum(c["verdict"] == "drift" for c in document["cells"])
    assert [w["window_start"] for w in document["windows"]] == [CUT, "2026-11-06T00:00:00Z"]
    (mover, *_) = document["movers"]
    assert mover["column"] == "size"
    split = next(c for c in document["cells"] if c["mix"] is not None)
    assert split["mix"] + split["within"] == pytest.approx(split["psi"])


def test_every_form_is_answered(pyflare: Pyflare, table: Path) -> None:
    """Rows are the cells, in all five forms."""
    for form in ("table", "json", "jsonl", "csv", "markdown"):
        result = _report(pyflare, table, "--every", "1d", "--format", form)
        assert result.code == 0, (form, result.err)
        assert "size" in result.out
    lines = _report(pyflare, table, "--every", "1d", "--format", "jsonl").out.splitlines()
    assert len(lines) == 3 * 2
    assert json.loads(lines[1])["verdict"] == "drift"


def test_a_terminal_shows_severity_without_colour(pyflare: Pyflare, table: Path) -> None:
    """Signs for cells, a legend, and what moved in words."""
    out = _report(pyflare, table, "--every", "1d", "--format", "table").out

    assert out.startswith(TERMINAL.format(file=table))
    assert re.search(r"size: PSI \d\.\d\d \(q < 1e-6\) at 11-06", out)


def test_a_picture_fits_the_width(pyflare: Pyflare, table: Path) -> None:
    """With more windows than columns each place shows the worst of several."""
    out = _report(pyflare, table, "--every", "10m", "--format", "table", "--column", "size").out

    body = out.splitlines()[2:]
    assert max(len(line) for line in body) <= 80
    assert "each place is 4 windows, the worst of them shown" in out


def test_pictures_are_whole_files_that_need_nothing_else(
    pyflare: Pyflare, table: Path, tmp_path: Path
) -> None:
    """Well-formed, a title on every cell, no address to load from, values escaped."""
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    words = ("--every", "1d", "--by", "team", "--svg", svg, "--html", html)
    assert _report(pyflare, table, *words).code == 0

    text, page = svg.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 - written by the command itself
    names = {"s": "http://www.w3.org/2000/svg"}
    cells = root.findall(".//s:g[@class='cell']", names)
    titles = [cell.findtext("s:title", namespaces=names) or "" for cell in cells]
    assert root.get("role") == "img"
    assert "size" in (root.findtext("s:desc", namespaces=names) or "")
    assert len(cells) == 2 * 5  # three columns, the mix, and the one segment that drifts
    assert any(re.match(r"size, 11-06: PSI \d", title) for title in titles)
    assert any("team <b>&blue\\x1b[31m" in title for title in titles)
    assert set(re.findall(r"https?://[^\"' <]+", text + page)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in page
    assert "<b>&blue" not in page
    assert "\x1b" not in text + page
    assert "prefers-color-scheme: dark" in text
    assert "What moved most" in page


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ([], 0),
        (["--fail-on", "drift"], 1),
        (["--fail-on", "significant"], 1),
        (["--fail-on", "moderate"], 1),
        (["--fail-above", "0.1"], 1),
        (["--fail-above", "9"], 0),
        (["--fail-on", "drift", "--threshold", "9"], 0),
        (["--fail-on", "drift", "--column", "kind"], 0),
    ],
)
def test_gates_say_no_only_when_asked(
    pyflare: Pyflare, table: Path, words: list[str], code: int
) -> None:
    """The answer comes first; a gate names the largest cell."""
    result = _report(pyflare, table, "--every", "1d", *words)

    assert result.code == code
    assert result.json()["schema"] == "pyflare.drift.report/1"
    assert ("cells fail --fail-" in result.err) is (code == 1)


def test_nothing_to_say_is_exit_4(pyflare: Pyflare, table: Path) -> None:
    """Windows of a minute hold one row each: an answer, an error, a hint, and no gate."""
    words = ("--every", "1m", "--since", "2026-11-06T23:00", "--fail-on", "drift")
    result = _report(pyflare, table, *words)

    assert result.code == 4
    assert result.json()["verdict"] == "insufficient"
    assert "no window of 1m could be judged" in result.err
    assert "hint: " in result.err


def test_bad_input_gets_an_error_and_a_hint(pyflare: Pyflare, table: Path, tmp_path: Path) -> None:
    """Exit 2 for what is asked wrongly, 4 for no rows; never a traceback or a number."""
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(table.read_bytes()[:2000])
    timeless = tmp_path / "timeless.csv"
    timeless.write_text("a,b\n1,2\n")
    empty = tmp_path / "empty.parquet"
    pl.read_parquet(table).head(0).write_parquet(empty)
    ref = ("--ref", table)
    cases: list[tuple[int, str, tuple[object, ...]]] = [
        (2, "damaged.parquet", ("--cur", damaged)),
        (2, "no such file", ("--cur", "nowhere.parquet")),
        (2, "no such file", ("--cur", table, "--ref", "nowhere.parquet")),
        (2, "no column holds times", ("--cur", timeless)),
        (4, "no rows", ("--cur", empty, *ref)),
        (4, "no rows", ("--cur", table, "--ref", empty)),
        (2, "unknown column 'tyme'", ("--cur", table, "--time", "tyme")),
        (2, "unknown column 'sice'", ("--cur", table, "--column", "sice")),
        (2, "unknown column 'teem' for --cluster", ("--cur", table, "--cluster", "teem")),
        (2, "no dimension 'tem'", ("--cur", table, "--by", "tem")),
        (
            2,
            "--ref-since 2026-11-03 alone does not end",
            ("--cur", table, "--ref-since", "2026-11-03"),
        ),
        (2, "not a time for --ref-until", ("--cur", table, "--ref-until", "soon")),
        (2, "together with the window before", ("--cur", table, *ref, "--against", "previous")),
        (2, "no reference", ("--cur", table, "--against", "reference")),
        (2, "threshold is -1", ("--cur", table, "--threshold", "-1")),
        (2, "not an interval", ("--cur", table, "--every", "often")),
        (2, "unknown time zone", ("--cur", table, "--timezone", "Mars/Base")),
        (3, "cannot write", ("--cur", table, "--svg", tmp_path / "no" / "a.svg")),
    ]
    for code, message, words in cases:
        result = pyflare("drift", "report", *words)
        assert (result.code, message in result.err) == (code, True), (words, result.err)
        assert "hint: " in result.err, words
        assert "Traceback" not in result.err


def test_results_are_kept_and_raise_alerts_once(pyflare: Pyflare, table: Path) -> None:
    """With --data: a Parquet file a run; the alert names column and change; again is no news."""
    words = ("--every", "1d", "--by", "team", "--data", "kept")
    first = _report(pyflare, table, *words)
    second = _report(pyflare, table, *words)

    stored = read_drift_results(DataDirectory("kept"))
    assert "1 alert raised: size drifted" in first.err
    assert "alert" not in second.err
    assert stored["run_id"].n_unique() == 2
    cells = heatmap_cells(DataDirectory("kept"))
    document = first.json()
    assert cells.height == len([c for c in document["cells"] if c["current_count"]])
    drifting = cells.filter(pl.col("verdict") == "drift")
    assert sorted(drifting["psi"].to_list()) == sorted(
        c["psi"] for c in document["cells"] if c["verdict"] == "drift"
    )
    (alert,) = pyflare("alerts", "list", "--data", "kept").json()["alerts"]
    assert (alert["kind"], alert["severity"], alert["occurrences"]) == ("drift", "critical", 2)
    assert alert["last_seen_at"] == "2026-11-06T23:59:59.999999999Z"


def test_nothing_is_kept_without_a_place_or_against_the_will(pyflare: Pyflare, table: Path) -> None:
    """No data directory appears by itself, and --no-store leaves one alone."""
    _report(pyflare, table, "--every", "1d")
    assert [path.name for path in Path().iterdir()] == [table.name]

    _report(pyflare, table, "--every", "1d", "--data", "kept", "--no-store")
    assert not Path("kept").exists()


def test_a_place_that_takes_no_results_does_not_cost_the_answer(
    pyflare: Pyflare, table: Path
) -> None:
    """The answer stands, a note says what was not kept."""
    Path("blocked").touch()

    result = _report(pyflare, table, "--every", "1d", "--data", "blocked/data")

    assert (result.code, result.json()["verdict"]) == (0, "drift")
    assert "note: results were not kept: cannot write to the data directory" in result.err


def test_alerts_reach_a_webhook_and_a_dead_one_is_a_note(pyflare: Pyflare, table: Path) -> None:
    """Configured in the file, signed; the second run has no news to send."""
    received: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            received.append((self.headers["webhook-signature"], json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/hook"
    Path("pyflare.yaml").write_text(
        f"data: kept\nalerts: {{webhooks: [{{url: '{url}', secret: hush}}]}}\n"
    )
    for _ in range(2):
        assert _report(pyflare, table, "--every", "1d").code == 0
    server.shutdown()
    server.server_close()

    ((signature, body),) = received
    assert signature.startswith("v1,")
    assert body["type"] == "alert.raised"
    assert body["data"]["message"].startswith("size drifted: PSI")
    (alert,) = pyflare("alerts", "list").json()["alerts"]
    assert [(d["delivered"], d["status"]) for d in alert["deliveries"]] == [(True, 200)]
    pyflare("alerts", "ack", "--all")
    result = _report(pyflare, table, "--every", "1d", "--data", "other")
    assert result.code == 0
    assert re.search(r"alert 1 did not reach http://127\.0\.0\.1:\d+ in 3 tries", result.err)
    assert "/hook" not in result.err
    assert "hush" not in result.err


def test_spans_are_read_without_any_option(pyflare: Pyflare, tmp_path: Path) -> None:
    """The calls of the data directory, day by day; columns without values fall out."""
    day = 86_400_000_000_000
    rows = [
        span(
            trace_id=f"{number:032x}",
            span_id=f"{number:016x}",
            model="gpt-4o",
            input_tokens=number % 97,
            start_time=START_NS + number % 4 * day + number * 1_000_000,
        )
        for number in range(800)
    ]
    data_directory(tmp_path / "work" / "pyflare-data", rows)

    document = pyflare("drift", "report").json()

    assert (document["every"], document["against"], document["verdict"]) == (
        "1d",
        "previous",
        "stable",
    )
    columns = {column["column"] for column in document["columns"]}
    assert {"input_tokens", "model", "duration_ms"} <= columns
    assert "reasoning_tokens" not in columns
    assert len(document["windows"]) == 4
    assert len(list((tmp_path / "work" / "pyflare-data" / "drift").iterdir())) == 1


def test_real_traffic_drifts_within_its_hour(pyflare: Pyflare) -> None:
    """The conversation file, its last part against its first: both columns, with what moved."""
    path = shared_path("data", "llm-traffic", "azure-llm-2023-conversation.csv")
    words = ("--cur", path, "--ref-until", "2023-11-16T18:40:00Z", "--every", "5m")

    document = pyflare("drift", "report", *words).json()

    drifting = {row["column"]: row["drift_windows"] for row in document["movers"]}
    assert drifting == {"ContextTokens": 5, "GeneratedTokens": 4}
    assert all("→" in row["moved"] for row in document["movers"])
