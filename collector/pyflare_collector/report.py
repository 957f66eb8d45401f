"""What `/status` and `/metrics` say about a pipeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyflare_collector.counters import Metric, prometheus_text

if TYPE_CHECKING:
    from pyflare_collector.pipeline import Pipeline

__all__ = ["metrics_text", "snapshot"]


def snapshot(pipeline: Pipeline) -> dict[str, object]:
    """Return the pipeline's counters and queues as JSON values.

    `spans` counts since the start; `pending` are accepted spans that are in no
    published file yet.
    """
    counters, batcher, log = pipeline.counters, pipeline.batcher, pipeline.log
    dropped = _dropped(pipeline)
    error = pipeline.writer.error
    return {
        "durability": pipeline.config.storage.durability,
        "requests": counters.get("requests"),
        "spans": {
            "received": counters.get("received"),
            "accepted": counters.get("accepted"),
            "rejected": counters.by_reason("rejected"),
            "sampled_out": counters.get("sampled_out"),
            "recovered": counters.get("recovered"),
            "deduplicated": counters.get("deduplicated"),
            "written": counters.get("written"),
            "dropped": dropped,
            "refused": batcher.statistics.refused,
            "pending": max(0, pending_spans(pipeline)),
        },
        "queue": {
            "spans": batcher.get_pending_count(),
            "bytes": batcher.get_pending_bytes(),
            "max_spans": pipeline.config.batcher.max_queue_size,
        },
        "log": {
            "bytes": log.size_bytes(),
            "segments": len(log.unpublished()) + int(log.open_segment() is not None),
            "records": log.statistics.records,
            "written_bytes": log.statistics.written_bytes,
            "commits": log.statistics.commits,
            "fsyncs": log.statistics.fsyncs,
            "failed_commits": log.statistics.failed_commits,
            "damaged_records": counters.get("damaged_records"),
        },
        "files": {
            "published": counters.get("files"),
            "row_groups": counters.get("row_groups"),
            "error": None if error is None else error.message,
        },
        "watchers": len(pipeline.live.watches),
    }


def pending_spans(pipeline: Pipeline) -> int:
    """Return the accepted spans that are in no published file yet."""
    counters = pipeline.counters
    done = counters.get("written") + counters.get("deduplicated")
    return (
        counters.get("accepted")
        + counters.get("recovered")
        - done
        - sum(_dropped(pipeline).values())
    )


def metrics_text(pipeline: Pipeline) -> str:
    """Return the same as `snapshot` in the Prometheus text format."""
    counters, log = pipeline.counters, pipeline.log
    queue, statistics = pipeline.batcher, log.statistics

    def spans(name: str, text: str) -> Metric:
        return _counter(f"spans_{name}", text, counters.get(name))

    return prometheus_text(
        [
            _counter(
                "requests", "Export requests answered with success.", counters.get("requests")
            ),
            spans("received", "Spans in those requests."),
            spans("accepted", "Spans taken and kept."),
            spans("sampled_out", "Spans that the sampler did not keep."),
            _by_reason("spans_rejected", "Spans that are never taken.", _rejected(pipeline)),
            spans("recovered", "Spans replayed from the log at the start."),
            spans("deduplicated", "Spans that had been seen before."),
            spans("written", "Spans in published files."),
            _by_reason("spans_dropped", "Accepted spans that were lost.", _dropped(pipeline)),
            _counter("spans_refused", "Spans refused for want of room.", queue.statistics.refused),
            _gauge("spans_pending", "Accepted spans in no file yet.", pending_spans(pipeline)),
            _gauge("queue_spans", "Spans waiting in the queue.", queue.get_pending_count()),
            _gauge("queue_bytes", "Decoded bytes in the queue.", queue.get_pending_bytes()),
            _gauge("wal_bytes", "Bytes of log segments on the disk.", log.size_bytes()),
            _counter("wal_written_bytes", "Bytes written to the log.", statistics.written_bytes),
            _counter("wal_records", "Requests written to the log.", statistics.records),
            _counter("wal_commits", "Groups committed to the log.", statistics.commits),
            _counter("wal_fsyncs", "Syncs of the log.", statistics.fsyncs),
            _counter("wal_failed_commits", "Failed commits.", statistics.failed_commits),
            _counter("wal_damaged_records", "Unreadable records.", counters.get("damaged_records")),
            _counter("files_published", "Parquet files published.", counters.get("files")),
            _gauge(
                "storage_failing",
                "1 while span files cannot be written.",
                int(pipeline.writer.error is not None),
            ),
        ]
    )


def _rejected(pipeline: Pipeline) -> dict[str, int]:
    return {"bad_ids": 0, **pipeline.counters.by_reason("rejected")}


def _dropped(pipeline: Pipeline) -> dict[str, int]:
    """Return the accepted spans that were lost, by reason."""
    queue = pipeline.batcher.statistics
    return {
        "queue_full": queue.dropped_oldest,
        "storage": pipeline.counters.get("dropped", "storage"),
        "defect": pipeline.counters.get("dropped", "defect") + queue.failed,
    }


def _counter(name: str, text: str, value: int) -> Metric:
    return Metric(f"pyflare_collector_{name}_total", "counter", text, {"": value})


def _gauge(name: str, text: str, value: int) -> Metric:
    return Metric(f"pyflare_collector_{name}", "gauge", text, {"": value})


def _by_reason(name: str, text: str, values: dict[str, int]) -> Metric:
    labelled = {f'reason="{reason}"': value for reason, value in sorted(values.items())}
    return Metric(f"pyflare_collector_{name}_total", "counter", text, labelled)
