"""Copying spans: what is refused, and what a second run changes.

The round trip through the engine stands in test_source_parity.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyflare_proto.errors import (
    InvalidDataError,
    NotFoundError,
    SchemaError,
    SourceUnavailableError,
    UsageError,
)
from pyflare_storage.load import load
from pyflare_storage.source import open_source
from tests.storage.span_tables import span_table


@pytest.fixture
def spans(tmp_path: Path) -> str:
    """A Parquet file of 300 spans, 20 of them twice."""
    table = span_table(300)
    pq.write_table(pa.concat_tables([table, table.slice(0, 20)]), tmp_path / "spans.parquet")
    return str(tmp_path / "spans.parquet")


def test_copying_twice_changes_nothing(spans: str, tmp_path: Path) -> None:
    """Each span arrives once; the second run reads all and writes none."""
    to = tmp_path / "copy"
    first, second = load(spans, str(to)), load(spans, str(to))
    files = sorted(path.name for path in (to / "spans").iterdir())

    assert (first.spans_read, first.spans_written) == (300, 300)
    assert (second.spans_read, second.spans_written, second.spans_present) == (300, 0, 300)
    assert sorted(path.name for path in (to / "spans").iterdir()) == files
    with open_source(to) as source:
        assert source.count() == 300


def test_only_what_is_missing_is_copied(spans: str, tmp_path: Path) -> None:
    """A larger source adds its new spans to what is there."""
    more = tmp_path / "more.parquet"
    pq.write_table(pa.concat_tables([span_table(300), span_table(40, seed=5)]), more)
    load(spans, str(tmp_path / "copy"))
    report = load(str(more), str(tmp_path / "copy"), slice_rows=10)

    assert (report.spans_written, report.spans_present) == (40, 300)


def test_the_rows_in_memory_do_not_show(spans: str, tmp_path: Path) -> None:
    """Small slices give the rows that large ones give, a file a day either way."""
    for rows in (1, 10_000):
        load(spans, str(tmp_path / f"{rows}"), slice_rows=rows)
    small, large = (
        pl.concat(open_source(tmp_path / f"{rows}").scan(order_by="start_time"))
        for rows in (1, 10_000)
    )

    assert small.equals(large)
    assert len(list((tmp_path / "1" / "spans").iterdir())) <= 7


def test_what_cannot_be_copied_is_refused(spans: str, tmp_path: Path) -> None:
    """No spans, rows without ids, targets that cannot be written: each with its reason."""
    table = tmp_path / "table.csv"
    table.write_text("x\n1\n")
    poor = tmp_path / "poor.parquet"
    pl.DataFrame({"trace_id": ["a"], "span_id": ["b"]}).write_parquet(poor)
    to = str(tmp_path / "copy")

    with pytest.raises(SchemaError, match="holds no spans"):
        load(str(table), to)
    with pytest.raises(InvalidDataError, match=r"1 rows of .* have no name"):
        load(str(poor), to)
    with pytest.raises(NotFoundError):
        load(str(tmp_path / "nothing.parquet"), to)
    for bad in ("s3://bucket/x", "x.parquet", spans, str(tmp_path)):
        with pytest.raises(UsageError):
            load(spans, bad)


def test_a_server_that_is_not_there_is_unavailable(spans: str) -> None:
    """The message says where and why, and shows no password."""
    pytest.importorskip("clickhouse_connect", reason="comes with the clickhouse extra")
    with pytest.raises(
        SourceUnavailableError, match=r"clickhouse://u@127\.0\.0\.1:1/d: Connection"
    ):
        load(spans, "clickhouse://u@127.0.0.1:1/d", password="secret")  # noqa: S106  # no secret
    with pytest.raises(UsageError, match=r":\*\*\*@") as caught:
        load(spans, "clickhouse://u:secret@127.0.0.1:1/d")
    assert "secret" not in caught.value.message
    assert "PYFLARE_CLICKHOUSE_PASSWORD" in str(caught.value.hint)


@pytest.mark.service
def test_the_embedded_engine_says_what_is_missing(spans: str, tmp_path: Path) -> None:
    """No folder, no table, a folder that another process holds: errors with a way out."""
    pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")
    with pytest.raises(NotFoundError, match="no folder") as caught:
        open_source(f"chdb://{tmp_path / 'nothing'}")
    assert "pyflare load" in str(caught.value.hint)

    url = f"chdb://{tmp_path / 'engine'}"
    assert load(spans, url).spans_written == 300
    assert load(spans, url).spans_written == 0
    with pytest.raises(NotFoundError, match="no table 'other'"):
        open_source(f"{url}?table=other")
    with open_source(url) as source, open_source(url) as again:
        assert source.count() == again.count() == 300
        script = f"from pyflare_storage.source import open_source; open_source({url!r})"
        other = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; {script}"],
            capture_output=True,
            text=True,
            check=False,
        )
    assert "SourceUnavailableError: cannot open chdb://" in other.stderr
