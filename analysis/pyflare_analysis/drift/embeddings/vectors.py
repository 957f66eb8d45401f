"""Vectors of a source: a column of lists, a column of JSON text, or texts through an embedder.

Memory is bounded: where there are more vectors than asked for or than fit, a sample is
drawn with the seed, the same rows on every backend.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from pyflare_analysis.drift.embeddings.checks import as_vectors
from pyflare_analysis.drift.embeddings.pooled import Floats
from pyflare_proto.errors import SchemaError, nearest
from pyflare_storage.expressions import Expr, all_of, col

if TYPE_CHECKING:
    from pyflare_analysis.embedders import Embedder
    from pyflare_storage.source import Source

__all__ = ["MOST_EMBEDDED", "MOST_VECTORS", "VectorColumn", "Vectors"]

MOST_VECTORS = 10_000
"""Vectors of a side that are compared pair by pair; of more, so many are drawn."""
MOST_EMBEDDED = 2_000
"""Texts of a side that are embedded, each a cost; of more, so many are drawn."""
_MOST_BYTES = 64 * 2**20
_WITHIN_FLOAT32 = (pl.Float32(), pl.Float16(), pl.Int8(), pl.Int16(), pl.UInt8(), pl.UInt16())
_SNIPPET = 200
_ROW = "row"


@dataclass(frozen=True, eq=False)
class Vectors:
    """Vectors in memory, and where they come from."""

    values: Floats
    """(n, d) finite."""
    available: int
    """How many the source has."""
    missing: int
    """Rows without a vector or text, which are left out."""
    keys: pl.DataFrame
    """What names the row of each vector: its ids, or its number in the source."""
    texts: pl.Series | None
    """(n,) text of each vector, where there is one."""
    clusters: NDArray[np.intp] | None = None
    """(n,) number of the cluster of each vector; None where each stands alone."""

    @property
    def sampled(self) -> bool:
        """Whether only a part was drawn."""
        return len(self.values) < self.available

    @property
    def zero_count(self) -> int:
        """Vectors of nothing but zeros, as failed embeddings leave."""
        return int(np.count_nonzero(~self.values.any(axis=1))) if self.values.size else 0

    def row(self, index: int) -> dict[str, Any]:
        """Return what names a vector, and the start of its text."""
        named = dict(self.keys.row(index, named=True)) if self.keys.width else {}
        if self.texts is not None:
            named["text"] = (self.texts[index] or "")[:_SNIPPET]
        return named


@dataclass(frozen=True, slots=True)
class VectorColumn:
    """Which vectors of a source."""

    source: Source
    """Where they are."""
    column: str
    """Lists of numbers, JSON text of such lists, or text for `embedder`."""
    where: Expr | None = None
    """The rows; all when None."""
    embedder: Embedder | None = None
    """Makes vectors of text; None: the column has vectors."""
    id_column: str | None = None
    """Names a row; of spans the ids do when None."""
    text_column: str | None = None
    """Text of a row; of spans `input` is when None, and the column itself with an embedder."""
    cluster: str | None = None
    """Rows that are equal here are not independent; rows without a value stand alone, and all
    where there is no such column."""

    def check(self) -> None:
        """Check that the columns are there.

        Raises:
            SchemaError: one is not, or the column has neither vectors nor text.
        """
        known = self.source.columns()
        for name in (self.column, self.id_column, self.text_column):
            if name is not None and name not in known:
                near = nearest(name, known)
                raise SchemaError(
                    f"no column {name!r} in {self.source.url}",
                    hint=f"did you mean {near}?" if near else f"columns: {', '.join(known)}",
                )
        if known.get(self.cluster or "", "").startswith("list"):
            raise SchemaError(
                f"column {self.cluster!r} of {self.source.url} holds lists, not clusters",
                hint="--cluster none, or a column of texts or numbers",
            )
        kind = known[self.column]
        if self.embedder is not None and kind not in {"string", "category", "json"}:
            raise SchemaError(
                f"column {self.column!r} of {self.source.url} holds {kind}, not text to embed",
                hint="leave --embedder out where there are vectors",
            )

    @property
    def present(self) -> Expr | None:
        """The rows that have a value."""
        return all_of([self.where, col(self.column).is_not_null()])

    def count(self) -> int:
        """Return how many rows have a value."""
        self.check()
        return self.source.count(self.present)

    def load(self, limit: int, seed: int) -> Vectors:
        """Return vectors, at most `limit` of them and 64 MiB.

        Args:
            limit: 0: `MOST_VECTORS`, or `MOST_EMBEDDED` with an embedder.
            seed: of the sample.

        Raises:
            SchemaError: a column that is not there, has no vectors, or vectors of different
                lengths.
            InvalidDataError: NaN or infinity.
            SourceUnavailableError: source or embedder do not answer.
        """
        available = self.count()
        limit = limit or (MOST_EMBEDDED if self.embedder else MOST_VECTORS)
        if self.embedder is None:
            limit = min(limit, self._fitting())
        columns = self._columns()
        if available > limit:
            frame = self.source.sample(limit, seed, columns, self.present)
            missing = self.source.count(self.where) - available
        else:
            frame, missing = self._all(columns)
        text = self._text()
        return Vectors(
            values=self._values(frame[self.column]),
            available=available,
            missing=missing,
            keys=frame.select(self._keys(frame)),
            texts=None if text is None else frame[text],
            clusters=self._clusters(frame),
        )

    def batches(self) -> Iterator[Floats]:
        """Yield all vectors, a batch of rows at a time.

        Raises:
            SchemaError, InvalidDataError, SourceUnavailableError: as `load`.
        """
        for frame in self.source.scan([self.column], self.present):
            yield self._values(frame[self.column])

    def _fitting(self) -> int:
        """Return how many vectors of the column's length fit into 64 MiB."""
        for frame in self.source.scan([self.column], self.present, limit=1):
            if frame.height:
                size = self._values(frame[self.column]).nbytes
                return max(2, _MOST_BYTES // max(1, size))
        return MOST_VECTORS

    def _all(self, columns: list[str]) -> tuple[pl.DataFrame, int]:
        """Return all rows with a value, numbered, and how many have none."""
        frames = list(self.source.scan(columns, self.where))
        if not frames:
            frames = [self.source.sample(0, 1, columns)]
        frame = pl.concat(frames).with_row_index(_ROW)
        present = frame.filter(pl.col(self.column).is_not_null())
        if "span_id" in frame.columns and not self.id_column:
            # Backends have orders of their own; the seed's splits must be the same on each.
            present = present.sort("trace_id", "span_id", maintain_order=True)
        return present, frame.height - present.height

    def _columns(self) -> list[str]:
        names = [self.column, *self._ids()]
        if self.cluster is not None and self.cluster in self.source.columns():
            names.append(self.cluster)
        text = self._text()
        return list(dict.fromkeys([*names, text] if text else names))

    def _ids(self) -> list[str]:
        if self.id_column:
            return [self.id_column]
        known = self.source.columns()
        return [name for name in ("trace_id", "span_id") if name in known]

    def _clusters(self, frame: pl.DataFrame) -> NDArray[np.intp] | None:
        """Return the number of each row's cluster, from 0."""
        if self.cluster is None:
            return None
        if self.cluster not in frame.columns:
            return np.arange(frame.height)
        named = frame[self.cluster]
        numbers = named.rank("dense").cast(pl.Int64)
        alone = named.is_null().cum_sum().cast(pl.Int64) + (numbers.max() or 0)
        return (numbers.fill_null(alone) - 1).to_numpy().astype(np.intp)

    def _keys(self, frame: pl.DataFrame) -> list[str]:
        return self._ids() or ([_ROW] if _ROW in frame.columns else [])

    def _text(self) -> str | None:
        if self.text_column:
            return self.text_column
        if self.embedder is not None:
            return self.column
        known = self.source.columns()
        return "input" if "input" in known and "span_id" in known else None

    def _values(self, series: pl.Series) -> Floats:
        if self.embedder is not None:
            return self._embedded(series)
        return as_vectors(_numbers(series, self.source.url), f"{self.source.url}, {self.column}")

    def _embedded(self, series: pl.Series) -> Floats:
        assert self.embedder is not None  # noqa: S101 - the caller has looked
        if not len(series):
            return np.empty((0, 0), np.float32)
        texts = [str(text) or " " for text in series.to_list()]
        return as_vectors(self.embedder.embed(texts), self.embedder.name)


def _numbers(series: pl.Series, url: str) -> NDArray[np.floating[Any]]:
    """Return (n, d) numbers of a column of lists or of their JSON text.

    Raises:
        SchemaError: it holds something else, or lists of different lengths.
    """
    lists = _as_lists(series, url)
    if not len(lists):
        return np.empty((0, 0), np.float32)
    lengths = lists.list.len().unique().sort().to_list()
    if len(lengths) > 1:
        raise SchemaError(
            f"column {series.name!r} of {url} holds vectors of {lengths[0]} and of "
            f"{lengths[-1]} numbers",
            hint="choose those of one model, for example --where \"model = '...'\"",
        )
    flat = lists.explode(empty_as_null=False).to_numpy()
    return np.asarray(flat).reshape(len(lists), lengths[0])


def _as_lists(series: pl.Series, url: str) -> pl.Series:
    dtype = series.dtype
    if dtype == pl.String():
        try:
            return series.str.json_decode(pl.List(pl.Float64))
        except pl.exceptions.PolarsError as error:
            raise SchemaError(
                f"column {series.name!r} of {url} is text, not vectors as JSON lists of numbers",
                hint="--embedder hash|static|openai embeds text",
            ) from error
    if isinstance(dtype, pl.List | pl.Array) and dtype.inner.is_numeric():
        # Float32 only where it holds every number: the others differ in digits it has not.
        inner = pl.Float32() if dtype.inner in _WITHIN_FLOAT32 else pl.Float64()
        return series.cast(pl.List(inner))
    raise SchemaError(
        f"column {series.name!r} of {url} holds {dtype}, not vectors",
        hint="name a column of lists of numbers, or of text with --embedder",
    )
