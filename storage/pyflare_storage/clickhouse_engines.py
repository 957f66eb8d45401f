"""Two ways to a ClickHouse engine: a server over HTTP, and the engine in this process."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from pyflare_proto.errors import (
    NotFoundError,
    PyFlareError,
    SourceUnavailableError,
    StorageError,
    UsageError,
)
from pyflare_storage.clickhouse_expressions import Parameter
from pyflare_storage.clickhouse_schema import READ_SETTINGS, WRITE_SETTINGS

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client

__all__ = ["ChdbEngine", "Engine", "ServerEngine", "open_engine"]

_CODE = re.compile(r"(?:Code: |error code )(\d+)")
_SYSTEM_ERROR = re.compile(r"\[Errno -?\d+\] ([\w ]+)")
_UNKNOWN_TABLE, _UNKNOWN_DATABASE = 60, 81
_AUTHENTICATION = {192, 193, 194, 516}
_NO_ROOM = {243, 74, 76, 75}


class Engine(Protocol):
    """What the source needs of an engine. Values are bound, never written into SQL."""

    def query(self, sql: str, parameters: Mapping[str, Parameter]) -> pa.Table:
        """Return the whole answer of a SELECT."""

    def stream(self, sql: str, parameters: Mapping[str, Parameter]) -> Iterator[pa.RecordBatch]:
        """Yield the answer of a SELECT block by block."""

    def command(self, sql: str) -> None:
        """Run a statement that answers nothing."""

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table (its name quoted), by the names of their columns."""

    def close(self) -> None:
        """Release the connection; may be called twice."""


def _settings(values: Mapping[str, int | str]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in values.items())


def _raise(error: Exception, url: str) -> NoReturn:
    """Raise the error that a failed statement becomes.

    Raises:
        NotFoundError: the table or database does not exist.
        SourceUnavailableError: the engine does not answer, refuses or gives up.
        StorageError: the engine's disk takes no data.
    """
    text = " ".join(str(error).split())
    found = _CODE.search(text)
    code = int(found[1]) if found else None
    short = text.partition("DB::Exception: ")[2] or text
    short = short[:300]
    if code in {_UNKNOWN_TABLE, _UNKNOWN_DATABASE}:
        raise NotFoundError(
            f"no spans in {url}", hint=f"copy some there: pyflare load --source DIR --to {url}"
        ) from error
    if code in _AUTHENTICATION:
        raise SourceUnavailableError(
            f"{url} refuses the login",
            hint="set the password in PYFLARE_CLICKHOUSE_PASSWORD and the user in the address",
        ) from error
    if code in _NO_ROOM:
        raise StorageError(f"{url} takes no data: {short}") from error
    if code is None:
        cause = _SYSTEM_ERROR.search(text)
        raise SourceUnavailableError(
            f"cannot reach {url}: {cause[1] if cause else short}",
            hint="is the server running there?",
        ) from error
    raise SourceUnavailableError(f"{url} failed: {short}") from error


def _escaped(value: Parameter) -> str:
    """Return a parameter's value in the text form that the engine reads it in.

    The form is that of a field of tab-separated values:
    https://clickhouse.com/docs/interfaces/formats#tabseparated
    """
    if isinstance(value, str):
        text = value.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
        return text.replace("\r", "\\r").replace("\0", "\\0")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{','.join(_escaped(v) for v in value)}]"
    return repr(value)


class _Stream(Protocol):
    """An answer of the embedded engine that comes block by block."""

    def record_batch(self) -> Iterable[pa.RecordBatch]: ...
    def close(self) -> None: ...


class _Inserter(Protocol):
    """An insert of the embedded engine that is fed with bytes."""

    def append(self, data: bytes) -> object: ...
    def finish(self) -> object: ...


class _Session(Protocol):
    """What is used of `chdb.session.Session`, which has no annotations."""

    def query(self, sql: str, fmt: str = ..., *, params: Mapping[str, str] = ...) -> pa.Table: ...
    def send_query(self, sql: str, fmt: str, *, params: Mapping[str, str]) -> _Stream: ...
    def send_insert(self, sql: str, fmt: str) -> AbstractContextManager[_Inserter]: ...
    def close(self) -> None: ...


