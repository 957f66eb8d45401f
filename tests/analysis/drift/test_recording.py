"""Verdicts are kept, and stretches of drift become alerts, one each."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq

from pyflare_analysis.drift.detector import Verdict
from pyflare_analysis.drift.recording import Row, drift_alerts, record_results
from pyflare_storage.alerts import AlertStore, Severity
from pyflare_storage.dataset import DataDirectory

HOUR = 3_600_000_000_000
START = 500_000 * HOUR


def _row(hour: int, psi: float | None, **more: object) -> Row:
    verdict = Verdict.INSUFFICIENT if psi is None else Verdict.STABLE
    if psi is not None and psi > 0.2:
        verdict = Verdict.DRIFT
    return {
        "column": "size",
        "kind": "numeric",
        "window_start": START + hour * HOUR,
        "window_end": START + (hour + 1) * HOUR,
        "segment": None,
        "psi": psi,
        "threshold": 0.2,
        "severity": "significant" if (psi or 0) >= 0.25 else "none",
        "verdict": verdict,
        **more,
    }


def test_drift_in_windows_that_follow_each_other_is_one_alert() -> None:
    """Two stretches, the second over a window that cannot be judged; the worst window speaks."""
    psi = [0.1, 0.22, 0.24, 0.1, 0.3, None, 0.9, 0.1]
    rows = [_row(hour, value) for hour, value in enumerate(psi)]

    first, second = drift_alerts(rows[::-1], command="report", source="here")

    assert (first.severity, first.value) == (Severity.WARNING, 0.24)
    assert (first.first_seen_ns, first.last_seen_ns) == (START + HOUR, START + 3 * HOUR - 1)
    assert (second.severity, second.value) == (Severity.CRITICAL, 0.9)
    assert (second.first_seen_ns, second.last_seen_ns) == (START + 4 * HOUR, START + 7 * HOUR - 1)
    assert second.message == "size drifted: PSI 0.9 (threshold 0.2)"
    assert second.details["windows"] == 2
    assert first.dedup_key == second.dedup_key


def test_segments_and_columns_are_troubles_of_their_own() -> None:
    """Each has its key and its name in the message; what moved is told."""
    rows = [
        _row(0, 0.5),
        _row(0, 0.5, segment={"model": "gpt-4o"}, details={"moved": "above 500: 1 % → 9 %"}),
        _row(0, 0.5, column="kind"),
    ]

    alerts = drift_alerts(rows, command="report", source="here")

    assert len({alert.dedup_key for alert in alerts}) == 3
    assert [alert.subject for alert in alerts] == ["size", "size", "kind"]
    assert (
        alerts[1].message
        == "size of model gpt-4o drifted: PSI 0.5 (threshold 0.2), above 500: 1 % → 9 %"
    )


def test_the_same_data_are_the_same_trouble_from_any_folder(tmp_path: Path) -> None:
    """A relative and an absolute path give one key; what is no local file stays as it is."""
    (tmp_path / "work" / "data").mkdir()

    def key(source: str) -> str:
        return drift_alerts([_row(0, 0.5)], command="psi", source=source)[0].dedup_key

    assert key("data") == key("./data") == key(str(tmp_path / "work" / "data"))
    assert "clickhouse://host/db" in key("clickhouse://host/db")


def test_a_statistic_without_bands_is_a_warning() -> None:
    """MMD has a threshold of its own and no bands; without windows it is seen now."""
    row: Row = {"column": "embedding", "mmd2": 0.004, "threshold": 0.001, "verdict": "drift"}

    (alert,) = drift_alerts([row], command="mmd", source=None)

    assert (alert.severity, alert.value, alert.first_seen_ns) == (Severity.WARNING, 0.004, None)
    assert alert.message == "embedding drifted: MMD² 0.004 (threshold 0.001)"


def test_a_run_is_kept_and_a_second_one_raises_nothing_new(tmp_path: Path) -> None:
    """The alert of an acknowledged week stays quiet when the week is looked at again."""
    data = DataDirectory(tmp_path / "data")
    rows = [_row(0, 0.5), _row(1, 0.1)]

    def record() -> list[bool]:
        recorded = record_results(data, rows, command="report", source="a", reference="b")
        assert pq.read_table(recorded.path).num_rows == 2
        return [item.is_news for item in recorded.raised]

    assert record() == [True]
    with AlertStore(data.state_db) as store:
        store.acknowledge(None, now_ns=START)
    assert record() == [False]
    assert len(list(data.drift.iterdir())) == 2


def test_only_what_may_alert_does(tmp_path: Path) -> None:
    """Everything is kept, a part raises alerts; without drift there is no state."""
    data = DataDirectory(tmp_path / "data")
    rows = [_row(0, 0.5), _row(0, 0.6, column="other")]
    given = {"command": "report", "source": "a", "reference": "b"}

    quiet = record_results(data, rows, alerting=[_row(0, 0.1)], **given)  # type: ignore[arg-type]  # texts by name
    assert (quiet.raised, data.state_db.exists()) == ((), False)
    one = record_results(data, rows, alerting=rows[:1], **given)  # type: ignore[arg-type]  # texts by name
    assert [item.alert.subject for item in one.raised] == ["size"]
    assert pq.read_table(one.path).num_rows == 2
