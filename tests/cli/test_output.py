"""The forms of an answer, byte by byte, over values that are hard."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest

from pyflare_cli.output import Document, Output, Terminal, json_text
from pyflare_cli.tables import Column, text_table
from pyflare_cli.text import clip, printable, width
from pyflare_proto.errors import StorageError, UsageError

ROWS = [
    {
        "name": 'comma, "quote" | pipe',
        "big": 2**53 + 1,
        "ratio": 1.0,
        "cost_usd": Decimal("0.000000140"),
        "flag": True,
        "nested": {"k": [1, None]},
    },
    {
        "name": "line\nbreak \x1b[31m 日本",
        "big": -1,
        "ratio": float("nan"),
        "cost_usd": None,
        "flag": False,
        "nested": [],
    },
]
DOCUMENT = Document("pyflare.test/1", {"rows": ROWS, "total": {"big": 2**53}}, "rows")

GOLDEN = {
    "json": """\
{
  "schema": "pyflare.test/1",
  "rows": [
    {
      "name": "comma, \\"quote\\" | pipe",
      "big": 9007199254740993,
      "ratio": 1.0,
      "cost_usd": "0.000000140",
      "flag": true,
      "nested": {
        "k": [
          1,
          null
        ]
      }
    },
    {
      "name": "line\\nbreak \\u001b[31m 日本",
      "big": -1,
      "ratio": null,
      "cost_usd": null,
      "flag": false,
      "nested": []
    }
  ],
  "total": {
    "big": 9007199254740992
  }
}
""",
    "jsonl": """\
{"name": "comma, \\"quote\\" | pipe", "big": 9007199254740993, "ratio": 1.0, \
"cost_usd": "0.000000140", "flag": true, "nested": {"k": [1, null]}}
{"name": "line\\nbreak \\u001b[31m 日本", "big": -1, "ratio": null, \
"cost_usd": null, "flag": false, "nested": []}
""",
    "csv": """\
name,big,ratio,cost_usd,flag,nested
"comma, ""quote"" | pipe",9007199254740993,1.0,0.000000140,true,"{""k"": [1, null]}"
"line
break \x1b[31m 日本",-1,,,false,[]
""",
    "table": """\
name                                         big  ratio  cost usd     flag  nested
─────────────────────────  ─────────────────────  ─────  ───────────  ────  ────────────────
comma, "quote" | pipe      9,007,199,254,740,993      1  0.000000140  yes   {"k": [1, null]}
line\\nbreak \\x1b[31m 日本                     -1      -  -            no    []
""",
    "markdown": """\
| name | big | ratio | cost usd | flag | nested |
| --- | ---: | ---: | --- | --- | --- |
| comma, "quote" \\| pipe | 9,007,199,254,740,993 | 1 | 0.000000140 | yes | {"k": \\[1, null\\]} |
| line\\\\nbreak \\\\x1b\\[31m 日本 | -1 | - | - | no | \\[\\] |
""",
}


@pytest.mark.parametrize("form", GOLDEN)
def test_each_form_is_written_as_agreed(
    form: str, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """The bytes on stdout are these, whatever the locale."""
    Output(format=form).write(DOCUMENT)  # type: ignore[arg-type]  # parametrised

    assert capfdbinary.readouterr().out.decode() == GOLDEN[form]


def test_files_get_the_form_of_their_suffix(tmp_path: Path) -> None:
    """-o spans.csv is CSV without --format; --format goes before the suffix."""
    for name, form in {
        "a.csv": "csv",
        "a.jsonl": "jsonl",
        "a.md": "markdown",
        "a.json": "json",
    }.items():
        Output(path=tmp_path / name).write(DOCUMENT)
        assert (tmp_path / name).read_text() == GOLDEN[form]
    Output(format="jsonl", path=tmp_path / "b.csv").write(DOCUMENT)

    assert (tmp_path / "b.csv").read_text() == GOLDEN["jsonl"]


def test_a_file_that_cannot_be_written_is_a_storage_error(tmp_path: Path) -> None:
    """The message names the file."""
    with pytest.raises(StorageError, match="missing"):
        Output(path=tmp_path / "missing" / "a.json").write(DOCUMENT)


def test_csv_reads_back() -> None:
    """Every cell survives a CSV reader, line breaks included."""
    read = list(csv.DictReader(io.StringIO(GOLDEN["csv"], newline="")))

    assert [row["name"] for row in read] == [row["name"] for row in ROWS]


def test_json_has_no_character_that_a_terminal_obeys() -> None:
    """DEL and C1 controls are escaped; text stays text; infinities are null."""
    text = json_text({"a": "\x7f\x9bé\ud800", "b": float("inf")})

    assert text == '{"a": "\\u007f\\u009bé\\ud800", "b": null}'
    assert json.loads(text)["a"] == "\x7f\x9bé\ud800"


def test_tables_are_cut_on_a_terminal_only() -> None:
    """The widest cuttable column gives way until the line fits; a pipe shows everything."""
    columns = [Column("id", cut=False), Column("text")]
    rows = [{"id": "0123456789", "text": "x" * 100}]

    cut = text_table(columns, rows, limit=40)
    whole = text_table(columns, rows)

    assert max(len(line) for line in cut.splitlines()) == 40
    assert "0123456789" in cut
    assert "…" in cut
    assert "x" * 100 in whole


def test_rows_that_keep_coming_have_two_forms() -> None:
    """JSON lines in a pipe; a form that needs an end is refused before anything is written."""
    with pytest.raises(UsageError, match="json"):
        Output(format="json").stream(iter([ROWS]), lambda *_: "")


def test_colour_needs_a_terminal_and_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR, --no-color, TERM=dumb and a pipe each switch it off."""
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert Terminal.detect(no_color=False).color
    assert not Terminal.detect(no_color=True).color
    monkeypatch.setenv("NO_COLOR", "1")
    assert not Terminal.detect(no_color=False).color
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not Terminal.detect(no_color=False).color


def test_text_for_terminals() -> None:
    """Controls and reordering marks become escapes, wide characters count two columns."""
    assert printable("a\x1b]0;t\x07\n\u202eb") == "a\\x1b]0;t\\x07\\n\\u202eb"
    assert width("日本a") == 5
    assert width("e\u0301") == 1
    assert clip("日本語", 5) == "日本…"
    assert clip("short", 5) == "short"
