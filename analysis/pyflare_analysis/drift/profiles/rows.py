"""How rows are read: in batches, from a source or from what a notebook holds in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import polars as pl

from pyflare_analysis.drift.profiles.columns import Feature, check_feature
from pyflare_proto.errors import SchemaError
from pyflare_storage.aggregates import Bins, Day, Key, TimeBucket, key_name, resolve_keys
from pyflare_storage.expressions import Attribute, Expr, resolve
from pyflare_storage.polars_expressions import PolarsCompiler

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

__all__ = [
    "Batch",
    "CountedText",
    "FrameRows",
    "Rows",
    "as_frame",
    "as_rows",
    "key_column",
    "read_features",
]

_CHUNK_ROWS = 65_536
_WEIGHT = "weight of the row"


class Rows(Protocol):
    """Rows that can be read in batches; every `Source` is one."""

    @property
    def url(self) -> str:
        """Where the rows are."""

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column, by name."""

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield rows in batches of bounded size."""


class FrameRows:
    """The rows of a frame in memory.

    Args:
        frame: the rows.
        url: what the messages call it.
    """

    def __init__(self, frame: pl.DataFrame, url: str = "the given data") -> None:
        self._frame = frame
        self._url = url

    @property
    def url(self) -> str:
        """What the messages call it."""
        return self._url

    def columns(self) -> Mapping[str, str]:
        """Return the logical type of each column; "null" where every value is null."""
        return {name: _logical(dtype) for name, dtype in self._frame.schema.items()}

    def scan(
        self,
        columns: Sequence[str] | None = None,
        where: Expr | None = None,
        *,
        limit: int | None = None,
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows in slices."""
        frame = self._frame
        types = self.columns()
        if where is not None:
            frame = frame.filter(PolarsCompiler(types).condition(resolve(where, types)))
        if columns is not None:
            frame = frame.select(columns)
        if limit is not None:
            frame = frame.head(limit)
        yield from frame.iter_slices(_CHUNK_ROWS)


@dataclass(frozen=True, slots=True)
class CountedText:
    """A column of text whose values are counted already."""

    values: pl.Series
    """(k,) text, each value once."""
    counts: NDArray[np.float64]
    """(k,) rows with each value."""
    missing: int
    """Rows without a value."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Some rows, ready to be counted."""

    rows: int
    """Number of rows."""
    values: pl.DataFrame
    """One column a feature, except those of `counted`."""
    keys: pl.DataFrame
    """One column a key; without columns where there are none."""
    weights: NDArray[np.float64] | None
    """(rows,) how many rows each stands for; None: each for itself."""
    counted: Mapping[str, CountedText] = field(default_factory=dict)
    """Features by name; only where there are neither keys nor weights."""


def read_features(
    source: Rows,
    features: Sequence[Feature],
    *,
    where: Expr | None = None,
    by: Sequence[Key] = (),
    weighted: bool = True,
) -> Iterator[Batch]:
    """Yield the rows of a source in batches of about 65,536, of plain Parquet up to 131,072.

    Args:
        source: where they are.
        features: what to read.
        where: the rows; all when None.
        by: keys, see `pyflare_storage.aggregates`.
        weighted: give rows the weight 1/sampling_probability, where there is that column.

    Raises:
        ExpressionError: an unknown column in `where` or `by`.
        SchemaError: a column that is not there or cannot be read as its feature.
    """
    types = source.columns()
    for feature in features:
        check_feature(feature, source)
    compiler = PolarsCompiler(types)
    keys = [compiler.key(key).alias(key_name(key)) for key in resolve_keys(by, types)]
    weight = compiler.weight() if weighted and "sampling_probability" in types else None
    columns = {feature.column: None for feature in features}
    for key in by:
        columns[key_column(key)] = None
    if weight is not None:
        columns["sampling_probability"] = None
    if where is None and not keys and weight is None:
        arrow = _arrow_batches(source, list(columns))
        if arrow is not None:
            yield from (_counted(batch, features, types) for batch in arrow)
            return
    waiting: list[pl.DataFrame] = []
    rows = 0
    for frame in source.scan(list(columns), where):
        waiting.append(frame)
        rows += frame.height
        if rows >= _CHUNK_ROWS:
            yield _batch(pl.concat(waiting), features, types, keys, weight)
            waiting, rows = [], 0
    if rows:
        yield _batch(pl.concat(waiting), features, types, keys, weight)


def _arrow_batches(source: Rows, columns: list[str]) -> Iterator[pa.RecordBatch] | None:
    """Return all rows as Arrow, where the source can read them so."""
    read = getattr(source, "arrow_batches", None)
    return None if read is None else read(columns)


