"""Spans for those who watch: whole, bounded, and never at the cost of the others."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest

from pyflare_collector import live as module
from pyflare_collector.live import MAX_WATCHERS, LiveSpans, Watch
from pyflare_collector.normalize import KEYS
from pyflare_collector.transform import Accepted
from pyflare_proto.errors import RetryableError
from pyflare_proto.otlp.decode import decode
from pyflare_proto.record import arrow_schema
from pyflare_storage.prices import PriceBook
from tests.collector.receiver_helpers import running
from tests.otlp_payloads import genai_request


def accepted(spans: int, seed: int = 1) -> Accepted:
    """Return a request as the pipeline hands it over."""
    batch = decode([genai_request(spans, seed=seed)], KEYS)
    return Accepted(1, batch, np.full(spans, 0.5), int(batch.buffer.nbytes))


@pytest.fixture
def live() -> LiveSpans:
    """Return a hub whose streams beat quickly."""
    return LiveSpans(PriceBook.load(None), heartbeat_s=0.05)


def rows(pieces: list[bytes]) -> list[int]:
    """Return the sizes of the batches of a whole stream."""
    return [batch.num_rows for batch in pa.ipc.open_stream(b"".join(pieces))]


def rest(watch: Watch) -> Iterator[bytes]:
    """Yield what a stream still has."""
    while (piece := watch.read()) is not None:
        yield piece


def test_a_watcher_gets_the_records_of_what_was_taken(live: LiveSpans) -> None:
    """Columns of the span record, priced, with their sampling probability; then the end."""
    watch = live.watch()
    pieces = [watch.read() or b""]
    live.offer(accepted(3))
    live.offer(accepted(2, seed=2))
    live.close()
    pieces += list(rest(watch))

    table = pa.ipc.open_stream(b"".join(pieces)).read_all()

    assert table.schema.names == arrow_schema().names
    assert table.num_rows == 5
    assert set(table["sampling_probability"].to_pylist()) == {0.5}
    assert set(table["cost_status"].to_pylist()) == {"priced"}


def test_a_quiet_stream_beats(live: LiveSpans) -> None:
    """The schema comes at once, and an empty batch every heartbeat."""
    watch = live.watch()
    pieces = [watch.read() or b"" for _ in range(3)]
    live.close()

    assert rows([*pieces, *rest(watch)]) == [0, 0, 0]


def test_a_slow_watcher_loses_the_oldest(live: LiveSpans, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five requests of 4 spans, a queue of 10 spans keeps the last two."""
    monkeypatch.setattr(module, "QUEUE_SPANS", 10)
    watch = live.watch()
    pieces = [watch.read() or b""]
    for seed in range(5):
        live.offer(accepted(4, seed=seed))
    live.close()

    assert sum(rows([*pieces, *rest(watch)])) == 8


def test_watchers_are_few_and_leave_no_trace(live: LiveSpans) -> None:
    """One too many is told to come back, and may when another has gone."""
    watches = [live.watch() for _ in range(MAX_WATCHERS)]
    with pytest.raises(RetryableError, match="watch this collector already"):
        live.watch()
    watches[0].close()
    watches[0].close()

    live.watch()

    assert len(live.watches) == MAX_WATCHERS


def test_nobody_begins_to_watch_a_collector_that_drains(live: LiveSpans) -> None:
    """The answer is that of every request then."""
    live.close()

    with pytest.raises(RetryableError, match="draining"):
        live.watch()


def test_the_page_streams_to_those_who_may_read(live: LiveSpans) -> None:
    """Without the token 401; with it chunks of Arrow; no page without a hub, no other method."""
    with running(tokens=("secret",), watch=live.watch) as receiver:

        def ask(method: str = "GET", token: str = "secret") -> http.client.HTTPResponse:  # noqa: S107 - of this test
            connection = http.client.HTTPConnection(receiver.http_address, timeout=10)
            connection.request(method, "/tail", headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse()

        assert ask(token="wrong").status == 401  # noqa: S106 - of this test
        assert ask("POST").status == 405
        response = ask()
        live.offer(accepted(7))
        threading.Timer(0.3, live.close).start()
        body = response.read()

    assert response.status == 200
    assert response.headers["Content-Type"] == "application/vnd.apache.arrow.stream"
    assert sum(rows([body])) == 7
    assert live.watches == []
    with running() as receiver:
        connection = http.client.HTTPConnection(receiver.http_address, timeout=10)
        connection.request("GET", "/tail")
        assert connection.getresponse().status == 404
