"""Windows of time: how rows fall into them, and what each is compared with.

Rows are grouped by buckets of time, which are windows or parts of them. A window is known
by its start. With "the same hours of the week" each bucket also belongs to one of the 168
hours of a week, in the time zone asked for, so that Monday morning can be compared with
Monday mornings.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_proto.errors import UsageError
from pyflare_storage.aggregates import TimeBucket

__all__ = ["HOURS_OF_WEEK", "MAX_WINDOWS", "Windows"]

HOURS_OF_WEEK = 168
MAX_WINDOWS = 5_000
"""More windows than these are refused: no picture shows them."""

Int64s = NDArray[np.int64]

_HOUR_NS = 3_600_000_000_000
_WEEK_NS = 168 * _HOUR_NS
_QUARTER_NS = _HOUR_NS // 4
_KEY = "window bucket"


@dataclass(frozen=True, slots=True)
class Windows:
    """A division of time.

    Args:
        every: length of a window: like `30m`, `1h`, `6h`, `1d`, `1w`, `1mo`.
        column: the time of a row.
        tz: IANA name of the time zone of days, weeks, months and hours of the week.
        by_hour_of_week: tell the hours of the week apart.

    Raises:
        UsageError: no length of time, or an unknown time zone.
    """

    every: str = "1d"
    column: str = "start_time"
    tz: str = "UTC"
    by_hour_of_week: bool = False

    def __post_init__(self) -> None:
        bucket = TimeBucket(self.column, self.every, self.tz)
        if bucket.calendar_unit() is None:
            length, _ = bucket.fixed_ns()
            if length < 1_000_000_000:
                raise UsageError(
                    f"--every {self.every} is less than a second", hint="--every 1h or --every 1d"
                )
            if self.by_hour_of_week and max(length, _HOUR_NS) % min(length, _HOUR_NS):
                raise UsageError(
                    f"--every {self.every} cuts hours of the week apart",
                    hint="--every 1h, 6h, 1d or 1w",
                )

    @property
    def key(self) -> TimeBucket:
        """The key to group rows by: buckets that are windows, or parts of them."""
        return TimeBucket(self.column, self._bucket(), self.tz, name=_KEY)

    def starts(self, buckets: pl.Series) -> pl.Series:
        """Return the start of the window of each bucket.

        Args:
            buckets: (n,) starts of buckets, Datetime("ns", "UTC").
        """
        key = TimeBucket(_KEY, self.every, self.tz)
        unit = key.calendar_unit()
        if unit is not None:
            every = {"day": "1d", "week": "1w", "month": "1mo"}[unit]
            local = buckets.dt.convert_time_zone(self.tz).dt.truncate(every)
            return local.dt.convert_time_zone("UTC")
        length, offset = key.fixed_ns()
        ns = buckets.dt.epoch("ns")
        return (ns - (ns - offset) % length).cast(pl.Datetime("ns", "UTC"))

    def hours_of_week(self, buckets: pl.Series) -> Int64s:
        """Return the hour of the week of each bucket, 0 for Monday 00:00 to 01:00, else all 0."""
        if not self.by_hour_of_week:
            return np.zeros(len(buckets), np.int64)
        local = buckets.dt.convert_time_zone(self.tz)
        hours = (local.dt.weekday().cast(pl.Int64) - 1) * 24 + local.dt.hour().cast(pl.Int64)
        return hours.to_numpy().astype(np.int64)

    def ends(self, starts: pl.Series) -> pl.Series:
        """Return the first moment after each window; days of a summer-time change are right."""
        return self._moved(starts, self.every)

    def before(self, starts: pl.Series) -> pl.Series:
        """Return the start of the window that each one follows.

        With hours of the week: of the window of the same hours, a week (or a longer
        window) before.

        Raises:
            UsageError: windows that are not the same hours of every week.
        """
        if not self.by_hour_of_week:
            return self.starts(
                self._moved(starts, "-1ns" if self._calendar() else f"-{self.every}")
            )
        if self.every.strip() == "1mo" or (not self._calendar() and self._length() > _WEEK_NS):
            raise UsageError(
                f"--every {self.every} has no same hours of the week before",
                hint="--every 1h, 1d or 1w",
            )
        if not self._calendar() and _WEEK_NS % self._length():
            raise UsageError(
                f"--every {self.every} does not divide a week", hint="--every 1h, 6h, 1d or 1w"
            )
        return self._moved(starts, "-1w")

    def _calendar(self) -> bool:
        return TimeBucket(self.column, self.every, self.tz).calendar_unit() is not None

    def _length(self) -> int:
        return TimeBucket(self.column, self.every, self.tz).fixed_ns()[0]

    def _bucket(self) -> str:
        """Return the length of a bucket: an hour at most where hours of the week count."""
        if not self.by_hour_of_week:
            return self.every
        # Zones whose offset is no whole hour have hours that begin at :15, :30 or :45.
        longest = _HOUR_NS if self.tz == "UTC" else _QUARTER_NS
        return f"{longest if self._calendar() else math.gcd(self._length(), longest)}ns"

    def _moved(self, times: pl.Series, by: str) -> pl.Series:
        unit = by.lstrip("-").strip()
        if unit in {"1d", "1w", "1mo"}:
            local = times.dt.convert_time_zone(self.tz).dt.offset_by(by.strip())
            return local.dt.convert_time_zone("UTC")
        return times.dt.offset_by(by.replace(" ", ""))
