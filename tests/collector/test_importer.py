"""What `import_files` makes of files: every format, and nothing twice."""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.importer import ImportReport, Rejection, import_files, job
from pyflare_collector.importer.job import INVALID_IDS
from pyflare_proto.errors import NotFoundError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from tests.collector.pipeline_helpers import request
from tests.otlp_payloads import START_NS, genai_request, key_values

Encode = Callable[[list[bytes]], bytes]


def otlp_json(message: bytes, **layout: Any) -> bytes:
    """Return a request as OTLP/JSON: ids in hexadecimal, not in base64."""
    parsed = ExportTraceServiceRequest.FromString(message)
    document = MessageToDict(parsed, use_integers_for_enums=True)
    for resource, told in zip(document["resourceSpans"], parsed.resource_spans, strict=True):
        for scope, told_scope in zip(resource["scopeSpans"], told.scope_spans, strict=True):
            for span, told_span in zip(scope["spans"], told_scope.spans, strict=True):
                span["traceId"] = told_span.trace_id.hex()
                span["spanId"] = told_span.span_id.hex()
                span["parentSpanId"] = told_span.parent_span_id.hex()
    return json.dumps(document, **layout).encode()


def merged(messages: list[bytes]) -> bytes:
    """Return one request with the resources of all: how protobuf messages are joined."""
    return b"".join(messages)


FORMATS: dict[str, Encode] = {
    "protobuf": merged,
    "length-prefixed": lambda ms: b"".join(len(m).to_bytes(4, "big") + m for m in ms),
    "pretty JSON": lambda ms: otlp_json(merged(ms), indent=2),
    "compact JSON": lambda ms: otlp_json(merged(ms), separators=(",", ":")),
    "JSON without spare line end": lambda ms: b"\n \n" + otlp_json(merged(ms)),
    "JSON lines": lambda ms: b"".join(otlp_json(m) + b"\n" for m in ms),
    "JSON lines of Windows": lambda ms: b"\r\n\r\n".join(otlp_json(m) for m in ms),
}
MESSAGES = [request(1, 3), request(4, 1), request(5, 2)]


class Folder:
    """A data directory and the files to import into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = DataDirectory(path / "data")

    def file(self, content: bytes, name: str = "spans") -> str:
        """Write a file and return its path."""
        path = self.path / name
        path.write_bytes(content)
        return str(path)

    def load(self, *paths: str, stdin: bytes = b"") -> ImportReport:
        """Import files."""
        return import_files(paths, self.data, PriceBook(), stdin=io.BytesIO(stdin))

    def rows(self) -> pl.DataFrame:
        """Return all span records, by id."""
        files = [file.path for file in self.data.list_files()]
        if not files:
            return pl.DataFrame({"span_id": []}, schema={"span_id": pl.String})
        return pl.read_parquet(files).sort("trace_id", "span_id")

    def numbers(self) -> list[int]:
        """Return the numbers of the spans of `request`."""
        return [int(text, 16) for text in self.rows()["span_id"].to_list()]

    def on_disk(self) -> list[str]:
        """Return every file under the data directory that can hold spans."""
        return sorted(
            p.name for p in (self.path / "data").rglob("*") if p.suffix in {".parquet", ".tmp"}
        )


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    """Return an empty data directory."""
    return Folder(tmp_path)


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_gives_every_span(folder: Folder, form: str, *, packed: bool) -> None:
    """A format is told by the content, also inside gzip; a file name that lies is no matter."""
    content = FORMATS[form](MESSAGES)
    path = folder.file(gzip.compress(content) if packed else content, "spans.txt")

    report = folder.load(path)

    assert (report.files, report.spans_imported, report.spans_rejected) == (1, 6, 0)
    assert report.rejections == []
    assert folder.numbers() == [1, 2, 3, 4, 5, 6]


def test_formats_give_equal_records(tmp_path: Path) -> None:
    """The records of a payload do not depend on the format that it came in."""
    message = genai_request(20)
    records = []
    for form, encode in FORMATS.items():
        folder = Folder(tmp_path / form)
        folder.path.mkdir()
        folder.load(folder.file(encode([message])))
        records.append(folder.rows())
    assert len(records[0]) == 20
    assert all(other.equals(records[0]) for other in records[1:])


@pytest.mark.parametrize("form", FORMATS)
def test_standard_input(folder: Folder, form: str) -> None:
    """`-` reads standard input, in any format, beside files."""
    path = folder.file(request(10, 1))
    report = folder.load("-", path, stdin=FORMATS[form](MESSAGES))
    assert (report.files, report.spans_imported) == (2, 7)
    assert folder.numbers() == [1, 2, 3, 4, 5, 6, 10]


@pytest.mark.parametrize("content", [b"", b"\n\n", gzip.compress(b"", mtime=0), b"{}"])
def test_empty_file_is_a_file_without_spans(folder: Folder, content: bytes) -> None:
    """A collector that saw nothing leaves an empty file: it is read and nothing is written."""
    report = folder.load(folder.file(content))
    assert report == ImportReport(files=1)
    assert folder.on_disk() == []


@pytest.mark.parametrize("form", FORMATS)
def test_importing_twice_changes_nothing(folder: Folder, form: str) -> None:
    """A second import of the same file writes no file and knows every span."""
    path = folder.file(FORMATS[form](MESSAGES))
    folder.load(path)
    before = folder.on_disk()

    report = folder.load(path)

    assert (report.spans_imported, report.spans_known) == (0, 6)
    assert folder.on_disk() == before


def test_spans_shared_by_files_are_imported_once(folder: Folder) -> None:
    """Files of one import, in one format or two, may share spans; so may requests of a file."""
    first = folder.file(request(1, 4) + request(3, 4), "first")
    second = folder.file(otlp_json(request(5, 4)), "second")
    report = folder.load(first, second, first)
    assert (report.files, report.spans_imported, report.spans_known) == (3, 8, 12)
    assert folder.numbers() == list(range(1, 9))


def test_parts_of_a_large_import(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spans that parts of an import share are written once, in as many files as it takes."""
    monkeypatch.setattr(job, "CHUNK_REQUESTS", 1)
    monkeypatch.setattr(job, "FILE_ROWS", 4)
    report = folder.load(folder.file(b"".join(request(first, 4) for first in (1, 3, 5, 7, 2))))
    assert (report.spans_imported, report.spans_known) == (10, 10)
    assert folder.numbers() == list(range(1, 11))
    assert len(folder.on_disk()) == 3


