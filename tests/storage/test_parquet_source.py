"""The source over files: what it opens, what it answers, what it says when it cannot."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pyflare_proto.errors import InvalidDataError, NotFoundError, SchemaError, UsageError
from pyflare_proto.record import COLUMNS
from pyflare_storage import table_source
from pyflare_storage.aggregates import Bins, Count, First, Mean, Quantile, Sum, TimeBucket
from pyflare_storage.expressions import Timestamp, attribute, col
from pyflare_storage.source import is_sampled, open_source
from tests.storage.span_tables import START_NS, span_table


@pytest.fixture
def spans(tmp_path: Path) -> Path:
    """One Parquet file of 500 spans."""
    path = tmp_path / "some" / "spans.parquet"
    path.parent.mkdir()
    pq.write_table(span_table(500), path)
    return path


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """A table that holds no spans."""
    path = tmp_path / "numbers.csv"
    path.write_text("x,group,when\n1,a,2026-01-01\n2,a,2026-01-02\n3,b,2026-01-02\n10,b,\n")
    return path


def test_every_way_to_name_the_same_spans(spans: Path) -> None:
    """File, folder, glob, data directory and file address give the same rows."""
    data = spans.parent.parent / "data"
    (data / "spans").mkdir(parents=True)
    (data / "spans" / "x.parquet").write_bytes(spans.read_bytes())
    for url in (spans, spans.parent, f"{spans.parent}/*.parquet", data, f"file://{spans}"):
        with open_source(url) as source:
            assert source.count() == 500
            assert list(source.columns()) == [c.name for c in COLUMNS]


def test_columns_that_a_file_lacks_are_null(tmp_path: Path) -> None:
    """An older or foreign span file has every column of the record, and keeps its own."""
    path = tmp_path / "old.parquet"
    pl.DataFrame({"trace_id": ["a"], "span_id": ["b"], "own": [1]}).write_parquet(path)
    with open_source(path) as source:
        row = next(source.scan()).row(0, named=True)

    assert (row["trace_id"], row["own"], row["model"], row["start_time"]) == ("a", 1, None, None)


def test_files_with_different_columns_are_one_table(tmp_path: Path) -> None:
    """Each file is brought into the record's form by itself."""
    table = span_table(10)
    pq.write_table(table, tmp_path / "a.parquet")
    pq.write_table(table.drop_columns(["embedding", "model"]), tmp_path / "b.parquet")
    with open_source(tmp_path) as source:
        assert source.count() == 20
        assert source.count(col("embedding").is_not_null()) <= 10


def test_no_rows_are_no_error(tmp_path: Path) -> None:
    """Counts are 0, other aggregates null, scans and samples empty with their columns."""
    pq.write_table(span_table(0), tmp_path / "none.parquet")
    with open_source(tmp_path) as source:
        row = source.aggregate({"n": Count(), "sum": Sum("cost_nano_usd")}).row(0)

        assert row == (0, None)
        assert source.aggregate({"n": Count()}, ["model"]).is_empty()
        assert source.sample(3, 1, ["name"]).columns == ["name"]
        assert sum(batch.height for batch in source.scan(["name"])) == 0
        assert not is_sampled(source)


def test_any_table_opens(numbers: Path) -> None:
    """A CSV file with columns of its own answers the same questions."""
    with open_source(numbers) as source:
        assert dict(source.columns()) == {"x": "int64", "group": "string", "when": "timestamp_ns"}
        answer = source.aggregate({"sum": Sum("x")}, ["group"], order_by="sum", descending=True)
        assert answer.rows() == [("b", 13), ("a", 3)]
        first = Timestamp(int(datetime(2026, 1, 2, tzinfo=UTC).timestamp()) * 10**9)
        assert source.count(col("when") >= first) == 2
        assert source.sample(4, 1)["x"].sort().to_list() == [1, 2, 3, 10]


def test_json_lines_open(tmp_path: Path) -> None:
    """JSON lines, nulls included."""
    path = tmp_path / "rows.jsonl"
    path.write_text('{"x": 1.5, "ok": true}\n{"x": null, "ok": false}\n')
    with open_source(path) as source:
        assert dict(source.columns()) == {"x": "float64", "ok": "bool"}
        assert source.count(col("ok").eq(True)) == 1
        assert source.count(col("x").is_null()) == 1


