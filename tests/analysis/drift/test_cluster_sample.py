"""A sample of clusters: whole, of bounded number, and as likely to hold small ones as large."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift.clusters.sample import WholeClusters
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_storage.aggregates import TimeBucket
from pyflare_storage.expressions import col


def _users(rows: int, users: int, seed: int = 1) -> pl.DataFrame:
    """Return rows of users in any order, the k-th user as frequent as 1/k."""
    weights = 1 / np.arange(1, users + 1)
    drawn = np.random.default_rng(seed).choice(users, rows, p=weights / weights.sum())
    return pl.DataFrame({"user": np.char.add("u", drawn.astype(str)), "row": np.arange(rows)})


def _read(rows: WholeClusters) -> pl.DataFrame:
    return pl.concat(list(rows.scan(["row", "user"])))


def test_clusters_are_whole_and_no_more_than_asked_for() -> None:
    """Wherever their rows lie; the columns are those asked for."""
    frame = _users(150_000, 20_000)

    found = _read(WholeClusters(as_rows(frame), ["user"], None, most=500))

    assert found.columns == ["row", "user"]
    assert found["user"].n_unique() == 500
    whole = frame.filter(pl.col("user").is_in(found["user"].unique().implode()))
    assert found["row"].to_list() == whole["row"].to_list()


def test_few_clusters_are_all_there() -> None:
    """With no more than asked for, nothing is left out."""
    frame = _users(5000, 300)

    assert _read(WholeClusters(as_rows(frame), ["user"], None, most=300)).height == 5000


def test_large_clusters_are_no_likelier_than_small_ones() -> None:
    """A sample of rows would hold nearly all of the largest fifth; this one holds a fifth."""
    frame = _users(150_000, 20_000)
    sizes = frame.group_by("user").len()
    large = sizes.sort("len", descending=True).head(sizes.height // 5)["user"]

    found = _read(WholeClusters(as_rows(frame), ["user"], None, most=2000))["user"].unique()

    share = found.is_in(large.implode()).mean()
    assert share == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 2000) ** 0.5)


def test_rows_that_do_not_count_choose_nothing() -> None:
    """The sample is one of the clusters that fulfil the condition."""
    frame = _users(20_000, 2000)
    where = col("row") < 1000

    rows = WholeClusters(as_rows(frame), ["user"], where, most=10)

    found = pl.concat(list(rows.scan(["user"], where)))
    assert found["user"].n_unique() == 10


def test_a_cluster_may_be_one_of_a_window() -> None:
    """Keys beside the column divide it: one user on two days is two clusters."""
    frame = pl.DataFrame(
        {
            "user": ["a", "a", "b", "b"] * 50,
            "time": pl.datetime_range(
                pl.datetime(2026, 1, 1), pl.datetime(2026, 1, 9, 7), "1h", eager=True
            ).dt.replace_time_zone("UTC").cast(pl.Datetime("ns", "UTC")),
        }
    )  # fmt: skip
    day = TimeBucket("time", "1d", "UTC", name="day")

    rows = WholeClusters(as_rows(frame), ["user", day], None, most=5)

    found = pl.concat(list(rows.scan())).with_columns(pl.col("time").dt.date())
    assert found.select("user", "time").n_unique() == 5