class ChdbEngine:
    """The embedded engine on a folder. One process at a time can have a folder open.

    Args:
        folder: where the tables are; made when `create`.
        url: the address, for messages.
        create: make the folder when it is not there.

    Raises:
        NotFoundError: there is no such folder.
        SourceUnavailableError: another process has it open.
        UsageError: this process has another folder open, or chdb is not installed.
    """

    _guard = threading.Lock()
    _open_folders: dict[Path, int] = {}  # noqa: RUF012  # one engine a process: counted here

    def __init__(self, folder: Path, url: str, *, create: bool = False) -> None:
        self._url = url
        self._folder = folder.resolve()
        self._session: _Session | None = None
        if not create and not self._folder.is_dir():
            raise NotFoundError(
                f"no folder {folder}", hint=f"make it: pyflare load --source DIR --to {url}"
            )
        try:
            from chdb import session
        except ImportError as error:
            raise UsageError(
                "chdb:// needs the embedded engine, which is not installed",
                hint="pip install 'pyflare-suite[chdb]'",
            ) from error
        with self._guard:
            others = [path for path in self._open_folders if path != self._folder]
            if others:
                raise UsageError(
                    f"cannot open {url} together with chdb://{others[0]}",
                    hint="the embedded engine opens one folder at a time: copy by way of Parquet",
                )
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                create_session: Callable[[str], _Session] = session.Session
                self._session = create_session(str(self._folder))
            except OSError as error:
                raise StorageError(f"cannot make {folder}: {error.strerror}") from error
            except Exception as error:
                raise SourceUnavailableError(
                    f"cannot open {url}: {' '.join(str(error).split())[:200]}",
                    hint="another process may have it open: end that one first",
                ) from error
            self._open_folders[self._folder] = self._open_folders.get(self._folder, 0) + 1

    def _running(self) -> _Session:
        if self._session is None:
            raise UsageError(f"{self._url} is closed")
        return self._session

    def query(self, sql: str, parameters: Mapping[str, Parameter]) -> pa.Table:
        """Return the whole answer of a SELECT."""
        batches = list(self.stream(sql, parameters))
        if not batches:
            # The stream of an empty answer has no schema.
            with self._failures():
                return self._running().query(
                    f"{sql} SETTINGS {_settings(READ_SETTINGS)}",
                    "ArrowTable",
                    params=_text_parameters(parameters),
                )
        return pa.Table.from_batches(batches)

    def stream(self, sql: str, parameters: Mapping[str, Parameter]) -> Iterator[pa.RecordBatch]:
        """Yield the answer of a SELECT block by block."""
        with self._failures():
            result = self._running().send_query(
                f"{sql} SETTINGS {_settings(READ_SETTINGS)}",
                "Arrow",
                params=_text_parameters(parameters),
            )
        try:
            with self._failures():
                yield from result.record_batch()
        finally:
            result.close()

    def command(self, sql: str) -> None:
        """Run a statement that answers nothing."""
        with self._failures():
            self._running().query(sql)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table."""
        from pyflare_storage.clickhouse_schema import quoted

        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, rows.schema) as writer:
            writer.write_table(rows)
        names = ", ".join(quoted(name) for name in rows.column_names)
        statement = f"INSERT INTO {table} ({names}) SETTINGS {_settings(WRITE_SETTINGS)}"
        with (
            self._failures(),
            self._running().send_insert(statement, "ArrowStream") as inserter,
        ):
            inserter.append(sink.getvalue().to_pybytes())
            inserter.finish()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (PyFlareError, GeneratorExit):
            raise
        except Exception as error:  # noqa: BLE001  # the engine raises several unrelated classes
            _raise(error, self._url)

    def close(self) -> None:
        """Close the session; the last one frees the folder for other processes."""
        with self._guard:
            if self._session is None:
                return
            self._session.close()
            self._session = None
            left = self._open_folders[self._folder] - 1
            if left:
                self._open_folders[self._folder] = left
            else:
                del self._open_folders[self._folder]


def _text_parameters(parameters: Mapping[str, Parameter]) -> dict[str, str]:
    return {name: _escaped(value) for name, value in parameters.items()}


class ServerEngine:
    """A ClickHouse server over its HTTP interface.

    Args:
        url: `clickhouse://user@host:8123/database`; `clickhouses://` for TLS.
        password: of the user.

    Raises:
        SourceUnavailableError: the server does not answer or refuses the login.
        UsageError: clickhouse-connect is not installed.
    """

    def __init__(self, url: str, password: str | None) -> None:
        try:
            import clickhouse_connect
        except ImportError as error:
            raise UsageError(
                "clickhouse:// needs clickhouse-connect, which is not installed",
                hint="pip install 'pyflare-suite[clickhouse]'",
            ) from error
        parts = urlsplit(url)
        secure = parts.scheme == "clickhouses"
        self._url = url
        self._client: Client | None = None
        # It logs each failure with its traceback; the error that is raised says it once.
        logging.getLogger("clickhouse_connect").addHandler(logging.NullHandler())
        with self._failures():
            self._client = clickhouse_connect.get_client(
                host=parts.hostname or "localhost",
                port=parts.port or (8443 if secure else 8123),
                username=unquote(parts.username) if parts.username else "default",
                password=password or "",
                database=unquote(parts.path.strip("/")) or "default",
                secure=secure,
                autogenerate_session_id=False,  # sessions allow one question at a time
                connect_timeout=10,
                query_limit=0,
            )

    def _running(self) -> Client:
        if self._client is None:
            raise UsageError(f"{self._url} is closed")
        return self._client

    def query(self, sql: str, parameters: Mapping[str, Parameter]) -> pa.Table:
        """Return the whole answer of a SELECT."""
        with self._failures():
            return self._running().query_arrow(
                sql, parameters=dict(parameters), settings=dict(READ_SETTINGS), use_strings=True
            )

    def stream(self, sql: str, parameters: Mapping[str, Parameter]) -> Iterator[pa.RecordBatch]:
        """Yield the answer of a SELECT block by block."""
        with (
            self._failures(),
            self._running().query_arrow_stream(
                sql, parameters=dict(parameters), settings=dict(READ_SETTINGS), use_strings=True
            ) as batches,
        ):
            yield from batches

    def command(self, sql: str) -> None:
        """Run a statement that answers nothing."""
        with self._failures():
            self._running().command(sql)

    def insert(self, table: str, rows: pa.Table) -> None:
        """Append rows to a table."""
        with self._failures():
            self._running().insert_arrow(table, rows, settings=dict(WRITE_SETTINGS))

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        from clickhouse_connect.driver.exceptions import Error
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (Error, HTTPError, OSError) as error:
            _raise(error, self._url)

    def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            self._client.close()
            self._client = None


def open_engine(url: str, *, password: str | None = None, create: bool = False) -> Engine:
    """Open the engine of an address.

    Args:
        url: `clickhouse://...`, `clickhouses://...` or `chdb:///folder`, with a query or not.
        password: of the server's user.
        create: make what is missing (the folder of the embedded engine).

    Raises:
        UsageError: the address holds a password or cannot be read.
        NotFoundError: there is no such folder.
        SourceUnavailableError: the engine does not answer.
    """
    plain = url.partition("?")[0]
    try:
        parts = urlsplit(plain)
        held: Any = (parts.password, parts.port)
    except ValueError as error:
        raise UsageError(f"not an address: {plain!r} ({error})") from error
    if held[0]:
        shown = plain.replace(f":{parts.password}@", ":***@")
        raise UsageError(
            f"a password in the address {shown}",
            hint="leave it out and set PYFLARE_CLICKHOUSE_PASSWORD",
        )
    if parts.scheme == "chdb":
        folder = Path(unquote(parts.netloc + parts.path))
        if not folder.name:
            raise UsageError(f"no folder in {plain!r}", hint="like chdb:///var/lib/pyflare")
        return ChdbEngine(folder, plain, create=create)
    return ServerEngine(plain, password)
