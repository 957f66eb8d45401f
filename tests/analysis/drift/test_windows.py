"""Windows: where rows fall, what they are compared with, and days of 23 and 25 hours."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from pyflare_analysis.drift.report.windows import Windows
from pyflare_proto.errors import UsageError
from pyflare_storage.polars_expressions import PolarsCompiler


def _times(*texts: str) -> pl.Series:
    moments = [datetime.fromisoformat(text).replace(tzinfo=UTC) for text in texts]
    return pl.Series(moments, dtype=pl.Datetime("ns", "UTC"))


def _starts(windows: Windows, *texts: str) -> pl.Series:
    frame = pl.DataFrame({"start_time": _times(*texts)})
    compiler = PolarsCompiler({"start_time": "timestamp_ns"})
    return frame.select(compiler.key(windows.key)).to_series()


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
    starts = _starts(windows, "2026-11-25T13:05")

    assert _shown(starts) == [start]
    assert _shown(windows.ends(starts)) == [end]
    assert _shown(windows.before(starts)) == [before]


def test_days_of_a_summer_time_change_have_23_and_25_hours() -> None:
    """Berlin, 29 March and 25 October 2026."""
    windows = Windows("1d", tz="Europe/Berlin")
    starts = _starts(windows, "2026-03-29T12:00", "2026-10-25T12:00")
    length = windows.ends(starts).dt.epoch("s") - starts.dt.epoch("s")

    assert (length / 3600).to_list() == [23, 25]
    assert _shown(windows.before(starts)) == ["03-27T23:00", "10-23T22:00"]


def test_hours_of_the_week_are_local() -> None:
    """Sunday 23:30 UTC is Monday 05:00 in Kolkata, whose hours begin at :30."""
    frame = pl.DataFrame({"start_time": _times("2026-11-22T23:30", "2026-11-23T00:00")})

    hours = {tz: frame.select(Windows(tz=tz).hour_of_week()) for tz in ("UTC", "Asia/Kolkata")}

    assert hours["UTC"].to_series().to_list() == [6 * 24 + 23, 0]
    assert hours["Asia/Kolkata"].to_series().to_list() == [5, 5]


def test_the_same_hours_of_the_week_before_are_a_week_before() -> None:
    """Also over a change of summer time: Monday 09:00 follows Monday 09:00."""
    windows = Windows("1h", tz="Europe/Berlin")

    assert _shown(windows.a_week_before(_times("2026-10-26T08:00"))) == ["10-19T07:00"]


@pytest.mark.parametrize("every", ["soon", "0h", "10ms", "2mo"])
def test_windows_that_make_no_sense_are_refused(every: str) -> None:
    """Told with the value and what to write."""
    with pytest.raises(UsageError) as caught:
        Windows(every)
    assert every in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("every", ["5h", "2w", "1mo"])
def test_there_is_no_same_week_before_some_windows(every: str) -> None:
    """A window that is not the same hours of each week has no partner a week before."""
    windows = Windows(every)

    with pytest.raises(UsageError, match=every):
        windows.a_week_before(_times("2026-11-25T13:05"))
