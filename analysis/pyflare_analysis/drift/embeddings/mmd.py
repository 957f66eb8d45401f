"""Maximum mean discrepancy of vectors: the detector of the notebook.

MMD^2 is the squared distance of the two samples' means in the space of a kernel, here
k(x, y) = exp(-||x - y||^2 / (2 sigma^2)). See docs/drift-embeddings.md for what each method
sees, and a number to check by hand.

Example:
    >>> detector = MMDDriftDetector(MMDConfig(num_permutations=200), method="auto")
    >>> detector.set_reference_embeddings(last_week)
    >>> result = detector.compute_from_embeddings(today)
    >>> result.verdict, result.p_value, result.details["topics"]
"""

from __future__ import annotations

import os
import secrets
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyflare_analysis.drift.detector import DriftResult, DriftType
from pyflare_analysis.drift.embeddings.centroid import centroid_distances
from pyflare_analysis.drift.embeddings.checks import as_vectors, same_dimensions
from pyflare_analysis.drift.embeddings.comparison import Comparison, MMDConfig, compare
from pyflare_analysis.drift.embeddings.kernels import Distances, Gaussian, gamma_of, kernel_sums
from pyflare_analysis.drift.embeddings.pooled import Clusters, Floats, Pooled
from pyflare_analysis.drift.embeddings.reservoir import Reservoir
from pyflare_analysis.drift.embeddings.vector_file import read_vectors, write_vectors
from pyflare_analysis.drift.embeddings.vectors import MOST_VECTORS
from pyflare_proto.errors import InvalidDataError, NotEnoughDataError, SchemaError, UsageError

__all__ = ["CentroidDriftDetector", "MMDConfig", "MMDDriftDetector", "median_sigma", "mmd2"]


def median_sigma(reference: ArrayLike, current: ArrayLike) -> float:
    """Return the bandwidth of the median heuristic, sqrt(median ||z_i - z_j||^2 / 2).

    Over all pairs i < j of the two samples together, in float64.

    Args:
        reference: (n, d).
        current: (m, d).

    Raises:
        NotEnoughDataError: more than half of the pairs are equal.
        SchemaError, InvalidDataError: see `as_vectors`.
    """
    pool = _float64_pool(reference, current)
    median = Distances(pool.rows).median()
    if median <= 0:
        raise NotEnoughDataError("half of all vectors are equal: no distance to scale by")
    return float(np.sqrt(median / 2))


def mmd2(reference: ArrayLike, current: ArrayLike, sigma: float = 0.0) -> float:
    """Return unbiased MMD^2 in float64; slightly below 0 is possible.

    Args:
        reference: (n, d), n >= 2.
        current: (m, d), m >= 2.
        sigma: bandwidth; 0: `median_sigma`.

    Raises:
        NotEnoughDataError: fewer than two vectors on a side.
        SchemaError, InvalidDataError: see `as_vectors`.
        UsageError: a bandwidth whose square float64 cannot hold.

    Source: Gretton et al. 2012, JMLR 13:723-773, equation 3.
    """
    pool = _float64_pool(reference, current)
    sigma = sigma or median_sigma(reference, current)
    sums = kernel_sums(Distances(pool.rows), [Gaussian(gamma_of(sigma))], pool)
    return float(sums[0].mmd2(pool)[0])


def _float64_pool(reference: ArrayLike, current: ArrayLike) -> Pooled:
    x, y = as_vectors(reference, "reference"), as_vectors(current, "current")
    same_dimensions(x, y)
    if min(len(x), len(y)) < 2:
        raise NotEnoughDataError(f"MMD^2 of {len(x)} and {len(y)} vectors: two a side are needed")
    return Pooled.of(x, y, permutations=0, seed=1, dtype=np.float64)


