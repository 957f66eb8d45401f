"""`pyflare rca clusters`: the contract's keys, gates, states and refusals."""

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Pyflare
from tests.span_rows import START_NS, data_directory, span

SECOND = 1_000_000_000


def call(number: int, message: str | None = None, **fields: object) -> dict[str, object]:
    """Return a call, failed when there is a message."""
    failed = {} if message is None else {"status_code": "error", "error_message": message}
    row = span(
        span_id=f"{number:016x}",
        trace_id=f"{number:032x}",
        start_time=START_NS + number * SECOND,
        **failed,
    )
    return row | fields


def traffic() -> list[dict[str, object]]:
    """Return 400 calls: a steady failure, and one that begins in the last quarter."""
    rows = [call(n) for n in range(400)]
    rows += [
        call(n + 400, f"limit {n} reached", error_type="RateLimitError") for n in range(0, 400, 10)
    ]
    rows = [
        row | {"start_time": START_NS + (number % 400) * SECOND} for number, row in enumerate(rows)
    ]
    return rows + [
        call(1000 + n, f"host {name} gone", start_time=START_NS + (350 + n) * SECOND)
        for n, name in enumerate(("ada", "bob") * 15)
    ]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a data directory with `traffic`."""
    return data_directory(tmp_path / "data", traffic())


def test_the_document_has_the_keys_of_the_contract(pyflare: Pyflare, data: Path) -> None:
    """The keys that scripts read, in the document and in each cluster."""
    result = pyflare("rca", "clusters", "--data", data, "--format", "json")

    body = result.json()
    assert (result.code, body["schema"]) == (0, "pyflare.rca.clusters/1")
    required = (
        *("id", "name", "size", "representative_error", "template"),
        *("common_keywords", "severity", "member_ids", "affected_traces"),
    )
    assert all(set(required) <= set(cluster) for cluster in body["clusters"])
    by_template = {cluster["template"]: cluster for cluster in body["clusters"]}
    assert by_template["host <*> gone"]["growth"]["trend"] == "new"
    assert by_template["host <*> gone"]["growth"]["ratio"] is None
    assert by_template["limit <*> reached"]["size"] == 40
    assert body["algorithm"].startswith("pyflare-templates/")


@pytest.mark.parametrize("form", ["table", "markdown", "csv", "jsonl"])
def test_every_form_shows_the_clusters(form: str, pyflare: Pyflare, data: Path) -> None:
    """A row each, with its template."""
    result = pyflare("rca", "clusters", "--data", data, "--format", form)

    assert result.code == 0
    assert "gone" in result.out
    assert "reached" in result.out


def test_ids_are_kept_in_the_data_directory(pyflare: Pyflare, data: Path) -> None:
    """A second look with one message only joins the known cluster; --no-state does not."""
    first = pyflare("rca", "clusters", "--data", data, "--format", "json").json()
    known = {c["template"]: c["id"] for c in first["clusters"]}
    words = (
        "rca",
        "clusters",
        "--data",
        data,
        "--format",
        "json",
        "--where",
        "error_message like '%ada%'",
    )

    (again,) = pyflare(*words).json()["clusters"]
    (alone,) = pyflare(*words, "--no-state").json()["clusters"]

    assert (again["id"], again["is_known"]) == (known["host <*> gone"], True)
    assert (alone["template"], alone["is_known"]) == ("host ada gone", False)


def test_a_gate_fails_after_the_answer(pyflare: Pyflare, data: Path) -> None:
    """Exit 1 with the document on stdout; a gate for what is not there passes."""
    failed = pyflare("rca", "clusters", "--data", data, "--format", "json", "--fail-on", "new")
    passed = pyflare(
        *("rca", "clusters", "--data", data, "--format", "json", "--fail-on", "new"),
        *("--where", "error_type = 'RateLimitError' or status_code = 'unset'"),
    )

    assert (failed.code, passed.code) == (1, 0)
    assert failed.json()["clusters"]
    assert "1 clusters are new" in failed.err


def test_members_are_capped_on_request_or_not_at_all(pyflare: Pyflare, data: Path) -> None:
    """`--members` caps, `--all-members` lifts; the counts stay."""
    words = ("rca", "clusters", "--data", data, "--format", "json")

    capped = pyflare(*words, "--members", 2).json()["clusters"]
    whole = pyflare(*words, "--all-members").json()["clusters"]

    assert all(len(c["member_ids"]) == len(c["affected_traces"]) == 2 for c in capped)
    assert sorted(len(c["member_ids"]) for c in whole) == [30, 40]


def test_any_text_is_clustered(pyflare: Pyflare, tmp_path: Path) -> None:
    """`--input FILE --text COLUMN --id COLUMN` over JSON lines."""
    path = tmp_path / "app.jsonl"
    path.write_text("".join(json.dumps({"n": n, "say": f"user {n} left"}) + "\n" for n in range(4)))

    result = pyflare(
        "rca", "clusters", "--input", path, "--text", "say", "--id", "n", "--format", "json"
    )

    (cluster,) = result.json()["clusters"]
    assert (cluster["template"], sorted(cluster["member_ids"])) == ("user <*> left", list("0123"))
    assert cluster["growth"] is None


@pytest.mark.parametrize(
    ("words", "code", "messages"),
    [
        (("--limit", "0"), 2, ("--limit is 0", "from 1")),
        (("--recent", "2"), 2, ("--recent 2", "share in (0, 1)")),
        (("--fail-on", "old"), 2, ("--fail-on old", "new or")),
        (("--text", "x"), 2, ("columns without a table", "--input FILE")),
        (("--state", "a.db", "--no-state"), 2, ("--state together", "one of the two")),
        (("--since", "1s"), 4, ("no spans in", "filters")),
        (("--where", "nothing = 1"), 2, ("nothing", "columns")),
    ],
)
def test_what_cannot_be_answered_is_said(
    words: tuple[str, ...], code: int, messages: tuple[str, str], pyflare: Pyflare, data: Path
) -> None:
    """The value that is wrong, what fixes it, and the exit code of the contract."""
    result = pyflare("rca", "clusters", "--data", data, *words)

    assert result.code == code
    assert messages[0] in result.err
    assert messages[1] in result.err.partition("hint: ")[2]


def test_a_file_that_is_wrong_is_said(pyflare: Pyflare, tmp_path: Path) -> None:
    """No text column, an unknown one, filters of spans, an empty file, none."""
    good, empty = tmp_path / "a.csv", tmp_path / "b.csv"
    good.write_text("message\nhello\n")
    empty.write_text("message\n")

    def run(*words: object) -> tuple[int, str]:
        result = pyflare("rca", "clusters", "--input", *words)
        return result.code, result.err

    assert run(good)[0] == 2
    assert "did you mean message?" in run(good, "--text", "mesage")[1]
    assert run(good, "--text", "message", "--model", "m")[0] == 2
    assert run(empty, "--text", "message")[0] == 4
    assert run(tmp_path / "none.csv", "--text", "message")[0] == 2


def test_thin_data_exits_4_and_says_what_would_be_enough(pyflare: Pyflare, tmp_path: Path) -> None:
    """Ten spans, one model, no errors."""
    data = data_directory(tmp_path / "data", [call(n, model="m") for n in range(10)])

    result = pyflare("rca", "clusters", "--data", data)

    assert (result.code, result.out) == (4, "")
    assert "none of 10 spans failed" in result.err
    assert "300 spans" in result.err


def test_without_a_data_directory_none_is_made(pyflare: Pyflare, tmp_path: Path) -> None:
    """A question leaves no trace where there is nothing."""
    result = pyflare("rca", "clusters", "--data", tmp_path / "none")

    assert result.code == 2
    assert not (tmp_path / "none").exists()
