"""A collector that is away, refuses, hangs, comes back: nothing waits, all is accounted for."""

from __future__ import annotations

import asyncio
import gc
import logging
import socket
import threading
import time
from collections import Counter
from typing import Any

import pytest

import pyflare
from pyflare.delivery.statistics import Statistics
from tests.sdk.fake_collector import FakeCollector, attributes_of, until

pytestmark = pytest.mark.usefixtures("fresh_sdk")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(url: str) -> None:
    """Set the SDK up to send to `url`."""
    pyflare.init("test", url, use_http=True)


def spans(count: int, name: str = "span") -> None:
    """Make and end spans."""
    for number in range(count):
        with pyflare.span(f"{name} {number}"):
            pass


def total(statistics: Statistics) -> int:
    """Return all spans that the statistics account for."""
    return statistics.sent + statistics.waiting + statistics.lost


def test_spans_arrive_in_order_in_few_requests() -> None:
    """Spans share requests; all are there, in order, once; gzip on the wire."""
    with FakeCollector() as collector:
        start(collector.url)
        spans(1500)
        assert pyflare.flush()

        assert collector.names == [f"span {number}" for number in range(1500)]
        assert len(collector.requests) < 300
        assert collector.seen_headers[0]["content-encoding"] == "gzip"
        statistics = pyflare.stats()
    assert (statistics.sent, statistics.waiting, statistics.lost) == (1500, 0, 0)
    assert statistics.requests == len(collector.requests)


def test_without_a_flush_they_arrive_soon() -> None:
    """A single span is sent after the schedule delay by itself."""
    with FakeCollector() as collector:
        start(collector.url)
        spans(1)
        assert until(lambda: collector.names == ["span 0"])


def test_refused_then_back() -> None:
    """Spans of the time without a collector arrive once it is there, the oldest first."""
    port = free_port()
    start(f"http://127.0.0.1:{port}")
    spans(100, "early")
    assert not pyflare.flush(0.3)
    before = pyflare.stats()
    assert (before.sent, before.waiting) == (0, 100)
    assert before.failed_requests >= 1
    assert "refused" in before.last_error

    with FakeCollector(port=port) as collector:
        spans(10, "late")
        assert pyflare.flush(10)
        assert collector.names[:2] == ["early 0", "early 1"]
        assert len(collector.names) == len(set(collector.names)) == 110
        after = pyflare.stats()
    assert (after.sent, after.waiting, after.lost) == (110, 0, 0)


def test_a_busy_collector_is_asked_again_when_it_says() -> None:
    """503 with Retry-After: the next attempt comes after that time, and delivers."""
    with FakeCollector(status=503, headers={"retry-after": "1"}) as collector:
        start(collector.url)
        spans(5)
        assert until(lambda: len(collector.times) == 1)
        collector.status = 200
        assert pyflare.flush(10)

        first, second = collector.times
        assert 0.9 < second - first < 5
        assert len(collector.names) == 5


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500])
def test_a_refusal_is_final_and_counted(status: int, caplog: pytest.LogCaptureFixture) -> None:
    """What OTLP forbids to send again is counted as lost, told once, and blocks nothing."""
    with FakeCollector(status=status) as collector:
        start(collector.url)
        spans(5)
        assert not pyflare.flush(10)
        spans(5)
        assert not pyflare.flush(10)
        collector.status = 200
        spans(3)
        assert pyflare.flush(10)

        statistics = pyflare.stats()
        assert (statistics.sent, statistics.lost_refused, statistics.waiting) == (3, 10, 0)
        assert len(collector.times) == 3
    assert caplog.text.count("refused 5 spans") == 1


def test_spans_that_the_collector_rejects_are_counted() -> None:
    """Partial success: the answer says how many of a request were not taken."""
    with FakeCollector(rejected=2) as collector:
        start(collector.url)
        spans(5)
        assert not pyflare.flush(10)
        statistics = pyflare.stats()
    assert (statistics.sent, statistics.lost_refused) == (3, 2)


def test_a_hanging_collector_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls go on, flush and shutdown keep to their limits, what is left is counted."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "10")
    with FakeCollector(hang_seconds=60) as collector:
        start(collector.url)
        spans(10)
        assert until(lambda: len(collector.times) == 1)
        began = time.monotonic()
        spans(1000)
        assert not pyflare.flush(0.2)
        assert not pyflare.shutdown(0.5)
        assert time.monotonic() - began < 8  # a request may take 10, the server takes 60

        statistics = pyflare.stats()
    assert (statistics.sent, statistics.waiting, statistics.lost_at_shutdown) == (0, 0, 1010)


def test_a_request_is_given_up_after_its_timeout_and_sent_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A collector that hung and answers again gets everything."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.2")
    with FakeCollector(hang_seconds=60) as collector:
        start(collector.url)
        spans(10)
        assert until(lambda: pyflare.stats().failed_requests >= 1)
        collector.hang_seconds = 0
        assert pyflare.flush(10)
        assert len(collector.names) == 10
    assert pyflare.stats().sent == 10


def test_memory_is_bounded_and_the_rest_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond backlog and queue spans are dropped, the newest, and every one is accounted for."""
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "200")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50")
    monkeypatch.setenv("PYFLARE_MAX_BACKLOG_BYTES", "20000")
    port = free_port()
    start(f"http://127.0.0.1:{port}")
    for _ in range(100):
        spans(100)
        time.sleep(0.002)
    assert until(lambda: pyflare.stats().lost_queue_full > 0)
    away = pyflare.stats()
    assert total(away) == 10_000
    assert away.lost_queue_full > 1000
    assert away.backlog_bytes < 20_000 + 10_000
    assert caplog.text.count("further ones are dropped") == 1

    with FakeCollector(port=port) as collector:
        assert pyflare.flush(10)
        back = pyflare.stats()
        assert back.sent == len(collector.names) == away.waiting
        assert collector.names[0] == "span 0"
    assert total(back) == 10_000


def test_shutdown_delivers(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has ended before is sent; what ends after is counted; a second one is nothing."""
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    with FakeCollector() as collector:
        start(collector.url)
        late = pyflare.span("late")
        late.__enter__()
        spans(20)
        assert pyflare.shutdown()
        assert len(collector.names) == 20
        late.__exit__(None, None, None)
        assert pyflare.shutdown()
    assert pyflare.stats().lost_at_shutdown == 1


