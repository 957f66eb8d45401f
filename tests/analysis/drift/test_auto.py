"""The methods for vectors: what each computes and sees, and all of them as one test."""

import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import binom

from pyflare_analysis.drift import MMDConfig, MMDDriftDetector, Verdict
from pyflare_analysis.drift.embeddings.auto import AUTO, METHODS, run
from pyflare_analysis.drift.embeddings.classifier import classifier_test
from pyflare_analysis.drift.embeddings.features import (
    GroupedSums,
    RandomFeatures,
    features_test,
    group_plan,
)
from pyflare_analysis.drift.embeddings.fuse import fuse_test
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, kernel_sums
from pyflare_analysis.drift.embeddings.pooled import Pooled, combined, permutation_p_value
from pyflare_analysis.drift.embeddings.spread import spread_test
from pyflare_analysis.drift.embeddings.streams import Stream, compare_streams
from pyflare_analysis.drift.embeddings.topics import k_means, levels, topics_test
from pyflare_proto.errors import RetryableError
from tests.analysis.drift.mmd_oracle import topics, unit_centers


def _changed(seed: int, change: str, n: int = 400) -> Pooled:
    """Return a pool of 400 and 400 vectors around 10 topics in 64 dimensions."""
    rng = np.random.default_rng(seed)
    centers = unit_centers(rng, 11, 64)
    x = topics(rng, n, centers=centers, noise=0.5)
    noise = 0.4 if change == "tighter" else 0.5
    y = topics(rng, n, centers=centers, noise=noise, new=0.05 if change == "new" else 0.0)
    if change == "shift":
        y = y + 0.13 * centers[-1].astype(np.float32)
    return Pooled.of(x, y, permutations=100, seed=seed + 1)


@pytest.mark.parametrize(
    ("change", "seen_by"),
    [
        ("shift", {"centroid", "classifier", "auto"}),
        ("new", {"topics", "auto"}),
        ("tighter", {"spread", "classifier", "auto"}),
    ],
)
def test_each_method_sees_its_kind_of_change(change: str, seen_by: set[str]) -> None:
    """In each of five pairs; and the mean does not see what leaves it where it was."""
    seen: Counter[str] = Counter()
    for seed in range(5):
        seen.update(
            test.name for test in run(_changed(seed, change), "auto") if test.p_value < 0.05
        )

    assert all(seen[name] == 5 for name in seen_by), seen
    if change == "tighter":
        assert seen["centroid"] <= 1


def test_false_alarms_of_every_method_are_at_the_level() -> None:
    """400 unchanged pairs of 40 + 30 vectors: no count above the 99.99 % point of alpha 0.05."""
    alarms: Counter[str] = Counter()
    runs = 400
    for seed in range(runs):
        rng = np.random.default_rng([5, seed])
        z = rng.standard_normal((70, 8)) * rng.choice([0.5, 2.0], (70, 1))
        pool = Pooled.of(z[:40], z[40:], permutations=39, seed=seed + 1)
        tests = [*run(pool, "auto"), features_test(pool, 2.0)]
        alarms.update(test.name for test in tests if test.p_value <= 0.05)

    most = binom.ppf(0.9999, runs, 0.05)
    least = binom.ppf(0.0001, runs, 0.05)
    assert all(least <= alarms[name] <= most for name in ("auto", "rff", *AUTO)), alarms


def test_the_combined_statistic_treats_all_splits_alike() -> None:
    """Permuting the splits permutes the statistic, whatever is observed."""
    rng = np.random.default_rng(3)
    families = [[rng.gamma(2, size=60), rng.standard_normal(60)], [rng.random(60)]]
    order = rng.permutation(60)

    whole = combined(families)
    moved = combined([[part[order] for part in family] for family in families])

    np.testing.assert_allclose(moved, whole[order])


def test_one_clear_statistic_among_dull_ones_decides() -> None:
    """A value far out in one of three families is the most extreme split."""
    rng = np.random.default_rng(3)
    clear = rng.standard_normal(101)
    clear[0] = 9.0

    statistic = combined([[rng.standard_normal(101)], [clear], [rng.random(101)] * 3])

    assert permutation_p_value(statistic) == pytest.approx(1 / 101)


