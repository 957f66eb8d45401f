"""MMD^2: equal to a double loop, in blocks, for every split; the median; the detector."""

import math
from pathlib import Path

import numpy as np
import pytest

from pyflare_analysis.drift import MMDConfig, MMDDriftDetector, Verdict, mmd2
from pyflare_analysis.drift.embeddings import kernels
from pyflare_analysis.drift.embeddings.kernels import Distances, Exponential, Gaussian, kernel_sums
from pyflare_analysis.drift.embeddings.mmd import median_sigma
from pyflare_analysis.drift.embeddings.pooled import Pooled, permutation_p_value
from pyflare_proto.errors import (
    InvalidDataError,
    NotEnoughDataError,
    NotFoundError,
    SchemaError,
    StorageError,
    UsageError,
)
from tests.analysis.drift.mmd_oracle import direct_mmd2, direct_sigma, topics, unit_centers


def _pair(seed: int, n: int, m: int, d: int, shift: float = 0.2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)), rng.standard_normal((m, d)) + shift


def test_a_number_by_hand() -> None:
    """X = {0, 1}, Y = {2, 3}, k = 2^(-d^2): 1/2 + 1/2 - 2/4 (1/16 + 1/512 + 1/2 + 1/16)."""
    x, y = np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]])
    sigma = 1 / math.sqrt(2 * math.log(2))

    assert mmd2(x, y, sigma) == pytest.approx(1 - 0.5 * (1 / 16 + 1 / 512 + 1 / 2 + 1 / 16))
    # Squared distances of the pool: 1, 1, 1, 4, 4, 9.
    assert median_sigma(x, y) == pytest.approx(math.sqrt(2.5 / 2))


@pytest.mark.parametrize(("n", "m", "d"), [(2, 2, 1), (7, 3, 2), (40, 25, 16), (30, 60, 384)])
def test_mmd2_equals_a_double_loop_in_float64(n: int, m: int, d: int) -> None:
    """To 1e-9, with the bandwidth given and with the median of the pool."""
    x, y = _pair(n, n, m, d)

    assert mmd2(x, y, 1.7) == pytest.approx(direct_mmd2(x, y, 1.7), abs=1e-12)
    assert median_sigma(x, y) == pytest.approx(direct_sigma(x, y), rel=1e-12)
    assert mmd2(x, y) == pytest.approx(direct_mmd2(x, y, direct_sigma(x, y)), abs=1e-9)


@pytest.mark.parametrize("sigma", [1e-300, 1e300, -1.0, math.nan, math.inf])
def test_a_bandwidth_whose_square_is_no_number_is_refused(sigma: float) -> None:
    """By name, not by a division by zero."""
    x, y = _pair(1, 5, 5, 2)

    with pytest.raises(UsageError):
        mmd2(x, y, sigma)


@pytest.mark.parametrize("offset", [0.0, 3.0, 1000.0, 1e6, 1e9])
def test_mmd2_of_the_detector_equals_a_double_loop_to_1e_6(offset: float) -> None:
    """In float32, also far from zero, where squared norms would cancel everything away."""
    x, y = _pair(3, 60, 80, 24)
    x, y = x + offset, y + offset
    detector = MMDDriftDetector(MMDConfig(num_permutations=20, random_seed=1))
    detector.set_reference_embeddings(x)

    result = detector.compute_from_embeddings(y)

    sigma = direct_sigma(x, y)
    assert result.details["sigma"] == pytest.approx(sigma, rel=1e-6)
    assert result.score == pytest.approx(direct_mmd2(x, y, sigma), abs=1e-6)
    away = np.linalg.norm((x - offset).mean(0) - (y - offset).mean(0))
    assert result.details["centroid"]["euclidean"] == pytest.approx(away, abs=1e-6)


