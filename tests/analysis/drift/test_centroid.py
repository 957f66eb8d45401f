"""The distance of means: numbers by hand, its test, what it cannot see."""

import math

import numpy as np
import pytest

from pyflare_analysis.drift import CentroidDriftDetector, MMDConfig, Verdict
from pyflare_analysis.drift.embeddings.centroid import (
    centroid_distances,
    centroid_test,
    cosine_test,
)
from pyflare_analysis.drift.embeddings.pooled import Pooled


def test_distances_by_hand() -> None:
    """(3, 0) and (0, 4) are 5 apart at a right angle; a zero mean has no angle."""
    assert centroid_distances([3.0, 0.0], [0.0, 4.0]) == (5.0, 1.0)
    assert centroid_distances([1.0, 1.0], [2.0, 2.0]).cosine == pytest.approx(0.0, abs=1e-12)
    assert math.isnan(centroid_distances([0.0, 0.0], [1.0, 0.0]).cosine)


def test_every_split_has_the_distance_of_its_own_means() -> None:
    """Euclidean and cosine, against the means of the rows themselves."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((14, 3)) + 1, rng.standard_normal((9, 3)) + 2
    both = np.concatenate([x, y])
    mean = both.mean(0)
    pool = Pooled.of(x, y, permutations=6, seed=2, dtype=np.float64)

    euclidean = centroid_test(pool).statistics
    cosine = cosine_test(pool, mean).statistics

    rows = pool.rows + mean
    for split in range(7):
        chosen = pool.members[:, split] == 1
        expected = centroid_distances(rows[chosen].mean(0), rows[~chosen].mean(0))
        assert euclidean[split] == pytest.approx(expected.euclidean)
        assert cosine[split] == pytest.approx(expected.cosine)
    assert euclidean[0] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))


def test_the_size_of_a_shift_is_in_standard_deviations() -> None:
    """A shift of 0.5 along one of 4 dimensions of variance 1 is 0.5 / 2 of the spread."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((4000, 4)), rng.standard_normal((4000, 4))
    y[:, 0] += 0.5

    details = centroid_test(Pooled.of(x, y, permutations=0, seed=1)).details

    assert details["shift_in_sd"] == pytest.approx(0.25, abs=0.02)


def test_the_detector_sees_a_shift_and_no_change_of_spread() -> None:
    """Its score is the Euclidean distance."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((200, 10))
    detector = CentroidDriftDetector(MMDConfig(random_seed=1))
    detector.set_reference_embeddings(x)

    shifted = detector.compute(rng.standard_normal((200, 10)) + 0.3)
    spread = detector.compute(x * 1.3)

    assert (detector.name, detector.method) == ("CentroidDriftDetector", "centroid")
    assert shifted.verdict is Verdict.DRIFT
    assert shifted.score == pytest.approx(0.3 * math.sqrt(10), abs=0.3)
    assert shifted.details["centroid"]["euclidean_p_value"] == shifted.p_value
    assert spread.verdict is Verdict.STABLE
