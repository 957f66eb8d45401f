"""The filters that every analysis takes, and the times they are written in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_

from pyflare_proto.errors import UsageError
from pyflare_storage.expressions import Expr, Timestamp, all_of, col
from pyflare_storage.times import is_duration, parse_duration_ns, parse_iso
from pyflare_storage.where import parse_where

__all__ = ["Filters", "parse_time"]


def parse_time(text: str, now_ns: int, *, option: str = "--since") -> int:
    """Return a point in time as nanoseconds since 1970.

    Args:
        text: a duration before now (`24h`, `7d`), or an ISO 8601 date or time.
        now_ns: nanoseconds since 1970.
        option: the option it was given to, for the message.

    Raises:
        UsageError: it is neither.
    """
    if is_duration(text):
        return now_ns - parse_duration_ns(text)
    try:
        return parse_iso(text)
    except ValueError as error:
        raise UsageError(
            f"not a time for {option}: {text!r}",
            hint=f"write {option} 24h, {option} 7d or {option} 2026-11-23T03:04:05Z",
        ) from error


@dataclass(frozen=True, slots=True)
class Filters:
    """Which rows an analysis looks at. Several values of one filter are alternatives.

    Example:
        >>> filters = Filters.parse(since="24h", model=["gpt-4o"], now_ns=time.time_ns())
        >>> source.count(where=filters.to_expr())
    """

    since_ns: int | None = None
    """First start time that counts, ns since 1970."""
    until_ns: int | None = None
    """First start time that counts no more, ns since 1970."""
    model: tuple[str, ...] = ()
    """Models that answered or were asked for: `gpt-4o` finds the calls that
    `gpt-4o-2024-08-06` answered, and those that failed before any did."""
    service: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    feature: tuple[str, ...] = ()
    user: tuple[str, ...] = ()
    where: Expr | None = None
    """A further condition."""
    model_columns: tuple[str, ...] = ("model", "model_request")
    """Columns that may hold one of `model`."""

    @classmethod
    def parse(
        cls,
        *,
        now_ns: int,
        since: str | None = None,
        until: str | None = None,
        model: Sequence[str] = (),
        service: Sequence[str] = (),
        environment: Sequence[str] = (),
        feature: Sequence[str] = (),
        user: Sequence[str] = (),
        where: str | None = None,
        columns: Mapping[str, str] | None = None,
    ) -> Filters:
        """Return the filters as they are written on the command line.

        Args:
            now_ns: nanoseconds since 1970 that `24h` counts back from.
            since: see `parse_time`.
            until: see `parse_time`.
            model: values of `model` or, where there is that column, `model_request`.
            service: values of `service_name`.
            environment: values of `environment`.
            feature: values of `feature`.
            user: values of `user_id`.
            where: see `pyflare_storage.where.parse_where`.
            columns: logical type of each column that `where` may name; the span record's when None.

        Raises:
            UsageError: a time that cannot be read, or since is not before until.
            ExpressionError: `where` cannot be read.
        """
        since_ns = None if since is None else parse_time(since, now_ns)
        until_ns = None if until is None else parse_time(until, now_ns, option="--until")
        if since_ns is not None and until_ns is not None and since_ns >= until_ns:
            raise UsageError(
                f"--since {since} is not before --until {until}",
                hint="swap the two, or leave --until out for everything up to now",
            )
        return cls(
            since_ns=since_ns,
            until_ns=until_ns,
            model=tuple(model),
            service=tuple(service),
            environment=tuple(environment),
            feature=tuple(feature),
            user=tuple(user),
            where=None if where is None else parse_where(where, columns),
            model_columns=tuple(
                name
                for name in ("model", "model_request")
                if name == "model" or columns is None or name in columns
            ),
        )

    def to_expr(self) -> Expr | None:
        """Return the condition; None when every row counts."""
        start = col("start_time")
        named = {
            "service_name": self.service,
            "environment": self.environment,
            "feature": self.feature,
            "user_id": self.user,
        }
        return all_of(
            [
                None if self.since_ns is None else start >= Timestamp(self.since_ns),
                None if self.until_ns is None else start < Timestamp(self.until_ns),
                self._models(),
                *(col(name).is_in(values) for name, values in named.items() if values),
                self.where,
            ]
        )

    def _models(self) -> Expr | None:
        if not self.model:
            return None
        return reduce(or_, [col(name).is_in(self.model) for name in self.model_columns])
