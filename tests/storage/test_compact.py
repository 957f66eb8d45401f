"""Compaction: the same spans in fewer files, whoever reads or writes meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pyflare_proto.errors import InvalidDataError, NotFoundError, RetryableError
from pyflare_storage import span_files
from pyflare_storage.compact import _alone, compact
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.merge import merge
from pyflare_storage.source import open_source
from tests.storage.span_tables import span_table


def _write(data: DataDirectory, table: pa.Table, sequence: int, writer: str = "collect") -> Path:
    times = pc.min_max(table["start_time"].cast("int64")).as_py()
    final = data.spans / data.file_name(times["min"], times["max"], writer, sequence)
    temporary = data.temporary_path()
    pq.write_table(table, temporary, store_schema=False)
    data.publish(temporary, final)
    return final


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    """A directory with ten files over five days, every second row of the table in each pair."""
    data = DataDirectory(tmp_path / "data")
    data.create()
    table = span_table(500)
    for i in range(10):
        _write(data, table.slice(i // 2 * 100, 100).take(list(range(i % 2, 100, 2))), i)
    return data


def _spans(data: DataDirectory) -> pl.DataFrame:
    with open_source(data.path) as source:
        return pl.concat(source.scan()).sort("trace_id", "span_id")


def _rows(data: DataDirectory) -> int:
    with open_source(data.path) as source:
        return source.count()


def _records_match(data: DataDirectory) -> None:
    """Exactly the merged files have a record: tail tells them by it from new ones."""
    merged = {f"{file.name}.json" for file in data.list_files() if file.writer != "collect"}
    assert {path.name for path in data.records.iterdir()} == merged


def test_every_value_survives_and_files_become_few(data: DataDirectory) -> None:
    """All columns of all spans are equal before and after; a second run changes nothing."""
    before = _spans(data)
    report = compact(data)

    assert report.files_before == 10
    assert report.files_after == len(data.list_files()) == len(list(data.spans.iterdir())) < 10
    assert report.spans == before.height == 500
    assert _spans(data).equals(before)
    _records_match(data)
    assert not list(data.temporary.iterdir())

    again = compact(data)
    assert (again.files_merged, again.files_written) == (0, 0)


def test_merged_files_are_merged_again(data: DataDirectory) -> None:
    """New files beside merged ones go into one; records of what went away go too."""
    before = compact(data).files_after
    for i in range(5):
        _write(data, span_table(100, seed=50 + i).slice(0, 20), 20 + i)
    report = compact(data)

    assert report.files_before == before + 5
    assert report.files_after <= before + 1
    assert _rows(data) == 600
    _records_match(data)


def test_files_are_sorted_and_of_one_day(data: DataDirectory) -> None:
    """Rows rise with start time, the name holds first and last, and the schema is the record."""
    compact(data)
    for file in data.list_files():
        times = pq.read_table(file.path)["start_time"].cast("int64").to_pylist()

        assert times == sorted(times)
        assert (times[0], times[-1]) == (file.first_start_ns, file.last_start_ns)


def test_a_span_that_stands_in_two_files_is_kept_once(data: DataDirectory) -> None:
    """The row of the file with the smaller sequence stays."""
    first = pq.read_table(data.list_files()[0].path)
    name = first.schema.get_field_index("name")
    changed = first.set_column(name, "name", pa.array(["again"] * len(first)))
    _write(data, changed, 99)
    report = compact(data)

    assert report.duplicates_removed == len(first)
    assert _spans(data).height == 500
    assert "again" not in _spans(data)["name"].to_list()


def test_small_slices_give_the_same_file(data: DataDirectory, tmp_path: Path) -> None:
    """How many rows are in memory at a time does not show in the result."""
    files = data.list_files()
    tables = []
    for rows in (7, 10_000):
        merged = merge(files, tmp_path / f"{rows}.parquet", slice_rows=rows)
        assert merged is not None
        tables.append(pl.read_parquet(tmp_path / f"{rows}.parquet"))

    assert pq.read_metadata(tmp_path / "7.parquet").num_row_groups > 50
    assert tables[0].equals(tables[1])


def test_a_file_whose_log_segment_exists_is_left_alone(data: DataDirectory) -> None:
    """The collector tells by it, after a crash, that the segment has been written."""
    kept = next(file for file in data.list_files() if file.sequence == 3)
    (data.wal / f"{3:016d}.wal").touch()
    report = compact(data)

    assert report.files_in_use == 1
    assert kept.path.exists()
    assert list(data.spans.glob(f"spans-*-collect-{3:016d}.parquet")) == [kept.path]


def test_the_largest_sequence_never_falls(data: DataDirectory) -> None:
    """The next log segment must not take a number that a file once had."""
    compact(data)

    assert data.max_sequence() == 9


def test_foreign_files_stay(data: DataDirectory) -> None:
    """A file that PyFlare did not name is read and never touched."""
    foreign = data.spans / "mine.parquet"
    pq.write_table(span_table(50, seed=9), foreign)
    compact(data)

    assert foreign.exists()
    assert _rows(data) == 550


def test_a_reader_keeps_the_replaced_files_and_the_next_run_deletes_them(
    data: DataDirectory,
) -> None:
    """Whoever listed before reads on; whoever lists now sees each span once."""
    with data.snapshot() as files:
        report = compact(data, wait_s=0)

        assert report.files_to_delete == 10
        assert sum(pq.read_metadata(file.path).num_rows for file in files) == 500
        assert _rows(data) == 500
    assert compact(data).files_to_delete == 0
    assert len(list(data.spans.iterdir())) == report.files_after


def test_every_crash_leaves_each_span_once(
    data: DataDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying before the rename, after it, or after the deletions changes no answer."""
    for place in ("publish", "sync_folder", "exclusive"):
        with monkeypatch.context() as patch:
            original: Callable[..., object] = getattr(span_files, place)
            calls = {"n": 0}

            def dying(
                *args: object,
                calls: dict[str, int] = calls,
                original: Callable[..., object] = original,
            ) -> object:
                calls["n"] += 1
                if calls["n"] == 2:
                    raise KeyboardInterrupt
                return original(*args)

            patch.setattr(span_files, place, dying)
            with pytest.raises(KeyboardInterrupt):
                compact(data)
        assert _rows(data) == 500
    compact(data)
    assert _rows(data) == 500
    _records_match(data)


