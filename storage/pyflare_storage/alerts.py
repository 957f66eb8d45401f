"""Alerts: what somebody should look at, one for each episode.

An alert belongs to an episode of its `dedup_key`. The same trouble seen again updates
it, and does not add another, while

- nobody has acknowledged it, or
- it was seen at most `episode` (24 hours) after, or before, the times seen so far: an
  acknowledged trouble that goes on stays quiet. Only if it gets more severe than what
  was acknowledged there is a new alert.

Times seen are those of the data (the windows that drifted), so looking at the same week
twice raises nothing new.

Example:
    >>> with AlertStore("pyflare-data/state.db") as alerts:
    ...     raised = alerts.raise_alert(
    ...         NewAlert(
    ...             kind="drift", severity=Severity.WARNING, subject="duration_ms",
    ...             message="duration_ms drifted: PSI 0.31", value=0.31, threshold=0.2,
    ...             dedup_key="drift:report:duration_ms",
    ...         ),
    ...         now_ns=time.time_ns(),
    ...     )
    ...     raised.is_news
    True
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from pyflare_proto.errors import NotFoundError
from pyflare_storage.json_text import compact_json
from pyflare_storage.state import StateDatabase
from pyflare_storage.times import format_time

__all__ = ["EPISODE_NS", "Alert", "AlertStore", "Delivery", "NewAlert", "Raised", "Severity"]

EPISODE_NS = 24 * 3_600_000_000_000
"""Nanoseconds without a sighting after which an acknowledged trouble is a new one."""

_MIGRATIONS = (
    (
        """CREATE TABLE alert (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            kind TEXT NOT NULL,
            severity TEXT NOT NULL,
            subject TEXT NOT NULL,
            message TEXT NOT NULL,
            value REAL,
            threshold REAL,
            created_at TEXT NOT NULL,
            updated_at TEXT NOT NULL,
            acknowledged_at TEXT,
            first_seen_at TEXT NOT NULL,
            last_seen_at TEXT NOT NULL,
            occurrences INTEGER NOT NULL,
            dedup_key TEXT NOT NULL,
            details TEXT NOT NULL
        )""",
        "CREATE INDEX alert_by_key ON alert (dedup_key, id)",
        """CREATE TABLE alert_delivery (
            id INTEGER PRIMARY KEY AUTOINCREMENT,
            alert_id INTEGER NOT NULL REFERENCES alert (id),
            destination TEXT NOT NULL,
            delivered INTEGER NOT NULL,
            attempts INTEGER NOT NULL,
            status INTEGER,
            error TEXT,
            finished_at TEXT NOT NULL
        )""",
        "CREATE INDEX alert_delivery_by_alert ON alert_delivery (alert_id, id)",
    ),
)


class Severity(StrEnum):
    """How bad it is."""

    INFO = "info"
    """Worth knowing."""
    WARNING = "warning"
    """Look at it."""
    CRITICAL = "critical"
    """Look at it now."""

    @property
    def rank(self) -> int:
        """Position in the order of severity, from 0."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class NewAlert:
    """Something seen, not yet an alert."""

    kind: str
    """What watches: `drift`, `budget`."""
    severity: Severity
    subject: str
    """What it is about: a column, a budget."""
    message: str
    """One sentence for people."""
    dedup_key: str
    """What makes two sightings the same trouble."""
    value: float | None = None
    """The figure that was too large, in the unit of `threshold`."""
    threshold: float | None = None
    """What the figure should not exceed."""
    details: Mapping[str, object] = field(default_factory=dict)
    """Anything else, as it stands in JSON."""
    first_seen_ns: int | None = None
    """When it began, by the data, ns since 1970; now when None."""
    last_seen_ns: int | None = None
    """When it was there last, by the data, ns since 1970; now when None."""


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert. Times are ISO 8601 in UTC with nanoseconds, so that text sorts as time."""

    id: int
    """Number in this data directory, from 1."""
    kind: str
    severity: Severity
    """The worst so far."""
    subject: str
    message: str
    """As of the last sighting, like `value`, `threshold` and `details`."""
    value: float | None
    threshold: float | None
    created_at: str
    """When the alert was raised."""
    updated_at: str
    """When it was last raised again."""
    acknowledged_at: str | None
    """When somebody said to have seen it; null while open."""
    first_seen_at: str
    """Begin of the episode, by the data."""
    last_seen_at: str
    """Last sighting, by the data."""
    occurrences: int
    """Times it was raised."""
    dedup_key: str
    details: Mapping[str, object]

    def to_dict(self) -> dict[str, object]:
        """Return the alert as it stands in JSON."""
        return {name: getattr(self, name) for name in self.__slots__} | {
            "severity": self.severity.value,
            "details": dict(self.details),
        }


@dataclass(frozen=True, slots=True)
class Raised:
    """What became of a sighting."""

    alert: Alert
    is_new: bool
    """Whether the alert was added just now."""
    is_news: bool
    """Whether somebody should hear of it: it is new, or has become more severe."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of an alert on its way to one webhook."""

    alert_id: int
    destination: str
    """Scheme, host and port; paths of webhooks are secrets."""
    delivered: bool
    attempts: int
    """Requests that were made, 0 when none was tried."""
    status: int | None
    """HTTP status of the last answer."""
    error: str | None
    """Why it was not delivered."""

    def to_dict(self) -> dict[str, object]:
        """Return the delivery as it stands in JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


class AlertStore:
    """The alerts of a data directory. Use in one thread; close it.

    Args:
        path: the state's file, `DataDirectory.state_db`; made when absent.

    Raises:
        StorageError, InvalidDataError, RetryableError: see `StateDatabase`.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._state = StateDatabase(path, "alerts", _MIGRATIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def path(self) -> Path:
        """The state's file."""
        return self._state.path

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._state.close()

    def raise_alert(self, new: NewAlert, *, now_ns: int, episode_ns: int = EPISODE_NS) -> Raised:
        """Add an alert, or update the one of the same episode.

        Args:
            new: what was seen.
            now_ns: nanoseconds since 1970.
            episode_ns: see the module.

        Raises:
            ValueError: it was first seen after it was last seen.
            RetryableError, StorageError: the state takes no data now.
        """
        last_ns = now_ns if new.last_seen_ns is None else new.last_seen_ns
        first_ns = min(now_ns, last_ns) if new.first_seen_ns is None else new.first_seen_ns
        if first_ns > last_ns:
            raise ValueError(f"first seen at {first_ns}, after last seen at {last_ns}")
        seen = _Seen(format_time(now_ns), format_time(first_ns), format_time(last_ns))
        with self._state.write() as connection:
            row = connection.execute(
                "SELECT * FROM alert WHERE dedup_key = ? AND (acknowledged_at IS NULL "
                "OR (last_seen_at >= ? AND first_seen_at <= ?)) ORDER BY id DESC LIMIT 1",
                (
                    new.dedup_key,
                    format_time(first_ns - episode_ns),
                    format_time(last_ns + episode_ns),
                ),
            ).fetchone()
            known = None if row is None else _alert(row)
            worse = known is not None and new.severity.rank > known.severity.rank
            if known is None or (worse and known.acknowledged_at is not None):
                alert = _insert(connection, new, seen)
                return Raised(alert, is_new=True, is_news=True)
            alert = _update(connection, known, new, seen)
            return Raised(alert, is_new=False, is_news=worse)

    def select(
        self,
        *,
        acknowledged: bool = False,
        kind: str | None = None,
        since_ns: int | None = None,
        before_id: int | None = None,
        limit: int | None = None,
    ) -> list[Alert]:
        """Return alerts, the newest first.

        Args:
            acknowledged: also those that somebody acknowledged.
            kind: only these.
            since_ns: only those raised, for the first time or again, at or after that time.
            before_id: only those with a smaller id: the next page.
            limit: so many at most.
        """
        conditions: dict[str, object] = {"kind = ?": kind}
        conditions["updated_at >= ?"] = None if since_ns is None else format_time(since_ns)
        conditions["id < ?"] = before_id
        given = {text: value for text, value in conditions.items() if value is not None}
        words = [*given, *(() if acknowledged else ("acknowledged_at IS NULL",))]
        where = f" WHERE {' AND '.join(words)}" if words else ""
        with self._state.read() as connection:
            rows = connection.execute(
                f"SELECT * FROM alert{where} ORDER BY id DESC LIMIT ?",  # noqa: S608 - fixed words, bound values
                (*given.values(), -1 if limit is None else limit),
            ).fetchall()
        return [_alert(row) for row in rows]

    def acknowledge(self, ids: Sequence[int] | None, *, now_ns: int) -> list[Alert]:
        """Mark alerts as seen; what was acknowledged before stays as it was.

        Args:
            ids: which; all open ones when None.
            now_ns: nanoseconds since 1970.

        Returns:
            The alerts that were open until now, the newest first.

        Raises:
            NotFoundError: there is no alert with such an id; nothing is changed.
        """
        with self._state.write() as connection:
            if ids is None:
                rows = connection.execute(
                    "SELECT id FROM alert WHERE acknowledged_at IS NULL"
                ).fetchall()
                ids = [int(row["id"]) for row in rows]
            changed = []
            for id_ in sorted(set(ids), reverse=True):
                alert = _by_id(connection, id_)
                if alert is None:
                    raise NotFoundError(
                        f"no alert {id_}", hint="pyflare alerts list --all shows their ids"
                    )
                if alert.acknowledged_at is None:
                    connection.execute(
                        "UPDATE alert SET acknowledged_at = ? WHERE id = ?",
                        (format_time(now_ns), id_),
                    )
                    changed.append(_found(connection, id_))
        return changed

    def record_delivery(self, delivery: Delivery, *, now_ns: int) -> None:
        """Keep what became of a delivery."""
        with self._state.write() as connection:
            connection.execute(
                "INSERT INTO alert_delivery "
                "(alert_id, destination, delivered, attempts, status, error, finished_at) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    delivery.alert_id,
                    delivery.destination,
                    delivery.delivered,
                    delivery.attempts,
                    delivery.status,
                    delivery.error,
                    format_time(now_ns),
                ),
            )

    def deliveries(self, alert_id: int) -> list[Delivery]:
        """Return the deliveries of an alert, the oldest first."""
        with self._state.read() as connection:
            rows = connection.execute(
                "SELECT * FROM alert_delivery WHERE alert_id = ? ORDER BY id", (alert_id,)
            ).fetchall()
        return [
            Delivery(
                alert_id=row["alert_id"],
                destination=row["destination"],
                delivered=bool(row["delivered"]),
                attempts=row["attempts"],
                status=row["status"],
                error=row["error"],
            )
            for row in rows
        ]


