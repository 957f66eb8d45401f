"""`pyflare rca attribution`: the document, the two periods, refusals and exit codes."""

from pathlib import Path

import polars as pl
import pytest

from tests.cli.conftest import Pyflare
from tests.span_rows import START_NS, data_directory, span

KEYS = "slice explanatory_power surprise before after mix_effect rate_effect".split()
HOUR_NS = 3_600_000_000_000


def calls() -> list[dict[str, object]]:
    """Return two hours of calls from 16:00 on; in the second one search fails."""
    return [
        span(
            span_id=f"{i:016x}",
            feature=["chat", "search", "mail"][i % 3],
            environment=["prod", "stage"][i % 2],
            start_time=START_NS + i * HOUR_NS // 1000,
            status_code="error"
            if (i >= 1000 and i % 3 == 1 and i % 5 < 2) or i % 53 == 0
            else "unset",
        )
        for i in range(2000)
    ]


def test_two_periods_of_spans(pyflare: Pyflare, tmp_path: Path) -> None:
    """--at divides; --since with a baseline says the same."""
    data = data_directory(tmp_path / "d", calls())
    at, until = "2025-11-24T17:00:00Z", "2025-11-24T18:00:00Z"

    first = pyflare("rca", "attribution", "--data", data, "--at", at, "--until", until)
    second = pyflare(
        *("rca", "attribution", "--data", data, "--since", at, "--until", until),
        *("--baseline-since", "2025-11-24T16:00:00Z"),
    )

    document = first.json()
    assert first.code == 0
    assert document["schema"] == "pyflare.rca.attribution/1"
    assert [cause["slice"] for cause in document["causes"]] == [{"feature": "search"}]
    assert list(document["causes"][0])[: len(KEYS)] == KEYS
    assert (document["before_rows"], document["after_rows"]) == (1000, 1000)
    assert second.json() == document


def test_any_table(pyflare: Pyflare, tmp_path: Path) -> None:
    """Times as numbers, a value and a count, dimensions found by themselves."""
    path = tmp_path / "kpi.csv"
    pl.DataFrame(
        [
            {"min": t, "cdn": cdn, "rate": r, "bad": 200 if (t == 9 and cdn == 2) else 10, "n": 500}
            for t in range(10)
            for cdn in range(4)
            for r in (500, 2000)
        ]
    ).write_csv(path)
    table = ("--input", path, "--time", "min", "--value", "bad", "--count", "n")

    result = pyflare("rca", "attribution", *table, "--at", "9")

    assert [cause["slice"] for cause in result.json()["causes"]] == [{"cdn": 2}]
    assert "20 rows" not in result.err
    assert pyflare("rca", "attribution", *table).code == 2
    assert pyflare("rca", "attribution", *table, "--at", "noon").code == 2
    assert pyflare("rca", "attribution", *table, "--at", "0").code == 4


def test_periods_without_spans_are_exit_code_4(pyflare: Pyflare, tmp_path: Path) -> None:
    """Nothing to compare is no answer."""
    data = data_directory(tmp_path / "d", calls())

    result = pyflare("rca", "attribution", "--data", data, "--since", "2025-11-24T19:00:00Z")

    assert result.code == 4
    assert "hint: " in result.err


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "2025-11-24T18:00:00Z", "--until", "2025-11-24T17:00:00Z"],
        ["--baseline-since", "1h", "--baseline-until", "2h"],
        ["--value", "x"],
        ["--depth", "9"],
        ["--metric", "eror_rate"],
    ],
    ids=str,
)
def test_usage_errors(pyflare: Pyflare, tmp_path: Path, words: list[str]) -> None:
    """Each wrong flag is told with what would be right."""
    data = data_directory(tmp_path / "d", calls()[:10])

    result = pyflare("rca", "attribution", "--data", data, *words)

    assert result.code == 2
    assert "hint: " in result.err
