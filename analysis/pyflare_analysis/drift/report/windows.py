"""Windows of time: how rows fall into them, and what each is compared with.

With "the same hours of the week" each row also belongs to one of the 168 hours of a week, in
the time zone asked for, so that Monday morning can be compared with Monday mornings.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pyflare_proto.errors import UsageError
from pyflare_storage.aggregates import TimeBucket

__all__ = ["HOURS_OF_WEEK", "MAX_WINDOWS", "Windows"]

HOURS_OF_WEEK = 168
MAX_WINDOWS = 5_000
"""More windows than these are refused: no picture shows them."""

_WEEK_NS = HOURS_OF_WEEK * 3_600_000_000_000
_CALENDAR = {"day": "1d", "week": "1w", "month": "1mo"}


@dataclass(frozen=True, slots=True)
class Windows:
    """A division of time.

    Args:
        every: length of a window: like `30m`, `1h`, `6h`, `1d`, `1w`, `1mo`.
        column: the time of a row.
        tz: IANA name of the time zone of days, weeks, months and hours of the week.

    Raises:
        UsageError: no length of time, or less than a second.
    """

    every: str = "1d"
    column: str = "start_time"
    tz: str = "UTC"

    def __post_init__(self) -> None:
        length = self._length_ns()
        if length is not None and length < 1_000_000_000:
            raise UsageError(
                f"--every {self.every} is less than a second", hint="--every 1h or --every 1d"
            )

    @property
    def key(self) -> TimeBucket:
        """The key to group rows by; its value is the start of a window."""
        return TimeBucket(self.column, self.every, self.tz, name="start of the window")

    @property
    def least_ns(self) -> int:
        """Nanoseconds that a window has at least; months and days of a calendar differ."""
        days = {"day": 23 / 24, "week": 167 / 24, "month": 28}
        unit = self.key.calendar_unit()
        return int(days[unit] * 24 * 3.6e12) if unit else self.key.fixed_ns()[0]

    def hour_of_week(self) -> pl.Expr:
        """Return the hour of the week of a row's time, 0 for Monday 00:00 to 01:00, int64."""
        local = pl.col(self.column).dt.convert_time_zone(self.tz)
        return (local.dt.weekday().cast(pl.Int64) - 1) * 24 + local.dt.hour().cast(pl.Int64)

    def ends(self, starts: pl.Series) -> pl.Series:
        """Return the first moment after each window; days of a summer-time change are right."""
        return self._moved(starts, 1)

    def before(self, starts: pl.Series) -> pl.Series:
        """Return the start of the window that each one follows."""
        return self._moved(starts, -1)

    def a_week_before(self, starts: pl.Series) -> pl.Series:
        """Return the start of the window of the same hours of the week before.

        Raises:
            UsageError: windows that are not the same hours of every week.
        """
        length = self._length_ns()
        fits = self._step() != "1mo" if length is None else _WEEK_NS % length == 0
        if not fits:
            raise UsageError(
                f"--every {self.every} has no same hours in the week before",
                hint="--every 1h, 6h, 1d or 1w",
            )
        local = starts.dt.convert_time_zone(self.tz).dt.offset_by("-1w")
        return local.dt.convert_time_zone("UTC")

    def _length_ns(self) -> int | None:
        """Return the length; None where the calendar decides it."""
        return None if self.key.calendar_unit() else self.key.fixed_ns()[0]

    def _step(self) -> str:
        unit = self.key.calendar_unit()
        return _CALENDAR[unit] if unit else f"{self._length_ns()}ns"

    def _moved(self, times: pl.Series, windows: int) -> pl.Series:
        step = f"{'-' if windows < 0 else ''}{self._step()}"
        if self._length_ns() is not None:
            return times.dt.offset_by(step)
        local = times.dt.convert_time_zone(self.tz).dt.offset_by(step)
        return local.dt.convert_time_zone("UTC")
