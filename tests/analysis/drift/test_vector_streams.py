"""Vectors that come in batches: what one batch of them all gives, in bounded memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from pyflare_analysis.drift import CentroidDriftDetector, MMDConfig, MMDDriftDetector, Verdict
from pyflare_analysis.drift.detector import DriftResult
from pyflare_analysis.drift.embeddings import mmd
from pyflare_analysis.drift.embeddings.reservoir import Reservoir
from pyflare_proto.errors import InvalidDataError, SchemaError, UsageError

CUTS = ([120], [0, 1, 7, 0, 112], [1] * 120, [60, 60])


def _detector(method: str = "mmd", **settings: int) -> MMDDriftDetector:
    detector = MMDDriftDetector(MMDConfig(random_seed=3, **settings), method)  # type: ignore[arg-type]  # numbers all
    detector.set_reference_embeddings(_vectors(1, 80))
    return detector


def _vectors(seed: int, n: int, shift: float = 0.0) -> NDArray[np.float32]:
    return (np.random.default_rng(seed).standard_normal((n, 6)) + shift).astype(np.float32)


def _without_seen(result: DriftResult) -> tuple[object, ...]:
    details = {key: value for key, value in result.details.items() if key != "seen"}
    return result.verdict, result.score, result.p_value, result.current_count, details


def _fed(
    detector: MMDDriftDetector,
    vectors: NDArray[np.floating],
    sizes: Sequence[int],
    names: NDArray[np.str_] | None = None,
) -> DriftResult:
    start = 0
    for size in sizes:
        part = slice(start, start + size)
        detector.update(vectors[part], None if names is None else names[part].tolist())
        start += size
    return detector.result()


@pytest.mark.parametrize("method", ["mmd", "centroid", "rff", "auto"])
@pytest.mark.parametrize("sizes", CUTS)
def test_batches_of_any_size_give_the_result_of_one(method: str, sizes: list[int]) -> None:
    """Every number is the same up to the bound, and the vectors that came are counted."""
    detector, y = _detector(method), _vectors(2, 120, 0.1)

    found = _fed(detector, y, sizes)

    assert _without_seen(found) == _without_seen(detector.compute(y))
    assert found.details["seen"] == 120
    assert detector.result() == found


@pytest.mark.parametrize("sizes", CUTS)
def test_clusters_keep_their_names_from_batch_to_batch(sizes: list[int]) -> None:
    """A trace that is cut by a batch stays one; names may be of different lengths."""
    detector, y = _detector(), _vectors(2, 120, 0.1)
    names = np.array([f"trace {i // 3}" for i in range(120)])

    found = _fed(detector, y, sizes, names)

    assert found.details["current"]["clusters"] == 40
    assert _without_seen(found) == _without_seen(detector.compute(y, names))


def test_a_batch_of_more_precision_loses_none() -> None:
    """As in an array of both; and the batches may be written over once they were taken."""
    detector = _detector()
    first, second = _vectors(2, 20), _vectors(3, 20).astype(np.float64) + 1e-9
    whole = np.concatenate([first, second])

    detector.update(first)
    detector.update(second)
    first[:] = 99

    assert _without_seen(detector.result()) == _without_seen(detector.compute(whole))


@pytest.mark.parametrize("sizes", CUTS)
def test_what_is_kept_of_more_does_not_depend_on_the_cuts(sizes: list[int]) -> None:
    """At most `max_samples`, each with its own cluster, the same for the same seed."""
    detector, y = _detector(max_samples=50), _vectors(2, 120)
    names = np.array([f"{value:.5f}" for value in y[:, 0]])

    found = _fed(detector, y, sizes, names)

    assert (found.current_count, found.details["seen"]) == (50, 120)
    again = _detector(max_samples=50)
    assert _without_seen(found) == _without_seen(_fed(again, y, [13, 40, 67], names))
    reservoir = Reservoir(50, 3)
    for size, start in zip(sizes, np.cumsum([0, *sizes[:-1]]), strict=True):
        reservoir.add(y[start : start + size], names[start : start + size])
    rows, kept = reservoir.kept()
    assert kept is not None
    assert len(set(kept.tolist())) == 50
    assert kept.tolist() == [f"{value:.5f}" for value in rows[:, 0]]


def test_every_vector_is_as_likely_to_be_kept() -> None:
    """Of 30 the 10 that are kept, 3,000 times: each within 4.5 standard errors of a third."""
    count = np.zeros(30)
    for seed in range(1, 3001):
        reservoir = Reservoir(10, seed)
        for part in np.split(np.arange(30.0)[:, None], [4, 17]):
            reservoir.add(part)
        count[reservoir.kept()[0][:, 0].astype(int)] += 1

    assert count.sum() == 30_000
    assert np.abs(count - 1000).max() < 4.5 * np.sqrt(3000 * 2 / 9)


def test_memory_is_bounded_without_max_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the vectors that are compared pair by pair at most."""
    monkeypatch.setattr(mmd, "MOST_VECTORS", 40)

    found = _fed(_detector(), _vectors(2, 120), [100, 20])

    assert (found.current_count, found.details["seen"]) == (40, 120)


