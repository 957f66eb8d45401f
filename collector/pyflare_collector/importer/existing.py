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

LONGEST_CALL_NS = 3600 * 10**9
"""How long before the rows a held call may have begun that still goes on during them."""


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
    """Return the held spans that may tell a call of `table`, as span records.

    Those are the spans with a response id of `table`, and those of its traces: a call
    without a response id is recognised by the spans that it is nested in.

    Args:
        data: the data directory.
        table: span records that are to be imported.
        times: first start and last end of the rows, nanoseconds.
    """
    import polars as pl
    import pyarrow.compute as pc

    from pyflare_proto.record import arrow_schema

    with data.snapshot(times[0] - LONGEST_CALL_NS, times[1] + 1) as files:
        if not files:
            return None
        found = pl.lit(value=False)
        for name in ("response_id", "trace_id"):
            wanted = pl.Series(
                values=pc.unique(table[name].drop_null()).to_pylist(), dtype=pl.String
            )
            found |= pl.col(name).is_in(wanted.implode())
        held = (
            pl.scan_parquet([f.path for f in files])
            .filter(found.fill_null(value=False))
            .collect(engine="streaming")
        )
    if held.is_empty():
        return None
    schema = arrow_schema()
    return held.select(schema.names).to_arrow().cast(schema)
