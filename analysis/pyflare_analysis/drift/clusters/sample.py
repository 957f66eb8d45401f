"""Some clusters of rows, each of them whole, whatever the number of rows."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pyflare_analysis.drift.profiles.rows import key_column
from pyflare_storage.aggregates import Key, key_name, resolve_keys
from pyflare_storage.polars_expressions import PolarsCompiler

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pyflare_analysis.drift.profiles.rows import Rows
    from pyflare_storage.expressions import Expr

    Hashes = NDArray[np.uint64]

__all__ = ["WholeClusters"]

_CLUSTERS = 4096


class WholeClusters:
    """All rows of a random sample of clusters, or of all where there are few.

    The sample are the clusters whose hashes are smallest (Beyer et al. 2007, "On synopses for
    distinct-value estimation under multiset operations", SIGMOD): each is as likely to be in
    it, however many rows it has and wherever they lie. One more pass over the keys finds them.

    Args:
        rows: the rows.
        keys: rows that are equal in all of them are a cluster.
        where: the rows that count.
        most: so many clusters.
    """

    def __init__(
        self, rows: Rows, keys: Sequence[Key], where: Expr | None, most: int = _CLUSTERS
    ) -> None:
        self._rows = rows
        types = rows.columns()
        compiler = PolarsCompiler(types)
        self._keys = [compiler.key(k).alias(key_name(k)) for k in resolve_keys(keys, types)]
        self._read = list(dict.fromkeys(key_column(key) for key in keys))
        self._highest = self._find(where, most)

    def _hashes(self, frame: pl.DataFrame) -> Hashes:
        return frame.select(self._keys).hash_rows(seed=1).to_numpy()

    def _find(self, where: Expr | None, most: int) -> np.uint64 | None:
        """Return the highest hash that is in the sample; None where all clusters are."""
        kept: Hashes = np.empty(0, np.uint64)
        highest: np.uint64 | None = None
        for frame in self._rows.scan(self._read, where):
            hashes = self._hashes(frame)
            if highest is not None:
                hashes = hashes[hashes < highest]
            kept = np.unique(np.concatenate([kept, hashes]))
            if len(kept) > most:
                kept = kept[:most]
                highest = kept[-1]
        return highest

    @property
    def url(self) -> str:
        """Where the rows are."""
        return self._rows.url

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column."""
        return self._rows.columns()

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield rows in batches of bounded size."""
        wanted = list(self.columns() if columns is None else columns)
        needed = list(dict.fromkeys([*wanted, *self._read]))
        for frame in self._rows.scan(needed, where, limit=limit):
            if self._highest is None:
                yield frame.select(wanted)
                continue
            chosen = frame.filter(pl.Series(self._hashes(frame) <= self._highest))
            if chosen.height:
                yield _compact(chosen.select(wanted))


def _compact(frame: pl.DataFrame) -> pl.DataFrame:
    """Return a copy that does not hold the texts of the rows that were left out."""
    written = io.BytesIO()
    frame.write_ipc(written)
    return pl.read_ipc(written.getvalue())
