"""`pyflare rca slices`: the document, the flags, refusals and exit codes."""

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.cli.conftest import Pyflare
from tests.span_rows import START_NS, data_directory, span

KEYS = """
slice sample_count metric_value baseline_value deviation deviation_percentage ci_low ci_high
p_value q_value significant impact_score
""".split()


def calls(n: int = 1200) -> list[dict[str, object]]:
    """Return calls of three features; search fails at 25 %, the others at 2 %."""
    return [
        span(
            span_id=f"{i:016x}",
            model="gpt-4o",
            feature=["chat", "search", "mail"][i % 3],
            environment=["prod", "stage"][i % 2],
            start_time=START_NS + i * 1_000_000_000,
            duration_ms=100.0 + i % 7,
            status_code="error" if (i % 3 == 1 and i // 6 % 4 == 0) or i % 50 == 0 else "unset",
            attributes=json.dumps({"app.tier": ["free", "pro"][i % 5 < 2]}),
        )
        for i in range(n)
    ]


def listed(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the slices of a document."""
    return [item["slice"] for item in document["slices"]]


def test_the_document_has_the_keys_of_the_contract(pyflare: Pyflare, tmp_path: Path) -> None:
    """One slice with every key, the metric and how it was looked for."""
    data = data_directory(tmp_path / "d", calls())

    result = pyflare("rca", "slices", "--data", data)

    document = result.json()
    assert result.code == 0
    assert document["schema"] == "pyflare.rca.slices/1"
    assert listed(document) == [{"feature": "search"}]
    assert list(document["slices"][0])[: len(KEYS)] == KEYS
    assert document["slices"][0]["sample_count"] == 400
    assert (document["metric"], document["unit"], document["weighted"]) == (
        "error_rate",
        "share",
        False,
    )


def test_model_dimension_depth_and_limit(pyflare: Pyflare, tmp_path: Path) -> None:
    """Only the dimension that was named; --all lists every slice that differs."""
    data = data_directory(tmp_path / "d", calls())

    one = pyflare("rca", "slices", "--data", data, "--model", "gpt-4o", "--dimension", "feature")
    every = pyflare("rca", "slices", "--data", data, "--all", "--limit", "3")

    assert one.json()["dimensions"] == ["feature"]
    assert listed(one.json()) == [{"feature": "search"}]
    assert len(every.json()["slices"]) == 3
    assert every.json()["slices_tested"] > 10


def test_tables_and_conditions(pyflare: Pyflare, tmp_path: Path) -> None:
    """Any table with a column or a condition as outcome; --where names its own columns."""
    rows = [
        {"shop": f"s{i % 4}", "day": i % 7, "state": "failed" if i % 4 == 2 and i % 3 else "ok"}
        for i in range(2000)
    ]
    path = tmp_path / "orders.csv"
    pl.DataFrame(rows).write_csv(path)

    result = pyflare(
        "rca", "slices", "--input", path, "--outcome", "state = 'failed'", "--where", "day < 6"
    )

    assert listed(result.json()) == [{"shop": "s2"}]
    assert pyflare("rca", "slices", "--input", path).code == 2
    wrong = pyflare("rca", "slices", "--input", path, "--outcome", "stat")
    assert (wrong.code, "did you mean state?" in wrong.err) == (2, True)


def test_the_table_reads_in_percent(pyflare: Pyflare, tmp_path: Path) -> None:
    """A person sees slices as words and rates as percent."""
    data = data_directory(tmp_path / "d", calls())

    result = pyflare("rca", "slices", "--data", data, "--format", "table")

    assert "feature=search" in result.out
    assert "26.5 %" in result.out
    assert "slices of 1,200 rows looked at" in result.err


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows"),
        (calls(10), "30 each"),
        ([row | {"status_code": "ok"} for row in calls()], "none of them bad"),
    ],
    ids=["nothing", "ten spans", "no errors"],
)
def test_thin_data_is_exit_code_4(
    pyflare: Pyflare, tmp_path: Path, rows: list[dict[str, object]], message: str
) -> None:
    """Not "no", but "cannot say", with what is missing."""
    result = pyflare("rca", "slices", "--data", data_directory(tmp_path / "d", rows))

    assert result.code == 4
    assert message in result.err
    assert "hint: " in result.err
    assert not result.out


@pytest.mark.parametrize(
    "words",
    [
        ["--depth", "4"],
        ["--limit", "0"],
        ["--metric", "eror_rate"],
        ["--dimension", "featur"],
        ["--worse", "up"],
        ["--outcome", "x"],
    ],
    ids=str,
)
def test_usage_errors(pyflare: Pyflare, tmp_path: Path, words: list[str]) -> None:
    """Each wrong flag is told with what would be right."""
    data = data_directory(tmp_path / "d", calls(100))

    result = pyflare("rca", "slices", "--data", data, *words)

    assert result.code == 2
    assert "hint: " in result.err