@pytest.mark.parametrize("name", ["nothing.parquet", "pyflare-data", "no/*.parquet"])
def test_what_is_not_there_is_not_found(tmp_path: Path, name: str) -> None:
    """The message names the place, the hint the next step."""
    with pytest.raises(NotFoundError, match=name.rpartition("/")[0] or name) as caught:
        open_source(str(tmp_path / name))
    assert caught.value.hint


def test_an_unknown_scheme_is_a_usage_error() -> None:
    """The hint lists what there is."""
    with pytest.raises(UsageError, match="mysql://") as caught:
        open_source("mysql://host/db")
    assert "clickhouse://" in str(caught.value.hint)


@pytest.mark.parametrize("how", ["truncated", "text", "empty", "middle"])
def test_a_damaged_file_is_named_among_whole_ones(spans: Path, how: str) -> None:
    """One bad file of several is found, and the hint says how to go on without it."""
    whole = spans.read_bytes()
    noise = np.random.default_rng(0).bytes(len(whole) // 2)
    damaged = {
        "truncated": whole[:-100],
        "text": b"not parquet at all",
        "empty": b"",
        "middle": whole[:4] + noise + whole[4 + len(noise) :],
    }[how]
    bad = spans.parent / "bad.parquet"
    bad.write_bytes(damaged)

    with pytest.raises(InvalidDataError, match=r"bad\.parquet") as caught:
        list(open_source(spans.parent).scan())
    assert f"mv '{bad}'" in str(caught.value.hint)


def test_files_outside_the_asked_time_are_not_opened(tmp_path: Path) -> None:
    """A file whose name excludes it may even be damaged."""
    first = "spans-20200101T000000.000000000Z-20200102T000000.000000000Z-w-1.parquet"
    (tmp_path / first).write_bytes(b"damaged")
    last = "spans-20261118T000000.000000000Z-20261123T235959.000000000Z-w-2.parquet"
    pq.write_table(span_table(50), tmp_path / last)
    source = open_source(tmp_path)

    assert source.count(col("start_time") >= Timestamp(START_NS)) == 50
    with pytest.raises(InvalidDataError, match="spans-2020"):
        source.count()


def test_a_file_that_vanishes_is_asked_for_again(
    spans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no lock holds, a listing may be older than a compaction: the next one is right."""
    source = open_source(spans.parent)
    stale = [spans.parent / "gone.parquet", spans]
    listing = table_source.current_files
    calls = []

    def listed(folder: Path) -> tuple[object, ...]:
        calls.append(folder)
        files = listing(folder)
        if len(calls) > 1:
            return files
        return tuple(type(files[0])(path.name, path) for path in stale)

    monkeypatch.setattr(table_source, "current_files", listed)

    assert source.count() == 500
    assert len(calls) == 2


def test_quantiles_are_those_of_numpy(spans: Path) -> None:
    """Type 7, exact, as numpy.quantile computes it from the values."""
    values = np.array(pq.read_table(spans)["duration_ms"])
    probabilities = [0, 0.01, 0.5, 0.9, 0.999, 1]
    with open_source(spans) as source:
        answer = source.quantiles("duration_ms", probabilities)

    np.testing.assert_allclose(answer["value"], np.quantile(values, probabilities), rtol=1e-12)


def test_weighted_figures_by_hand(tmp_path: Path) -> None:
    """1/p rows each: counts 1+4+2 = 7, sum 10+4*20+2*40 = 170, mean 170/7.

    Equal weights give the unweighted median: of 10, 20, 40 it is 20.
    """
    for p, median in (([None, 0.25, 0.5], None), ([0.5, 0.5, 0.5], 20.0)):
        frame = pl.DataFrame(
            {"trace_id": "t", "span_id": ["a", "b", "c"], "input_tokens": [10, 20, 40],
             "sampling_probability": p},
            schema_overrides={"sampling_probability": pl.Float64},
        )  # fmt: skip
        frame.write_parquet(tmp_path / "s.parquet")
        with open_source(tmp_path / "s.parquet") as source:
            tokens = "input_tokens"
            answer = source.aggregate(
                {
                    "n": Count(weighted=True),
                    "sum": Sum(tokens, weighted=True),
                    "mean": Mean(tokens, weighted=True),
                    "median": Quantile(tokens, 0.5, weighted=True),
                }
            ).row(0, named=True)
            assert is_sampled(source)
        if median is None:
            assert (answer["n"], answer["sum"], answer["mean"]) == (7, 170, 170 / 7)
        else:
            assert answer["median"] == pytest.approx(median, rel=1e-12)


def test_histograms_count_each_value_once(numbers: Path) -> None:
    """Bins are closed below and open above, the last one closed; outside is not counted."""
    with open_source(numbers) as source:
        assert source.histogram("x", [1, 2, 3, 5])["count"].to_list() == [1, 1, 1]
        assert source.histogram("x", [2, 3])["count"].to_list() == [2]
        by = source.histogram("x", [0, 5, 10], by=["group"])
        assert by.select("group", "count").rows() == [("a", 2), ("a", 0), ("b", 1), ("b", 1)]


def test_first_breaks_ties_by_value(tmp_path: Path) -> None:
    """Rows that tie give the smallest value, whatever their order in the file."""
    for values in (["b", "a", "c"], ["c", "b", "a"]):
        pl.DataFrame({"v": values, "t": [1, 1, 2]}).write_parquet(tmp_path / "t.parquet")
        with open_source(tmp_path / "t.parquet") as source:
            asked = {"first": First("v", "t")}
            assert source.aggregate(asked).item() in {"a", "b"}
            if values[0] == "b":
                assert source.aggregate(asked).item() == "a"


def test_samples_are_nested_and_repeat(spans: Path) -> None:
    """The first m of a sample of n are the sample of m; the order of rows does not matter."""
    table = pq.read_table(spans)
    shuffled = spans.parent.parent / "shuffled.parquet"
    pq.write_table(table.take(np.random.default_rng(5).permutation(500)), shuffled)
    with open_source(spans) as source, open_source(shuffled) as other:
        hundred = source.sample(100, 7, ["span_id"])

        assert source.sample(20, 7, ["span_id"]).equals(hundred.head(20))
        assert other.sample(100, 7, ["span_id"]).equals(hundred)
        assert source.sample(1000, 7).height == 500


def test_samples_are_uniform(spans: Path) -> None:
    """Over many seeds each row is drawn about equally often.

    60 seeds of 250 in 500: each row is drawn 30 +- 4 times (binomial); none is 6 sigma away.
    """
    with open_source(spans) as source:
        drawn = pl.concat([source.sample(250, seed, ["span_id"]) for seed in range(60)])
    counts = drawn.group_by("span_id").len()["len"]

    assert len(counts) == 500
    assert 6 <= counts.min() <= counts.max() <= 54  # type: ignore[operator]  # counts are numbers


def test_what_cannot_be_grouped_or_summed_is_refused(spans: Path) -> None:
    """Lists are no keys, text has no sum, names are not used twice."""
    with open_source(spans) as source:
        for question in (
            lambda: source.aggregate({"n": Count()}, ["embedding"]),
            lambda: source.aggregate({"n": Sum("model")}),
            lambda: source.aggregate({"n": Count()}, [TimeBucket("model", "1h")]),
            lambda: source.scan(["modle"]),
            lambda: source.scan(order_by="modle"),
            lambda: source.aggregate({"n": Count()}, ["model", "model"]),
        ):
            with pytest.raises(SchemaError):
                question()
        for bad in (
            lambda: source.aggregate({"model": Count()}, ["model"]),
            lambda: source.time_series({"n": Count()}, "fortnight"),
            lambda: source.sample(-1, 0),
            lambda: Quantile("duration_ms", 1.5),
            lambda: Bins("duration_ms", (2.0, 1.0)),
        ):
            with pytest.raises(UsageError):
                bad()


def test_attributes_keep_their_type(tmp_path: Path) -> None:
    """5, '5' and true are three values; grouped by, they are text."""
    rows = ['{"k":5}', '{"k":"5"}', '{"k":true}', '{"k":null}', "{}", '{"k":{"k":5}}']
    table = span_table(6)
    index = table.schema.get_field_index("attributes")
    field = table.schema.field(index)
    pq.write_table(table.set_column(index, field, pa.array(rows)), tmp_path / "a.parquet")
    k = attribute("k")
    with open_source(tmp_path / "a.parquet") as source:
        assert [source.count(k.eq(v)) for v in (5, "5", True, 5.0)] == [1, 1, 1, 1]
        assert source.count(k.is_null()) == 2
        groups = source.aggregate({"n": Count()}, [k])
        assert groups.rows() == [("5", 2), ("true", 1), (None, 3)]


def test_a_source_answers_several_threads(spans: Path) -> None:
    """Questions from four threads at once give the answers of one."""
    answers: list[int] = []
    with open_source(spans) as source:
        threads = [
            threading.Thread(target=lambda: answers.append(source.count(col("model").is_null())))
            for _ in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [source.count(col("model").is_null())] * 4
