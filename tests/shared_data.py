"""Finds the shared folder beside the checkout, which holds captures and data sets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

__all__ = ["shared_path"]


def shared_path(*parts: str) -> Path:
    """Return a path inside the shared folder; skip the test where it is absent.

    The folder is `$PYFLARE_SHARED`, else `shared` beside the checkout.
    """
    beside = Path(__file__).resolve().parents[1].parent / "shared"
    path = Path(os.environ.get("PYFLARE_SHARED") or beside).joinpath(*parts)
    if not path.exists():
        pytest.skip(f"needs {path}, which is not on this machine")
    return path
