"""The server path: clickhouse-connect over HTTP, in front of the embedded engine."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from polars.testing import assert_frame_equal

from pyflare_proto.errors import NotFoundError, SourceUnavailableError
from pyflare_storage.aggregates import Count, Key
from pyflare_storage.expressions import col
from pyflare_storage.load import load
from pyflare_storage.source import Source, open_source
from pyflare_storage.where import parse_where
from tests.storage.questions import AGGREGATES, CONDITIONS, KEYS
from tests.storage.span_tables import span_table

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")
pytest.importorskip("clickhouse_connect", reason="comes with the clickhouse extra")

PASSWORD = "s e/cret"  # noqa: S105  # of the server in this test


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a server, and the Parquet file it was loaded from."""
    from tests.storage.clickhouse_bridge import serving

    folder = tmp_path_factory.mktemp("server")
    pq.write_table(span_table(400), folder / "spans.parquet")
    with serving(
        folder / "engine", base64.b64encode(f"default:{PASSWORD}".encode()).decode()
    ) as url:
        load(str(folder / "spans.parquet"), url, password=PASSWORD)
        yield url, folder / "spans.parquet"


@pytest.fixture(scope="module")
def sources(server: tuple[str, Path]) -> Iterator[tuple[Source, Source]]:
    """The Parquet file and the server."""
    with open_source(server[1]) as first, open_source(server[0], password=PASSWORD) as second:
        yield first, second


@pytest.mark.parametrize("by", KEYS, ids=str)
def test_aggregates(sources: tuple[Source, Source], by: list[Key]) -> None:
    """Every aggregate by every kind of key."""
    first, second = (s.aggregate(AGGREGATES, by) for s in sources)

    assert_frame_equal(first, second, rel_tol=1e-12, abs_tol=0.0)


def test_conditions(sources: tuple[Source, Source]) -> None:
    """Values with quotes, tabs and backslashes arrive as they are."""
    for text in CONDITIONS:
        where = parse_where(text)
        assert sources[0].count(where) == sources[1].count(where), text
    for model in ("it's", 'say "hi"', "back\\slash", "ünï€😀", "tab\there", ""):
        assert sources[1].count(col("model").eq(model)) > 0, model


def test_rows_and_samples(sources: tuple[Source, Source]) -> None:
    """Every value of every row, and the same rows drawn."""
    first, second = (pl.concat(s.scan(None, None, "start_time")) for s in sources)
    assert_frame_equal(first, second)
    first, second = (s.sample(30, 3) for s in sources)
    assert_frame_equal(first, second)


def test_nothing_is_no_error(sources: tuple[Source, Source]) -> None:
    """An answer without rows has its columns."""
    for source in sources:
        nobody = col("model").eq("nobody")
        assert source.aggregate({"n": Count()}, ["model"], nobody).columns == ["model", "n"]
        assert source.sample(3, 1, ["name"], nobody).is_empty()
        assert sum(batch.height for batch in source.scan(["name"], nobody)) == 0


def test_loading_both_ways_twice(server: tuple[str, Path], tmp_path: Path) -> None:
    """The second run writes nothing, there and back."""
    assert load(str(server[1]), server[0], password=PASSWORD).spans_written == 0
    written = [
        load(server[0], str(tmp_path / "copy"), password=PASSWORD).spans_written for _ in range(2)
    ]
    assert written == [400, 0]


def test_refusals(server: tuple[str, Path]) -> None:
    """A wrong password is unavailable with a hint; a missing table is not found."""
    with pytest.raises(SourceUnavailableError, match="refuses the login") as caught:
        open_source(server[0], password="wrong")  # noqa: S106  # no secret
    assert "PYFLARE_CLICKHOUSE_PASSWORD" in str(caught.value.hint)
    with pytest.raises(NotFoundError, match="no table 'other'"):
        open_source(f"{server[0]}?table=other", password=PASSWORD)
