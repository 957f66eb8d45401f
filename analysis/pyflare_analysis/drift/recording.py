"""What happens with verdicts once they are known: they are kept, and drift raises alerts.

Example:
    >>> recorded = record_results(
    ...     DataDirectory("pyflare-data"),
    ...     [
    ...         {
    ...             "column": "duration_ms", "kind": "numeric", "psi": 0.31, "p_value": 1e-9,
    ...             "q_value": 4e-9, "threshold": 0.2, "severity": "significant",
    ...             "verdict": "drift", "reference_count": 5000, "current_count": 1200,
    ...         }
    ...     ],
    ...     command="psi", source="today.parquet", reference="week.parquet",
    ... )
    >>> recorded.path, [item.alert.message for item in recorded.raised]
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyflare_analysis.drift.detector import Verdict
from pyflare_storage.alerts import AlertStore, Delivery, NewAlert, Raised, Severity
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.drift_results import write_drift_results
from pyflare_storage.times import format_time
from pyflare_storage.webhooks import Webhook, deliver

__all__ = ["Recorded", "Row", "drift_alerts", "record_results"]

Row = Mapping[str, object]
"""One verdict, by the columns of `pyflare_storage.drift_results`."""

_STATISTICS = {"psi": "PSI", "mmd2": "MMD²"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What `record_results` did."""

    path: str
    """The file of results."""
    raised: tuple[Raised, ...]
    """Alerts that were raised, new and again."""
    deliveries: tuple[Delivery, ...]
    """What became of them at the webhooks."""


def record_results(
    data: DataDirectory,
    rows: Sequence[Row],
    *,
    command: str,
    source: str | None,
    reference: str | None,
    alerting: Sequence[Row] | None = None,
    webhooks: Sequence[Webhook] = (),
    now_ns: Callable[[], int] = time.time_ns,
) -> Recorded:
    """Keep the verdicts of one run under `drift/` and raise an alert for what drifts.

    Args:
        data: the data directory; made when absent.
        rows: the verdicts; see `pyflare_storage.drift_results`.
        command: `psi`, `mmd`, `report`.
        source: URL of the current data.
        reference: what it was compared with.
        alerting: the verdicts that may raise alerts; all when None.
        webhooks: where alerts that are news are posted; a failure is in `deliveries`.
        now_ns: the clock.

    Raises:
        StorageError, RetryableError, InvalidDataError: the data directory takes no data.
    """
    path = write_drift_results(
        data, rows, command=command, source=source, reference=reference, now_ns=now_ns()
    )
    chosen = rows if alerting is None else alerting
    alerts = drift_alerts(chosen, command=command, source=source)
    if not alerts:
        return Recorded(str(path), (), ())
    with AlertStore(data.state_db) as store:
        raised = tuple(store.raise_alert(alert, now_ns=now_ns()) for alert in alerts)
        deliveries = tuple(deliver(raised, webhooks, now_ns=now_ns))
        for delivery in deliveries:
            store.record_delivery(delivery, now_ns=now_ns())
    return Recorded(str(path), raised, deliveries)


def drift_alerts(rows: Iterable[Row], *, command: str, source: str | None) -> list[NewAlert]:
    """Return an alert for each stretch of windows in which a column of a segment drifts.

    Windows that follow each other are one stretch, told by its worst window. Drift whose
    severity is `moderate` is a warning, `significant` is critical. A statistic without
    bands (MMD²) gives a warning.

    Args:
        rows: the verdicts, drift or not.
        command: the command's name.
        source: URL of the current data.
    """
    by_subject: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        segment = row.get("segment")
        text = json.dumps(segment, ensure_ascii=False, sort_keys=True) if segment else ""
        by_subject.setdefault((str(row["column"]), text), []).append(row)
    return [
        _alert(stretch, command, source, column, segment)
        for (column, segment), group in by_subject.items()
        for stretch in _stretches(group)
    ]


def _stretches(rows: Sequence[Row]) -> list[list[Row]]:
    """Return the runs of drifting rows; a window that is not drift ends a run."""
    ordered = sorted(rows, key=_start)
    stretches: list[list[Row]] = []
    open_ = False
    for row in ordered:
        if row["verdict"] == Verdict.DRIFT:
            if open_:
                stretches[-1].append(row)
            else:
                stretches.append([row])
            open_ = True
        elif row["verdict"] == Verdict.STABLE:
            open_ = False
    return stretches


def _start(row: Row) -> int:
    start = row.get("window_start")
    return start if isinstance(start, int) else 0


def _alert(
    stretch: Sequence[Row], command: str, source: str | None, column: str, segment: str
) -> NewAlert:
    worst = max(stretch, key=_score)
    name = next((name for name in _STATISTICS if worst.get(name) is not None), None)
    value = _score(worst)
    threshold = worst.get("threshold")
    first, last = stretch[0].get("window_start"), stretch[-1].get("window_end")
    where = f" of {_words(worst['segment'])}" if segment else ""
    figure = f": {_STATISTICS[name]} {value:.3g}" if name else ""
    limit = f" (threshold {threshold:.3g})" if isinstance(threshold, float | int) else ""
    more = worst.get("details")
    moved = more.get("moved") if isinstance(more, Mapping) else None
    significant = any(row.get("severity") == "significant" for row in stretch)
    return NewAlert(
        kind="drift",
        severity=Severity.CRITICAL if significant else Severity.WARNING,
        subject=column,
        message=f"{column}{where} drifted{figure}{limit}" + (f", {moved}" if moved else ""),
        value=value if name else None,
        threshold=float(threshold) if isinstance(threshold, float | int) else None,
        dedup_key=f"drift:{command}:{_place(source)}:{column}:{segment}",
        details={
            "command": command,
            "source": source,
            **{
                key: worst.get(key)
                for key in ("kind", "segment", "p_value", "q_value", "severity")
                if worst.get(key) is not None
            },
            "windows": sum("window_start" in row for row in stretch),
            "worst_window_start": _time(worst.get("window_start")),
            "moved": moved,
        },
        # The last moment of a window belongs to the next one.
        first_seen_ns=first if isinstance(first, int) else None,
        last_seen_ns=last - 1 if isinstance(last, int) else None,
    )


def _place(source: str | None) -> str:
    """Return what identifies the data wherever a command is run: the whole path of a local one."""
    if source and "://" not in source and Path(source).exists():
        return str(Path(source).resolve())
    return source or ""


def _time(time_ns: object) -> str | None:
    return format_time(time_ns) if isinstance(time_ns, int) else None


def _score(row: Row) -> float:
    values = (row.get(name) for name in _STATISTICS)
    return next((float(value) for value in values if isinstance(value, float | int)), 0.0)


def _words(segment: object) -> str:
    assert isinstance(segment, Mapping)  # noqa: S101 - as `Row` says
    return ", ".join(f"{key} {value}" for key, value in segment.items())
