"""A bounded uniform sample of a stream of vectors.

Each of the vectors that were seen is as likely as any other to be among the kept ones, and what is
kept does not depend on how the stream was cut into batches.

Source: Vitter 1985, ACM Trans. Math. Softw. 11:37-57, algorithm R.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.pooled import Floats
from pyflare_proto.errors import SchemaError

__all__ = ["Reservoir"]


class Reservoir:
    """Keeps at most so many vectors of a stream, each with what it belongs to.

    Args:
        capacity: the most that are kept, 1 or more.
        seed: of what is kept once more have come.
    """

    def __init__(self, capacity: int, seed: int) -> None:
        self.seed = seed
        self.seen = 0
        """Vectors that came."""
        self._capacity = capacity
        # A stream of its own, so that what is kept says nothing about the splits of that seed.
        self._rng = np.random.default_rng([seed, 4])
        self._rows: list[Floats] = []
        self._labels: list[NDArray[Any]] = []

    def add(self, rows: Floats, labels: NDArray[Any] | None = None) -> None:
        """Take a batch.

        Args:
            rows: (n, d), finite, of the d of the batches before.
            labels: (n,) what each belongs to; of all batches or of none.

        Raises:
            SchemaError: not as many labels as rows, labels of another kind than before, or labels
                of some batches only. Nothing was taken.
        """
        self._check(rows, labels)
        room = max(0, self._capacity - self.seen)
        into = (
            [(self._rows, rows)] if labels is None else [(self._rows, rows), (self._labels, labels)]
        )
        for kept, batch in into:
            if room and len(batch):
                kept.append(np.array(batch[:room]))  # a copy: the caller may use his again
        self.seen += min(room, len(rows))
        rest = len(rows) - room
        if rest > 0:
            places = self._rng.integers(0, self.seen + 1 + np.arange(rest))
            self.seen += rest
            taken = np.flatnonzero(places < self._capacity)
            for kept, batch in into:
                _put(kept, places[taken], batch[room:][taken])

    def kept(self) -> tuple[Floats, NDArray[Any] | None]:
        """Return the kept vectors and what they belong to; in order up to the capacity."""
        rows = np.concatenate(self._rows) if self._rows else np.empty((0, 0), np.float32)
        return rows, np.concatenate(self._labels) if self._labels else None

    def _check(self, rows: Floats, labels: NDArray[Any] | None) -> None:
        if labels is not None and labels.shape != (len(rows),):
            raise SchemaError(
                f"clusters of shape {labels.shape} for {len(rows)} vectors",
                hint="one for each vector",
            )
        if not self.seen or not len(rows):
            return
        if (labels is None) == bool(self._labels):
            raise SchemaError(
                "some batches have clusters and others have none",
                hint="give them with every batch since reset(), or with none",
            )
        if labels is not None and labels.dtype.kind != self._labels[0].dtype.kind:
            raise SchemaError(
                f"clusters of {labels.dtype} after clusters of {self._labels[0].dtype}",
                hint="name them by values of one type",
            )


def _put(kept: list[NDArray[Any]], places: NDArray[np.int64], values: NDArray[Any]) -> None:
    """Replace rows of `kept`, which becomes one array; of one place twice the last row stays."""
    if not len(places):
        return
    dtype = np.result_type(*{array.dtype for array in (*kept, values)})
    whole = np.concatenate(kept).astype(dtype, copy=False) if len(kept) > 1 else kept[0]
    whole = whole.astype(dtype, copy=False)
    whole[places] = values
    kept[:] = [whole]
