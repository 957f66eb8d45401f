"""One door to the data: Parquet, ClickHouse and the embedded engine."""
