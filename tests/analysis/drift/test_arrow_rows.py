"""Plain Parquet is read through Arrow: the same counts as any other way of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift.profiles.counts import count_rows
from pyflare_analysis.drift.profiles.profile import fit_profile
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_proto.errors import InvalidDataError
from pyflare_storage.source import open_source
from pyflare_storage.table_source import TableSource


def _frame(rows: int, seed: int) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    gone = rng.random(rows) < 0.1
    return pl.DataFrame(
        {
            "x": pl.Series(rng.normal(size=rows)).set(pl.Series(gone), None),
            "nan": np.where(gone, np.nan, rng.exponential(size=rows)),
            "whole": pl.Series(rng.poisson(5, rows)).set(pl.Series(gone), None),
            "word": pl.Series(rng.choice(["a", "b", "c"], rows)).set(pl.Series(gone), None),
        }
    )


def test_counts_are_those_of_the_frame(tmp_path: Path) -> None:
    """A folder of two files of several row groups, with null and NaN in every kind of column."""
    for i in (0, 1):
        _frame(5000, i).write_parquet(tmp_path / f"{i}.parquet", row_group_size=1700)
    frame = pl.concat([_frame(5000, 0), _frame(5000, 1)])

    with open_source(tmp_path) as source:
        assert isinstance(source, TableSource)
        assert source.arrow_batches(["x", "word"]) is not None
        profile = fit_profile(source)
        counts = count_rows(profile, source)

    other = fit_profile(as_rows(frame))
    for name, column in other.columns.items():
        assert column.categories == profile.columns[name].categories
        np.testing.assert_array_equal(column.edges, profile.columns[name].edges)
        np.testing.assert_array_equal(column.counts, profile.columns[name].counts)
        cells = counts.columns[name].counts[0]
        assert cells.sum() == 10_000
        assert cells[-1] == column.counts[-1] > 0


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """Bytes of a page that are no page: the file is named, as by every other reader."""
    path = tmp_path / "a.parquet"
    _frame(5000, 0).write_parquet(path)
    with open_source(path) as source:
        data = bytearray(path.read_bytes())
        data[4:4000] = bytes(3996)
        path.write_bytes(data)
        with pytest.raises(InvalidDataError, match=r"a\.parquet"):
            fit_profile(source)
