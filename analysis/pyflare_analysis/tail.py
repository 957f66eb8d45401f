"""Following a data directory: spans in the order in which files of them appear."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from pyflare_analysis.plain import span_records
from pyflare_proto.errors import NotFoundError
from pyflare_storage.source import open_source

if TYPE_CHECKING:
    from pyflare_storage.dataset import DataDirectory, SpanFile
    from pyflare_storage.filters import Filters

__all__ = ["follow"]

SpanRecord = dict[str, object]


def follow(
    data: DataDirectory,
    *,
    filters: Filters | None = None,
    last: int = 10,
    wait: Callable[[], object],
) -> Iterator[list[SpanRecord]]:
    """Yield spans as their files appear, sorted by start time within a file, for ever.

    A file made by compaction holds nothing new and is passed over; so is a file that
    appears and is merged between two looks.

    Args:
        data: the directory; its span folder need not exist yet.
        filters: which spans to yield; all when None.
        last: how many of the latest spans to begin with, 0 for none.
        wait: called between two looks; an exception from it ends the generator.

    Yields:
        Non-empty lists of span records (see `pyflare_analysis.plain.span_records`).
    """
    seen: set[str] = set()
    files = _new_files(data, seen)
    if last > 0:
        latest: deque[SpanRecord] = deque(maxlen=last)
        for file in files[-last:]:
            latest.extend(_spans(file, filters))
        if latest:
            yield sorted(latest, key=lambda span: str(span["start_time"]))
    while True:
        wait()
        for file in _new_files(data, seen):
            if not (data.records / f"{file.name}.json").exists():
                spans = _spans(file, filters)
                if spans:
                    yield spans


def _new_files(data: DataDirectory, seen: set[str]) -> list[SpanFile]:
    """Return the files that were not there at the last look, and remember them."""
    try:
        files = data.list_files()
    except NotFoundError:
        return []
    new = [file for file in files if file.name not in seen]
    seen.update(file.name for file in new)
    return sorted(new, key=lambda file: (file.sequence if file.sequence is not None else -1, file))


def _spans(file: SpanFile, filters: Filters | None) -> list[SpanRecord]:
    try:
        with open_source(str(file.path)) as source:
            frames = source.scan(
                None,
                where=filters.to_expr() if filters is not None else None,
                order_by="start_time",
            )
            return [record for frame in frames for record in span_records(frame)]
    except NotFoundError:
        return []  # compaction has merged and deleted it meanwhile
