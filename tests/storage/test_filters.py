"""The filters of every analysis, and the times they are written in."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_proto.errors import ExpressionError, UsageError
from pyflare_storage.expressions import Timestamp, col
from pyflare_storage.filters import Filters, parse_time
from pyflare_storage.polars_expressions import PolarsCompiler
from pyflare_storage.where import parse_where

NOW = 1_795_000_000_000_000_000


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("24h", NOW - 86_400 * 10**9),
        ("7d", NOW - 7 * 86_400 * 10**9),
        ("90 s", NOW - 90 * 10**9),
        ("2w", NOW - 14 * 86_400 * 10**9),
        ("1970-01-02", 86_400 * 10**9),
        ("1970-01-01T00:00:01.000000001Z", 10**9 + 1),
        ("1970-01-01 01:00:00+01:00", 0),
        ("1970-01-01T00:01", 60 * 10**9),
        ("1969-12-31T23:59:59.5Z", -(5 * 10**8)),
    ],
)
def test_times(text: str, ns: int) -> None:
    """Durations count back from now; ISO 8601 is UTC where it names no zone."""
    assert parse_time(text, NOW) == ns


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001  # hypothesis wants bounds without a zone
def test_iso_times_are_read_to_the_microsecond(moment: datetime) -> None:
    """What Python writes as ISO 8601 is read back exactly."""
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    micros = (delta.days * 86_400 + delta.seconds) * 10**6 + delta.microseconds

    assert parse_time(moment.isoformat(), NOW) == micros * 1000


@pytest.mark.parametrize("text", ["yesterday", "24", "2026-13-01", "2026-02-30", "", "-1h", "1.5h"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The message names the option and the hint shows both forms."""
    with pytest.raises(UsageError, match="not a time for --until") as caught:
        parse_time(text, NOW, option="--until")
    assert "--until 24h" in str(caught.value.hint)


def test_no_filter_is_no_condition() -> None:
    """Every row counts."""
    assert Filters().to_expr() is None
    assert Filters.parse(now_ns=NOW).to_expr() is None


def test_filters_are_joined_with_and() -> None:
    """Half-open in time, alternatives within a filter, the free condition last."""
    filters = Filters.parse(
        now_ns=NOW, since="1h", until="1m", model=["a", "b"], user=["u"], where="status_code='ok'"
    )
    start = col("start_time")

    assert (
        filters.to_expr()
        == Filters(
            since_ns=NOW - 3600 * 10**9,
            until_ns=NOW - 60 * 10**9,
            model=("a", "b"),
            user=("u",),
            where=parse_where("status_code = 'ok'"),
        ).to_expr()
    )
    assert getattr(filters.to_expr(), "terms", ()) == (
        start >= Timestamp(NOW - 3600 * 10**9),
        start < Timestamp(NOW - 60 * 10**9),
        col("model").is_in(["a", "b"]) | col("model_request").is_in(["a", "b"]),
        col("user_id").is_in(["u"]),
        col("status_code").eq("ok"),
    )


def test_a_model_is_the_one_that_answered_or_was_asked_for() -> None:
    """A table that knows only one of them is asked for that one."""
    both = Filters.parse(now_ns=NOW, model=["gpt-4o"])
    table = Filters.parse(now_ns=NOW, model=["gpt-4o"], columns={"model": "string"})
    rows = pl.DataFrame(
        {
            "model": ["gpt-4o-2024-08-06", "gpt-4o", "gpt-4o-mini"],
            "model_request": ["gpt-4o", "gpt-4o", "gpt-4o-mini"],
        }
    )

    def found(filters: Filters, frame: pl.DataFrame) -> int:
        condition = filters.to_expr()
        assert condition is not None
        types = dict.fromkeys(frame.columns, "string")
        return frame.filter(PolarsCompiler(types).condition(condition)).height

    assert found(both, rows) == 2
    assert found(table, rows.drop("model_request")) == 1


def test_an_empty_period_is_refused() -> None:
    """Since must be before until."""
    with pytest.raises(UsageError, match="--since 1m is not before --until 1h"):
        Filters.parse(now_ns=NOW, since="1m", until="1h")


def test_where_is_checked_against_the_columns_of_the_table() -> None:
    """A table of other columns knows other names."""
    assert Filters.parse(now_ns=NOW, where="x > 1", columns={"x": "int64"}).where
    with pytest.raises(ExpressionError, match="unknown column 'x'"):
        Filters.parse(now_ns=NOW, where="x > 1")
