"""`pyflare rca report`: one page from planted faults, in every form, and graceful without data."""

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import pyflare_cli
from pyflare_analysis.rca.clusters.error_kinds import kind_of
from pyflare_collector.workload.traffic import TrafficConfig, make_traffic
from pyflare_storage.times import parse_iso
from tests.cli.conftest import Pyflare
from tests.span_rows import START_NS, data_directory, span

SECOND = 1_000_000_000
FAULTS = ("error-spike", "slice-error-2")


@dataclass(frozen=True)
class Planted:
    """A day of traffic, what was planted into it, and the report on it."""

    data: Path
    spike: dict[str, Any]
    slice: dict[str, Any]
    code: int
    """Exit code with --fail-on-trouble."""
    body: dict[str, Any]
    html: str


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    """Return a day of traffic with a spike of errors and a bad slice."""
    folder = tmp_path_factory.mktemp("planted")
    data, page, answer = folder / "data", folder / "report.html", folder / "report.json"
    spike, slice_ = make_traffic(TrafficConfig(12_000, 3, faults=FAULTS)).truth()["faults"]
    words = ["generate", "--spans", "12000", "--seed", "3", "--end", "2026-01-01T00:00:00Z"]
    words += [word for name in FAULTS for word in ("--fault", name)]
    assert pyflare_cli.run([*words, "-o", str(folder / "spans.jsonl")]) == 0
    assert pyflare_cli.run(["import", str(folder / "spans.jsonl"), "--data", str(data)]) == 0
    asked = ["rca", "report", "--data", str(data), "--html", str(page), "-o", str(answer)]
    code = pyflare_cli.run([*asked, "--fail-on-trouble"])
    body = json.loads(answer.read_text(encoding="utf-8"))
    return Planted(data, spike, slice_, code, body, page.read_text(encoding="utf-8"))


def test_the_page_says_what_was_planted(planted: Planted) -> None:
    """The spike with its time and the failures that grew, the slice, and what to try."""
    body = planted.body

    assert (body["schema"], body["verdict"]) == ("pyflare.rca.report/1", "trouble")
    (change,) = body["changes"]
    assert change["type"] == "error_spike"
    hour = 3600 * SECOND
    planted_start = planted.spike["start_time_unix_nano"]
    assert abs(parse_iso(change["start_time"]) - planted_start) < hour
    assert body["headline"] == change["sentence"]
    assert change["attribution"]["change"] > 0.2
    assert len(change["growing_clusters"]) == 4
    assert planted.slice["slice"] in [found["slice"] for found in body["slices"]]
    assert {cluster["error_type"] for cluster in body["clusters"]} == {
        "RateLimitError",
        "APITimeoutError",
        "InternalServerError",
        "BadRequestError",
    }
    texts = " ".join(action["text"] for action in body["actions"])
    assert "pyflare rca clusters --since" in texts
    assert f"--feature {planted.slice['slice']['feature']}" in texts
    kind = kind_of(None, change["growing_clusters"][0]["name"])
    assert kind is not None
    assert kind.advice in texts


def test_the_timeline_adds_up_to_all_calls(planted: Planted) -> None:
    """Nothing is lost between the intervals."""
    body = planted.body

    for name in ("calls", "failed_calls", "cost_nano_usd"):
        total = sum(row[name] or 0 for row in body["timeline"])
        assert total == pytest.approx(body[name])
    assert len(body["timeline"]) <= 97


def test_text_is_read_top_to_bottom(pyflare: Pyflare, planted: Planted) -> None:
    """The headline first, then the five questions in their order."""
    result = pyflare("rca", "report", "--data", planted.data, "--format", "table")

    sections = ["What changed", "Since when", "For whom", "What the errors say", "What to try"]
    places = [result.out.index(f"\n{title}\n") for title in sections]
    assert result.out.startswith("The error rate rose from")
    assert places == sorted(places)
    assert "\x1b" not in result.out


class _Balanced(HTMLParser):
    """Checks that tags close in order, and gathers what a page would load or run."""

    EMPTY = ("meta", "rect", "line", "polyline", "circle", "br")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.outside: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the tag."""
        names = dict(attrs)
        if tag in ("script", "link", "img", "iframe") or {"src", "href"} & set(names):
            self.outside.append(tag)
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Pass over tags that close themselves."""

    def handle_endtag(self, tag: str) -> None:
        """Check the order."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Gather the text."""
        self.text.append(data)


def test_the_html_file_stands_alone(planted: Planted) -> None:
    """Well-formed, nothing loaded from elsewhere, nothing that runs."""
    parser = _Balanced()
    parser.feed(planted.html)

    text = "".join(parser.text)
    assert (parser.open, parser.outside) == ([], [])
    assert planted.body["headline"] in text
    assert text.count("RateLimitError") >= 2
    assert "url(" not in planted.html