def test_fuse_is_the_paper_s_soft_maximum() -> None:
    """(1/l) log mean exp(l MMD^2_k / sqrt(N_k)) of ten kernels, by hand for one kernel's N."""
    pool = _changed(1, "new", 60)
    distances = Distances(pool.principal)
    gaussian = kernel_sums(distances, [Gaussian(0.8)], pool)[0]
    z = pool.principal.astype(float)
    k = np.exp(-0.8 * ((z[:, None] - z) ** 2).sum(-1))
    np.fill_diagonal(k, 0)

    assert gaussian.mean_square == pytest.approx((k**2).sum() / (120 * 119), rel=1e-5)
    test = fuse_test(pool)
    assert test.details["kernels"] == 10
    assert len(test.statistics) == 101


def test_principal_components_are_those_of_the_pool() -> None:
    """Against the singular value decomposition, directly and by the iteration for wide rows."""
    rng = np.random.default_rng(1)
    for d in (40, 600):
        z = rng.standard_normal((300, d)) * np.geomspace(4, 0.01, d)
        pool = Pooled.of(z[:200], z[200:], permutations=0, seed=1)
        _, _, vectors = np.linalg.svd(pool.rows, full_matrices=False)

        ours = np.sort(pool.principal.std(0))[::-1]
        expected = (pool.rows @ vectors[:32].T).std(0)

        np.testing.assert_allclose(ours, expected, rtol=2e-2)


def test_k_means_finds_separate_clusters_and_lives_with_equal_rows() -> None:
    """Three clouds; and fewer distinct rows than clusters."""
    rng = np.random.default_rng(1)
    rows = np.repeat(np.eye(3, dtype=np.float32) * 10, 20, axis=0)
    rows += rng.standard_normal(rows.shape).astype(np.float32) * 0.1

    clouds = k_means(rows, 3, rng)
    equal = k_means(np.repeat(np.eye(2, dtype=np.float32), 10, axis=0), 5, rng)

    assert sorted(clouds.sizes) == [20, 20, 20]
    assert len(set(clouds.labels[:20])) == 1
    assert sorted(equal.sizes) == [10, 10]
    assert levels(2000) == [12, 25, 50]
    assert levels(60) == [6]


def test_the_new_topic_is_named() -> None:
    """First in the list, with its rows, its counts and an adjusted p-value; others are none."""
    rng = np.random.default_rng(4)
    centers = unit_centers(rng, 11, 64)
    x = topics(rng, 500, centers=centers, noise=0.5)
    y = topics(rng, 475, centers=centers, noise=0.5)
    planted = topics(rng, 25, centers=np.concatenate([centers[-1:], centers[:1]]), noise=0.5)
    pool = Pooled.of(x, np.concatenate([y, planted]), permutations=100, seed=3)

    first, *others = topics_test(pool).details["topics"]

    assert (first["status"], first["reference_count"], first["current_count"]) == ("new", 0, 25)
    assert set(first["current_rows"]) <= set(range(475, 500))
    assert first["p_value"] == pytest.approx(1 / 101)
    assert min(topic["p_value"] for topic in others) > 0.05


def test_a_topic_that_is_gone_is_named_too() -> None:
    """The other way round."""
    rng = np.random.default_rng(4)
    centers = unit_centers(rng, 11, 64)
    x = topics(rng, 500, centers=centers, noise=0.5, new=0.08)
    y = topics(rng, 500, centers=centers, noise=0.5)

    first = topics_test(Pooled.of(x, y, permutations=100, seed=3)).details["topics"][0]

    assert first["status"] == "gone"
    assert first["current_rows"] == []


def test_spread_tells_how_much_closer_vectors_lie() -> None:
    """Noise of 0.4 after 0.5 is a ratio of about 0.8."""
    test = spread_test(_changed(2, "tighter"))

    assert test.p_value < 0.05
    assert test.details["radius_ratio"] == pytest.approx(0.8, abs=0.05)


def test_the_classifier_leaves_each_row_out() -> None:
    """Its scores in closed form equal those of one fit for each row."""
    rng = np.random.default_rng(6)
    x, y = rng.standard_normal((25, 3)), rng.standard_normal((20, 3)) + 0.7
    pool = Pooled.of(x, y, permutations=0, seed=2, dtype=np.float64)
    z = pool.principal.astype(float)
    table = np.column_stack([z, z**2])
    table = (table - table.mean(0)) / table.std(0)
    target = pool.observed - 25 / 45
    scores = np.empty(45)
    for row in range(45):
        others = np.arange(45) != row
        # An intercept without penalty and the ridge of the whole.
        design = np.column_stack([np.ones(44), table[others]])
        penalty = np.diag([0.0, *[1e-2 * 45] * 6])
        weights = np.linalg.solve(design.T @ design + penalty, design.T @ target[others])
        scores[row] = weights[0] + table[row] @ weights[1:]
    own, other = scores[pool.observed], scores[~pool.observed]
    area = (own[:, None] > other).mean()

    assert classifier_test(pool).details["auc"] == pytest.approx(area, abs=1e-9)


