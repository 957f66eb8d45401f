"""Numbers far from 0 and far from 1: as exact as their type, or refused in true words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift import MMDConfig, Verdict
from pyflare_analysis.drift.embeddings.answer import EmbeddingDrift, embedding_drift
from pyflare_analysis.drift.embeddings.comparison import compare
from pyflare_analysis.drift.embeddings.pooled import Pooled
from pyflare_analysis.drift.embeddings.vectors import VectorColumn
from pyflare_proto.errors import InvalidDataError
from pyflare_storage.source import open_source
from tests.analysis.drift.mmd_oracle import direct_mmd2, direct_sigma


def _column(path: Path, values: pl.Series) -> VectorColumn:
    frame = pl.DataFrame({"v": values})
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return VectorColumn(open_source(path), "v")


def _answer(columns: list[VectorColumn], method: str = "mmd") -> EmbeddingDrift:
    return embedding_drift(columns[0], columns[1], MMDConfig(random_seed=1), method)


def _json(rows: np.ndarray) -> pl.Series:
    return pl.Series([json.dumps(row) for row in rows.tolist()])


@pytest.mark.parametrize("offset", [1e6, 1e9])
@pytest.mark.parametrize("method", ["mmd", "rff"])
def test_float64_far_from_zero_is_as_exact_as_near_it(
    tmp_path: Path, offset: float, method: str
) -> None:
    """MMD^2, bandwidth and distance of a double loop to 1e-6; by random features the latter two."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((60, 8)) + offset, rng.standard_normal((50, 8)) + offset + 0.3
    columns = [
        _column(tmp_path / f"{name}.csv", _json(rows)) for name, rows in (("x", x), ("y", y))
    ]

    found = _answer(columns, method).comparison

    sigma = direct_sigma(x, y)
    away = np.linalg.norm((x - offset).mean(0) - (y - offset).mean(0))
    assert found.sigma == pytest.approx(sigma, abs=1e-6)
    assert found.euclidean == pytest.approx(away, abs=1e-6)
    if method == "mmd":
        assert found.mmd2 == pytest.approx(direct_mmd2(x, y, sigma), abs=1e-6)


def test_large_whole_numbers_keep_their_last_digits(tmp_path: Path) -> None:
    """Lists of integers that float32 does not hold."""
    rng = np.random.default_rng(2)
    x, y = (10**9 + rng.integers(-40, 40, (40, 4)) for _ in range(2))
    columns = [
        _column(tmp_path / f"{name}.parquet", pl.Series(rows.tolist(), dtype=pl.List(pl.Int64)))
        for name, rows in (("x", x), ("y", y))
    ]

    found = _answer(columns).comparison

    sigma = direct_sigma(x.astype(float), y.astype(float))
    assert found.sigma == pytest.approx(sigma, rel=1e-6)
    assert found.mmd2 == pytest.approx(
        direct_mmd2(x.astype(float), y.astype(float), sigma), abs=1e-6
    )


def test_samples_of_two_precisions_have_one_center(tmp_path: Path) -> None:
    """Reference in float32, current in float64, one law: no method sees the type."""
    rng = np.random.default_rng(3)
    x, y = (rng.standard_normal((200, 4)) + 1000 for _ in range(2))
    columns = [
        _column(tmp_path / "x.parquet", pl.Series(x.tolist(), dtype=pl.List(pl.Float32))),
        _column(tmp_path / "y.csv", _json(y)),
    ]

    for method in ("mmd", "rff"):
        found = _answer(columns, method)
        assert found.verdict is Verdict.STABLE
        away = np.linalg.norm(x.mean(0) - y.mean(0))
        assert found.comparison.euclidean == pytest.approx(away, abs=1e-4)


def test_float32_vectors_are_centred_in_float32() -> None:
    """Their pool takes no more memory or time for the sake of float64, and keeps its numbers."""
    x, y = np.random.default_rng(4).standard_normal((2, 50, 3)).astype(np.float32) + 5
    pool = Pooled.of(x, y, permutations=0, seed=1)

    share = np.full(50, 1 / 100, np.float32)
    rows = (np.concatenate([x, y]) - (share @ x + share @ y))[pool.order]

    assert pool.rows.dtype == np.float32
    np.testing.assert_array_equal(pool.rows, rows)


def test_equal_in_the_precision_of_one_side_is_equal() -> None:
    """0.1 in float32 and 0.1 in float64 are not drift; 1 and 1 + 1e-9 in float64 may be."""
    config = MMDConfig(random_seed=1)
    tenths = np.full((20, 3), 0.1)

    same = compare(tenths.astype(np.float32), tenths, config, "mmd")
    other = compare(np.full((20, 3), 1.0), np.full((20, 3), 1 + 1e-9), config, "mmd")

    assert same.reason == "the vectors are all equal"
    assert other.verdict is Verdict.DRIFT


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64])
def test_numbers_beyond_float32_are_not_taken_for_infinity(
    tmp_path: Path, dtype: type[pl.DataType]
) -> None:
    """The message has the range, whether a list came as float32 or the numbers as they are."""
    rows = np.random.default_rng(5).standard_normal((30, 4)) * 1e200
    series = pl.Series(rows.tolist(), dtype=pl.List(pl.Float64)).cast(pl.List(dtype))

    with pytest.raises(InvalidDataError, match=r"a number beyond 3.4e\+38|outside of what is"):
        _column(tmp_path / "a.parquet", series).load(0, 1)
    with pytest.raises(InvalidDataError, match="outside of what is supported, 1e-15 to 1e"):
        _column(tmp_path / "a.csv", _json(rows)).load(0, 1)


@pytest.mark.parametrize("method", ["mmd", "rff"])
def test_numbers_below_float32_are_not_taken_for_failed_embeddings(
    tmp_path: Path, method: str
) -> None:
    """Lists of float32 have lost them: the reason names both; text has not, and is refused."""
    rows = np.random.default_rng(6).standard_normal((30, 4)) * 1e-200
    lost = pl.Series(rows.tolist(), dtype=pl.List(pl.Float64)).cast(pl.List(pl.Float32))
    column = _column(tmp_path / "a.parquet", lost)

    answer = _answer([column, column], method)

    assert answer.verdict is Verdict.INSUFFICIENT
    assert answer.comparison.reason == (
        "the vectors are all zeros, or of numbers below 1e-45, which float32 lacks"
    )
    if method == "mmd":
        assert "30 vectors are all zeros in float32" in answer.notes[0]
    text = _column(tmp_path / "a.csv", _json(rows))
    with pytest.raises(InvalidDataError, match="e-200, outside of what is supported"):
        _answer([text, text], method)
