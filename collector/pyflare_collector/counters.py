"""What the collector counts, and the two forms it is read in: JSON and Prometheus text.

Every span that arrives in a request is in exactly one of accepted, rejected and
sampled out, once its request has been answered with success. Every accepted span ends
up in exactly one of written, deduplicated and dropped:

    received = accepted + rejected + sampled_out
    accepted + recovered = written + deduplicated + dropped + pending
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Counters", "Metric", "prometheus_text"]


class Metric(NamedTuple):
    """One metric of the Prometheus text format."""

    name: str
    """Full name, with unit and `_total` where it counts."""
    kind: str
    """counter or gauge."""
    help: str
    values: Mapping[str, float]
    """By label text such as `reason="bad_ids"`; an empty text for no label."""


class Counters:
    """Thread-safe counters by name and reason; they only grow."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[tuple[str, str]] = Counter()

    def add(self, name: str, amount: int, reason: str = "") -> None:
        """Add `amount` to a counter."""
        if amount:
            with self._lock:
                self._values[name, reason] += amount

    def add_all(self, amounts: Mapping[str, int]) -> None:
        """Add to several counters without a reason at once, so that no reader sees a part."""
        with self._lock:
            for name, amount in amounts.items():
                if amount:
                    self._values[name, ""] += amount

    def get(self, name: str, reason: str | None = None) -> int:
        """Return a counter's value, over all its reasons when `reason` is None."""
        with self._lock:
            if reason is not None:
                return self._values[name, reason]
            return sum(value for (own, _), value in self._values.items() if own == name)

    def by_reason(self, name: str) -> dict[str, int]:
        """Return a counter's values by reason."""
        with self._lock:
            return {
                reason: value
                for (own, reason), value in sorted(self._values.items())
                if own == name
            }


def prometheus_text(metrics: Iterable[Metric]) -> str:
    """Return the metrics in the Prometheus text exposition format 0.0.4."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {metric.help}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        for label, value in metric.values.items():
            braces = f"{{{label}}}" if label else ""
            number = int(value) if float(value).is_integer() else value
            lines.append(f"{metric.name}{braces} {number}")
    return "\n".join(lines) + "\n"
