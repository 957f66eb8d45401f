"""The table of spans in ClickHouse.

Engine and order: `ReplacingMergeTree` keeps one row of each sorting key, the one that was
inserted last, so a span that is delivered or loaded again replaces itself. The key is
(hour of start_time, trace_id, span_id): all three are the same in every delivery of
a span, the ids make it unique, and the hour in front keeps rows in time order, which
the filters on time prune by, with the spans of a trace together. The partition (month of
start_time) follows from the key, so duplicates always meet in one partition.

Reads use `FINAL`: merges happen at the engine's leisure, and an answer must not depend on
them. It costs little here: with `do_not_merge_across_partitions_select_final` each
month is read by itself, ranges of parts that do not overlap are read plainly, and a month
that has been merged into one part needs no merge at all; what is left is a merge
of sorted streams over the overlapping ranges (the last hours).
"""

from __future__ import annotations

from pyflare_proto.record import COLUMNS, clickhouse_columns

__all__ = ["READ_SETTINGS", "WRITE_SETTINGS", "create_statement", "quoted"]

READ_SETTINGS: dict[str, int | str] = {
    "do_not_merge_across_partitions_select_final": 1,
    "output_format_arrow_string_as_string": 1,
    "output_format_arrow_low_cardinality_as_dictionary": 0,
}
"""Settings of every question."""

WRITE_SETTINGS: dict[str, int | str] = {"max_partitions_per_insert_block": 0}
"""Settings of every insert: a batch may hold many months."""

_CODECS = {
    "timestamp_ns": "CODEC(Delta(8), ZSTD(1))",
    "int64": "CODEC(ZSTD(1))",
    "float64": "CODEC(ZSTD(1))",
    "string": "CODEC(ZSTD(1))",
    "json": "CODEC(ZSTD(3))",
    "category": "",
    "list<string>": "CODEC(ZSTD(1))",
    "list<float32>": "CODEC(ZSTD(1))",
    "list<document>": "CODEC(ZSTD(3))",
}
_LONG_TEXT = {"input", "output"}


def quoted(name: str) -> str:
    """Return an identifier as it stands in a statement."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def create_statement(table: str) -> str:
    """Return the statement that creates the table of spans where there is none.

    Args:
        table: the table's name.
    """
    types = clickhouse_columns()
    lines = [
        f"{quoted(c.name)} {types[c.name]} "
        f"{'CODEC(ZSTD(3))' if c.name in _LONG_TEXT else _CODECS[c.type]}".rstrip()
        for c in COLUMNS
    ]
    lines += [
        "INDEX trace_id_bloom trace_id TYPE bloom_filter(0.001) GRANULARITY 1",
        "INDEX duration_minmax duration_ms TYPE minmax GRANULARITY 1",
    ]
    body = ",\n  ".join(lines)
    return (
        f"CREATE TABLE IF NOT EXISTS {quoted(table)} (\n  {body}\n)\n"
        "ENGINE = ReplacingMergeTree\n"
        "PARTITION BY toYYYYMM(start_time)\n"
        "ORDER BY (toStartOfHour(start_time), trace_id, span_id)"
    )
