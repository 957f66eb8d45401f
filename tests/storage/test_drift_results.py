"""Drift results as Parquet: whole or not at all, for any reader, each cell as last judged."""

from __future__ import annotations

import stat
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pyflare_proto.errors import InvalidDataError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.drift_results import (
    drift_schema,
    heatmap_cells,
    read_drift_results,
    write_drift_results,
)

HOUR = 3_600_000_000_000
NOW = 500_000 * HOUR


def _cell(column: str, hour: int, psi: float, **more: object) -> dict[str, object]:
    return {
        "column": column,
        "window_start": NOW + hour * HOUR,
        "window_end": NOW + (hour + 1) * HOUR,
        "psi": psi,
        "verdict": "drift" if psi > 0.2 else "stable",
        **more,
    }


def _write(data: DataDirectory, rows: list[dict[str, object]], now_ns: int = NOW) -> Path:
    return write_drift_results(
        data, rows, command="report", source="here", reference="there", now_ns=now_ns
    )


def test_a_run_is_one_private_file_that_any_reader_opens(tmp_path: Path) -> None:
    """Another reader finds names, types and values; nothing unfinished stays behind."""
    data = DataDirectory(tmp_path / "data")
    row = _cell("tokens", 0, 0.31, segment={"model": "gpt-4o"}, details={"x": float("nan")})
    path = _write(data, [row, {"column": "b", "verdict": "stable", "p_value": float("nan")}])

    table = pq.read_table(path)
    first, second = table.to_pylist()
    assert table.schema.equals(drift_schema())
    assert (first["psi"], first["segment"], first["details"]) == (
        0.31,
        '{"model":"gpt-4o"}',
        '{"x":null}',
    )
    assert first["run_id"] == second["run_id"]
    assert (second["p_value"], second["window_start"], second["command"]) == (None, None, "report")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(data.temporary.iterdir()) == []


def test_an_unknown_column_is_a_defect_and_writes_nothing(tmp_path: Path) -> None:
    """A key that no reader would find must not get lost."""
    data = DataDirectory(tmp_path / "data")
    with pytest.raises(ValueError, match="psy"):
        _write(data, [{"column": "a", "verdict": "stable", "psy": 1.0}])
    assert not data.path.exists()


def test_no_results_are_no_rows(tmp_path: Path) -> None:
    """Before the first run there is an empty table of the right columns."""
    frame = read_drift_results(DataDirectory(tmp_path / "nothing"))

    assert (frame.height, frame.columns) == (0, drift_schema().names)


def test_windows_are_chosen_by_overlap(tmp_path: Path) -> None:
    """Half-open: a window that ends at `since` or begins at `until` is out."""
    data = DataDirectory(tmp_path)
    _write(data, [_cell("a", hour, 0.0) for hour in range(5)])
    _write(data, [{"column": "whole", "verdict": "stable"}], now_ns=NOW + 2 * HOUR)

    frame = read_drift_results(data, since_ns=NOW + 2 * HOUR, until_ns=NOW + 3 * HOUR)

    assert frame["column"].to_list() == ["a", "whole"]
    assert frame["window_start"].dt.epoch("ns").to_list() == [NOW + 2 * HOUR, None]


def test_the_heat_map_has_each_cell_as_last_judged(tmp_path: Path) -> None:
    """A later run replaces the cells it judged again; runs without windows are no cells."""
    data = DataDirectory(tmp_path)
    _write(data, [_cell("b", 0, 0.1), _cell("a", 1, 0.1), _cell("a", 0, 0.1)])
    _write(data, [_cell("a", 1, 0.5), {"column": "a", "verdict": "stable"}], now_ns=NOW + 1)

    cells = heatmap_cells(data)

    assert cells.select("column", "psi").rows() == [("a", 0.1), ("a", 0.5), ("b", 0.1)]
    assert heatmap_cells(data, columns=["b"]).height == 1


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    """A truncated file is an error with a hint, not fewer rows."""
    data = DataDirectory(tmp_path)
    path = _write(data, [_cell("a", 0, 0.1)])
    path.write_bytes(path.read_bytes()[:100])

    with pytest.raises(InvalidDataError, match="drift"):
        read_drift_results(data)
