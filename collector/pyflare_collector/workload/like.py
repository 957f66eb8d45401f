"""Traffic with the timestamps and token counts of a file of real requests."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from pyflare_collector.workload import catalogue as cat
from pyflare_collector.workload.traffic import Traffic
from pyflare_proto.errors import InvalidDataError, NotFoundError, SchemaError, UsageError
from pyflare_proto.record import SPAN_TYPES

__all__ = ["traffic_like"]

COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")


def traffic_like(
    path: Path, *, model: str = "gpt-4o", seed: int = 0, limit: int | None = None
) -> Traffic:
    """Return one call of `model` for each row of a CSV file, with the row's time and tokens.

    Args:
        path: a file with the columns TIMESTAMP (ISO 8601, UTC), ContextTokens and
            GeneratedTokens.
        model: request name of one of the generator's chat models.
        seed: for ids, users and the like; times and tokens are the file's.
        limit: read at most this many rows.

    Raises:
        NotFoundError: there is no such file.
        SchemaError: a column is missing.
        InvalidDataError: a value is not a time or a count.
        UsageError: the model is not one of the generator's.
    """
    chat = [m.request for m in cat.MODELS[:-1]]
    if model not in chat:
        raise UsageError(f"unknown model {model!r}", hint=f"--model takes {', '.join(chat)}")
    times, given, made = _read(path, limit)
    n = len(times)
    rng = np.random.default_rng(seed)
    answered_ms = 300 + 11.0 * made
    return Traffic(
        trace=np.arange(n),
        parent=np.full(n, -1),
        trace_key=rng.integers(1, 2**64, (n, 2), dtype=np.uint64),
        span_key=rng.integers(1, 2**64, n, dtype=np.uint64),
        type=np.full(n, SPAN_TYPES.index("llm"), dtype=np.int8),
        start_ns=times,
        end_ns=times + (answered_ms * 1e6).astype(np.int64),
        feature=rng.integers(0, len(cat.FEATURES), n).astype(np.int16),
        model=np.full(n, chat.index(model), dtype=np.int16),
        environment=np.zeros(n, dtype=np.int8),
        user=rng.integers(0, 400, n).astype(np.int32),
        prompt_version=np.ones(n, dtype=np.int8),
        topic=rng.integers(0, len(cat.TOPICS), n).astype(np.int8),
        tool=np.zeros(n, dtype=np.int8),
        input_tokens=given,
        output_tokens=made,
        cache_read_tokens=np.zeros(n, dtype=np.int64),
        error=np.full(n, -1, dtype=np.int8),
        score=np.full(n, np.nan),
    )


def _read(path: Path, limit: int | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return times (ns), input and output tokens, each (n,) int64."""
    try:
        handle = path.open(newline="", encoding="utf-8-sig")
    except OSError as error:
        raise NotFoundError(
            f"cannot read {path}: {error.strerror}", hint="give the path of a CSV file"
        ) from None
    rows: list[tuple[int, int, int]] = []
    with handle:
        reader = csv.DictReader(handle)
        missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
        if missing:
            raise SchemaError(
                f"{path} has no column {missing[0]}", hint=f"the file needs {', '.join(COLUMNS)}"
            )
        for number, row in enumerate(reader, start=2):
            if limit is not None and len(rows) >= limit:
                break
            rows.append(_row(path, number, row))
    if not rows:
        raise InvalidDataError(f"{path} has no rows", hint="give a file with at least one request")
    table = np.array(rows, dtype=np.int64)
    return table[:, 0], table[:, 1], table[:, 2]


def _row(path: Path, number: int, row: dict[str, str]) -> tuple[int, int, int]:
    try:
        return (
            _nanoseconds(row["TIMESTAMP"]),
            int(row["ContextTokens"]),
            int(row["GeneratedTokens"]),
        )
    except (ValueError, TypeError) as error:
        raise InvalidDataError(
            f"{path}, line {number}: {error}",
            hint="each row needs an ISO 8601 time and two whole numbers",
        ) from None


def _nanoseconds(text: str) -> int:
    """Return nanoseconds since 1970 of an ISO 8601 time with up to nine decimals, exactly."""
    whole, _, rest = text.strip().partition(".")
    digits = ""
    while rest and rest[0].isdigit():
        digits, rest = digits + rest[0], rest[1:]
    moment = datetime.fromisoformat(whole + rest)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp()) * 1_000_000_000 + int((digits + "0" * 9)[:9])