def test_a_bandwidth_far_below_the_distances_is_computed_in_float64() -> None:
    """Of pairs 1e-3 apart among vectors of length 100 float32 would know nothing."""
    rng = np.random.default_rng(5)
    x = np.repeat(rng.standard_normal((10, 4)) * 100, 4, axis=0)
    x += rng.standard_normal(x.shape) * 1e-3
    y = np.repeat(rng.standard_normal((10, 4)) * 100, 4, axis=0)
    y += rng.standard_normal(y.shape) * 1e-3
    detector = MMDDriftDetector(MMDConfig(rbf_sigma=2e-3, num_permutations=0))
    detector.set_reference_embeddings(x)

    assert detector.compare(y).mmd2 == pytest.approx(direct_mmd2(x, y, 2e-3), abs=1e-6)


@pytest.mark.parametrize("kept", [0, 4096])
def test_every_split_equals_its_own_double_loop(monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    """All splits of one matrix product, over many blocks, kept or made again."""
    monkeypatch.setattr(kernels, "_BLOCK", 8)
    monkeypatch.setattr(kernels, "_KEPT_ROWS", kept)
    x, y = _pair(1, 17, 12, 3)
    pool = Pooled.of(x, y, permutations=5, seed=4, dtype=np.float64)
    distances = Distances(pool.rows)
    distances.median()

    gaussian, exponential = (
        sums.mmd2(pool) for sums in kernel_sums(distances, [Gaussian(0.3), Exponential(0.7)], pool)
    )

    for split in range(6):
        first = pool.rows[pool.members[:, split] == 1]
        second = pool.rows[pool.members[:, split] == 0]
        sigma = math.sqrt(1 / 0.6)
        assert gaussian[split] == pytest.approx(direct_mmd2(first, second, sigma), abs=1e-12)
    both = np.concatenate([x, y])
    k = np.exp(-0.7 * np.sqrt(((both[:, None] - both) ** 2).sum(-1)))
    within = (k[:17, :17].sum() - 17) / (17 * 16) + (k[17:, 17:].sum() - 12) / (12 * 11)
    assert exponential[0] == pytest.approx(within - 2 * k[:17, 17:].mean(), abs=1e-12)


@pytest.mark.parametrize("mixed", [True, False])
@pytest.mark.parametrize("kept", [0, 4096])
def test_the_median_is_exact(monkeypatch: pytest.MonkeyPatch, *, mixed: bool, kept: int) -> None:
    """By a bracket from the first rows; also where these are nothing like the others."""
    monkeypatch.setattr(kernels, "_KEPT_ROWS", kept)
    rng = np.random.default_rng(2)
    rows = rng.standard_normal((900, 3)) * np.where(np.arange(900) < 512, 0.1, 5.0)[:, None]
    if mixed:
        rng.shuffle(rows)
    squares = ((rows[:, None] - rows) ** 2).sum(-1)[np.triu_indices(900, 1)]

    assert Distances(rows).median() == pytest.approx(np.median(squares), rel=1e-10)


def test_the_interval_covers_what_the_samples_came_from() -> None:
    """Of 200 pairs with one MMD^2, known from large samples, about 95 % hold it."""
    rng = np.random.default_rng(8)
    large = [rng.standard_normal((4000, 2)) + shift for shift in (0.0, 0.8)]
    truth = mmd2(*large, 1.0)
    covered = 0
    for seed in range(200):
        x, y = _pair(seed + 100, 80, 60, 2, 0.8)
        detector = MMDDriftDetector(MMDConfig(rbf_sigma=1.0, num_permutations=0))
        detector.set_reference_embeddings(x)
        low, high = detector.compare(y).mmd2_interval
        covered += low <= truth <= high

    assert 178 <= covered <= 200  # 95 % of 200 less 3.9 standard errors


def test_p_value_counts_the_observed_split() -> None:
    """(b + 1) / (P + 1), never 0; equal values reach the observed one."""
    assert permutation_p_value(np.array([5.0, 1, 2, 3])) == 0.25
    assert permutation_p_value(np.array([2.0, 1, 2, 3])) == 0.75
    assert permutation_p_value(np.array([2.0])) == 1.0


def test_verdicts_follow_p_value_threshold_and_effect() -> None:
    """Drift needs the p-value and the effect; the threshold says how large it is."""
    x, y = _pair(1, 60, 60, 4, 1.5)

    def verdict(**settings: float) -> tuple[str, str]:
        config = MMDConfig(random_seed=1, **settings)  # type: ignore[arg-type]  # numbers all
        detector = MMDDriftDetector(config)
        detector.set_reference_embeddings(x)
        found = detector.compare(y)
        return str(found.verdict), found.severity

    assert verdict() == ("drift", "significant")
    assert verdict(threshold=0.9) == ("drift", "moderate")
    assert verdict(min_effect=0.9) == ("stable", "none")
    assert verdict(num_permutations=0) == ("drift", "significant")
    assert verdict(num_permutations=0, threshold=0.9) == ("stable", "none")
    assert verdict(num_permutations=18) == ("insufficient", "none")  # 1/19 > 0.05
    assert verdict(num_permutations=19)[0] == "drift"


@pytest.mark.parametrize(
    ("x", "y", "word"),
    [
        (np.zeros((1, 4)), np.ones((50, 4)), "1 and 50"),
        (np.zeros((50, 4)), np.zeros((0, 4)), "50 and 0"),
        (np.random.default_rng(1).random((9, 4)), np.random.default_rng(2).random((9, 4)), "9"),
        (np.full((20, 4), 0.1), np.full((20, 4), 0.1), "equal"),
        (np.full((20, 4), 1e6 / 3), np.full((30, 4), 1e6 / 3), "equal"),
    ],
)
def test_thin_and_constant_data_are_insufficient(x: np.ndarray, y: np.ndarray, word: str) -> None:
    """There is no number that means something, with any method."""
    for method in ("mmd", "auto", "rff"):
        detector = MMDDriftDetector(MMDConfig(), method)
        detector.set_reference_embeddings(x)
        result = detector.compute(y)
        assert result.verdict is Verdict.INSUFFICIENT
        assert math.isnan(result.p_value)
        assert word in result.details["reason"]


@pytest.mark.parametrize("method", ["mmd", "auto"])
def test_many_equal_vectors_are_compared_all_the_same(method: str) -> None:
    """More than half of the pairs are equal, so their median distance is 0."""
    x = np.zeros((40, 3))
    y = np.zeros((40, 3))
    y[:12] = np.random.default_rng(1).standard_normal((12, 3))
    detector = MMDDriftDetector(MMDConfig(random_seed=2), method)
    detector.set_reference_embeddings(x)

    found = detector.compare(y)

    assert found.sigma > 0
    assert found.verdict is Verdict.DRIFT


def test_bad_vectors_are_errors_that_say_where() -> None:
    """NaN, other dimensions, ragged lists, text, no reference, no vectors."""
    detector = MMDDriftDetector()
    with pytest.raises(UsageError, match="no reference"):
        detector.compute(np.zeros((3, 2)))
    with pytest.raises(NotEnoughDataError):
        detector.set_reference_embeddings([])
    detector.set_reference_embeddings([[0.0, 1.0]] * 12)
    with pytest.raises(SchemaError, match="2 dimensions"):
        detector.compute(np.zeros((12, 3)))
    with pytest.raises(InvalidDataError, match="row 1"):
        detector.compute([[1.0, 2.0], [math.nan, 0.0]])
    with pytest.raises(InvalidDataError, match="1 of 2"):
        detector.compute([[1.0, 2.0], [math.inf, 0.0]])
    with pytest.raises(SchemaError):
        detector.compute([[1.0, 2.0], [1.0]])
    with pytest.raises(SchemaError):
        detector.compute([["a", "b"]])
    for number, said in ((1e20, "1e\\+20"), (1e200, "1e\\+200"), (1e-200, "1e-200")):
        with pytest.raises(InvalidDataError, match=f"{said}, outside of what is supported, 1e-15"):
            detector.compute([[number, number]] * 12)
    with pytest.raises(InvalidDataError, match=r"beyond 3\.4e\+38, the largest of float32"):
        detector.compute(np.full((12, 2), np.inf, np.float32))
    with pytest.raises(SchemaError, match="shape"):
        detector.compute(np.zeros(4))


@pytest.mark.parametrize(
    "settings",
    [
        {"rbf_sigma": -1.0},
        {"rbf_sigma": math.nan},
        {"rbf_sigma": 1e-300},
        {"rbf_sigma": 1e300},
        {"rbf_sigma": 1e-160},  # its square is subnormal, and gamma infinite
        {"num_permutations": -1},
        {"p_value_threshold": 0.0},
        {"p_value_threshold": 1.5},
        {"max_samples": -3},
        {"random_seed": -1},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, float]) -> None:
    """At once, not when data come."""
    with pytest.raises(UsageError):
        MMDConfig(**settings)  # type: ignore[arg-type]  # numbers all


def test_an_unknown_method_names_the_nearest() -> None:
    """A slip of the pen."""
    with pytest.raises(UsageError) as caught:
        MMDDriftDetector(method="topic")

    assert "topics" in (caught.value.hint or "")


def test_the_same_seed_gives_the_same_answer_and_none_a_fresh_one() -> None:
    """The seed that was used is in the answer."""
    x, y = _pair(1, 40, 40, 5, 0.1)
    detector = MMDDriftDetector(MMDConfig(random_seed=9), "auto")
    detector.set_reference_embeddings(x)
    fresh = MMDDriftDetector(method="auto")
    fresh.set_reference_embeddings(x)

    first, second, third = detector.compute(y), detector.compute(y), fresh.compute(y)

    assert first.details == second.details
    assert first.details["seed"] == 9
    again = MMDDriftDetector(MMDConfig(random_seed=third.details["seed"]), "auto")
    again.set_reference_embeddings(x)
    assert again.compute(y).details == third.details


def test_a_saved_detector_scores_the_same(tmp_path: Path) -> None:
    """Settings, method, reference and centroid are in the file."""
    x, y = _pair(1, 50, 40, 5)
    detector = MMDDriftDetector(MMDConfig(random_seed=3, max_samples=30), "fuse")
    detector.set_reference_embeddings(x.astype(np.float32))
    detector.save(tmp_path / "reference.npz")

    loaded = MMDDriftDetector.load(tmp_path / "reference.npz")

    assert loaded.config == detector.config
    assert loaded.compute(y).details == detector.compute(y).details
    assert loaded.compute_centroid_drift(y) == detector.compute_centroid_drift(y)
    assert len(loaded.reference) == 30
    np.testing.assert_allclose(loaded.get_reference_centroid(), x.mean(0), atol=1e-6)
    assert not list(tmp_path.glob("*.part"))


def test_a_file_that_is_no_saved_detector_is_refused(tmp_path: Path) -> None:
    """Absent, cut off, of another kind, of a later version; and a folder that is not there."""
    detector = MMDDriftDetector()
    detector.set_reference_embeddings(np.random.default_rng(1).random((12, 3)))
    detector.save(tmp_path / "good.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-40])
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(
        tmp_path / "later.npz",
        head=np.frombuffer(b'{"format": "pyflare.drift.vectors", "version": 99}', np.uint8),
    )

    with pytest.raises(NotFoundError):
        MMDDriftDetector.load(tmp_path / "absent.npz")
    for name in ("cut", "text", "other", "later"):
        with pytest.raises(InvalidDataError):
            MMDDriftDetector.load(tmp_path / f"{name}.npz")
    with pytest.raises(StorageError):
        detector.save(tmp_path / "no" / "folder.npz")


def test_more_vectors_than_asked_for_are_sampled() -> None:
    """Both sides, with the seed; the centroid stays that of all."""
    rng = np.random.default_rng(1)
    centers = unit_centers(rng, 6, 20)
    x, y = (topics(rng, 300, centers=centers) for _ in range(2))
    detector = MMDDriftDetector(MMDConfig(max_samples=50, random_seed=5))
    detector.set_reference_embeddings(x)

    result = detector.compute(y)

    assert (result.reference_count, result.current_count) == (50, 50)
    np.testing.assert_allclose(detector.reference_centroid, x.mean(0, dtype=float))