class MMDDriftDetector:
    """Watches the distribution of vectors.

    Args:
        config: settings.
        method: what decides: `mmd`, `fuse`, `topics`, `spread`, `rff`, `classifier`,
            `centroid`, or `auto` for all but `mmd` and `rff` as one test.

    Raises:
        UsageError: no such method.
    """

    def __init__(self, config: MMDConfig | None = None, method: str = "mmd") -> None:
        self.config = config or MMDConfig()
        self.config.check(method)
        self.method = method
        self._reference: Floats | None = None
        self._centroid: NDArray[np.float64] | None = None
        self._clusters: NDArray[np.intp] | None = None
        self._stream: Reservoir | None = None

    @property
    def name(self) -> str:
        """Name of the detector."""
        return type(self).__name__

    @property
    def type(self) -> DriftType:
        """It watches vectors."""
        return DriftType.EMBEDDING

    @property
    def reference(self) -> Floats:
        """(n, d) vectors of the reference.

        Raises:
            UsageError: no reference was set.
        """
        if self._reference is None:
            raise UsageError(
                "no reference was set", hint="call set_reference_embeddings(vectors) first"
            )
        return self._reference

    @property
    def reference_centroid(self) -> NDArray[np.float64]:
        """(d,) mean of the reference, of all its vectors even where they are sampled.

        Raises:
            UsageError: no reference was set.
        """
        assert self._centroid is not None or self.reference is not None  # noqa: S101 - raises
        assert self._centroid is not None  # noqa: S101 - set with the reference
        return self._centroid

    def get_reference_centroid(self) -> NDArray[np.float64]:
        """Return `reference_centroid`.

        Raises:
            UsageError: no reference was set.
        """
        return self.reference_centroid

    def set_reference_embeddings(
        self, embeddings: ArrayLike, clusters: ArrayLike | None = None
    ) -> None:
        """Fit on the reference.

        Args:
            embeddings: (n, d); more than `max_samples` are sampled with the seed.
            clusters: (n,) what each vector belongs to, as the ids of traces: vectors of one are
                not independent, and change sides together. None: each stands alone.

        Raises:
            SchemaError: no table of vectors of one length, or not as many clusters.
            InvalidDataError: NaN or infinity.
            NotEnoughDataError: no vectors.
        """
        vectors = as_vectors(embeddings, "reference")
        if not len(vectors):
            raise NotEnoughDataError("the reference has no vectors")
        self._centroid = np.asarray(vectors.mean(0, dtype=np.float64))
        self._reference, self._clusters = self._drawn(vectors, clusters)
        self._stream = None

    def set_reference(self, reference: ArrayLike, clusters: ArrayLike | None = None) -> None:
        """Do as `set_reference_embeddings`."""
        self.set_reference_embeddings(reference, clusters)

    def compare(self, embeddings: ArrayLike, clusters: ArrayLike | None = None) -> Comparison:
        """Compare a batch with the reference, with everything that was found.

        Args:
            embeddings: (m, d); more than `max_samples` are sampled with the seed.
            clusters: (m,) likewise of the batch.

        Raises:
            UsageError: no reference was set.
            SchemaError: no table of vectors of the reference's length, or not as many clusters.
            InvalidDataError: NaN or infinity.
        """
        drawn, own = self._drawn(self._checked(embeddings), clusters)
        return self._compared(drawn, own, self.config)

    def compute_from_embeddings(
        self, embeddings: ArrayLike, clusters: ArrayLike | None = None
    ) -> DriftResult:
        """Score a batch against the reference; see `compare` for arguments and errors."""
        return self._result(self.compare(embeddings, clusters))

    def update(self, embeddings: ArrayLike, clusters: ArrayLike | None = None) -> None:
        """Take the next batch of a stream; `result` scores all since the last `reset`.

        Memory is bounded: at most `max_samples` vectors, or 10,000 where that is 0, are kept; of
        more, a uniform sample that is drawn with the seed.

        Args:
            embeddings: (m, d) of any m.
            clusters: (m,) what each vector belongs to, of the same names in every batch.

        Raises:
            UsageError: no reference was set.
            SchemaError: no table of vectors of the reference's length, or clusters that do not
                fit the vectors or the batches before.
            InvalidDataError: NaN or infinity.
        """
        vectors = self._checked(embeddings)
        self._streamed().add(vectors, None if clusters is None else np.asarray(clusters))

    def result(self) -> DriftResult:
        """Score the stream since the last `reset`; `details["seen"]` is how many vectors came.

        Up to the bound of `update` this is what one batch of them all would give.

        Raises:
            UsageError: no reference was set.
        """
        stream = self._stream or Reservoir(1, self.config.random_seed)
        vectors, labels = stream.kept()
        config = replace(self.config, random_seed=stream.seed)
        found = self._compared(vectors, _numbered(labels, len(vectors)), config)
        result = self._result(found)
        return replace(result, details={**result.details, "seen": stream.seen})

    def reset(self) -> None:
        """Forget the stream; the reference stays."""
        self._stream = None

    def _streamed(self) -> Reservoir:
        if self._stream is None:
            seed = self.config.random_seed or secrets.randbits(31) + 1
            self._stream = Reservoir(self.config.max_samples or MOST_VECTORS, seed)
        return self._stream

    def _checked(self, embeddings: ArrayLike) -> Floats:
        """Return vectors that can be compared with the reference."""
        vectors = as_vectors(embeddings, "current")
        same_dimensions(self.reference, vectors)
        return vectors

    def _compared(
        self, vectors: Floats, own: NDArray[np.intp] | None, config: MMDConfig
    ) -> Comparison:
        """Compare vectors, of which a sample has been drawn."""
        known = None
        if own is not None or self._clusters is not None:
            sides = (self._clusters, self.reference), (own, vectors)
            known = Clusters(*(np.arange(len(v)) if c is None else c for c, v in sides))
        return compare(self.reference, vectors, config, self.method, known)

    def _result(self, found: Comparison) -> DriftResult:
        return DriftResult(
            detector=self.name,
            type=self.type,
            verdict=found.verdict,
            score=self._score(found),
            threshold=self.config.threshold,
            p_value=found.p_value,
            reference_count=found.reference_count,
            current_count=found.current_count,
            details=found.to_dict(),
        )

    def compute(self, current: ArrayLike, clusters: ArrayLike | None = None) -> DriftResult:
        """Do as `compute_from_embeddings`."""
        return self.compute_from_embeddings(current, clusters)

    def _score(self, found: Comparison) -> float:
        return found.mmd2

    def compute_centroid_drift(self, embeddings: ArrayLike) -> float:
        """Return the Euclidean distance of a batch's mean from the reference's.

        Args:
            embeddings: (m, d), m >= 1.

        Raises:
            UsageError: no reference was set.
            SchemaError, InvalidDataError: see `compare`.
            NotEnoughDataError: no vectors.
        """
        vectors = self._checked(embeddings)
        if not len(vectors):
            raise NotEnoughDataError("no vectors, so no centroid")
        mean = vectors.mean(0, dtype=np.float64)
        return centroid_distances(self.reference_centroid, mean).euclidean

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write settings and reference vectors (float32 or float64, as given) to a file.

        `max_samples` bounds its size: 1,000 vectors of 384 dimensions are 1.5 MB.

        Raises:
            UsageError: no reference was set.
            StorageError: the file cannot be written.
        """
        head: dict[str, Any] = {"method": self.method, "config": self.config.to_dict()}
        arrays: dict[str, NDArray[Any]] = {
            "reference": self.reference,
            "centroid": self.reference_centroid,
        }
        if self._clusters is not None:
            arrays["clusters"] = self._clusters
        write_vectors(path, head, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a fitted detector.

        Raises:
            NotFoundError: there is no such file.
            InvalidDataError: it is none of this detector, damaged, or of a later version.
        """
        head, arrays = read_vectors(path)
        try:
            detector = cls(MMDConfig(**head["config"]), str(head["method"]))
            vectors = as_vectors(arrays["reference"], "reference")
            centroid = np.asarray(arrays["centroid"], np.float64)
            clusters = _numbered(arrays.get("clusters"), len(vectors))
        except (KeyError, SchemaError, TypeError, UsageError) as error:
            raise InvalidDataError(f"{path} is damaged: {error}") from error
        if not len(vectors) or centroid.shape != vectors.shape[1:]:
            raise InvalidDataError(f"{path} is damaged: its arrays do not fit each other")
        detector._reference, detector._centroid = vectors, centroid
        detector._clusters = clusters
        return detector

    def _drawn(
        self, vectors: Floats, clusters: ArrayLike | None
    ) -> tuple[Floats, NDArray[np.intp] | None]:
        """Return at most `max_samples` vectors, and the numbers of their clusters."""
        known = None if clusters is None else np.asarray(clusters)
        limit = self.config.max_samples
        if limit and len(vectors) > limit:
            rng = np.random.default_rng(self.config.random_seed or secrets.randbits(31) + 1)
            kept = np.sort(rng.choice(len(vectors), limit, replace=False))
            if known is not None and known.shape == (len(vectors),):
                known = known[kept]
            vectors = vectors[kept]
        return vectors, _numbered(known, len(vectors))


def _numbered(clusters: NDArray[Any] | None, rows: int) -> NDArray[np.intp] | None:
    """Return clusters as numbers from 0.

    Raises:
        SchemaError: not as many as rows.
    """
    if clusters is None:
        return None
    if clusters.shape != (rows,):
        raise SchemaError(
            f"clusters of shape {clusters.shape} for {rows} vectors", hint="one for each vector"
        )
    return np.unique(clusters, return_inverse=True)[1].astype(np.intp)


class CentroidDriftDetector(MMDDriftDetector):
    """Watches the mean of vectors; its score is the Euclidean distance of the means.

    Args:
        config: settings.
        method: always `centroid`.
    """

    def __init__(self, config: MMDConfig | None = None, method: str = "centroid") -> None:
        super().__init__(config, method)

    def _score(self, found: Comparison) -> float:
        return found.euclidean