def test_readers_see_every_span_once_all_the_time(data: DataDirectory) -> None:
    """Counts taken while files are added and merged never fall and are never above."""
    stop = threading.Event()
    seen: list[int] = []
    errors: list[Exception] = []

    def read() -> None:
        while not stop.is_set():
            try:
                seen.append(_rows(data))
            except Exception as error:  # noqa: BLE001  # a thread reports whatever went wrong
                errors.append(error)
                return

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for sequence in range(10, 16):
        _write(data, span_table(30, seed=sequence), sequence)
        compact(data, wait_s=0)
    stop.set()
    for reader in readers:
        reader.join()

    assert not errors
    assert seen
    assert set(seen) <= {500 + 30 * i for i in range(7)}
    assert _rows(data) == 680


def test_a_damaged_file_is_named_and_nothing_changes(data: DataDirectory) -> None:
    """Half a file stops its group, with the way to go on."""
    damaged = data.list_files()[0].path
    damaged.write_bytes(damaged.read_bytes()[:-20])

    with pytest.raises(InvalidDataError, match=damaged.name) as caught:
        compact(data)
    assert "mv" in str(caught.value.hint)
    assert len(list(data.spans.iterdir())) == 10


def test_only_one_at_a_time(data: DataDirectory) -> None:
    """A second compaction is told to wait."""
    with _alone(data), pytest.raises(RetryableError, match="another compaction"):
        compact(data)


def test_nothing_to_merge(tmp_path: Path) -> None:
    """No directory is not found; an empty one is answered with zeros."""
    data = DataDirectory(tmp_path / "none")
    with pytest.raises(NotFoundError):
        compact(data)
    data.create()

    assert compact(data).files_after == 0