def _alert(row: sqlite3.Row) -> Alert:
    values = {name: row[name] for name in Alert.__slots__}
    values["severity"] = Severity(values["severity"])
    values["details"] = json.loads(values["details"])
    return Alert(**values)


def _by_id(connection: sqlite3.Connection, id_: int) -> Alert | None:
    row = connection.execute("SELECT * FROM alert WHERE id = ?", (id_,)).fetchone()
    return None if row is None else _alert(row)


def _found(connection: sqlite3.Connection, id_: int) -> Alert:
    alert = _by_id(connection, id_)
    assert alert is not None  # noqa: S101 - the caller has written it
    return alert


class _Seen(NamedTuple):
    """Times of one sighting, ISO 8601."""

    now: str
    first: str
    last: str


def _sighting(new: NewAlert, seen: _Seen) -> dict[str, object]:
    """Return the columns that each sighting sets anew."""
    return {
        "message": new.message,
        "value": new.value,
        "threshold": new.threshold,
        "details": compact_json(new.details),
        "updated_at": seen.now,
    }


def _insert(connection: sqlite3.Connection, new: NewAlert, seen: _Seen) -> Alert:
    values = {
        "kind": new.kind,
        "severity": new.severity.value,
        "subject": new.subject,
        **_sighting(new, seen),
        "created_at": seen.now,
        "first_seen_at": seen.first,
        "last_seen_at": seen.last,
        "occurrences": 1,
        "dedup_key": new.dedup_key,
    }
    marks = ", ".join("?" * len(values))
    cursor = connection.execute(
        f"INSERT INTO alert ({', '.join(values)}) VALUES ({marks})",  # noqa: S608 - fixed words
        tuple(values.values()),
    )
    return _found(connection, int(cursor.lastrowid or 0))


def _update(connection: sqlite3.Connection, known: Alert, new: NewAlert, seen: _Seen) -> Alert:
    values = {
        "severity": max(known.severity, new.severity, key=lambda severity: severity.rank).value,
        **_sighting(new, seen),
        "first_seen_at": min(known.first_seen_at, seen.first),
        "last_seen_at": max(known.last_seen_at, seen.last),
        "occurrences": known.occurrences + 1,
    }
    assignments = ", ".join(f"{name} = ?" for name in values)
    connection.execute(
        f"UPDATE alert SET {assignments} WHERE id = ?",  # noqa: S608 - fixed words, bound values
        (*values.values(), known.id),
    )
    return _found(connection, known.id)
