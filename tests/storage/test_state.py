"""The state's file: private, versioned, shared by processes, honest about damage."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest

from pyflare_proto.errors import InvalidDataError, RetryableError, StorageError
from pyflare_storage.state import StateDatabase

NOTES = (("CREATE TABLE note (id INTEGER PRIMARY KEY, text TEXT NOT NULL)",),)
TITLES = (*NOTES, ("ALTER TABLE note ADD COLUMN title TEXT", "UPDATE note SET title = 'old'"))


def _add(path: Path, count: int) -> None:
    for number in range(count):
        with StateDatabase(path, "notes", NOTES) as state, state.write() as connection:
            connection.execute("INSERT INTO note (text) VALUES (?)", (str(number),))


def _texts(path: Path) -> list[str]:
    with StateDatabase(path, "notes", NOTES) as state, state.read() as connection:
        return [row["text"] for row in connection.execute("SELECT text FROM note ORDER BY id")]


def test_the_file_is_private_and_so_are_those_beside_it(tmp_path: Path) -> None:
    """0600 for the database and its log, 0700 for a new folder, also with an open umask."""
    path = tmp_path / "data" / "state.db"

    with StateDatabase(path, "notes", NOTES) as state, state.write() as connection:
        connection.execute("INSERT INTO note (text) VALUES ('a')")
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()}

    assert modes == dict.fromkeys(["state.db", "state.db-wal", "state.db-shm"], 0o600)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_what_fails_is_undone(tmp_path: Path) -> None:
    """An exception inside a transaction leaves no half of it."""
    path = tmp_path / "state.db"
    with StateDatabase(path, "notes", NOTES) as state:
        with pytest.raises(sqlite3.IntegrityError), state.write() as connection:
            connection.executemany("INSERT INTO note (text) VALUES (?)", [("a",), (None,)])
        with state.write() as connection:
            connection.execute("INSERT INTO note (text) VALUES ('b')")

    assert _texts(path) == ["b"]


def test_migrations_run_once_and_in_order_for_each_component(tmp_path: Path) -> None:
    """A later version adds its steps to what an earlier one wrote; others are not touched."""
    path = tmp_path / "state.db"
    _add(path, 1)
    for _ in range(2):
        with StateDatabase(path, "notes", TITLES) as state, state.read() as connection:
            rows = [tuple(row) for row in connection.execute("SELECT text, title FROM note")]
        assert rows == [("0", "old")]
    other = (("CREATE TABLE other (x)",),)
    with StateDatabase(path, "other", other) as state, state.read() as connection:
        versions = connection.execute("SELECT * FROM schema_version ORDER BY 1").fetchall()

    assert [tuple(row) for row in versions] == [("notes", 2), ("other", 1)]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The steps of one opening are one transaction."""
    path = tmp_path / "state.db"
    broken = (*NOTES, ("CREATE TABLE second (x)", "NOT SQL"))

    with pytest.raises(StorageError, match="NOT"):
        StateDatabase(path, "notes", broken)

    tables = sqlite3.connect(path).execute("SELECT name FROM sqlite_master").fetchall()
    assert tables == []


def test_the_state_of_a_later_version_is_refused(tmp_path: Path) -> None:
    """An old PyFlare must not write what it does not understand."""
    path = tmp_path / "state.db"
    StateDatabase(path, "notes", TITLES).close()

    with pytest.raises(InvalidDataError, match="version 2") as caught:
        StateDatabase(path, "notes", NOTES)
    assert "upgrade" in str(caught.value.hint)


def test_processes_that_write_together_lose_nothing(tmp_path: Path) -> None:
    """Four processes, each opening and writing 25 times, the first of them making the file."""
    path = tmp_path / "state.db"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, 25)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    assert sorted(_texts(path)) == sorted([str(n) for n in range(25)] * 4)


def test_a_reader_sees_the_last_state_while_another_writes(tmp_path: Path) -> None:
    """Readers neither wait nor see what is not committed."""
    path = tmp_path / "state.db"
    _add(path, 1)
    with StateDatabase(path, "notes", NOTES) as state, state.write() as connection:
        connection.execute("INSERT INTO note (text) VALUES ('not yet')")
        assert _texts(path) == ["0"]


def test_a_writer_that_waits_too_long_is_told_to_try_again(tmp_path: Path) -> None:
    """A lock that stays is an error that names the file, not a hang."""
    path = tmp_path / "state.db"
    _add(path, 1)
    with (
        StateDatabase(path, "notes", NOTES) as first,
        StateDatabase(path, "notes", NOTES, timeout_s=0.05) as second,
        first.write(),
        pytest.raises(RetryableError, match=r"state\.db"),
        second.write(),
    ):
        pass


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    """Damage is told with what to do, and the file keeps its bytes."""
    path = tmp_path / "state.db"
    path.write_bytes(b"these are the bytes of something else entirely" * 100)
    before = path.read_bytes()

    with pytest.raises(InvalidDataError, match=r"state\.db") as caught:
        StateDatabase(path, "notes", NOTES)
    assert "mv " in str(caught.value.hint)
    assert path.read_bytes() == before


def test_a_place_that_takes_no_files_is_named(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "file").touch()

    with pytest.raises(StorageError, match="cannot write") as caught:
        StateDatabase(tmp_path / "file" / "state.db", "notes", NOTES)
    assert "--data" in str(caught.value.hint)
