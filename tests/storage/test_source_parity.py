"""One question, one answer: Parquet through Polars, and the embedded ClickHouse engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from pyflare_proto.errors import ExpressionError
from pyflare_storage.aggregates import Aggregate, Count, Key, Quantile
from pyflare_storage.expressions import Expr, Timestamp, attribute, col
from pyflare_storage.source import Source, open_source
from pyflare_storage.where import parse_where
from tests.storage.questions import AGGREGATES, CONDITIONS, ERROR, KEYS
from tests.storage.span_tables import START_NS, span_table

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")

TINY = {"rel_tol": 1e-12, "abs_tol": 0.0}
"""Sums are added in an order of the engine's own."""


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Source, Source]]:
    """The same spans in both; the engine was given every third row twice."""
    from pyflare_storage.clickhouse_source import open_clickhouse

    folder = tmp_path_factory.mktemp("source-parity")
    table = span_table(600)
    (folder / "spans").mkdir()
    for i in range(3):
        pq.write_table(table.slice(i * 200, 200), folder / "spans" / f"part-{i}.parquet")
    with (
        open_source(folder) as parquet,
        open_clickhouse(f"chdb://{folder / 'engine'}", create=True) as engine,
    ):
        engine.engine.insert(engine.table, table)
        engine.engine.insert(engine.table, table.take(list(range(0, 600, 3))))
        yield parquet, engine


def _equal(first: pl.DataFrame, second: pl.DataFrame) -> None:
    assert_frame_equal(first, second, check_exact=False, **TINY)


def test_columns_are_the_same(sources: tuple[Source, Source]) -> None:
    """Names, order and logical types."""
    assert list(sources[0].columns().items()) == list(sources[1].columns().items())


@pytest.mark.parametrize("by", KEYS, ids=str)
def test_aggregates(sources: tuple[Source, Source], by: list[Key]) -> None:
    """Every aggregate by every kind of key, over all rows, some and none."""
    for where in (None, col("input_tokens") > 1000, col("model").eq("nobody")):
        first, second = (s.aggregate(AGGREGATES, by, where) for s in sources)

        _equal(first, second)


@pytest.mark.parametrize("text", CONDITIONS)
def test_conditions(sources: tuple[Source, Source], text: str) -> None:
    """A condition and its opposite find the same spans, and at least one of them some."""
    where = parse_where(text)
    found = []
    for condition in (where, ~where):
        first, second = (
            [row for batch in s.scan(["trace_id", "span_id"], condition) for row in batch.rows()]
            for s in sources
        )
        assert sorted(first) == sorted(second)
        assert len(first) == sources[1].count(condition)
        found += first
    assert found


@pytest.mark.parametrize("descending", [False, True])
def test_scans_in_order(sources: tuple[Source, Source], *, descending: bool) -> None:
    """All columns of all rows, null last, ties by id."""
    for order in ("start_time", "model", ["cost_nano_usd", "name"]):
        for limit in (None, 7, 0):
            first, second = (
                pl.concat(
                    [
                        pl.DataFrame(),
                        *s.scan(None, None, order, descending=descending, limit=limit),
                    ],
                    how="diagonal",
                )
                for s in sources
            )
            assert_frame_equal(first, second)


def test_samples(sources: tuple[Source, Source]) -> None:
    """The same rows in the same order; another seed draws others."""
    for n, seed, where in [(10, 1, None), (50, -7, ERROR), (10_000, 2**63, None), (0, 0, None)]:
        first, second = (s.sample(n, seed, ["span_id", "model"], where) for s in sources)

        assert_frame_equal(first, second)
    ten = [sources[1].sample(10, seed, ["span_id"]) for seed in (1, 2)]
    assert not ten[0].equals(ten[1])


