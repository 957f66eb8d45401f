"""Keeping the verdicts of a `pyflare drift` command, for all of them alike.

Example:
    >>> def psi(run: Run, *, ..., source: SourceOptions, store: StoreOptions) -> None:
    ...     answer = ...
    ...     run.answer(Document("pyflare.drift.psi/1", answer.to_dict(), "columns"))
    ...     store.record(run, [...], command="psi", source=cur_url, reference=ref_url)
    ...     if answer.verdict is Verdict.DRIFT and gate:
    ...         raise GateError(...)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from pyflare_cli.command import Run
from pyflare_proto.errors import PyFlareError

if TYPE_CHECKING:
    from pyflare_analysis.drift.recording import Recorded, Row

__all__ = ["StoreOptions"]


@dataclass(frozen=True, slots=True)
class StoreOptions:
    """Whether the verdicts are kept."""

    no_store: Annotated[
        bool,
        typer.Option(
            "--no-store",
            help="Keep no results under drift/ of the data directory and raise no alerts. "
            "Without a data directory none are kept either, unless --data names one.",
        ),
    ] = False

    def record(
        self,
        run: Run,
        rows: Sequence[Row],
        *,
        command: str,
        source: str | None,
        reference: str | None,
        alerting: Sequence[Row] | None = None,
    ) -> Recorded | None:
        """Keep verdicts and raise alerts, after the answer was written and before a gate.

        They are kept in the data directory, when it exists or was chosen by a flag, a
        variable or a file. What cannot be kept is a note, as the answer stands.

        Args:
            run: the run.
            rows: see `pyflare_analysis.drift.recording`.
            command: name of the command.
            source: URL of the current data.
            reference: what it was compared with.
            alerting: the verdicts that may raise alerts; all when None.
        """
        settings = run.settings
        chosen = settings["data"].source != "default"
        if self.no_store or not rows or not (chosen or settings.data.exists()):
            return None
        from pyflare_analysis.drift.recording import record_results
        from pyflare_storage.dataset import DataDirectory

        webhooks = settings.webhooks
        try:
            recorded = record_results(
                DataDirectory(settings.data),
                rows,
                command=command,
                source=source,
                reference=reference,
                alerting=alerting,
                webhooks=webhooks,
            )
        except PyFlareError as error:
            run.note(f"results were not kept: {error.message}")
            return None
        news = [item.alert for item in recorded.raised if item.is_news]
        if news:
            run.note(
                f"{len(news)} alert{'s' if len(news) > 1 else ''} raised: "
                f"{'; '.join(alert.message for alert in news[:3])}"
                f"{'; ...' if len(news) > 3 else ''} (pyflare alerts list)"
            )
        for delivery in recorded.deliveries:
            if not delivery.delivered and delivery.attempts:
                run.note(
                    f"alert {delivery.alert_id} did not reach {delivery.destination} "
                    f"in {delivery.attempts} tries: {delivery.error}"
                )
        return recorded
