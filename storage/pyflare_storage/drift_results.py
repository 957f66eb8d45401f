"""Results of drift detection: Parquet files under `drift/`, any reader opens `drift/*.parquet`.

A row is one verdict: of one column, in one window of time, for one segment. Names are
those of the commands' JSON. A file holds one run and appears by rename, whole or not at
all; nothing is ever changed in place.

    run_id           text of a run, the same in all its rows
    created_at       when the run ended
    command          psi, mmd, univariate, centroid or report
    source           what was judged: the URL of the current data
    reference        what it was compared with: a URL, `previous`, a profile's path
    column           column of the data
    kind             numeric, categorical, embedding ...
    window_start     first moment of the window; null: all of the data
    window_end       first moment after it
    segment          JSON object of the segment's values; null: all rows
    psi, mmd2        the statistic, null for the other kind
    p_value, q_value under no change; q over all verdicts of the run
    threshold        what the statistic must exceed
    severity         none, moderate, significant
    verdict          stable, drift, insufficient
    reference_count  values of the reference
    current_count    values of the window
    details          JSON object: what else the command said of it

Example:
    >>> data = DataDirectory("pyflare-data")
    >>> write_drift_results(data, [{"column": "duration_ms", "psi": 0.31, "verdict": "drift"}],
    ...                     command="psi", source="today.parquet", reference="week.parquet",
    ...                     now_ns=time.time_ns())
    >>> read_drift_results(data).filter(pl.col("verdict") == "drift")
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pyflare_proto.errors import InvalidDataError, StorageError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.json_text import compact_json
from pyflare_storage.span_files import compact_stamp, publish

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

__all__ = ["drift_schema", "heatmap_cells", "read_drift_results", "write_drift_results"]

_JSON = ("segment", "details")
_CELL = ["source", "reference", "column", "window_start", "window_end", "segment"]


def drift_schema() -> pa.Schema:
    """Return the Arrow schema of the files."""
    import pyarrow as pa

    time = pa.timestamp("ns", tz="UTC")
    return pa.schema(
        [
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("created_at", time, nullable=False),
            pa.field("command", pa.string(), nullable=False),
            pa.field("source", pa.string()),
            pa.field("reference", pa.string()),
            pa.field("column", pa.string(), nullable=False),
            pa.field("kind", pa.string()),
            pa.field("window_start", time),
            pa.field("window_end", time),
            pa.field("segment", pa.string()),
            pa.field("psi", pa.float64()),
            pa.field("mmd2", pa.float64()),
            pa.field("p_value", pa.float64()),
            pa.field("q_value", pa.float64()),
            pa.field("threshold", pa.float64()),
            pa.field("severity", pa.string()),
            pa.field("verdict", pa.string(), nullable=False),
            pa.field("reference_count", pa.int64()),
            pa.field("current_count", pa.int64()),
            pa.field("details", pa.string()),
        ],
        metadata={"pyflare.schema": "pyflare.drift/1"},
    )


def write_drift_results(
    data: DataDirectory,
    rows: Iterable[Mapping[str, object]],
    *,
    command: str,
    source: str | None,
    reference: str | None,
    now_ns: int,
) -> Path:
    """Write the verdicts of one run, and return the file.

    Args:
        data: the data directory; made when absent.
        rows: columns of a row by name; absent ones are null. `segment` and `details` are
            mappings, `window_start` and `window_end` nanoseconds since 1970. Floats that
            are not finite become null.
        command: the command's name.
        source: URL of the current data.
        reference: what it was compared with.
        now_ns: nanoseconds since 1970.

    Raises:
        ValueError: a row has an unknown column.
        StorageError: the directory takes no files.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    run_id = secrets.token_hex(8)
    shared = {
        "run_id": run_id,
        "created_at": now_ns,
        "command": command,
        "source": source,
        "reference": reference,
    }
    schema = drift_schema()
    plain = [shared | _plain(row, schema.names) for row in rows]
    table = pa.Table.from_pylist(plain, schema=schema)
    data.create()
    temporary = data.temporary_path()
    final = data.drift / f"drift-{compact_stamp(now_ns)}-{command}-{run_id}.parquet"
    try:
        temporary.touch(mode=0o600)
        pq.write_table(table, temporary, compression="zstd", store_schema=False)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StorageError(
            f"cannot write {final}: {error.strerror or error}",
            hint="free space on the disk, or choose another folder with --data DIR",
        ) from error
    publish(temporary, final)
    return final


def read_drift_results(
    data: DataDirectory, *, since_ns: int | None = None, until_ns: int | None = None
) -> pl.DataFrame:
    """Return stored verdicts in the order of their runs; no rows where there are none.

    Args:
        data: the data directory.
        since_ns: only windows that end after that time, or runs without windows at or after it.
        until_ns: only windows that begin before that time, or runs without windows before it.

    Raises:
        InvalidDataError: a file is damaged.
    """
    import polars as pl

    files = sorted(data.drift.glob("drift-*.parquet")) if data.drift.is_dir() else []
    empty = pl.from_arrow(drift_schema().empty_table())
    assert isinstance(empty, pl.DataFrame)  # noqa: S101 - a table becomes a frame
    if not files:
        return empty
    start = pl.coalesce("window_start", "created_at")
    end = pl.coalesce("window_end", "created_at")
    try:
        frame = pl.scan_parquet(
            files, schema=empty.schema, missing_columns="insert", extra_columns="ignore"
        )
        if since_ns is not None:
            frame = frame.filter(
                (end > _moment(since_ns))
                | (pl.col("window_end").is_null() & (end == _moment(since_ns)))
            )
        if until_ns is not None:
            frame = frame.filter(start < _moment(until_ns))
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InvalidDataError(
            f"cannot read the drift results in {data.drift}: {str(error).splitlines()[0]}",
            hint="move the damaged file away; the others stay readable",
        ) from error


def heatmap_cells(
    data: DataDirectory,
    *,
    since_ns: int | None = None,
    until_ns: int | None = None,
    columns: Sequence[str] = (),
) -> pl.DataFrame:
    """Return the cells of the heat map: windows of `drift report`, each as last judged.

    Args:
        data: the data directory.
        since_ns: only windows that end after that time.
        until_ns: only windows that begin before that time.
        columns: only these columns of the data; all when empty.

    Returns:
        The columns of the files, sorted by segment, column and window.

    Raises:
        InvalidDataError: a file is damaged.
    """
    import polars as pl

    rows = read_drift_results(data, since_ns=since_ns, until_ns=until_ns).filter(
        pl.col("window_start").is_not_null()
    )
    if columns:
        rows = rows.filter(pl.col("column").is_in(list(columns)))
    latest = rows.unique(_CELL, keep="last", maintain_order=True)
    return latest.sort("segment", "column", "window_start", nulls_last=False, maintain_order=True)


def _moment(time_ns: int) -> pl.Expr:
    import polars as pl

    return pl.lit(time_ns, dtype=pl.Int64).cast(pl.Datetime("ns", "UTC"))


def _plain(row: Mapping[str, object], known: Sequence[str]) -> dict[str, object]:
    unknown = row.keys() - set(known)
    if unknown:
        raise ValueError(f"no columns of drift results: {', '.join(sorted(unknown))}")
    plain: dict[str, object] = {}
    for name, value in row.items():
        if isinstance(value, float) and not math.isfinite(value):
            plain[name] = None
        elif name in _JSON and value is not None:
            plain[name] = compact_json(value)
        else:
            plain[name] = str(value) if name in {"verdict", "severity"} and value else value
    return plain
