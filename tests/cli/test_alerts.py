"""`pyflare alerts`: list, acknowledge, and what the settings say of webhooks."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from pyflare_storage.alerts import AlertStore, NewAlert, Severity
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.drift_results import read_drift_results
from tests.cli.conftest import Pyflare

NOW = 1_795_000_000_000_000_000


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The default data directory with two alerts, the first acknowledged."""
    path = tmp_path / "work" / "pyflare-data"
    with AlertStore(path / "state.db") as store:
        for kind, severity, subject in (
            ("budget", Severity.WARNING, "team red"),
            ("drift", Severity.CRITICAL, "input_tokens"),
        ):
            message = f"{subject} is off"
            store.raise_alert(NewAlert(kind, severity, subject, message, subject), now_ns=NOW)
        store.acknowledge([1], now_ns=NOW)
    return path


def _ids(document: dict[str, list[dict[str, object]]]) -> list[object]:
    return [alert["id"] for alert in document["alerts"]]


def test_open_alerts_are_listed_and_all_on_demand(pyflare: Pyflare, data: Path) -> None:
    """Schema and keys of the document; filters narrow it."""
    del data
    document = pyflare("alerts", "list").json()

    assert document["schema"] == "pyflare.alerts.list/1"
    assert _ids(document) == [2]
    assert document["alerts"][0]["message"] == "input_tokens is off"
    assert _ids(pyflare("alerts", "list", "--all").json()) == [2, 1]
    assert _ids(pyflare("alerts", "list", "--all", "--kind", "budget").json()) == [1]
    assert _ids(pyflare("alerts", "list", "--since", "2026-11-19").json()) == []
    assert _ids(pyflare("alerts", "list", "--all", "--limit", "1").json()) == [2]


def test_a_table_shows_severity_in_words(pyflare: Pyflare, data: Path) -> None:
    """Nothing rests on colour."""
    del data
    shown = pyflare("alerts", "list", "--format", "table").out

    assert "critical" in shown
    assert "input_tokens is off" in shown


def test_acknowledged_alerts_leave_the_list(pyflare: Pyflare, data: Path) -> None:
    """The answer names those that were open."""
    del data
    assert _ids(pyflare("alerts", "ack", 1, 2).json()) == [2]
    assert _ids(pyflare("alerts", "list").json()) == []
    assert _ids(pyflare("alerts", "ack", "--all").json()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ack", "9"], "no alert 9"),
        (["ack"], "which alerts?"),
        (["ack", "--all", "2"], "ids together with --all"),
        (["ack", "two"], "two"),
        (["list", "--since", "soon"], "not a time"),
        (["list", "--limit", "0"], "--limit is 0"),
        (["list", "--data", "nowhere"], "no data directory nowhere"),
    ],
)
def test_bad_requests_are_told(
    pyflare: Pyflare, data: Path, words: list[str], message: str
) -> None:
    """Exit 2, what was wrong, and a hint; nothing is acknowledged."""
    del data
    result = pyflare("alerts", *words)

    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "hint: " in result.err
    assert _ids(pyflare("alerts", "list").json()) == [2]


def test_looking_makes_no_files(pyflare: Pyflare, tmp_path: Path) -> None:
    """A data directory without state has no alerts, and stays without state."""
    data = tmp_path / "work" / "pyflare-data"
    data.mkdir()

    assert _ids(pyflare("alerts", "list").json()) == []
    assert list(data.iterdir()) == []


def test_a_damaged_state_is_an_error_of_the_data(pyflare: Pyflare, data: Path) -> None:
    """Exit 2 with the file's name."""
    (data / "state.db").write_bytes(b"garbage" * 1000)

    result = pyflare("alerts", "list")

    assert result.code == 2
    assert "state.db" in result.err


def test_webhooks_are_a_masked_setting(pyflare: Pyflare, tmp_path: Path) -> None:
    """Addresses and secrets are shown nowhere; a wrong key or address is told by its name."""
    file = tmp_path / "work" / "pyflare.yaml"
    file.write_text(
        "alerts: {webhooks: [{url: 'https://hooks.example.com/T0/key', secret: hush}]}\n"
    )
    shown = pyflare("config", "show")
    assert (shown.code, pyflare("config", "validate").code) == (0, 0)
    assert "alerts.webhooks" in shown.out
    assert "hush" not in shown.out
    assert "T0" not in shown.out

    for text in ("[{url: 'ftp://host/key'}]", "[{address: 'https://host/key'}]", "5"):
        file.write_text(f"alerts: {{webhooks: {text}}}\n")
        for words in (["config", "validate"], ["config", "validate", "pyflare.yaml"]):
            result = pyflare(*words)
            assert result.code == 2, text
            assert "alerts.webhooks" in result.err
            assert "key'" not in result.err


def test_drift_psi_and_mmd_raise_them_too(pyflare: Pyflare, tmp_path: Path) -> None:
    """Each keeps its verdicts under drift/ and raises one alert for what drifts."""
    rng = np.random.default_rng(0)
    for name, shift in (("ref", 0.0), ("cur", 2.0)):
        vectors = rng.normal(shift, 1, (80, 4))
        frame = pl.DataFrame({"size": rng.normal(shift, 1, 80), "embedding": vectors})
        frame.write_parquet(tmp_path / f"{name}.parquet")
    sides = ("--ref", tmp_path / "ref.parquet", "--cur", tmp_path / "cur.parquet")

    psi = pyflare("drift", "psi", *sides, "--column", "size", "--data", "kept")
    mmd = pyflare("drift", "mmd", *sides, "--seed", "1", "--data", "kept")

    assert (psi.code, mmd.code) == (0, 0), psi.err + mmd.err
    alerts = pyflare("alerts", "list", "--data", "kept").json()["alerts"]
    assert [alert["subject"] for alert in alerts] == ["embedding", "size"]
    assert [alert["details"]["command"] for alert in alerts] == ["mmd", "psi"]
    stored = read_drift_results(DataDirectory("kept"))
    assert stored.select("command", "column", "verdict").rows() == [
        ("psi", "size", "drift"),
        ("mmd", "embedding", "drift"),
    ]
    assert stored["psi"][0] == pytest.approx(psi.json()["columns"][0]["psi_smoothed"])
    assert stored["mmd2"][1] == pytest.approx(mmd.json()["mmd2"])
