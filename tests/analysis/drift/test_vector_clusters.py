"""Vectors that are not independent: whole clusters change sides, and the level is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift import MMDConfig, MMDDriftDetector, Verdict
from pyflare_analysis.drift.embeddings.answer import embedding_drift
from pyflare_analysis.drift.embeddings.auto import run
from pyflare_analysis.drift.embeddings.comparison import compare
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, kernel_sums
from pyflare_analysis.drift.embeddings.pooled import Clusters, Pooled, permutation_p_value
from pyflare_analysis.drift.embeddings.vectors import VectorColumn
from pyflare_proto.errors import InvalidDataError, SchemaError
from pyflare_storage.source import open_source

DIMENSIONS = 16


def _told(rng: np.random.Generator, traces: int) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors of traces, one to eight nearly equal ones each, and their traces."""
    trace = np.repeat(np.arange(traces), rng.integers(1, 9, traces))
    vectors = rng.normal(size=(traces, DIMENSIONS))[trace]
    vectors += 0.01 * rng.normal(size=vectors.shape)
    return vectors.astype(np.float32), trace


def _p_values(pool: Pooled) -> dict[str, float]:
    distances = Distances(pool.rows)
    sums = kernel_sums(distances, [Gaussian(1 / distances.median())], pool)[0]
    found = {test.name: test.p_value for test in run(pool, "auto")}
    return found | {"mmd": permutation_p_value(sums.mmd2(pool))}


def test_no_method_takes_the_calls_of_a_trace_for_news() -> None:
    """24 unchanged pairs: alarms at the level with clusters, nearly always without."""
    alarms: dict[tuple[str, bool], int] = {}
    for seed in range(24):
        rng = np.random.default_rng([1, seed])
        (x, of_x), (y, of_y) = _told(rng, 60), _told(rng, 60)
        for clusters in (Clusters(of_x, of_y), None):
            pool = Pooled.of(x, y, permutations=39, seed=seed + 1, clusters=clusters)
            for name, p in _p_values(pool).items():
                key = name, clusters is not None
                alarms[key] = alarms.get(key, 0) + (p <= 0.05)

    known = {name: count for (name, clustered), count in alarms.items() if clustered}
    assert set(known) == {"mmd", "auto", "centroid", "fuse", "topics", "spread", "classifier"}
    assert max(known.values()) <= 5, known  # binomial(24, 0.05): above it once in 1,000
    assert alarms["mmd", False] >= 18
    assert alarms["auto", False] >= 18


def test_a_change_of_whole_clusters_is_seen() -> None:
    """Power is that of the number of traces."""
    rng = np.random.default_rng(2)
    (x, of_x), (y, of_y) = _told(rng, 150), _told(rng, 150)

    found = compare(x, y + 1, MMDConfig(random_seed=1), "mmd", Clusters(of_x, of_y))

    assert found.verdict is Verdict.DRIFT
    assert found.clusters == (150, 150)


def test_clusters_change_sides_whole() -> None:
    """Each split has as many clusters on the side of the reference, whatever their rows."""
    rng = np.random.default_rng(3)
    (x, of_x), (y, of_y) = _told(rng, 30), _told(rng, 20)
    pool = Pooled.of(x, y, permutations=50, seed=1, clusters=Clusters(of_x, of_y))

    assert pool.clusters is not None
    for column in pool.members.T:
        sides = [set(pool.clusters[column == side]) for side in (0, 1)]
        assert [len(side) for side in sides] == [20, 30]
        assert not sides[0] & sides[1]
    assert pool.reference_counts[0] == len(x)
    assert len(np.unique(pool.reference_counts)) > 10
    assert (pool.reference_counts + pool.current_counts == len(x) + len(y)).all()


