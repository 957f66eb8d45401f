"""Isolation: no test sees the developer's settings, data or terminal."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A test that is slow on a loaded machine has not failed.
settings.register_profile("pyflare", deadline=None)
settings.load_profile("pyflare")


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty folder, with an empty home and none of our variables."""
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
