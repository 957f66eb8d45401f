"""`pyflare alerts`: what somebody should look at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run, command, new_group
from pyflare_cli.figures import short_time
from pyflare_cli.options import DataOptions
from pyflare_cli.output import Document
from pyflare_cli.tables import Column
from pyflare_proto.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

app = new_group("What somebody should look at.")

COLUMNS = (
    Column("id", cut=False),
    Column("severity", cut=False),
    Column("kind", cut=False),
    Column("message"),
    Column("last_seen_at", "last seen", short_time, cut=False),
    Column("occurrences", "times", cut=False),
    Column("acknowledged_at", "acknowledged", short_time, cut=False),
)


@command(
    app,
    "list",
    examples="""
    pyflare alerts list
    pyflare alerts list --all --since 7d
    pyflare alerts list --kind drift --format json
    """,
)
def list_(
    run: Run,
    *,
    all_: Annotated[
        bool, typer.Option("--all", help="Acknowledged ones too; by default open ones only.")
    ] = False,
    kind: Annotated[
        str | None, typer.Option(metavar="KIND", help="What watches, such as drift.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Raised at or after: 24h, 7d ago or ISO 8601."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Alerts at most.")] = None,
    data: DataOptions,  # noqa: ARG001 - taken up by the settings
) -> None:
    """List alerts, the newest first.

    The same trouble raises one alert for each episode. Seen again, the alert counts one more
    time; once acknowledged it stays quiet until the trouble was away for a day or gets worse.
    """
    from pyflare_storage.filters import parse_time

    if limit is not None and limit < 1:
        raise UsageError(f"--limit is {limit}", hint="--limit takes a number from 1")
    since_ns = None if since is None else parse_time(since, time.time_ns())
    found: list[dict[str, object]] = []
    if _has_state(run):
        from pyflare_storage.alerts import AlertStore
        from pyflare_storage.dataset import DataDirectory

        with AlertStore(DataDirectory(run.settings.data).state_db) as store:
            found = [
                alert.to_dict()
                | {"deliveries": [item.to_dict() for item in store.deliveries(alert.id)]}
                for alert in store.select(
                    acknowledged=all_, kind=kind, since_ns=since_ns, limit=limit
                )
            ]
    _answer(run, "pyflare.alerts.list/1", found)


@command(
    app,
    "ack",
    examples="""
    pyflare alerts ack 3 5
    pyflare alerts ack --all
    """,
)
def ack(
    run: Run,
    *,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Which, by their id.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="All open ones.")] = False,
    data: DataOptions,  # noqa: ARG001 - taken up by the settings
) -> None:
    """Mark alerts as seen.

    Answers with those that were open until now.
    """
    hint = "pyflare alerts ack 3 5, or pyflare alerts ack --all"
    if bool(ids) == all_:
        raise UsageError("ids together with --all" if all_ else "which alerts?", hint=hint)
    for word in ids or ():
        if not (word.isdecimal() and len(word) < 19):
            raise UsageError(f"{word!r} is no id of an alert", hint=hint)
    if not _has_state(run):
        if all_:
            _answer(run, "pyflare.alerts.ack/1", [])
            return
        raise NotFoundError(
            f"no alerts in {run.settings.data}", hint="--data DIR names another data directory"
        )
    from pyflare_storage.alerts import AlertStore
    from pyflare_storage.dataset import DataDirectory

    with AlertStore(DataDirectory(run.settings.data).state_db) as store:
        chosen = None if all_ else [int(word) for word in ids or ()]
        changed = store.acknowledge(chosen, now_ns=time.time_ns())
    _answer(run, "pyflare.alerts.ack/1", [alert.to_dict() for alert in changed])


def _has_state(run: Run) -> bool:
    """Return whether there is state to ask; looking must not make a data directory.

    Raises:
        NotFoundError: there is no data directory.
    """
    from pyflare_storage.dataset import DataDirectory

    data = DataDirectory(run.settings.data)
    if not data.path.exists():
        raise NotFoundError(
            f"no data directory {data.path}", hint="--data DIR names another data directory"
        )
    return data.state_db.exists()


def _answer(run: Run, schema: str, alerts: Sequence[Mapping[str, object]]) -> None:
    run.answer(Document(schema, {"alerts": alerts}, "alerts", COLUMNS))
