"""Reference profiles: bounded memory, merging of shards, columns that suit."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift import count_rows, fit_profile, merge_profiles, psi_columns
from pyflare_analysis.drift.profiles.columns import feature_named, population, suitable_features
from pyflare_analysis.drift.profiles.rows import as_rows
from pyflare_proto.errors import SchemaError, UsageError
from pyflare_storage.source import open_source
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, write_spans


def _shares(counts: np.ndarray) -> np.ndarray:
    return counts / counts.sum()


def test_shards_merge_to_the_whole_within_the_stated_error() -> None:
    """Eight shards of 20,000 lognormal values: each share of a bin within 1/1024."""
    rng = np.random.default_rng(0)
    shards = [
        pl.DataFrame({"x": rng.lognormal(s / 8, 1, 20_000), "c": rng.choice(["a", "b"], 20_000)})
        for s in range(8)
    ]
    whole = as_rows(pl.concat(shards))

    merged = merge_profiles([fit_profile(as_rows(shard)) for shard in shards])

    exact = count_rows(merged, whole)
    error = _shares(merged.columns["x"].counts) - _shares(exact.columns["x"].counts[0])
    assert np.abs(error).max() <= 1 / 1024
    assert _shares(merged.columns["x"].counts)[:-1] == pytest.approx(0.1, abs=2 / 1024)
    assert merged.columns["c"].counts.tolist() == fit_profile(whole).columns["c"].counts.tolist()
    assert (merged.rows, merged.weight) == (160_000, 160_000)


def test_merged_profiles_find_what_the_whole_finds() -> None:
    """PSI of a shift against the merged profile is that against the whole, to 0.003."""
    rng = np.random.default_rng(1)
    shards = [pl.DataFrame({"x": rng.normal(size=5000)}) for _ in range(10)]
    current = as_rows(pl.DataFrame({"x": rng.normal(0.5, 1, 5000)}))

    merged = merge_profiles([fit_profile(as_rows(shard)) for shard in shards])
    whole = fit_profile(as_rows(pl.concat(shards)))

    found = [psi_columns(p, count_rows(p, current))[0].psi[0] for p in (merged, whole)]
    assert found[0] == pytest.approx(found[1], abs=0.003)


def test_shards_that_let_categories_go_raise_no_alarm() -> None:
    """What one shard of twenty kept by chance is compared only where all kept it for certain."""
    shares = 1 / np.arange(1, 5001)
    shares /= shares.sum()
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = [
            pl.DataFrame({"c": np.char.add("k", rng.choice(5000, 5000, p=shares).astype(str))})
            for _ in range(21)
        ]
        merged = merge_profiles([fit_profile(as_rows(part)) for part in parts[:-1]])
        (column,) = psi_columns(merged, count_rows(merged, as_rows(parts[-1])))
        assert column.verdict == ("stable",)
        alarms += column.p_value[0] <= 0.05
    assert alarms <= 5


def test_shards_with_few_values_merge_exactly() -> None:
    """Up to 1,024 different values a shard nothing is lost, missing values included."""
    rng = np.random.default_rng(2)
    shards = [
        pl.DataFrame({"x": [None, *rng.integers(0, 100 + i, 2000).tolist()]}) for i in range(3)
    ]

    merged = merge_profiles([fit_profile(as_rows(shard)) for shard in shards])
    whole = fit_profile(as_rows(pl.concat(shards)))

    assert merged.columns["x"].edges.tolist() == whole.columns["x"].edges.tolist()
    assert merged.columns["x"].counts.tolist() == whole.columns["x"].counts.tolist()


def test_profiles_of_different_kinds_do_not_merge() -> None:
    """Other columns or other bins: an error that says so."""
    x, y = (fit_profile(as_rows({name: [1.0, 3.0] * 50})) for name in ("x", "y"))

    with pytest.raises(UsageError, match="different kinds"):
        merge_profiles([x, y])
    with pytest.raises(UsageError, match="different kinds"):
        merge_profiles([x, fit_profile(as_rows({"x": [1.0, 3.0] * 50}), num_bins=5)])
    with pytest.raises(UsageError, match="no profiles"):
        merge_profiles([])


def test_a_long_column_has_exact_counts(tmp_path: Path) -> None:
    """Beyond what is held, edges are near the quantiles and counts are counted anew."""
    rng = np.random.default_rng(3)
    n = 1_200_000
    frame = pl.DataFrame({"x": rng.lognormal(6, 2, n)})
    frame.write_parquet(tmp_path / "x.parquet")

    with open_source(tmp_path / "x.parquet") as source:
        column = fit_profile(source).columns["x"]

    values = frame["x"].to_numpy()
    placed = np.bincount(np.searchsorted(column.edges, values, side="right"), minlength=10)
    assert column.counts[:-1].tolist() == placed.tolist()
    assert _shares(placed) == pytest.approx(0.1, abs=2 * 2.0**-14)


def test_many_ids_are_counted_in_bounded_memory(tmp_path: Path) -> None:
    """400,000 different ids and one user with 2 %: the user is counted exactly, the ids are not."""
    rng = np.random.default_rng(4)
    n = 400_000
    ids = pl.Series("user", [f"u{i}" for i in range(n)])
    frame = pl.DataFrame({"user": ids, "big": rng.random(n) < 0.02}).select(
        pl.when("big").then(pl.lit("robot")).otherwise("user").alias("user")
    )
    frame.write_parquet(tmp_path / "ids.parquet")

    with open_source(tmp_path / "ids.parquet") as source:
        column = fit_profile(source, [feature_named("user", source.columns())]).columns["user"]

    robots = frame.filter(user="robot").height
    assert column.categories == ("robot",)
    assert column.counts.tolist() == [robots, n - robots, 0]
    assert column.is_open


def test_columns_that_suit_are_taken_and_the_others_are_named(tmp_path: Path) -> None:
    """Numbers and categories; times, ids, free text, row numbers and vectors are passed over."""
    n = 200
    frame = pl.DataFrame(
        {
            "row": range(n),
            "latency": np.random.default_rng(0).lognormal(size=n),
            "model": ["a", "b"] * (n // 2),
            "failed": [True, False] * (n // 2),
            "tags": [["x", "y"], ["x"]] * (n // 2),
            "trace": [f"{i:032x}" for i in range(n)],
            "prompt": ["long text " * 30] * n,
            "vector": [[0.1, 0.2]] * n,
            "at": pl.Series([0] * n).cast(pl.Datetime("ns")),
        }
    )
    frame.write_parquet(tmp_path / "t.parquet")

    with open_source(tmp_path / "t.parquet") as source:
        features, passed = suitable_features(source)

    assert [f.name for f in features] == ["latency", "model", "failed", "tags"]
    assert {p.column for p in passed} == {"row", "trace", "prompt", "vector", "at"}
    assert all(p.reason for p in passed)


def test_features_of_spans_need_no_option(tmp_path: Path) -> None:
    """Tokens, latency, cost, models, finish reasons and text lengths of calls."""
    path = write_spans(tmp_path / "s.parquet", [*ANSWERED, *EMBEDDED, *SAMPLED])

    with open_source(path) as source:
        profile = fit_profile(source, where=population(source))

    assert profile.rows == 4  # two calls, one embedding, one sampled: no workflow, no duplicate
    assert profile.weight == 3 + 4
    model = profile.columns["model"]
    assert dict(zip(model.categories, model.counts, strict=False)) == {
        "claude-sonnet-4-5": 4, "gpt-4o": 2, "text-embedding-3-small": 1,
    }  # fmt: skip
    wanted = "input_tokens output_tokens duration_ms cost_nano_usd input_length_chars"
    wanted += " output_length_chars finish_reasons status_code error_type"
    assert set(wanted.split()) < set(profile.columns)
    assert profile.columns["finish_reasons"].categories == ("stop",)


def test_lengths_and_attributes_can_be_asked_for(tmp_path: Path) -> None:
    """`input_length_chars` counts characters, `attributes.KEY` is a category."""
    rows = [
        {**ANSWERED[1], "span_id": f"{i:016x}", "input": "ü" * i, "attributes": '{"tier":"free"}'}
        for i in range(30)
    ]
    with open_source(write_spans(tmp_path / "s.parquet", rows)) as source:
        types = source.columns()
        names = ["input_length_chars", "attributes.tier"]
        profile = fit_profile(source, [feature_named(name, types) for name in names])

    lengths, tier = profile.columns.values()
    assert lengths.points.values.tolist() == list(range(30))
    assert tier.categories == ("free",)


@pytest.mark.parametrize(
    ("name", "message"),
    [("modle", "unknown column"), ("embedding", "vectors"), ("start_time", "times"),
     ("attributes", "type json")],
)  # fmt: skip
def test_columns_that_cannot_be_watched_are_refused(
    name: str, message: str, tmp_path: Path
) -> None:
    """With what to do instead."""
    with open_source(write_spans(tmp_path / "s.parquet", ANSWERED)) as source:
        types = source.columns()

    with pytest.raises(SchemaError, match=message) as caught:
        feature_named(name, types)
    assert caught.value.hint
