"""A little of ClickHouse's HTTP interface over the embedded engine: real engine, real client."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

_OWN = {"query", "database", "default_format", "query_id", "session_id", "client_protocol_version"}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    session: Any
    lock: threading.Lock
    password: str

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Stay silent."""

    def do_GET(self) -> None:
        self._respond(b"")

    def do_POST(self) -> None:
        self._respond(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _respond(self, body: bytes) -> None:
        given = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        try:
            with self.lock:
                answer, status = self._run(given, body), 200
        except Exception as error:  # noqa: BLE001  # the engine's own failure goes to the client
            answer, status = str(error).encode(), 500
        self.send_response(status)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _run(self, given: dict[str, str], body: bytes) -> bytes:
        if self.password not in str(self.headers.get("Authorization")):
            raise RuntimeError("Code: 516. DB::Exception: Authentication failed")
        parameters = {k.removeprefix("param_"): v for k, v in given.items() if k[:6] == "param_"}
        changed = {k: v for k, v in given.items() if k not in _OWN and k[:6] != "param_"}
        for name, value in changed.items():
            if name not in {"wait_end_of_query", "cancel_http_readonly_queries_on_client_close"}:
                self.session.query(f"SET {name} = '{value}'")
        if "query" in given and given["query"].lstrip().upper().startswith("INSERT"):
            insert = re.fullmatch(r"(?s)(.*?)\s+FORMAT\s+(\w+)\s*", given["query"])
            if insert is None:
                raise RuntimeError(f"not understood: {given['query']}")
            with self.session.send_insert(insert[1], insert[2]) as inserter:
                inserter.append(body)
                inserter.finish()
            return b""
        sql = (given.get("query", "") + body.decode()).strip()
        found = re.fullmatch(r"(?s)(.*?)\s+FORMAT\s+(\w+)\s*", sql)
        sql, form = (
            (found[1], found[2]) if found else (sql, given.get("default_format", "TabSeparated"))
        )
        result = self.session.query(sql, form, params=parameters)
        return bytes(result.bytes()) if result is not None else b""


@contextmanager
def serving(folder: Path, password: str) -> Iterator[str]:
    """Serve a folder of the embedded engine; yields its `clickhouse://` address."""
    from chdb.session import Session

    session = Session(str(folder))
    members = {"session": session, "lock": threading.Lock(), "password": password}
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), members))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"clickhouse://default@127.0.0.1:{server.server_port}/default"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        session.close()
