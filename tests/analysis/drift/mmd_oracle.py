"""What the detectors of vectors compute, the slow and obvious way; and samples to try them on."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def direct_mmd2(x: Array, y: Array, sigma: float) -> float:
    """Return unbiased MMD^2 by a loop over pairs."""

    def k(a: Array, b: Array) -> float:
        return math.exp(-float(((a - b) ** 2).sum()) / (2 * sigma * sigma))

    n, m = len(x), len(y)
    xx = math.fsum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = math.fsum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    xy = math.fsum(k(a, b) for a in x for b in y)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def direct_sigma(x: Array, y: Array) -> float:
    """Return sqrt(median squared distance / 2) over the pairs of the pool."""
    z = np.concatenate([x, y]).astype(np.float64)
    squares = [float(((z[i] - z[j]) ** 2).sum()) for i in range(len(z)) for j in range(i)]
    return math.sqrt(float(np.median(squares)) / 2)


def topics(
    rng: np.random.Generator,
    n: int,
    *,
    centers: Array,
    noise: float = 0.65,
    new: float = 0.0,
) -> NDArray[np.float32]:
    """Return n unit vectors around all centers but the last, a share `new` around that one."""
    topic = rng.integers(len(centers) - 1, size=n)
    topic = np.where(rng.random(n) < new, len(centers) - 1, topic)
    dimensions = centers.shape[1]
    vectors = centers[topic] + rng.standard_normal((n, dimensions)) * noise / dimensions**0.5
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def unit_centers(rng: np.random.Generator, count: int, dimensions: int) -> Array:
    """Return random unit vectors."""
    centers = rng.standard_normal((count, dimensions))
    return np.asarray(centers / np.linalg.norm(centers, axis=1, keepdims=True))
