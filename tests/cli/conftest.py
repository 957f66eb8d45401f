"""The command line in this process: its exit code, stdout and stderr."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

import pyflare_cli


@dataclass(frozen=True)
class Result:
    """What one command line did."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Return stdout as one JSON document."""
        return json.loads(self.out)


Pyflare = Callable[..., Result]


@pytest.fixture
def pyflare(capfd: pytest.CaptureFixture[str]) -> Pyflare:
    """Run `pyflare` with words and return what it did."""

    def run(*words: object) -> Result:
        capfd.readouterr()
        code = pyflare_cli.run([str(word) for word in words])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run
