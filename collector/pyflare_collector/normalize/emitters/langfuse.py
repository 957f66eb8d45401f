"""Langfuse: the moment of the first token instead of the time to it.

`langfuse.observation.completion_start_time` is an ISO 8601 time, in JSON quotes when
the SDK wrote it.
"""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters.base import Emitter

__all__ = ["EMITTER", "parse_time", "parse_times"]

_KEY = "langfuse.observation.completion_start_time"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(text: str) -> int:
    """Return an ISO 8601 time as nanoseconds since 1970, -1 where it is none; UTC by default."""
    try:
        moment = datetime.fromisoformat(text.strip().strip('"'))
    except ValueError:
        return -1
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return ((since.days * 86400 + since.seconds) * 1_000_000 + since.microseconds) * 1000


def parse_times(texts: list[str]) -> NDArray[np.int64]:
    """Return ISO 8601 times as `parse_time` does, all at once where all are well formed."""
    column = pc.utf8_trim(pa.array(texts, pa.string()), ' "')
    try:
        moments = pc.cast(column, pa.timestamp("ns", tz="UTC"))
    except pa.ArrowInvalid:  # a text that is no time, or a time without a zone
        return np.array([parse_time(text) for text in texts], dtype=np.int64)
    nanoseconds: NDArray[np.int64] = moments.view(pa.int64()).to_numpy()
    return nanoseconds


def _values(draft: Draft, spans: NDArray[np.bool_]) -> None:
    column = draft.index.categories(_KEY)
    if column is None:
        return
    moments = np.append(parse_times(column.values), -1)[column.codes]
    since = moments - draft.batch.start_time_ns
    has = spans & (moments >= 0) & (since >= 0)
    known = draft.numbers.get("time_to_first_token_ms")
    if known is None:
        known = (np.zeros(len(spans)), np.zeros(len(spans), dtype=np.bool_))
        draft.numbers["time_to_first_token_ms"] = known
    values, ok = known
    has &= ~ok
    values[has] = since[has] / 1e6
    ok |= has


EMITTER = Emitter("Langfuse", marks=(_KEY,), keys=(_KEY,), values=_values)