def test_the_gate_fails_after_the_answer(planted: Planted) -> None:
    """Exit 1, and the whole answer is there."""
    assert (planted.code, planted.body["verdict"]) == (1, "trouble")


def failing(number: int, message: str) -> dict[str, object]:
    """Return a failed call."""
    return span(
        span_id=f"{number:016x}",
        trace_id=f"{number:032x}",
        start_time=START_NS + number * SECOND,
        status_code="error",
        error_type="ValueError",
        error_message=message,
    )


def test_messages_from_outside_are_shown_and_not_obeyed(pyflare: Pyflare, tmp_path: Path) -> None:
    """Markup and escape sequences of an error message are text in every form."""
    evil = "<script>alert('x')</script> \x1b[31m | `rm`"
    rows = [failing(n, evil) for n in range(40)]
    data = data_directory(tmp_path / "data", rows)
    page = tmp_path / "report.html"

    text = pyflare("rca", "report", "--data", data, "--html", page, "--format", "table").out
    markdown = pyflare("rca", "report", "--data", data, "--format", "markdown").out

    html = page.read_text(encoding="utf-8")
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert "\x1b" not in text + markdown + html
    assert "\\<script\\>" in markdown


def test_markdown_has_headings_tables_and_commands(pyflare: Pyflare, tmp_path: Path) -> None:
    """The whole page, for an incident's record."""
    rows = [failing(n, f"rate limit {n} reached") for n in range(12)]
    data = data_directory(tmp_path / "data", rows)

    result = pyflare("rca", "report", "--data", data, "--format", "markdown")

    assert result.out.startswith("# Root cause report\n")
    assert len(re.findall(r"^## ", result.out, flags=re.MULTILINE)) >= 4
    assert re.search(r"^\| failures \|", result.out, flags=re.MULTILINE)
    assert re.search(r"^\d\. .*`pyflare traces show ", result.out, flags=re.MULTILINE)


def test_a_part_without_data_says_so_and_the_rest_stands(pyflare: Pyflare, tmp_path: Path) -> None:
    """Twelve failures are too few for patterns and slices; what they say is there."""
    data = data_directory(tmp_path / "data", [failing(n, f"limit {n} reached") for n in range(12)])

    body = pyflare("rca", "report", "--data", data, "--format", "json").json()

    assert [cluster["template"] for cluster in body["clusters"]] == ["limit <*> reached"]
    parts = {part["part"] for part in body["missing"]}
    assert {"patterns", "slices of error_rate"} <= parts
    assert all(part["reason"] for part in body["missing"])
    assert body["verdict"] == "partial"


@pytest.mark.parametrize("count", [0, 10])
def test_thin_data_exits_4_and_says_what_would_help(
    count: int, pyflare: Pyflare, tmp_path: Path
) -> None:
    """No calls, and ten calls of one model that all went well."""
    rows = [
        span(span_id=f"{n:016x}", trace_id=f"{n:032x}", model="m", start_time=START_NS + n * SECOND)
        for n in range(count)
    ]
    data = data_directory(tmp_path / "data", rows)

    result = pyflare("rca", "report", "--data", data)

    assert (result.code, result.out) == (4, "")
    assert "hint: " in result.err


def test_a_quiet_day_is_no_trouble(pyflare: Pyflare, tmp_path: Path) -> None:
    """Two in a hundred calls fail all day long; the gate passes."""
    rows = [
        span(
            span_id=f"{n:016x}",
            trace_id=f"{n:032x}",
            model=("m1", "m2")[n % 2],
            start_time=START_NS + n * 20 * SECOND,
            duration_ms=1000.0 + n * 37 % 400,
        )
        | ({"status_code": "error", "error_message": "boom"} if n * 7919 % 100 < 2 else {})
        for n in range(4000)
    ]
    data = data_directory(tmp_path / "data", rows)

    result = pyflare("rca", "report", "--data", data, "--format", "json", "--fail-on-trouble")

    body = result.json()
    assert (result.code, body["verdict"] in ("quiet", "partial")) == (0, True)
    assert body["changes"] == body["slices"] == []


def test_a_file_that_cannot_be_written_is_said(pyflare: Pyflare, tmp_path: Path) -> None:
    """The path stands in the message."""
    data = data_directory(tmp_path / "data", [failing(n, "boom") for n in range(12)])
    page = tmp_path / "none" / "report.html"

    result = pyflare("rca", "report", "--data", data, "--html", page)

    assert result.code == 3
    assert f"cannot write {page}" in result.err
