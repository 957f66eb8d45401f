"""Following a data directory or a collector: spans in the order in which they appear.

A directory shows spans when their file is published; a collector, through `/tail` of its
HTTP server, as soon as they are durable.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pyflare_analysis.plain import span_records
from pyflare_proto.errors import NotFoundError, PyFlareError, SourceUnavailableError, UsageError
from pyflare_storage.source import open_source

if TYPE_CHECKING:
    from pyflare_storage.dataset import DataDirectory, SpanFile
    from pyflare_storage.filters import Filters

__all__ = ["follow", "follow_collector"]

SpanRecord = dict[str, object]

_SILENCE_S = 15.0
"""A collector that says nothing for so long is gone; a quiet one beats every second."""


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


def follow_collector(
    url: str, *, token: str | None = None, filters: Filters | None = None
) -> Iterator[list[SpanRecord]]:
    """Yield spans as a collector takes them, until it drains.

    A call that two instrumentations tell is yielded twice: which one counts is settled on
    the way to the file.

    Args:
        url: `http://HOST:PORT` or `https://HOST:PORT` of its HTTP server.
        token: its bearer token, where it asks for one.
        filters: which spans to yield; all when None.

    Yields:
        Non-empty lists of span records (see `pyflare_analysis.plain.span_records`).

    Raises:
        UsageError: `url` cannot be read, or the collector refuses the token.
        SourceUnavailableError: no collector answers there, or it breaks off.
    """
    import polars as pl
    import pyarrow as pa

    from pyflare_proto.record import COLUMNS
    from pyflare_storage.polars_expressions import PolarsCompiler

    expr = filters.to_expr() if filters is not None else None
    condition = None
    if expr is not None:
        condition = PolarsCompiler({c.name: str(c.type) for c in COLUMNS}).condition(expr)
    with _connected(url, token) as response:
        try:
            for batch in pa.ipc.open_stream(pa.PythonFile(response, mode="r")):
                if batch.num_rows == 0:
                    continue
                frame = pl.from_arrow(batch)
                assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a batch is a frame
                kept = frame if condition is None else frame.filter(condition)
                if kept.height:
                    yield list(span_records(kept.sort("start_time")))
        except (OSError, pa.ArrowInvalid, HTTPException) as error:
            raise SourceUnavailableError(
                f"the collector at {url} broke off: {error}",
                hint="pyflare collect starts one; its log says why it ended",
            ) from error


@contextmanager
def _connected(url: str, token: str | None) -> Iterator[HTTPResponse]:
    """Ask for the stream of a collector."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            f"no address of a collector: {url}", hint="--collector http://127.0.0.1:4318"
        )
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname, parts.port or 4318, timeout=_SILENCE_S)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("GET", f"{parts.path.rstrip('/')}/tail", headers=headers)
        response = connection.getresponse()
    except (OSError, HTTPException) as error:
        connection.close()
        raise SourceUnavailableError(
            f"no collector answers at {url}: {error}",
            hint="pyflare collect starts one; its line `ready ... http=HOST:PORT` has the address",
        ) from error
    try:
        if response.status != 200:
            raise _refusal(url, response)
        yield response
    finally:
        connection.close()


def _refusal(url: str, response: HTTPResponse) -> PyFlareError:
    try:
        message = str(json.loads(response.read(65_536)).get("message", response.reason))
    except (ValueError, AttributeError, OSError, HTTPException):
        message = response.reason
    text = f"{url} answers {response.status}: {message}"
    if response.status in (401, 403):
        return UsageError(text, hint="set receiver.auth.bearer_tokens as the collector has it")
    if response.status in (429, 503):
        return SourceUnavailableError(text, hint="try again in a moment")
    return UsageError(text, hint="--collector takes the HTTP address of pyflare collect")
