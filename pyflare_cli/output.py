"""Everything on stdout: one document, in the form that was asked for, there or in a file.

A command hands over a `Document`: the JSON body, and which of its keys holds the
rows. The forms derive from it: `json` is the body with its schema, `jsonl` and
`csv` are the rows, `table` and `markdown` show chosen columns of the rows. No
other module writes to stdout.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from pyflare_cli.diagnostics import forget_stdout
from pyflare_cli.tables import Column, markdown_table, text_table
from pyflare_proto.errors import StorageError, UsageError

if TYPE_CHECKING:
    from pyflare_cli.declarations import Format

__all__ = ["Document", "Output", "Terminal", "json_text"]

_INTO_A_FILE = "-o PATH writes it to a file"


@dataclass(frozen=True, slots=True)
class Terminal:
    """What stdout can show."""

    is_tty: bool
    """Whether a person reads it."""
    columns: int
    """Width; tables are cut to it on a terminal only."""
    color: bool
    """Whether colour is wanted there."""

    @classmethod
    def detect(cls, *, no_color: bool) -> Terminal:
        """Return what stdout is: colour needs a terminal, no NO_COLOR, a TERM that is not dumb."""
        is_tty = sys.stdout is not None and sys.stdout.isatty()
        columns = 80
        if is_tty:
            import shutil

            columns = shutil.get_terminal_size().columns
        plain = no_color or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        return cls(is_tty=is_tty, columns=columns, color=is_tty and not plain)


@dataclass(frozen=True, slots=True)
class Document:
    """One answer.

    Args:
        schema: name and version, `pyflare.<command>/<version>`.
        body: the keys of the JSON document after `schema`, in order.
        rows: the key of `body` that holds the list of rows, None for a single record.
        columns: columns of the table form; those of the rows when empty.
        footer: rows below a rule in the table form (totals).
        render: the table form itself where a table does not fit (a tree).
    """

    schema: str
    body: Mapping[str, object]
    rows: str | None = None
    columns: Sequence[Column] = ()
    footer: Sequence[Mapping[str, object]] = ()
    render: Callable[[Terminal], Iterable[str]] | None = None

    def row_list(self) -> list[Mapping[str, object]]:
        """Return the rows; the body itself is the one row of a single record."""
        if self.rows is None:
            return [self.body]
        rows = self.body[self.rows]
        assert isinstance(rows, Sequence)  # noqa: S101 - `rows` names a list of `body`
        return list(rows)


@dataclass(frozen=True, slots=True)
class Output:
    """Where answers go, and in which form.

    Args:
        format: the form that was asked for; None: table on a terminal, else by the
            suffix of `path`, else JSON.
        path: file of `-o`; None or `-`: stdout.
        no_color: `--no-color`.
    """

    format: Format | None = None
    path: Path | None = None
    no_color: bool = False
    terminal: Terminal = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "terminal", Terminal.detect(no_color=self.no_color))

    @property
    def to_file(self) -> bool:
        """Whether the answer goes to a file."""
        return self.path is not None and str(self.path) != "-"

    def form(self) -> Format:
        """Return the form in effect."""
        if self.format is not None:
            return self.format
        if self.to_file:
            assert self.path is not None  # noqa: S101 - `to_file` says so
            suffixes: dict[str, Format] = {
                ".jsonl": "jsonl",
                ".csv": "csv",
                ".md": "markdown",
                ".txt": "table",
            }
            return suffixes.get(self.path.suffix.lower(), "json")
        return "table" if self.terminal.is_tty else "json"

    def write(self, document: Document) -> None:
        """Write a document.

        Raises:
            StorageError: the file of `-o` cannot be written.
        """
        self._put("".join(self._encode(document)))

    def write_text(self, text: str) -> None:
        """Write text that is the same in every form: help, a file's content."""
        self._put(text)

    def stream(
        self,
        batches: Iterable[Sequence[Mapping[str, object]]],
        line: Callable[[Mapping[str, object], Terminal], str],
    ) -> None:
        """Write rows as they come: a line each on a terminal, else JSON lines.

        Args:
            batches: rows; those of one batch are written at once.
            line: a row as a line of text.

        Raises:
            UsageError: a form that needs the end of the rows was asked for.
        """
        form = "table" if self.terminal.is_tty else "jsonl"
        form = self.format or form
        if form not in ("jsonl", "table") or self.to_file:
            where = "to a file" if self.to_file else f"as {form}"
            raise UsageError(
                f"rows that keep coming cannot be written {where}",
                hint="--format jsonl, and redirect stdout",
            )
        for batch in batches:
            if form == "jsonl":
                self._put("".join(f"{json_text(row)}\n" for row in batch))
            else:
                self._put("".join(f"{line(row, self.terminal)}\n" for row in batch))

    def _encode(self, document: Document) -> Iterable[str]:
        form = self.form()
        if form == "json":
            yield json_text({"schema": document.schema, **document.body}, indent=2) + "\n"
        elif form == "jsonl":
            for row in document.row_list():
                yield json_text(row) + "\n"
        elif form == "csv":
            yield _csv(document)
        elif form == "markdown":
            yield markdown_table(_columns(document), document.row_list(), document.footer)
        else:
            terminal = self.terminal if not self.to_file else Terminal(False, 80, False)
            if document.render is not None:
                yield from (f"{line}\n" for line in document.render(terminal))
            else:
                yield text_table(
                    _columns(document),
                    document.row_list(),
                    document.footer,
                    limit=terminal.columns if terminal.is_tty else None,
                    color=terminal.color,
                )

    def _put(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        if self.to_file:
            assert self.path is not None  # noqa: S101 - `to_file` says so
            try:
                self.path.write_bytes(data)
            except OSError as error:
                raise StorageError(
                    f"cannot write {self.path}: {error.strerror}", hint="-o PATH names another file"
                ) from error
            return
        stream = sys.stdout
        if stream is None:  # the shell closed it: >&-
            raise StorageError("cannot write the answer: stdout is closed", hint=_INTO_A_FILE)
        try:
            if hasattr(stream, "buffer"):
                stream.flush()
                stream.buffer.write(data)
            else:
                stream.write(data.decode("utf-8"))
            stream.flush()
        except BrokenPipeError:
            raise  # the reader has seen enough, which is no failure
        except OSError as error:
            forget_stdout()
            raise StorageError(
                f"cannot write the answer: {error.strerror}", hint=_INTO_A_FILE
            ) from error


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON: finite numbers only (null for the others), decimals as text, keys in order.

    DEL and the C1 controls, which JSON allows raw, are escaped: a terminal obeys them.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(
        f"\\u{ord(c):04x}" if "\x7f" <= c <= "\x9f" or "\ud800" <= c <= "\udfff" else c
        for c in text
    )


def _plain(value: object) -> object:
    """Return `value` with what JSON does not know replaced."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Iterable):
        return [_plain(item) for item in value]
    raise TypeError(f"no JSON form for {type(value).__name__}")


def _columns(document: Document) -> Sequence[Column]:
    if document.columns:
        return document.columns
    names = dict.fromkeys(name for row in document.row_list() for name in row)
    return [Column(name) for name in names]


def _csv(document: Document) -> str:
    """Return the rows as CSV: all keys, empty for null, JSON text for what is nested."""
    rows = document.row_list()
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = names or [column.key for column in document.columns]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_csv_cell(row.get(name)) for name in names] for row in rows)
    return buffer.getvalue()


def _csv_cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Mapping | list | tuple):
        return json_text(value)
    return value
