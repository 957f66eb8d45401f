"""Following a data directory."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pyflare_analysis.tail import follow
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.filters import Filters
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, write_spans


class _StopError(Exception):
    """Ends the endless generator."""


def _steps(*actions: Callable[[], object] | None) -> Callable[[], None]:
    """Return a `wait` that does one action at each look, then ends the following."""
    pending = list(actions)

    def wait() -> None:
        if not pending:
            raise _StopError
        action = pending.pop(0)
        if action is not None:
            action()

    return wait


def _until_stopped(batches: Iterator[list[dict[str, object]]]) -> list[list[str]]:
    """Return the span ids of each batch up to the end of the actions."""
    seen: list[list[str]] = []
    with contextlib.suppress(_StopError):
        seen.extend([str(span["span_id"]) for span in batch] for batch in batches)
    return seen


def test_it_begins_with_the_latest_spans_and_goes_on_with_new_files(tmp_path: Path) -> None:
    """Two of four spans at first, then each new file's spans once."""
    data = DataDirectory(tmp_path)
    data.create()
    write_spans(data.spans / "one.parquet", ANSWERED)
    wait = _steps(
        lambda: write_spans(data.spans / "two.parquet", EMBEDDED),
        None,
        lambda: write_spans(data.spans / "three.parquet", SAMPLED),
    )

    batches = _until_stopped(follow(data, last=2, wait=wait))

    assert [[span_id[-1] for span_id in batch] for batch in batches] == [["4", "3"], ["5"], ["6"]]


def test_spans_come_once_and_filtered(tmp_path: Path) -> None:
    """Only spans that pass the filters, and a directory that does not exist yet is waited for."""
    data = DataDirectory(tmp_path / "later")
    wait = _steps(
        None,
        lambda: write_spans(data.spans / "one.parquet", [*EMBEDDED, *SAMPLED]),
        None,
    )

    batches = _until_stopped(follow(data, filters=Filters(service=("search",)), wait=wait))

    assert batches == [["0000000000000005"]]


def test_merged_files_are_no_news(tmp_path: Path) -> None:
    """A file with a record of replacement repeats spans that were seen."""
    data = DataDirectory(tmp_path)
    data.create()

    def merge() -> None:
        write_spans(data.spans / "merged.parquet", ANSWERED)
        (data.records / "merged.parquet.json").write_text('{"new":"merged.parquet","replaces":[]}')

    assert _until_stopped(follow(data, last=0, wait=_steps(merge))) == []
