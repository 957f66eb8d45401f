"""Alerts: one for each episode, acknowledged once, never lost."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pyflare_proto.errors import NotFoundError
from pyflare_storage.alerts import EPISODE_NS, Alert, AlertStore, NewAlert, Severity
from pyflare_storage.times import format_time

DAY = 86_400_000_000_000
NOW = 20_000 * DAY
SEEN = NewAlert(
    kind="drift",
    severity=Severity.WARNING,
    subject="duration_ms",
    message="duration_ms drifted",
    dedup_key="drift:duration_ms",
    value=0.31,
    threshold=0.2,
    details={"segment": {"model": "gpt-4o"}, "p_value": float("nan")},
)
WORSE = dataclasses.replace(SEEN, severity=Severity.CRITICAL, value=0.9)


@pytest.fixture
def store(tmp_path: Path) -> AlertStore:
    """An empty store."""
    return AlertStore(tmp_path / "state.db")


def test_an_alert_comes_back_as_it_went_in(store: AlertStore) -> None:
    """Every field, with times of its own; what JSON cannot hold is null."""
    raised = store.raise_alert(SEEN, now_ns=NOW)

    (alert,) = store.select()
    assert (raised.is_new, raised.is_news, raised.alert) == (True, True, alert)
    assert alert.to_dict() == {
        "id": 1,
        "kind": "drift",
        "severity": "warning",
        "subject": "duration_ms",
        "message": "duration_ms drifted",
        "value": 0.31,
        "threshold": 0.2,
        "created_at": "2024-10-04T00:00:00.000000000Z",
        "updated_at": "2024-10-04T00:00:00.000000000Z",
        "acknowledged_at": None,
        "first_seen_at": "2024-10-04T00:00:00.000000000Z",
        "last_seen_at": "2024-10-04T00:00:00.000000000Z",
        "occurrences": 1,
        "dedup_key": "drift:duration_ms",
        "details": {"segment": {"model": "gpt-4o"}, "p_value": None},
    }


def test_open_trouble_is_one_alert_however_long(store: AlertStore) -> None:
    """Unacknowledged, it is updated also after ten quiet days; the figures are the latest."""
    store.raise_alert(SEEN, now_ns=NOW)
    later = store.raise_alert(
        dataclasses.replace(SEEN, value=0.25, message="again"), now_ns=NOW + 10 * DAY
    )

    (alert,) = store.select()
    assert (later.is_new, later.is_news) == (False, False)
    assert (alert.occurrences, alert.value, alert.message) == (2, 0.25, "again")
    assert (alert.created_at, alert.updated_at) == (format_time(NOW), format_time(NOW + 10 * DAY))


def test_acknowledged_trouble_that_goes_on_stays_quiet(store: AlertStore) -> None:
    """Seen each 24 hours it is the same episode; a day and a bit later it is a new one."""
    store.raise_alert(SEEN, now_ns=NOW)
    store.acknowledge([1], now_ns=NOW)
    for day in range(1, 4):
        assert not store.raise_alert(SEEN, now_ns=NOW + day * DAY).is_news
    back = store.raise_alert(SEEN, now_ns=NOW + 3 * DAY + EPISODE_NS + 1)

    assert (back.is_new, back.alert.id) == (True, 2)
    assert [alert.id for alert in store.select(acknowledged=True)] == [2, 1]


def test_what_gets_worse_is_news(store: AlertStore) -> None:
    """Open: the same alert, more severe, and it does not fall again. Acknowledged: a new one."""
    store.raise_alert(SEEN, now_ns=NOW)
    worse = store.raise_alert(WORSE, now_ns=NOW + 1)
    again = store.raise_alert(SEEN, now_ns=NOW + 2)
    assert (worse.is_new, worse.is_news, worse.alert.severity) == (False, True, Severity.CRITICAL)
    assert (again.is_news, again.alert.severity) == (False, Severity.CRITICAL)

    other = dataclasses.replace(SEEN, dedup_key="other")
    store.raise_alert(other, now_ns=NOW)
    store.acknowledge(None, now_ns=NOW)
    worse = store.raise_alert(dataclasses.replace(WORSE, dedup_key="other"), now_ns=NOW + 3)
    assert (worse.is_new, worse.alert.severity) == (True, Severity.CRITICAL)


def test_episodes_are_of_the_data_s_time(store: AlertStore) -> None:
    """Looking at an acknowledged week again is no news; another week's trouble is."""
    week = dataclasses.replace(SEEN, first_seen_ns=NOW - 9 * DAY, last_seen_ns=NOW - 7 * DAY)
    store.raise_alert(week, now_ns=NOW)
    store.acknowledge([1], now_ns=NOW)

    part = dataclasses.replace(SEEN, first_seen_ns=NOW - 8 * DAY, last_seen_ns=NOW - 8 * DAY)
    before = dataclasses.replace(SEEN, first_seen_ns=NOW - 30 * DAY, last_seen_ns=NOW - 29 * DAY)
    assert not store.raise_alert(part, now_ns=NOW + 40 * DAY).is_news
    assert store.raise_alert(before, now_ns=NOW + 40 * DAY).is_new
    alert = store.select(acknowledged=True)[-1]
    assert alert.first_seen_at == format_time(NOW - 9 * DAY)
    assert alert.last_seen_at == format_time(NOW - 7 * DAY)


def test_times_the_wrong_way_round_are_a_defect(store: AlertStore) -> None:
    """First seen after last seen."""
    with pytest.raises(ValueError, match="after"):
        store.raise_alert(
            dataclasses.replace(SEEN, first_seen_ns=NOW, last_seen_ns=NOW - 1), now_ns=NOW
        )


def test_acknowledging_takes_all_or_none(store: AlertStore) -> None:
    """An unknown id changes nothing; a second time changes nothing either."""
    for key in ("a", "b"):
        store.raise_alert(dataclasses.replace(SEEN, dedup_key=key), now_ns=NOW)
    with pytest.raises(NotFoundError, match="no alert 7"):
        store.acknowledge([1, 7], now_ns=NOW)
    assert len(store.select()) == 2

    assert [alert.id for alert in store.acknowledge([1, 1], now_ns=NOW)] == [1]
    assert [alert.id for alert in store.acknowledge(None, now_ns=NOW + 1)] == [2]
    assert store.acknowledge([1, 2], now_ns=NOW + 2) == []
    assert store.select(acknowledged=True)[1].acknowledged_at == format_time(NOW)


def test_a_selection_narrows_and_pages(store: AlertStore) -> None:
    """By kind, by the time it was raised last, and from page to page."""
    for number in range(5):
        kind = "drift" if number % 2 else "budget"
        new = dataclasses.replace(SEEN, kind=kind, dedup_key=str(number))
        store.raise_alert(new, now_ns=NOW + number)

    def ids(alerts: list[Alert]) -> list[int]:
        return [alert.id for alert in alerts]

    assert ids(store.select(kind="drift")) == [4, 2]
    assert ids(store.select(since_ns=NOW + 3)) == [5, 4]
    assert ids(store.select(limit=2)) == [5, 4]
    assert ids(store.select(limit=2, before_id=4)) == [3, 2]