def _counted(batch: pa.RecordBatch, features: Sequence[Feature], types: Mapping[str, str]) -> Batch:
    """Return a batch whose text is counted by its codes."""
    counted = {}
    others = {}
    for feature in features:
        column = batch.column(feature.column)
        coded = hasattr(column, "dictionary")
        if coded and feature.reading == "as_is" and feature.kind == "categorical":
            counted[feature.name] = _counted_text(column)
        else:
            others[feature.column] = column.dictionary_decode() if coded else column
    values = _frame(others).select(f.expression(types) for f in features if f.name not in counted)
    return Batch(batch.num_rows, values, pl.DataFrame(), None, counted)


def _counted_text(column: pa.DictionaryArray) -> CountedText:
    codes = _frame({"codes": column.indices})["codes"].drop_nulls().to_numpy()
    counts = np.bincount(codes, minlength=len(column.dictionary))
    texts = _frame({"texts": column.dictionary})["texts"]
    there = np.flatnonzero(counts)
    if len(there) < len(counts):
        texts, counts = texts[there], counts[there]
    return CountedText(texts, counts.astype(np.float64), column.null_count)


def _frame(columns: Mapping[str, pa.Array]) -> pl.DataFrame:
    """Return Arrow arrays as a frame, without a copy.

    As a stream: other ways from Arrow to Polars or NumPy load Arrow's compute functions and, where
    it is installed, pandas, which cost more than the counting.
    """
    import pyarrow as pa

    if not columns:
        return pl.DataFrame()
    batch = pa.record_batch(dict(columns))
    return pl.DataFrame(pa.RecordBatchReader.from_batches(batch.schema, [batch]))


def key_column(key: Key) -> str:
    """Return the column that a key is read from."""
    if isinstance(key, str):
        return key
    if isinstance(key, Attribute):
        return key.of
    return key.column if isinstance(key, Day | TimeBucket | Bins) else key.name


def _batch(
    frame: pl.DataFrame,
    features: Sequence[Feature],
    types: Mapping[str, str],
    keys: Sequence[pl.Expr],
    weight: pl.Expr | None,
) -> Batch:
    values = frame.select(feature.expression(types) for feature in features)
    weights = None
    if weight is not None:
        weights = frame.select(weight.alias(_WEIGHT))[_WEIGHT].to_numpy()
        if (weights == 1.0).all():
            weights = None
    return Batch(frame.height, values, frame.select(keys), weights)


def _logical(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List | pl.Array):
        return "list<string>" if dtype.inner == pl.String() else "list<float32>"
    if dtype.is_numeric():
        return "int64" if dtype.is_integer() else "float64"
    if dtype.is_temporal():
        return "timestamp_ns"
    names: dict[type[pl.DataType], str] = {
        pl.Null: "null",
        pl.Boolean: "bool",
        pl.String: "string",
        pl.Categorical: "string",
        pl.Enum: "string",
    }
    return names.get(type(dtype), "other")


def as_frame(data: Any) -> pl.DataFrame:  # noqa: ANN401 - whatever a notebook holds
    """Return data of a notebook as a frame.

    Args:
        data: a Polars frame, lazy frame or series, an Arrow table or array, a pandas frame, a
            mapping of columns, a NumPy array (n,) or (n, columns), or a list of values. Values
            without a name become the column `value`, columns without names `0`, `1`, ....

    Raises:
        SchemaError: it is none of these, or of more than two dimensions.
    """
    if isinstance(data, pl.LazyFrame):
        return data.collect()
    try:
        found = data if isinstance(data, pl.DataFrame | pl.Series) else _polars(data)
    except (TypeError, ValueError, pl.exceptions.PolarsError) as error:
        raise SchemaError(
            f"cannot read {type(data).__name__} as columns: {error}",
            hint="give a frame, a mapping of columns, an array or a list of values",
        ) from error
    if isinstance(found, pl.Series):
        return found.alias(found.name or "value").to_frame()
    return found


def _polars(data: Any) -> pl.DataFrame | pl.Series:  # noqa: ANN401 - see as_frame
    if isinstance(data, np.ndarray):
        if data.ndim not in {1, 2}:
            raise SchemaError(f"an array of shape {data.shape}, not (n,) or (n, columns)")
        if data.ndim == 2:
            return pl.DataFrame({str(i): data[:, i] for i in range(data.shape[1])})
        return pl.Series("value", data)
    if isinstance(data, Mapping):
        return pl.DataFrame(dict(data), strict=False)
    if type(data).__module__.startswith("pandas") and hasattr(data, "columns"):
        return pl.from_pandas(data)
    if hasattr(data, "__arrow_c_stream__") or hasattr(data, "__arrow_c_array__"):
        return pl.from_arrow(data)
    return pl.Series("value", list(data), strict=False)


def as_rows(data: Any) -> Rows:  # noqa: ANN401 - a source, or whatever a notebook holds
    """Return rows: a source as it is, anything else through `as_frame`.

    Raises:
        SchemaError: it is neither.
    """
    if hasattr(data, "scan") and hasattr(data, "columns") and not isinstance(data, pl.DataFrame):
        rows: Rows = data
        return rows
    return FrameRows(as_frame(data))