def test_spans_shared_with_an_earlier_import(folder: Folder) -> None:
    """Only the spans that are not there yet are written."""
    folder.load(folder.file(request(1, 4)))
    report = folder.load(folder.file(request(3, 4)))
    assert (report.spans_imported, report.spans_known) == (2, 2)
    assert folder.numbers() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("at", [0, 1, 3])
@pytest.mark.parametrize("bad", [b"not JSON", b'{"resourceSpans": [{"sco', b'{"a": 1}'])
def test_bad_line_is_counted_and_the_others_imported(folder: Folder, at: int, bad: bytes) -> None:
    """A damaged line, wherever it stands, costs that line and is counted with its reason."""
    lines = [otlp_json(message) for message in MESSAGES]
    lines.insert(at, bad)
    report = folder.load(folder.file(b"\n".join(lines)))
    assert report.spans_imported == 6
    assert [rejection.count for rejection in report.rejections] == [1]
    assert folder.numbers() == [1, 2, 3, 4, 5, 6]


def test_lines_of_other_signals_are_counted_together(folder: Folder) -> None:
    """The Collector's file exporter may write logs between traces: one reason, counted."""
    other = b'{"resourceLogs": []}\n'
    report = folder.load(folder.file(other + otlp_json(MESSAGES[0]) + b"\n" + other))
    assert report.rejections == [Rejection("holds logs, not traces", 2)]
    assert folder.numbers() == [1, 2, 3]


@pytest.mark.parametrize("form", FORMATS)
def test_bad_ids_are_rejected(folder: Folder, form: str) -> None:
    """Spans without ids are counted with the reason, in every format; the others count."""
    report = folder.load(folder.file(FORMATS[form]([request(1, 5, bad_ids=2)])))
    assert (report.spans_imported, report.spans_rejected) == (3, 2)
    assert report.rejections == [Rejection(INVALID_IDS, 2)]
    assert folder.numbers() == [1, 2, 3]


def test_missing_file_leaves_nothing(folder: Folder) -> None:
    """A file that is not there stops the import before anything becomes visible."""
    missing = str(folder.path / "missing.json")
    with pytest.raises(NotFoundError, match="missing"):
        folder.load(folder.file(MESSAGES[0]), missing)
    assert folder.on_disk() == []


def telling(
    span: int, scope: str, *, offset_ns: int = 0, parent: int = 0, response_id: str = ""
) -> bytes:
    """Return a request with one telling of a call of one second, in trace 1."""
    message = ExportTraceServiceRequest()
    scoped = message.resource_spans.add().scope_spans.add()
    scoped.scope.name = scope
    attributes: dict[str, object] = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.response.model": "gpt-4o-2024-08-06",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 50,
    }
    if response_id:
        attributes["gen_ai.response.id"] = response_id
    scoped.spans.add(
        trace_id=(1).to_bytes(16, "big"),
        span_id=span.to_bytes(8, "big"),
        parent_span_id=parent.to_bytes(8, "big") if parent else b"",
        name="chat gpt-4o",
        start_time_unix_nano=START_NS + offset_ns,
        end_time_unix_nano=START_NS + 1_000_000_000 - offset_ns,
        attributes=key_values(attributes),
    )
    return bytes(message.SerializeToString())


@pytest.mark.parametrize("response_id", ["chatcmpl-1", ""], ids=["by response id", "by nesting"])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["outer first", "inner first"])
def test_call_of_an_earlier_import_is_not_costed_again(
    folder: Folder, order: tuple[int, int], response_id: str
) -> None:
    """Two scopes that tell one call in two imports cost once, whichever came first.

    The inner telling begins later than the outer, so their files hold different times.
    """
    tellings = [
        telling(1, "outer", response_id=response_id),
        telling(2, "inner", offset_ns=5_000_000, parent=1, response_id=response_id),
    ]
    for place in order:
        assert folder.load(folder.file(tellings[place])).spans_imported == 1
    rows = folder.rows()
    costs = rows.select("span_id", "cost_status", "cost_nano_usd").rows()
    first, second = costs[order[0]], costs[order[1]]
    assert first[2] == 100 * 2500 + 50 * 10_000
    assert second[1:] == ("duplicate", None)


def test_calls_of_one_scope_in_two_imports_are_two(folder: Folder) -> None:
    """One response id under one scope is two calls, also in two imports."""
    folder.load(folder.file(telling(1, "openai", response_id="chatcmpl-1")))
    folder.load(folder.file(telling(2, "openai", response_id="chatcmpl-1")))
    assert folder.rows()["cost_nano_usd"].to_list() == [750_000, 750_000]
