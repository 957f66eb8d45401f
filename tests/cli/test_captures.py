"""Real payloads through the command line: imported, shown and costed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import Pyflare
from tests.shared_data import shared_path

__all__: list[str] = []


class Truth(NamedTuple):
    """What a capture's calls used, by the table beside the captures."""

    calls: int
    input: int
    cached: int
    output: int
    nano_usd: int


TRUTH = {
    "otel-genai": Truth(5, 407, 246, 200, 2_921_840),
    "traceloop": Truth(5, 407, 246, 200, 2_921_840),
    "openinference": Truth(5, 407, 246, 200, 2_921_840),
    "openlit": Truth(4, 307, 192, 150, 2_010_140),
    "traceloop-0.40.14": Truth(4, 307, 182, 150, 2_251_840),
    "pydantic-ai-v5": Truth(2, 200, 128, 100, 1_340_000),
}
FORMATS = ("binpb", "json")


def billed(row: dict[str, Any]) -> Truth:
    """Return what a row of `cost summary` says; calls without a cost are not billed."""
    return Truth(
        row["calls"] - row["unpriced_calls"],
        row["input_tokens"],
        row["cache_read_tokens"],
        row["output_tokens"],
        row["cost_nano_usd"],
    )


def summed(rows: list[Truth]) -> Truth:
    """Return the sum of several."""
    return Truth(*(sum(column) for column in zip(*rows, strict=True)))


def load(pyflare: Pyflare, data: Path, *names: str) -> dict[str, Any]:
    """Import captures into a data directory and return the report."""
    files = [shared_path("captures", name) for name in names]
    result = pyflare("import", *files, "--data", data)
    assert result.code == 0, result.err
    report: dict[str, Any] = result.json()
    assert (report["files"], report["spans_rejected"]) == (len(files), 0)
    assert report["rejections"] == []
    return report


def by_scope(pyflare: Pyflare, data: Path) -> tuple[list[Truth], Truth]:
    """Return what `cost summary` says of each scope, and its total."""
    answer = pyflare("cost", "summary", "--by", "scope_name", "--data", data).json()
    scopes = [row["scope_name"] for row in answer["rows"]]
    assert len(set(scopes)) == len(scopes)
    return [billed(row) for row in answer["rows"]], billed(answer["total"])


def shown(pyflare: Pyflare, data: Path) -> dict[str, str]:
    """Return every trace as `traces show` prints it, as JSON text with sorted keys."""
    listed = pyflare("traces", "list", "--limit", 1000, "--data", data).json()["traces"]
    traces = {}
    for trace in listed:
        answer = pyflare("traces", "show", trace["trace_id"], "--data", data).json()
        assert len(answer["spans"]) == trace["span_count"]
        # JSON text tells 1 from 1.0 and true, where Python's == does not.
        traces[trace["trace_id"]] = json.dumps(answer["spans"], sort_keys=True)
    return traces


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("capture", TRUTH)
def test_capture_costs_what_its_calls_cost(
    pyflare: Pyflare, tmp_path: Path, capture: str, form: str
) -> None:
    """Each emitter's payload gives the calls, tokens and nano-dollars behind it."""
    load(pyflare, tmp_path, f"{capture}.{form}")
    scopes, total = by_scope(pyflare, tmp_path)
    assert total == TRUTH[capture]
    assert summed(scopes) == total


def test_all_captures_together(pyflare: Pyflare, tmp_path: Path) -> None:
    """Captures in one data directory add up; both formats hold the same records.

    Values are compared with their types, attributes included.
    """
    everything = {}
    for form in FORMATS:
        data = tmp_path / form
        imported = load(pyflare, data, *(f"{capture}.{form}" for capture in TRUTH))
        scopes, total = by_scope(pyflare, data)
        assert summed(scopes) == total == summed(list(TRUTH.values()))
        everything[form] = shown(pyflare, data)
        records = [span for trace in everything[form].values() for span in json.loads(trace)]
        assert len(records) == imported["spans_imported"]
    assert everything["binpb"] == everything["json"]


def test_other_format_of_a_capture_adds_nothing(pyflare: Pyflare, tmp_path: Path) -> None:
    """The same spans in another format are known: importing them again changes nothing."""
    first = load(pyflare, tmp_path, *(f"{capture}.binpb" for capture in TRUTH))
    again = load(pyflare, tmp_path, *(f"{capture}.json" for capture in TRUTH))
    assert (again["spans_imported"], again["spans_known"]) == (0, first["spans_imported"])
    assert by_scope(pyflare, tmp_path)[1] == summed(list(TRUTH.values()))


@pytest.mark.parametrize("capture", ["otel-genai", "traceloop", "openinference"])
def test_call_told_by_two_scopes_keeps_one_cost(
    pyflare: Pyflare, tmp_path: Path, capture: str
) -> None:
    """One telling of the Anthropic call is costed; the others are marked and free."""
    load(pyflare, tmp_path, f"{capture}.binpb")
    records = [span for trace in shown(pyflare, tmp_path).values() for span in json.loads(trace)]
    tellings = [span for span in records if span["response_id"] == "msg_1"]
    assert len({span["scope_name"] for span in tellings}) == len(tellings) == 2
    costs = [(span["cost_status"], span["cost_nano_usd"]) for span in tellings]
    assert sorted(costs, key=str) == [("duplicate", None), ("priced", 911_700)]
