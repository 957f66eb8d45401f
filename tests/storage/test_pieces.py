"""Files read piece by piece answer like files read as a whole."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from pyflare_proto.errors import InvalidDataError
from pyflare_storage import attribute_codes, pieces, piecewise, table_source
from pyflare_storage.aggregates import Aggregate, Count, CountDistinct, Key, Max, Min, Sum
from pyflare_storage.attribute_codes import AttributeCodes, Looked
from pyflare_storage.expressions import Expr, attribute, col
from pyflare_storage.source import Source, open_source
from pyflare_storage.span_files import span_file_name
from tests.storage.span_tables import START_NS, span_table

METHOD = attribute("http.method")
CONDITIONS: list[Expr | None] = [
    None,
    col("status_code").eq("error"),
    METHOD.eq("GET"),
    col("trace_id").eq("nowhere"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Spans in two files of many row groups, one of them with a column of its own."""
    monkeypatch.setattr(pieces, "_MOST_ROWS", 100)
    table = span_table(900)
    own = pa.array(range(300))
    pq.write_table(table.slice(0, 600), tmp_path / "a.parquet", row_group_size=64)
    pq.write_table(
        table.slice(600).append_column("own", own), tmp_path / "b.parquet", row_group_size=250
    )
    return tmp_path


def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the next questions be answered by one query over all files."""
    monkeypatch.setattr(table_source, "in_pieces", lambda _location: False)


@pytest.mark.parametrize("where", CONDITIONS)
def test_rows_and_their_order(
    folder: Path, where: Expr | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scan yields the same rows in the same order, with the columns of all files."""
    with open_source(folder) as source:
        empty = pl.DataFrame(schema=next(source.scan()).schema)
        found = pl.concat([empty, *source.scan(where=where)])
        whole(monkeypatch)
        assert found.equals(pl.concat([empty, *source.scan(where=where)]))


