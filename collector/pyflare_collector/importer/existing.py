"""What the data directory already holds of the spans that are to be imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from pyflare_storage.dataset import DataDirectory

__all__ = ["known_spans", "tellings_of"]


def known_spans(
    data: DataDirectory, keys: pl.DataFrame, times: tuple[int, int]
) -> NDArray[np.bool_]:
    """Return (n,) True for spans that the data directory already holds.

    Only files that may hold the time range are read, and only their ids.

    Args:
        data: the data directory.
        keys: n rows of `trace_id` and `span_id`, hexadecimal.
        times: first and last start time of the rows, nanoseconds.
    """
    import polars as pl

    with data.snapshot(times[0], times[1] + 1) as files:
        if not files or keys.is_empty():
            return np.zeros(len(keys), dtype=np.bool_)
        held = (
            pl.scan_parquet([f.path for f in files])
            .select("trace_id", "span_id")
            .join(keys.lazy(), on=["trace_id", "span_id"], how="semi")
            .unique()
            .with_columns(known=pl.lit(value=True))
            .collect(engine="streaming")
        )
    joined = keys.join(held, on=["trace_id", "span_id"], how="left", maintain_order="left")
    return joined["known"].fill_null(value=False).to_numpy()


def tellings_of(data: DataDirectory, table: pa.Table, times: tuple[int, int]) -> pa.Table | None:
    """Return the held spans that carry a response id of `table`, as span records.

    Args:
        data: the data directory.
        table: span records that are to be imported.
        times: first and last start time of the rows, nanoseconds.
    """
    import polars as pl
    import pyarrow.compute as pc

    from pyflare_proto.record import arrow_schema

    ids = pc.unique(table["response_id"].drop_null())
    with data.snapshot(times[0], times[1] + 1) as files:
        if not files or not len(ids):
            return None
        wanted = pl.LazyFrame({"response_id": pl.Series(values=ids.to_pylist(), dtype=pl.String)})
        held = (
            pl.scan_parquet([f.path for f in files])
            .join(wanted, on="response_id", how="semi")
            .collect(engine="streaming")
        )
    if held.is_empty():
        return None
    schema = arrow_schema()
    return held.select(schema.names).to_arrow().cast(schema)
