"""Windows: where rows fall, what they are compared with, and days of 23 and 25 hours."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from pyflare_analysis.drift.windows import Windows
from pyflare_proto.errors import UsageError


def _times(*texts: str) -> pl.Series:
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]
    return pl.Series(moments, dtype=pl.Datetime("ns", "UTC"))


def _shown(times: pl.Series) -> list[str]:
    return times.dt.strftime("%m-%dT%H:%M").to_list()


@pytest.mark.parametrize(
    ("every", "start", "end", "before"),
    [
        ("1h", "11-25T13:00", "11-25T14:00", "11-25T12:00"),
        ("6h", "11-25T12:00", "11-25T18:00", "11-25T06:00"),
        ("1d", "11-25T00:00", "11-26T00:00", "11-24T00:00"),
        ("1w", "11-23T00:00", "11-30T00:00", "11-16T00:00"),
        ("1mo", "11-01T00:00", "12-01T00:00", "10-01T00:00"),
    ],
)
def test_a_window_has_a_start_an_end_and_one_before(
    every: str, start: str, end: str, before: str
) -> None:
    """A Wednesday, in windows of each length; weeks begin on Monday."""
    windows = Windows(every)
    starts = windows.starts(_times("2026-11-25T13:05"))

    assert _shown(starts) == [start]
    assert _shown(windows.ends(starts)) == [end]
    assert _shown(windows.before(starts)) == [before]


def test_days_of_a_summer_time_change_have_23_and_25_hours() -> None:
    """Berlin, 29 March and 25 October 2026."""
    windows = Windows("1d", tz="Europe/Berlin")
    starts = windows.starts(_times("2026-03-29T12:00", "2026-10-25T12:00"))
    length = windows.ends(starts).dt.epoch("s") - starts.dt.epoch("s")

    assert (length / 3600).to_list() == [23, 25]
    assert _shown(windows.before(starts)) == ["03-27T23:00", "10-23T22:00"]


def test_hours_of_the_week_are_local() -> None:
    """Sunday 23:30 UTC is Monday 05:00 in Kolkata, whose hours begin at :30."""
    times = _times("2026-11-22T23:30", "2026-11-23T00:00")

    assert Windows(by_hour_of_week=True).hours_of_week(times).tolist() == [6 * 24 + 23, 0]
    kolkata = Windows(tz="Asia/Kolkata", by_hour_of_week=True)
    assert kolkata.hours_of_week(times).tolist() == [5, 5]
    assert kolkata.key.fixed_ns()[0] == 900_000_000_000


def test_the_same_hours_of_the_week_before_are_a_week_before() -> None:
    """Also over a change of summer time: Monday 09:00 follows Monday 09:00."""
    windows = Windows("1h", tz="Europe/Berlin", by_hour_of_week=True)

    assert _shown(windows.before(_times("2026-10-26T08:00"))) == ["10-19T07:00"]


def test_buckets_are_parts_of_windows() -> None:
    """Hours of the week need buckets of an hour at most; else windows are the buckets."""
    assert Windows("1d").key.every == "1d"
    for every in ("20m", "1h", "6h", "1d", "1w"):
        for tz in ("UTC", "Asia/Kolkata"):
            length, _ = Windows(every, tz=tz, by_hour_of_week=True).key.fixed_ns()
            assert 3_600_000_000_000 % length == 0
            assert every != "20m" or 1_200_000_000_000 % length == 0


@pytest.mark.parametrize(
    ("every", "same"),
    [("soon", False), ("0h", False), ("10ms", False), ("90m", True), ("45m", True)],
)
def test_windows_that_make_no_sense_are_refused(every: str, *, same: bool) -> None:
    """Told with the value and what to write."""
    with pytest.raises(UsageError) as caught:
        Windows(every, by_hour_of_week=same)
    assert every in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("every", ["5h", "2w", "1mo"])
def test_there_is_no_same_week_before_some_windows(every: str) -> None:
    """A window that is not the same hours of each week has no partner a week before."""
    windows = Windows(every, by_hour_of_week=True)

    with pytest.raises(UsageError, match=every):
        windows.before(windows.starts(_times("2026-11-25T13:05")))