@pytest.mark.parametrize("where", CONDITIONS)
@pytest.mark.parametrize("n", [0, 1, 40, 2000])
def test_samples(folder: Path, where: Expr | None, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows are drawn."""
    columns = ["input", "own", "span_id", "attributes"]
    with open_source(folder) as source:
        found = source.sample(n, 3, columns, where)
        whole(monkeypatch)
        assert found.equals(source.sample(n, 3, columns, where))


def test_a_sample_holds_no_other_text() -> None:
    """A few rows of a table are copies: they do not keep the text of all rows."""
    frame = pl.DataFrame({"text": [f"{i:01000d}" for i in range(1000)]})
    copy = pieces.detached(frame.filter(pl.col("text").str.ends_with("7")))
    assert copy.equals(frame.filter(pl.col("text").str.ends_with("7")))
    assert sum(len(buffer) for buffer in _buffers(copy["text"])) < 200_000


def _buffers(series: pl.Series) -> list[pa.Buffer]:
    arrow = series.to_arrow(compat_level=pl.CompatLevel.newest())
    return [buffer for buffer in arrow.buffers() if buffer is not None]


@pytest.mark.parametrize("where", CONDITIONS)
def test_small_files_of_our_own_are_read_together(
    tmp_path: Path, where: Expr | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files, large ones and foreign ones in one folder answer as one table."""
    monkeypatch.setattr(pieces, "_MOST_ROWS", 100)
    table, first = span_table(900), 0
    for number, rows in enumerate((30, 30, 30, 30, 300, 10, 200, 10, 260)):
        name = span_file_name(START_NS + number, START_NS + number, "test", number)
        part = table.slice(first, rows)
        if number == 6:
            name, part = "spans-foreign.parquet", part.append_column("own", pa.array(range(rows)))
        pq.write_table(part, tmp_path / name, row_group_size=64)
        first += rows
    with open_source(tmp_path) as source:
        answers = [_answers(source, where) for _ in range(2)]
        whole(monkeypatch)
        answers.append(_answers(source, where))
    for answer in answers[:2]:
        for found, expected in zip(answer, answers[2], strict=True):
            assert_frame_equal(found, expected)


def _answers(source: Source, where: Expr | None) -> list[pl.DataFrame]:
    rows = pl.concat(
        [pl.DataFrame({"span_id": [], "own": []}), *source.scan(["span_id", "own"], where=where)],
        how="vertical_relaxed",
    )
    return [rows.sort("span_id"), source.aggregate({"n": Count()}, [METHOD], where)]


def test_a_damaged_file_is_named(folder: Path) -> None:
    """What cannot be read in the midst of a scan is said with its name."""
    with open_source(folder) as source:
        rows = source.scan(["span_id"])
        next(rows)
        (folder / "b.parquet").write_bytes(b"PAR1 no more PAR1")
        with pytest.raises(InvalidDataError, match=r"b\.parquet"):
            list(rows)


QUESTIONS: list[tuple[dict[str, Aggregate], list[Key]]] = [
    ({"n": Count(), "sum": Sum("input_tokens"), "least": Min("duration_ms")}, [METHOD]),
    ({"n": Count(where=METHOD.eq("GET")), "values": CountDistinct(METHOD)}, ["model"]),
    ({"n": Count(METHOD), "values": CountDistinct(METHOD), "most": Max(METHOD)}, []),
    ({"cost": Sum("cost_nano_usd", weighted=True), "n": Count(weighted=True)}, [METHOD, "model"]),
]


@pytest.mark.parametrize("where", CONDITIONS)
@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize("memory_bytes", [0, 1 << 20])
def test_aggregates_over_attributes(
    folder: Path,
    where: Expr | None,
    question: tuple[dict[str, Aggregate], list[Key]],
    memory_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The parts add up to the whole, at first and again, from memory and from a file."""
    monkeypatch.setattr(piecewise, "_JOIN_AFTER", 3)
    aggregates, by = question
    with open_source(folder) as source:
        source._codes = AttributeCodes(memory_bytes=memory_bytes)  # type: ignore[attr-defined]
        found = [source.aggregate(aggregates, by, where) for _ in range(2)]
        whole(monkeypatch)
        expected = source.aggregate(aggregates, by, where)
    for answer in found:
        assert_frame_equal(answer, expected)


def place(rows: int) -> pieces.Place:
    """Return a piece of a file."""
    return ((("file", 1, 1),), 0, rows)


def test_a_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    """What was looked up in a file is not told of another file of its name."""
    path = tmp_path / "spans.parquet"
    with_method = span_table(50)
    pq.write_table(with_method, path)
    with open_source(path) as source:
        before = source.count(METHOD.is_not_null())
        none = pa.array([None] * 50, with_method.schema.field("attributes").type)
        at = with_method.schema.get_field_index("attributes")
        pq.write_table(with_method.set_column(at, "attributes", none), path)
        assert (before > 0, source.count(METHOD.is_not_null())) == (True, 0)


def test_a_full_cache_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond its file's limit everything is forgotten, and what comes next is kept again."""
    monkeypatch.setattr(attribute_codes, "_FILE_BYTES", 6)
    codes, looked = AttributeCodes(memory_bytes=4), Looked("attributes", "id", "any")
    for rows in (4, 6, 5, 3):
        codes.put(looked, place(rows), pl.Series(["a"] * rows))
    found = [codes.get(looked, place(rows)) for rows in (4, 6, 5, 3)]
    assert [None if values is None else len(values) for values in found] == [None, None, None, 3]


def test_an_attribute_of_many_values_is_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values beyond the limit are not kept, and what was kept of them is let go."""
    monkeypatch.setattr(attribute_codes, "_MOST_VALUES", 4)
    codes, looked = AttributeCodes(), Looked("attributes", "id", "any")
    few, many = pl.Series(["a", None, "b", "a"]), pl.Series(list("abcdef"))
    codes.put(looked, place(4), few)
    kept = codes.get(looked, place(4))
    assert kept is not None
    assert kept.to_list() == few.to_list()
    codes.put(looked, place(6), many)
    assert codes.get(looked, place(6)) is None
    assert codes.get(looked, place(4)) is None