def test_random_features_estimate_the_kernel() -> None:
    """MMD^2 by them is near the exact one, and their products near the kernel."""
    pool = _changed(1, "new")
    sigma = math.sqrt(Distances(pool.rows).median() / 2)
    exact = kernel_sums(Distances(pool.rows), [Gaussian(1 / (2 * sigma**2))], pool)[0].mmd2(pool)

    estimated = features_test(pool, sigma).statistics

    assert estimated[0] == pytest.approx(exact[0], abs=3e-4)
    assert np.corrcoef(estimated, exact)[0, 1] > 0.9
    features = RandomFeatures.of(64, sigma, 1).of_rows(pool.rows[:50])
    k = np.exp(-((pool.rows[:50, None] - pool.rows[:50]) ** 2).sum(-1) / (2 * sigma**2))
    np.testing.assert_allclose(features @ features.T, k, atol=0.2)


@pytest.mark.parametrize(
    ("n", "m"), [(1000, 1000), (10_000_000, 10_000_000), (5_000_000, 300), (20, 400_000)]
)
def test_groups_are_of_one_size_and_not_too_many(n: int, m: int) -> None:
    """Both samples have groups enough to be permuted."""
    size, first, second = group_plan(n, m)

    assert first * size <= n
    assert second * size <= m
    assert first + second <= 2048 + 1
    assert min(first, second) >= min(n, m, 100)


def test_a_stream_is_folded_evenly() -> None:
    """Each group gets as many rows, from everywhere; what does not divide is left out."""
    sums = GroupedSums(groups=4, size=5, rows=23, width=1)
    values = np.arange(23.0)[:, None]
    for batch in (values[:7], values[7:8], values[8:]):
        sums.add(batch[sums.chosen(len(batch))])

    assert sums.complete
    used = np.flatnonzero(GroupedSums(4, 5, 23, 1).chosen(23))
    assert len(used) == 20
    np.testing.assert_array_equal(sums.sums[:, 0], [used[start::4].sum() for start in range(4)])


def test_streams_give_what_the_rows_in_memory_give() -> None:
    """One row a group: the same MMD^2 and the same centroids; then thousands a group."""
    rng = np.random.default_rng(2)
    centers = unit_centers(rng, 6, 16)
    x, y = (topics(rng, 700, centers=centers, noise=0.5, new=new) for new in (0.0, 0.2))
    config = MMDConfig(random_seed=4, rbf_sigma=0.7)

    streamed = compare_streams(
        Stream([x[:100], x[100:]], 700, x[:50]), Stream([y], 700, y[:50]), config
    )

    detector = MMDDriftDetector(config, "rff")
    detector.set_reference_embeddings(x)
    whole = detector.compare(y)
    assert streamed.mmd2 == pytest.approx(whole.tests[0].details["mmd2"], abs=1e-6)
    assert streamed.euclidean == pytest.approx(whole.euclidean, abs=1e-6)
    assert streamed.cosine == pytest.approx(whole.cosine, abs=1e-6)
    assert streamed.verdict is Verdict.DRIFT

    def many(change: float) -> Stream:
        batches = [topics(rng, 5000, centers=centers, noise=0.5, new=change) for _ in range(4)]
        return Stream(batches, 20_000, batches[0][:500])

    grouped = compare_streams(many(0.0), many(0.03), MMDConfig(random_seed=4))
    assert grouped.tests[0].details["rows_a_group"] == 20
    assert grouped.verdict is Verdict.DRIFT
    with pytest.raises(RetryableError):
        compare_streams(Stream([x], 900, x[:50]), Stream([y], 700, y[:50]), config)


def test_every_method_answers_through_the_detector() -> None:
    """With the common figures, its own p-value, and a document of plain values."""
    rng = np.random.default_rng(9)
    centers = unit_centers(rng, 6, 16)
    x, y = (topics(rng, 120, centers=centers, noise=0.5) for _ in range(2))
    for method in METHODS:
        detector = MMDDriftDetector(MMDConfig(random_seed=2, num_permutations=20), method)
        detector.set_reference_embeddings(x)
        result = detector.compute(y)
        assert result.details["method"] == method
        assert result.details["tests"][0]["method"] == method
        assert result.p_value == result.details["p_value"] == result.details["tests"][0]["p_value"]
        assert result.details["mmd2"] == pytest.approx(detector.compare(y).mmd2)