@pytest.mark.parametrize("method", ["mmd", "rff", "auto"])
def test_clusters_of_one_vector_change_nothing(method: str) -> None:
    """With the same seed every number is the same."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(2, 60, 8)).astype(np.float32)
    alone = Clusters(np.arange(60), rng.permutation(60))

    known = compare(x, y, MMDConfig(random_seed=7), method, alone).to_dict()
    plain = compare(x, y, MMDConfig(random_seed=7), method).to_dict()

    assert (known["reference"]["clusters"], plain["reference"]["clusters"]) == (60, None)
    for side in ("reference", "current"):
        known[side].pop("clusters"), plain[side].pop("clusters")
    assert known == plain


def test_an_interval_is_as_wide_as_that_of_the_traces() -> None:
    """Each vector told four times: the standard error is that of one telling."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(2, 80, 8)).astype(np.float32)
    config = MMDConfig(random_seed=1, rbf_sigma=2.0, num_permutations=0)
    told = np.repeat(np.arange(80), 4)

    def width(found: object) -> float:
        low, high = found.mmd2_interval  # type: ignore[attr-defined]  # a Comparison
        return high - low

    one = width(compare(x, y + 0.5, config, "mmd"))
    four = compare(x[told], y[told] + 0.5, config, "mmd", Clusters(told, told))
    naive = compare(x[told], y[told] + 0.5, config, "mmd")

    assert width(four) == pytest.approx(one, rel=0.03)
    assert width(naive) == pytest.approx(one / 2, rel=0.03)


def test_few_clusters_are_refused_however_many_vectors() -> None:
    """Nine traces of a hundred vectors say nothing."""
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(2, 900, 4)).astype(np.float32)
    few = np.arange(900) % 9

    found = compare(x, y, MMDConfig(random_seed=1), "mmd", Clusters(few, np.arange(900)))

    assert found.verdict is Verdict.INSUFFICIENT
    assert found.reason == "vectors of 9 and 900 clusters, 10 a side are needed"


def test_a_detector_keeps_the_clusters_of_its_reference(tmp_path: Path) -> None:
    """Names of any kind; saved, sampled and loaded they stay with their vectors."""
    rng = np.random.default_rng(7)
    (x, of_x), (y, of_y) = _told(rng, 80), _told(rng, 80)
    names = np.char.add("trace ", of_x.astype(str))
    detector = MMDDriftDetector(MMDConfig(random_seed=3, max_samples=200))
    detector.set_reference_embeddings(x, names)
    detector.save(tmp_path / "d.npz")

    found = detector.compute_from_embeddings(y, of_y)
    again = MMDDriftDetector.load(tmp_path / "d.npz").compute_from_embeddings(y, of_y)

    assert found.details["reference"]["clusters"] < 80 < found.reference_count == 200
    assert again.p_value == found.p_value
    assert again.details["reference"] == found.details["reference"]
    alone = detector.compare(y).clusters
    assert alone is not None
    assert alone[1] == 200
    with pytest.raises(SchemaError, match="clusters of shape"):
        detector.set_reference_embeddings(x, names[:5])


def test_a_saved_detector_with_too_few_clusters_is_damaged(tmp_path: Path) -> None:
    """Nothing is guessed."""
    detector = MMDDriftDetector()
    detector.set_reference_embeddings(np.eye(12), np.arange(12) // 2)
    detector.save(tmp_path / "d.npz")
    with np.load(tmp_path / "d.npz") as archive:
        arrays = {**archive, "clusters": np.arange(3)}
    np.savez(tmp_path / "d.npz", **arrays)

    with pytest.raises(InvalidDataError, match="damaged"):
        MMDDriftDetector.load(tmp_path / "d.npz")


def _file(path: Path, vectors: np.ndarray, trace: list[str | None]) -> str:
    frame = pl.DataFrame(
        {"trace_id": trace, "embedding": pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32))}
    )
    frame.write_parquet(path)
    return str(path)


def test_a_source_says_which_vectors_belong_together(tmp_path: Path) -> None:
    """Rows without a value stand alone; a side without the column has rows that all do."""
    rng = np.random.default_rng(8)
    x = rng.normal(size=(60, 4))
    some: list[str | None] = [None if i % 3 == 0 else f"t{i // 6}" for i in range(60)]
    urls = [_file(tmp_path / "a.parquet", x, some), _file(tmp_path / "b.parquet", x, ["t"] * 60)]
    with open_source(urls[0]) as first, open_source(urls[1]) as second:
        columns = [VectorColumn(s, "embedding", cluster="trace_id") for s in (first, second)]
        numbers = columns[0].load(0, 1).clusters
        without = VectorColumn(first, "embedding", cluster="user").load(0, 1).clusters
        answer = embedding_drift(columns[0], columns[1], MMDConfig(random_seed=1))

    assert numbers is not None
    assert without is not None
    assert len(np.unique(numbers)) == 20 + 10
    assert sorted(np.unique(numbers)) == list(range(30))
    assert without.tolist() == list(range(60))
    assert answer.verdict is Verdict.INSUFFICIENT
    assert answer.to_dict()["current"]["clusters"] == 1
    assert "which change sides whole" in answer.notes[-1]
