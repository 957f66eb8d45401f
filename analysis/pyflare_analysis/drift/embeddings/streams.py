"""Two streams of vectors compared by random features, in one pass over each.

Memory does not grow with the rows: about 2,048 groups of sums are held.
"""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.embeddings.centroid import centroid_distances
from pyflare_analysis.drift.embeddings.comparison import (
    MINIMUM_COUNT,
    Comparison,
    MMDConfig,
    all_equal,
    coarser,
    judged,
    sigma_of,
)
from pyflare_analysis.drift.embeddings.features import (
    FREQUENCIES,
    GroupedSums,
    RandomFeatures,
    fill,
    group_plan,
    unbiased_mmd2,
)
from pyflare_analysis.drift.embeddings.kernels import Distances
from pyflare_analysis.drift.embeddings.pooled import Floats, SplitTest, permutation_p_value
from pyflare_proto.errors import RetryableError

__all__ = ["Stream", "compare_streams"]

_Z95 = 1.959963984540054


@dataclasses.dataclass(frozen=True, slots=True)
class Stream:
    """Vectors that come in batches."""

    batches: Iterable[Floats]
    """(rows, d) each, all rows together once."""
    rows: int
    """How many come."""
    sample: Floats
    """(s, d) rows drawn from the stream, for bandwidth and center."""


def compare_streams(reference: Stream, current: Stream, config: MMDConfig) -> Comparison:
    """Compare two streams by the method `rff`.

    Args:
        reference: the reference.
        current: what came later.
        config: settings; `max_samples` is not looked at.

    Raises:
        RetryableError: a stream had fewer rows than it said, as files change underneath.
    """
    seed = config.random_seed or secrets.randbits(31) + 1
    config = dataclasses.replace(config, random_seed=seed)
    n, m = reference.rows, current.rows
    dimensions = int(reference.sample.shape[1] if n else current.sample.shape[1])
    base = Comparison("rff", Verdict.INSUFFICIENT, None, config, n, m, dimensions)
    if min(n, m) < MINIMUM_COUNT:
        reason = f"{n} and {m} vectors, {MINIMUM_COUNT} a side are needed"
        return dataclasses.replace(base, reason=reason)
    sample = np.concatenate([reference.sample, current.sample]).astype(np.float64)
    mean = sample.mean(0)
    sample -= mean
    np.random.default_rng(seed).shuffle(sample)
    row = coarser(reference.sample[0], current.sample[0])
    sigma = sigma_of(Distances(sample), row, config.rbf_sigma)
    if np.isnan(sigma):
        return dataclasses.replace(base, reason=all_equal(row))
    features = RandomFeatures.of(dimensions, sigma, seed)
    # One center for both streams; of less precision than theirs it would leave an offset.
    center = mean.astype(np.result_type(reference.sample, current.sample))
    size, *groups = group_plan(n, m)
    filled = []
    for stream, count in zip((reference, current), groups, strict=True):
        sums = GroupedSums(count, size, stream.rows, 2 * FREQUENCIES + dimensions)
        fill(sums, stream.batches, features, center)
        if not sums.complete:
            raise RetryableError(
                "the vectors changed while they were read", hint="run the command again"
            )
        filled.append(sums.sums)
    return judged(_compared(dataclasses.replace(base, sigma=sigma), filled, size, mean))


def _compared(
    base: Comparison, filled: list[NDArray[np.float64]], size: int, mean: NDArray[np.float64]
) -> Comparison:
    """Return the comparison by sums of groups of `size` rows."""
    members = _splits(len(filled[0]), len(filled[1]), base.config)
    pool = np.concatenate(filled)
    n, m = size * len(filled[0]), size * len(filled[1])
    sums = pool.T @ members
    total = pool.sum(0)[:, None]
    wide = 2 * FREQUENCIES
    statistics = unbiased_mmd2(sums[:wide], total[:wide], n, m)
    lengths = np.linalg.norm(sums[wide:] / n - (total - sums)[wide:] / m, axis=0)
    means = [side[:, wide:].sum(0) / (size * len(side)) + mean for side in filled]
    away = centroid_distances(*means)
    margin = _Z95 * _standard_error([side[:, :wide] / size for side in filled])
    value = float(statistics[0])
    centroid: dict[str, Any] = {}
    expected_high = float("nan")
    if base.config.num_permutations:
        expected_high = float(np.quantile(statistics[1:], 0.95))
        centroid = {
            "euclidean_p_value": permutation_p_value(lengths),
            "euclidean_expected_high": float(np.quantile(lengths[1:], 0.95)),
        }
    details = {"frequencies": FREQUENCIES, "groups": len(pool), "rows_a_group": size}
    return dataclasses.replace(
        base,
        mmd2=value,
        mmd2_interval=(value - margin, value + margin),
        mmd2_expected_high=expected_high,
        euclidean=away.euclidean,
        cosine=away.cosine,
        centroid=centroid,
        tests=(SplitTest("rff", statistics, details),),
    )


def _splits(first: int, second: int, config: MMDConfig) -> NDArray[np.float64]:
    """Return (groups, P + 1) with 1 where a group falls to the reference."""
    rng = np.random.default_rng(config.random_seed)
    labels = (np.arange(first + second) < first).astype(np.float64)
    columns = [labels, *(rng.permutation(labels) for _ in range(config.num_permutations))]
    return np.stack(columns, axis=1)


def _standard_error(means: list[NDArray[np.float64]]) -> float:
    """Return the standard error of MMD^2 = ||a - b||^2 from the means of groups, to first order."""
    change = means[0].mean(0) - means[1].mean(0)
    return float(np.sqrt(sum(4 * (side @ change).var(ddof=1) / len(side) for side in means)))
