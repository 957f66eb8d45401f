"""Isolation: no test sees the developer's settings, data or terminal."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import settings

# A test that is slow on a loaded machine has not failed.
settings.register_profile("pyflare", deadline=None)
settings.load_profile("pyflare")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder, with an empty home and none of our variables.

    The logger of both the suite and the SDK begins as Python makes it: a command that ran in
    this process leaves a handler on it that writes to a stream that is closed by now.
    """
    logger = logging.getLogger("pyflare")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    logger.setLevel(logging.NOTSET)
    home = tmp_path / "home"
    home.mkdir()
    work = tmp_path / "work"
    work.mkdir()
    for name in list(os.environ):
        if name.startswith(("PYFLARE_", "OTEL_")) and name not in {
            "PYFLARE_SHARED",
            "PYFLARE_REQUIRE_SERVICES",
        }:
            monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / ".config"))
    monkeypatch.chdir(work)
