"""One import: files in, span files out, nothing twice.

All files of one import become visible together, after the last of them has been
read: a file that turns out to be damaged leaves the data directory as it was.
Spans that are already there, or that two files share, are passed over, so the
same import may be repeated at any time, also after a crash in its middle.
"""

from __future__ import annotations

import secrets
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from pyflare_collector.importer.existing import known_spans, tellings_of
from pyflare_collector.importer.payloads import BadLine, read_payloads
from pyflare_collector.segment_file import SegmentFile
from pyflare_proto.errors import InvalidDataError, NotFoundError

if TYPE_CHECKING:
    from pyflare_proto.otlp.batch import OtlpBatch
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

__all__ = ["ImportReport", "Rejection", "import_files"]

CHUNK_BYTES = 16 * 1024 * 1024
"""Wire bytes that are normalised at once: bounds the memory of an import."""
CHUNK_REQUESTS = 4096
FILE_ROWS = 1_000_000
"""Rows after which the next span file is begun."""
INVALID_IDS = "trace or span id of the wrong length or all zero"


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why something was not imported, and how often."""

    reason: str
    count: int
    """Spans, or lines where a whole line could not be read."""


@dataclass(slots=True)
class ImportReport:
    """What an import did."""

    files: int = 0
    """Files read."""
    spans_imported: int = 0
    """Spans written."""
    spans_known: int = 0
    """Spans passed over because the data directory, or a file before, holds them."""
    spans_rejected: int = 0
    """Spans that no record could be made of."""
    rejections: list[Rejection] = field(default_factory=list)
    """Reasons, most frequent first."""


def import_files(
    paths: Sequence[str],
    data: DataDirectory,
    prices: PriceBook,
    *,
    stdin: BinaryIO | None = None,
) -> ImportReport:
    """Import files into the data directory, all or none.

    Args:
        paths: files; `-` is standard input.
        data: the data directory; made when missing.
        prices: what calls are priced with.
        stdin: what `-` reads; the process's standard input when None.

    Raises:
        NotFoundError: a file is not there or cannot be read.
        InvalidDataError: a file is truncated, corrupt or of another format; nothing
            was imported.
        StorageError: the data directory takes no files; nothing was imported.
    """
    data.create()
    job = _Job(data, prices)
    try:
        for path in paths:
            job.read(path, stdin)
        job.publish()
    except BaseException:
        job.abandon()
        raise
    return job.report


class _Job:
    def __init__(self, data: DataDirectory, prices: PriceBook) -> None:
        from pyflare_collector.calls import RecentCalls, RecentSpans
        from pyflare_collector.config import SamplerConfig
        from pyflare_collector.sampler import Sampler

        self.report = ImportReport()
        self._data = data
        self._prices = prices
        self._writer = f"import{secrets.token_hex(6)}"
        self._files: list[SegmentFile] = []
        self._spans = RecentSpans()
        self._calls = RecentCalls()
        # It keeps every span: what it adds is the share of the samplers upstream (`th`).
        self._sampler = Sampler(SamplerConfig(strategy="always_on"))
        self._rejections: Counter[str] = Counter()

    def read(self, path: str, stdin: BinaryIO | None) -> None:
        """Read one file into unfinished span files."""
        chunk: list[bytes] = []
        size = good = bad = 0
        with _opened(path, stdin) as (stream, name):
            for payload in read_payloads(stream, name):
                if isinstance(payload, BadLine):
                    bad += 1
                    self._rejections[payload.reason] += 1
                    continue
                good += 1
                chunk.append(payload)
                size += len(payload)
                if size >= CHUNK_BYTES or len(chunk) >= CHUNK_REQUESTS:
                    self._absorb(chunk, name)
                    chunk, size = [], 0
        if bad and not good:
            reason = self._rejections.most_common(1)[0][0]
            raise InvalidDataError(
                f"{name}: none of its {bad} lines can be imported: {reason}",
                hint="`pyflare import` reads OTLP traces; check what the file holds",
            )
        if chunk:
            self._absorb(chunk, name)
        self.report.files += 1

    def publish(self) -> None:
        """Make the span files visible and close the report."""
        for file in self._files:
            file.publish()
        self.report.rejections = [Rejection(r, n) for r, n in self._rejections.most_common()]

    def abandon(self) -> None:
        """Delete what is unfinished."""
        for file in self._files:
            file.abandon()

    def _absorb(self, payloads: list[bytes], name: str) -> None:
        from pyflare_collector.normalize import KEYS
        from pyflare_proto.otlp.decode import decode, select

        try:
            batch = decode(payloads, KEYS)
        except InvalidDataError as error:
            raise InvalidDataError(
                f"{name}: {error.message}", hint="nothing was imported; export the file again"
            ) from None
        invalid = len(batch) - int(batch.valid_ids.sum())
        if invalid:
            self._rejections[INVALID_IDS] += invalid
            self.report.spans_rejected += invalid
            batch = select(batch, batch.valid_ids)
        fresh = self._spans.first_seen(batch.trace_id, batch.span_id)
        self.report.spans_known += len(batch) - int(fresh.sum())
        batch = select(batch, fresh)
        self._spans.add(batch.trace_id, batch.span_id)
        if len(batch):
            self._write(self._without_known(batch))

    def _without_known(self, batch: OtlpBatch) -> OtlpBatch:
        import polars as pl

        from pyflare_proto.otlp.columns import hex_ids
        from pyflare_proto.otlp.decode import select

        keys = pl.DataFrame(
            {
                "trace_id": pl.from_arrow(hex_ids(batch.trace_id, zero_is_null=False)),
                "span_id": pl.from_arrow(hex_ids(batch.span_id, zero_is_null=False)),
            }
        )
        known = known_spans(self._data, keys, _times(batch))
        self.report.spans_known += int(known.sum())
        return select(batch, ~known) if known.any() else batch

    def _write(self, batch: OtlpBatch) -> None:
        from pyflare_collector.normalize import normalize

        if not len(batch):
            return
        probability = self._sampler.sample(batch).probability
        table = normalize(batch, self._prices, sampling_probability=probability)
        held = tellings_of(self._data, table, (_times(batch)[0], int(batch.end_time_ns.max())))
        if held is not None:
            self._calls.apply(held)
        table = self._calls.apply(table)
        if not self._files or self._files[-1].rows >= FILE_ROWS:
            self._files.append(SegmentFile(self._data, len(self._files), writer=self._writer))
        self._files[-1].write(table)
        self.report.spans_imported += table.num_rows


def _times(batch: OtlpBatch) -> tuple[int, int]:
    return int(batch.start_time_ns.min()), int(batch.start_time_ns.max())


@contextmanager
def _opened(path: str, stdin: BinaryIO | None) -> Iterator[tuple[BinaryIO, str]]:
    if path == "-":
        yield stdin or sys.stdin.buffer, "standard input"
        return
    try:
        stream = Path(path).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise NotFoundError(
            f"cannot read {path}: {error.strerror}",
            hint="give the path of a file with OTLP traces, or - for standard input",
        ) from None
    with stream:
        yield stream, path