@pytest.mark.parametrize("weighted", [False, True])
def test_histograms_and_quantiles(sources: tuple[Source, Source], *, weighted: bool) -> None:
    """Edges included, values outside left out, groups whole."""
    edges = [0, 1, 17, 1000, 2500, 5000]
    for by in ([], ["model"]):
        for column in ("input_tokens", "time_to_first_token_ms", "duration_ms"):
            _equal(*(s.histogram(column, edges, None, by, weighted=weighted) for s in sources))
            _equal(
                *(s.quantiles(column, [0, 0.5, 0.99, 1], None, by, weighted=weighted)
                  for s in sources)
            )  # fmt: skip


def test_time_series(sources: tuple[Source, Source]) -> None:
    """Intervals, then keys."""
    asked: dict[str, Aggregate] = {"n": Count(), "p95": Quantile("duration_ms", 0.95)}

    _equal(*(s.time_series(asked, "6h", ERROR, ["model"]) for s in sources))


def test_orders_of_groups(sources: tuple[Source, Source]) -> None:
    """Sorted by an aggregate, cut, null last."""
    for descending in (False, True):
        _equal(
            *(
                s.aggregate(AGGREGATES, ["model"], None, "cost", descending=descending, limit=4)
                for s in sources
            )
        )


def test_unknown_columns_are_named(sources: tuple[Source, Source]) -> None:
    """Both say which name they do not know, and the nearest."""
    for source in sources:
        with pytest.raises(ExpressionError, match="modle") as caught:
            source.count(col("modle").eq("x"))
        assert "model" in str(caught.value.hint)


TEXTS = st.sampled_from(
    ["gpt-4o", "", "it's", "back\\slash", "tab\there", "50%", "ü", "{p0:String}"]
)
NUMBERS = st.sampled_from([0, 1, -3, 17, 2**40, 0.5, 2500, 1e300])
LEAVES: st.SearchStrategy[Expr] = st.one_of(
    st.builds(lambda c, v: col(c).eq(v), st.sampled_from(["model", "name"]), TEXTS),
    st.builds(lambda v: col("model") < v, TEXTS),
    st.builds(lambda v: col("model").like(v), st.text("a%_\\o-é", max_size=5)),
    st.builds(lambda v: col("name").contains(v), TEXTS),
    st.builds(lambda v: col("input_tokens") >= v, NUMBERS),
    st.builds(lambda v: col("output_tokens").is_in(v), st.lists(NUMBERS, max_size=3)),
    st.builds(lambda v: col("time_to_first_token_ms").ne(v), NUMBERS),
    st.builds(lambda v: attribute("http.method").eq(v), st.one_of(TEXTS, NUMBERS, st.booleans())),
    st.builds(lambda v: col("start_time") < Timestamp(v), st.integers(START_NS, START_NS + 10**15)),
    st.builds(lambda c: col(c).is_null(), st.sampled_from(["model", "cost_nano_usd", "embedding"])),
)
EXPRESSIONS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        st.builds(lambda a: ~a, inner),
    ),
    max_leaves=6,
)


@given(EXPRESSIONS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_condition_counts_the_same(sources: tuple[Source, Source], where: Expr) -> None:
    """Whatever condition, both engines find as many rows, of it and of its opposite."""
    assert sources[0].count(where) == sources[1].count(where)
    assert sources[0].count(~where) == sources[1].count(~where)


def test_a_round_trip_changes_nothing(tmp_path: Path, sources: tuple[Source, Source]) -> None:
    """Engine to Parquet gives the rows of the Parquet that the engine was filled from."""
    from pyflare_storage.load import load

    report = load(sources[1].url, str(tmp_path / "copy"), slice_rows=50)
    again = load(sources[1].url, str(tmp_path / "copy"))

    assert (report.spans_read, report.spans_written, report.spans_present) == (600, 600, 0)
    assert (again.spans_read, again.spans_written, again.spans_present) == (600, 0, 600)
    with open_source(tmp_path / "copy") as copied:
        first, second = (pl.concat(s.scan(None, None, "start_time")) for s in (sources[0], copied))
    assert_frame_equal(first, second)
