"""The data directory: names, visibility, replacement."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_proto.errors import NotFoundError, StorageError
from pyflare_storage import span_files
from pyflare_storage.dataset import DataDirectory

INT64 = st.integers(0, 2**63 - 1)


def _touch(data: DataDirectory, name: str) -> str:
    temporary = data.temporary_path()
    temporary.write_bytes(b"x")
    data.publish(temporary, data.spans / name)
    return name


def _listed(data: DataDirectory) -> list[str]:
    return [file.name for file in data.list_files()]


@given(INT64, INT64, st.integers(0, 2**53))
def test_a_name_tells_what_was_put_in(a: int, b: int, sequence: int) -> None:
    """Times to the nanosecond, writer and sequence survive the way through the name."""
    first, last = sorted((a, b))
    name = span_files.span_file_name(first, last, "collect", sequence)
    file = span_files.parse_name(Path("spans") / name)

    assert (first, last, "collect", sequence) == (
        file.first_start_ns,
        file.last_start_ns,
        file.writer,
        file.sequence,
    )


@given(INT64, INT64)
def test_names_sort_by_time(a: int, b: int) -> None:
    """The order of two names is the order of their first start times."""
    names = [span_files.span_file_name(t, t, "w", 0) for t in (a, b)]

    assert (a < b) == (names[0] < names[1])


@pytest.mark.parametrize("writer", ["", "a-b", "a/b", "a.b", "ä"])
def test_a_writer_that_would_break_the_name_is_refused(writer: str) -> None:
    """Only letters, digits and `_` keep a name parseable."""
    with pytest.raises(ValueError, match="writer"):
        span_files.span_file_name(0, 1, writer, 0)


def test_a_foreign_name_is_kept_and_never_pruned(tmp_path: Path) -> None:
    """A file whose name says nothing about time may hold any time."""
    for name in ("part-0.parquet", "spans-20269999T999999.000000000Z-x-y-1.parquet"):
        file = span_files.parse_name(tmp_path / name)

        assert file.first_start_ns is None
        assert file.may_hold(5, 6)


def test_files_are_pruned_by_the_time_in_their_name(tmp_path: Path) -> None:
    """A file stays exactly when [first, last] meets the half-open [since, until)."""
    data = DataDirectory(tmp_path)
    data.create()
    _touch(data, data.file_name(100, 200, "w", 1))

    assert len(data.list_files(200, 300)) == 1
    assert len(data.list_files(201, 300)) == 0
    assert len(data.list_files(0, 100)) == 0
    assert len(data.list_files(0, 101)) == 1


def test_create_makes_private_folders_and_may_be_repeated(tmp_path: Path) -> None:
    """Prompts are private: the directory and the log are 0700; a second call is harmless."""
    data = DataDirectory(tmp_path / "deep" / "data")
    data.create()
    data.create()

    assert stat.S_IMODE(data.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(data.wal.stat().st_mode) == 0o700
    assert not list(data.temporary.iterdir())


def test_an_unwritable_place_is_a_storage_error_with_a_hint(tmp_path: Path) -> None:
    """A file where the directory should be is named, with the option that helps."""
    blocked = tmp_path / "file"
    blocked.touch()

    with pytest.raises(StorageError, match="cannot write to the data directory") as caught:
        DataDirectory(blocked / "data").create()
    assert "--data" in str(caught.value.hint)


def test_unfinished_files_are_never_listed(tmp_path: Path) -> None:
    """What stands in tmp/ or has another ending is no span file, and spans/ stays pure."""
    data = DataDirectory(tmp_path)
    data.create()
    data.temporary_path().write_bytes(b"half")
    _touch(data, "a.parquet")

    assert _listed(data) == ["a.parquet"]
    assert [p.name for p in data.spans.iterdir()] == ["a.parquet"]


def test_a_missing_span_folder_is_not_found(tmp_path: Path) -> None:
    """The message names the folder and the hint says how to get spans."""
    with (
        pytest.raises(NotFoundError, match="no spans at") as caught,
        DataDirectory(tmp_path / "nothing").snapshot(),
    ):
        pass
    assert "pyflare import" in str(caught.value.hint)


def test_every_crash_point_of_a_replacement_reads_right(tmp_path: Path) -> None:
    """Old files count until the new one is there, and never together with it."""
    data = DataDirectory(tmp_path)
    data.create()
    old = [_touch(data, f"old{i}.parquet") for i in range(3)]
    other = _touch(data, "other.parquet")

    span_files.write_record(data.records, "new.parquet", old)
    assert _listed(data) == sorted([*old, other])

    _touch(data, "new.parquet")
    assert _listed(data) == ["new.parquet", other]

    for name in old:
        (data.spans / name).unlink()
        assert _listed(data) == ["new.parquet", other]


def test_a_replacement_of_a_replacement_holds_for_both(tmp_path: Path) -> None:
    """Files replaced by a file that is itself replaced (and deleted) do not come back."""
    data = DataDirectory(tmp_path)
    data.create()
    for name in ("a.parquet", "b.parquet", "ab.parquet", "c.parquet", "abc.parquet"):
        _touch(data, name)
    span_files.write_record(data.records, "ab.parquet", ["a.parquet", "b.parquet"])
    span_files.write_record(data.records, "abc.parquet", ["ab.parquet", "c.parquet"])
    (data.spans / "ab.parquet").unlink()

    assert _listed(data) == ["abc.parquet"]


def test_a_damaged_record_is_passed_over(tmp_path: Path) -> None:
    """A record that cannot be read hides nothing."""
    data = DataDirectory(tmp_path)
    data.create()
    _touch(data, "a.parquet")
    (data.records / "a.parquet.json").write_text("{")

    assert _listed(data) == ["a.parquet"]


def test_deletion_waits_for_readers(tmp_path: Path) -> None:
    """While a snapshot is held nobody is alone with the folder; readers share it."""
    data = DataDirectory(tmp_path)
    data.create()
    with data.snapshot(), data.snapshot(), span_files.exclusive(data.spans) as alone:
        assert not alone
    with span_files.exclusive(data.spans) as alone:
        assert alone


def test_stale_temporaries_are_removed_and_fresh_ones_stay(tmp_path: Path) -> None:
    """Only files untouched for more than a day go."""
    data = DataDirectory(tmp_path)
    data.create()
    old, fresh = data.temporary_path(), data.temporary_path()
    for path, mtime in ((old, 1_000.0), (fresh, 90_000.0)):
        path.touch()
        os.utime(path, (mtime, mtime))

    assert data.remove_stale_temporaries(now_s=100_000.0) == 1
    assert fresh.exists()


def test_the_largest_sequence_is_found_among_all_files(tmp_path: Path) -> None:
    """Foreign names do not count; without files it is -1."""
    data = DataDirectory(tmp_path)
    assert data.max_sequence() == -1
    data.create()
    _touch(data, "foreign.parquet")
    for sequence in (3, 11, 7):
        _touch(data, data.file_name(0, 1, "collect", sequence))

    assert data.max_sequence() == 11