def test_a_fresh_seed_is_told_and_gives_the_same_sample_again() -> None:
    """It is that of the sample as well as of the splits."""
    y = _vectors(2, 120)
    fresh = MMDDriftDetector(MMDConfig(max_samples=80))
    fresh.set_reference_embeddings(_vectors(1, 80))

    found = _fed(fresh, y, [120])

    assert fresh.result() == found
    again = MMDDriftDetector(MMDConfig(max_samples=80, random_seed=found.details["seed"]))
    again.set_reference_embeddings(_vectors(1, 80))
    assert _fed(again, y, [60, 60]) == found


def test_reset_and_another_reference_forget_the_stream() -> None:
    """Nothing came is insufficient, not stable; the reference stays."""
    detector = _detector()
    detector.update(_vectors(2, 60, 2.0))
    assert detector.result().verdict is Verdict.DRIFT

    detector.reset()
    empty = detector.result()
    detector.update(_vectors(3, 60))
    after = detector.result()
    detector.set_reference_embeddings(_vectors(4, 80))

    assert (empty.verdict, empty.details["seen"]) == (Verdict.INSUFFICIENT, 0)
    assert (after.verdict, after.details["seen"]) == (Verdict.STABLE, 60)
    assert detector.result().details["seen"] == 0


def test_the_score_of_a_stream_of_the_centroid_detector_is_the_distance() -> None:
    """As of one batch."""
    detector = CentroidDriftDetector(MMDConfig(random_seed=1))
    detector.set_reference_embeddings(_vectors(1, 80))

    found = _fed(detector, _vectors(2, 120, 1.0), [50, 70])

    assert found.score == detector.compute_centroid_drift(_vectors(2, 120, 1.0))


def test_a_batch_that_does_not_fit_is_refused_and_leaves_the_stream_as_it_was() -> None:
    """No reference, other dimensions, NaN, clusters that do not fit."""
    with pytest.raises(UsageError, match="no reference"):
        MMDDriftDetector().update(_vectors(1, 3))
    with pytest.raises(UsageError, match="no reference"):
        MMDDriftDetector().result()
    detector = _detector()
    detector.update(_vectors(2, 60), ["a"] * 60)
    before = detector.result()

    with pytest.raises(SchemaError, match="6 dimensions"):
        detector.update(np.ones((4, 5)), ["a"] * 4)
    with pytest.raises(InvalidDataError, match="row 0"):
        detector.update(np.full((4, 6), np.nan), ["a"] * 4)
    with pytest.raises(SchemaError, match="clusters of shape"):
        detector.update(_vectors(3, 4), ["a"])
    with pytest.raises(SchemaError, match="some batches"):
        detector.update(_vectors(3, 4))
    with pytest.raises(SchemaError, match="after clusters of"):
        detector.update(_vectors(3, 4), [1, 2, 3, 4])

    assert detector.result() == before
