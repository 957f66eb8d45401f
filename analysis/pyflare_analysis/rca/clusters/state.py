"""Known clusters, kept in the state database, so that a cluster keeps its id from run to run.

An id is a hash of what a cluster is (algorithm, exception type, frames of the application,
template), and needs no memory as long as the template stays the same. A template widens
when new values appear ("tool search failed" becomes "tool <*> failed"), and narrows when a
run sees few messages. The state reconciles both: a template that a known one covers joins
that cluster; a template that covers known ones takes the id of the oldest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Self

from pyflare_analysis.rca.clusters import masks, templates
from pyflare_storage.state import StateDatabase

__all__ = ["ALGORITHM", "ClusterKey", "ClusterStore", "KnownCluster", "Registry", "covers"]

ALGORITHM = f"pyflare-templates/{masks.VERSION}.{templates.VERSION}"
"""What made the clusters; clusters of another algorithm are never matched."""

_MIGRATIONS = (
    (
        """CREATE TABLE failure_cluster (
            id TEXT PRIMARY KEY,
            algorithm TEXT NOT NULL,
            error_type TEXT NOT NULL,
            frames TEXT NOT NULL,
            template TEXT NOT NULL,
            first_seen_ns INTEGER,
            last_seen_ns INTEGER,
            merged_into TEXT
        ) WITHOUT ROWID""",
        "CREATE INDEX failure_cluster_by_type ON failure_cluster (algorithm, error_type)",
    ),
)


@dataclass(frozen=True, slots=True)
class ClusterKey:
    """What a cluster is: its members agree in all three."""

    error_type: str
    """Type of the exception; empty where unknown."""
    frames: tuple[str, ...]
    """Innermost frames of the application; empty without a stack trace."""
    template: str

    def new_id(self) -> str:
        """Return the id of a cluster that was never seen: the same key, the same id."""
        text = json.dumps([ALGORITHM, self.error_type, self.frames, self.template])
        return "fc_" + hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class KnownCluster:
    """A cluster that an earlier run found."""

    id: str
    key: ClusterKey
    first_seen_ns: int | None = None
    """Earliest failure over all runs, nanoseconds since 1970."""
    last_seen_ns: int | None = None
    """Latest failure over all runs."""
    merged_into: str | None = None
    """Id of the cluster that took it in."""


class Registry:
    """Gives clusters their ids.

    Args:
        known: clusters of earlier runs, any order.
    """

    def __init__(self, known: Iterable[KnownCluster] = ()) -> None:
        oldest_first = sorted(known, key=lambda k: (k.first_seen_ns or 0, k.id))
        self.known = {cluster.id: cluster for cluster in oldest_first}
        self._exact: dict[ClusterKey, str] = {}
        self._by_place: dict[tuple[str, tuple[str, ...]], list[KnownCluster]] = {}
        for cluster in oldest_first:
            if cluster.merged_into is None:
                place = (cluster.key.error_type, cluster.key.frames)
                self._by_place.setdefault(place, []).append(cluster)
                self._exact.setdefault(cluster.key, cluster.id)
        self.merged: dict[str, str] = {}
        """Known clusters that this run's wider templates took in, by id."""

    def identify(self, key: ClusterKey, *, exactly: bool = False) -> tuple[str, ClusterKey]:
        """Return the id of a cluster, and its key with the wider of the two templates.

        Args:
            key: what the cluster is.
            exactly: look for the same template only; comparing very many templates with
                each other is not worth its time.
        """
        candidates = self._by_place.get((key.error_type, key.frames), [])
        if key in self._exact:
            return self._exact[key], key
        if exactly:
            return key.new_id(), key
        for cluster in candidates:
            if covers(cluster.key.template, key.template):
                return cluster.id, cluster.key
        covered = [c for c in candidates if covers(key.template, c.key.template)]
        if covered:
            oldest, *others = covered
            self.merged |= {other.id: oldest.id for other in others}
            return oldest.id, key
        return key.new_id(), key

    def taken_in(self) -> list[KnownCluster]:
        """Return the known clusters that this run's wider templates took in."""
        return [
            replace(self.known[old], merged_into=new) for old, new in sorted(self.merged.items())
        ]


def covers(wide: str, narrow: str) -> bool:
    """Return whether every message of one template fits the other.

    A template without words of its own covers nothing: it would take in everything.
    """
    pattern = _pattern(wide)
    return pattern is not None and pattern.match(narrow) is not None


@functools.lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str] | None:
    """Return the pattern of a template with words of its own."""
    words = template.replace(masks.WILDCARD, " ").replace(templates.FREE_TEXT, " ")
    return re.compile(templates.template_pattern(template)) if re.search(r"\w", words) else None


class ClusterStore:
    """The known clusters of a data directory. Use as a context manager or call `close`.

    Args:
        path: the state database.

    Raises:
        StorageError: the file cannot be made or written.
        InvalidDataError: it is no state database, or of a later version.
        RetryableError: another process keeps it locked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._state = StateDatabase(path, "failure_clusters", _MIGRATIONS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the database; may be called twice."""
        self._state.close()

    def known(self) -> list[KnownCluster]:
        """Return the clusters that the present algorithm found in earlier runs."""
        query = "SELECT * FROM failure_cluster WHERE algorithm = ? ORDER BY id"
        with self._state.read() as connection:
            rows = connection.execute(query, (ALGORITHM,)).fetchall()
        return [
            KnownCluster(
                id=row["id"],
                key=ClusterKey(
                    row["error_type"], tuple(json.loads(row["frames"])), row["template"]
                ),
                first_seen_ns=row["first_seen_ns"],
                last_seen_ns=row["last_seen_ns"],
                merged_into=row["merged_into"],
            )
            for row in rows
        ]

    def record(self, clusters: Sequence[KnownCluster]) -> None:
        """Write what a run found; times widen, templates are replaced."""
        statement = """
            INSERT INTO failure_cluster VALUES (?, ?, ?, ?, ?, ?, ?, ?)
            ON CONFLICT (id) DO UPDATE SET
                template = excluded.template,
                merged_into = excluded.merged_into,
                first_seen_ns = min(coalesce(first_seen_ns, excluded.first_seen_ns),
                                    coalesce(excluded.first_seen_ns, first_seen_ns)),
                last_seen_ns = max(coalesce(last_seen_ns, excluded.last_seen_ns),
                                   coalesce(excluded.last_seen_ns, last_seen_ns))"""
        rows = [
            (
                cluster.id,
                ALGORITHM,
                cluster.key.error_type,
                json.dumps(list(cluster.key.frames)),
                cluster.key.template,
                cluster.first_seen_ns,
                cluster.last_seen_ns,
                cluster.merged_into,
            )
            for cluster in clusters
        ]
        with self._state.write() as connection:
            connection.executemany(statement, rows)
