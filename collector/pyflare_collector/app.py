"""The collector as a whole: what `pyflare collect` runs."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from pyflare_collector.config import CollectorConfig

if TYPE_CHECKING:
    from pyflare_storage.dataset import DataDirectory
    from pyflare_storage.prices import PriceBook

__all__ = ["run_collector", "stop_on_signals"]

_logger = logging.getLogger("pyflare.collector")

DRAIN_S = 30.0
"""Seconds for finishing the requests in work, and again for publishing what was taken."""


def run_collector(
    config: CollectorConfig,
    data: DataDirectory,
    on_ready: Callable[[str, str], None],
    stop: threading.Event,
    *,
    prices: PriceBook | None = None,
) -> None:
    """Collect until `stop` is set, then drain: returns when every accepted span is in a file.

    Args:
        config: all settings.
        data: the data directory; created when missing.
        on_ready: called once with the addresses `HOST:PORT` of the gRPC and the HTTP
            server, empty where one is off, when both take requests.
        stop: set it to drain and return; see `stop_on_signals`.
        prices: what calls are priced with; genai-prices when None.

    Raises:
        ConfigError: a setting, a port that is taken, a data directory in use.
        StorageError: the data directory takes no data.
    """
    from pyflare_collector.heap import collect_garbage_seldom, keep_freed_memory
    from pyflare_collector.pipeline import Pipeline
    from pyflare_collector.receiver import OtlpReceiver
    from pyflare_collector.warmup import warm_up
    from pyflare_storage.prices import PriceBook

    config.validate()
    keep_freed_memory()
    prices = PriceBook.load(None) if prices is None else prices
    pipeline = Pipeline(config, data, prices)
    receiver = OtlpReceiver(
        config.receiver,
        pipeline.ingest,
        status=pipeline.snapshot,
        metrics=pipeline.metrics_text,
        watch=pipeline.live.watch,
    )
    warm_up(prices)
    collect_garbage_seldom()
    pipeline.start()
    try:
        receiver.start()
        on_ready(receiver.grpc_address, receiver.http_address)
        stop.wait()
        _logger.info("draining")
    finally:
        pipeline.live.close()
        receiver.shutdown(DRAIN_S)
        pipeline.shutdown(DRAIN_S)


@contextlib.contextmanager
def stop_on_signals(stop: threading.Event) -> Iterator[None]:
    """Set `stop` at the first SIGTERM or SIGINT; a second one ends the process at once.

    Only for the main thread. The handlers that were there before come back at the end.
    """
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in numbers}

    def first(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in numbers:
        signal.signal(number, first)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