def test_shutdown_does_not_wait_for_a_collector_that_is_not_there(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A script without a collector ends at once, and says what was lost."""
    start(f"http://127.0.0.1:{free_port()}")
    spans(7)
    began = time.monotonic()
    assert not pyflare.shutdown(30)

    assert time.monotonic() - began < 20
    assert pyflare.stats().lost_at_shutdown == 7
    assert "7 spans were not delivered" in caplog.text


def test_shutdown_tries_again_after_an_attempt_from_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A request that hung when the shutdown came is not the last: the collector is back."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "0.5")
    with FakeCollector(hang_seconds=60) as collector:
        start(collector.url)
        spans(7)
        assert until(lambda: len(collector.times) == 1)
        collector.hang_seconds = 0
        assert pyflare.shutdown(10)
        assert len(collector.names) == 7


def test_threads_stop() -> None:
    """After a shutdown none of the SDK's threads is left; before the first span none is there."""

    def ours() -> list[str]:
        return [t.name for t in threading.enumerate() if t.name.startswith("pyflare")]

    assert until(lambda: not ours())
    with FakeCollector() as collector:
        start(collector.url)
        assert ours() == []
        spans(1)
        assert sorted(ours()) == ["pyflare-encode", "pyflare-send"]
        pyflare.shutdown()
    assert until(lambda: not ours())


def test_many_threads_lose_nothing() -> None:
    """Spans of twenty threads at once, with flushes between them, all arrive once."""
    with FakeCollector() as collector:
        start(collector.url)
        threads = [threading.Thread(target=spans, args=(75, f"t{n}")) for n in range(20)]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            pyflare.flush(5)
        assert pyflare.flush(10)

        assert len(collector.names) == len(set(collector.names)) == 1500
    assert pyflare.stats().sent == 1500


def test_many_tasks_lose_nothing() -> None:
    """Spans of five hundred tasks on one event loop arrive once, each under its own parent."""

    @pyflare.trace
    async def child(number: int) -> None:
        await asyncio.sleep(0.001 * (number % 7))

    async def task(number: int) -> None:
        async with pyflare.span(f"task {number}"):
            await asyncio.gather(child(number), child(number + 1))

    async def main() -> None:
        await asyncio.gather(*(task(number) for number in range(500)))

    with FakeCollector() as collector:
        start(collector.url)
        asyncio.run(main())
        assert pyflare.flush(10)

        found = collector.spans
    parents = {span.span_id for span in found if span.name.startswith("task")}
    children = [span.parent_span_id for span in found if span.name == "child"]
    assert len(parents) == 500
    assert Counter(children) == dict.fromkeys(parents, 2)


def test_one_bad_span_costs_no_other() -> None:
    """A name that is not Unicode cannot be sent; the spans beside it are."""
    with FakeCollector() as collector:
        start(collector.url)
        spans(3)
        with pyflare.span("bad \ud800"):
            pass
        spans(3)
        assert not pyflare.flush(10)
        assert len(collector.names) == 6
    assert pyflare.stats().lost_unencodable == 1


def test_captured_text_is_repaired() -> None:
    """Captured input that is not Unicode costs its bad characters, not the text."""

    @pyflare.trace
    def echo(text: str) -> str:
        return text

    @pyflare.trace
    def fails() -> None:
        raise ValueError("ä\ud800b")

    with FakeCollector() as collector:
        start(collector.url)
        echo("ä\ud800b")
        with pytest.raises(ValueError, match="b"):
            fails()
        assert pyflare.flush(10)
        found = attributes_of(collector.spans[0])
    assert found["pyflare.input.preview"] == '{"text": "ä?b"}'
    assert found["pyflare.output.preview"] == "ä?b"
    assert collector.spans[1].status.message == "ä?b"


def test_large_spans_travel_in_several_requests() -> None:
    """No request grows beyond what servers take, however large its spans are."""
    with FakeCollector() as collector:
        start(collector.url)
        for number in range(10):
            with pyflare.span(f"large {number}", attributes={"text": "x" * 1_000_000}):
                pass
        assert pyflare.flush(20)

        assert collector.names == [f"large {number}" for number in range(10)]
        assert max(request.ByteSize() for request in collector.requests) < 3_600_000


def test_the_log_is_not_flooded(caplog: pytest.LogCaptureFixture) -> None:
    """A collector that is away is told once, with what to do, however often it is tried."""
    caplog.set_level(logging.WARNING)
    start(f"http://127.0.0.1:{free_port()}")
    spans(5)
    assert not pyflare.flush(1.5)

    assert pyflare.stats().failed_requests >= 2
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1
    assert "hint: start `pyflare collect`" in messages[0]


def test_an_instance_that_is_forgotten_can_be_collected() -> None:
    """Fork handlers and exit handlers of old pipelines hold nothing."""
    import weakref

    with FakeCollector() as collector:
        start(collector.url)
        spans(1)
        sdk: Any = pyflare.PyFlare.get_instance()
        pipeline = weakref.ref(sdk._processor.pipeline)
        pyflare.shutdown()
        sdk._processor.pipeline = None
        del sdk
        assert until(lambda: gc.collect() >= 0 and pipeline() is None)
