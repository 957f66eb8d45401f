"""Tables of events over time for the tests of the report: seeded, with a known change."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from pyflare_storage.expressions import Expr, Timestamp, col
from pyflare_storage.source import Source, open_source
from pyflare_storage.times import parse_iso

MONDAY = "2026-11-02T00:00:00Z"
HOUR_NS = 3_600_000_000_000


def events(
    hours: int, per_hour: int | np.ndarray, seed: int = 1, *, start: str = MONDAY
) -> pl.DataFrame:
    """Return rows with a time, a heavy-tailed number, a category and a segment.

    Args:
        hours: simulated time.
        per_hour: rows in each hour, one number or (hours,).
        seed: of the draws.
        start: first hour.
    """
    rng = np.random.default_rng(seed)
    hour = np.repeat(np.arange(hours), per_hour)
    n = len(hour)
    ns = parse_iso(start) + hour * HOUR_NS + rng.integers(0, HOUR_NS, n)
    return pl.DataFrame(
        {
            "time": pl.Series(ns).cast(pl.Datetime("ns", "UTC")),
            "hour": hour,
            "size": rng.lognormal(6, 1, n),
            "kind": rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2]),
            "team": rng.choice(["red", "blue"], n, p=[0.7, 0.3]),
        }
    ).sort("time")


def opened(frame: pl.DataFrame, path: Path) -> Source:
    """Return a frame as a Parquet source."""
    frame.drop("hour", strict=False).write_parquet(path)
    return open_source(path)


def since(text: str) -> Expr:
    """Return the condition: at or after."""
    return col("time") >= Timestamp(parse_iso(text))


def before(text: str) -> Expr:
    """Return the condition: earlier."""
    return col("time") < Timestamp(parse_iso(text))
