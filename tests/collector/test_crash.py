"""`kill -9` of a real collector under load; the long run is `python benchmarks/crash.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.crash import crash_run


@pytest.mark.service
@pytest.mark.slow
def test_kills_lose_nothing_acknowledged(tmp_path: Path) -> None:
    """Killed at random moments: every acknowledged span is there once, every file is readable."""
    result = crash_run(tmp_path, kills=3, seed=7, senders=3)
    assert result.missing == 0
    assert result.twice == 0
    assert result.foreign == 0
    assert result.unreadable_files == 0
    assert result.exit_code == 0, "SIGTERM drains and exits 0"
    assert result.log_segments_left == 0
    assert result.spans_acknowledged > 0
