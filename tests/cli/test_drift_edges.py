"""What drift says of columns that empty or fill, of odd types, files and options."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.cli.conftest import Pyflare

RNG = np.random.default_rng(1)


def _table(path: Path, **columns: object) -> Path:
    frame = pl.DataFrame(columns)
    frame.write_csv(path) if path.suffix == ".csv" else frame.write_parquet(path)
    return path


def test_a_saved_reference_scores_to_the_last_digit(pyflare: Pyflare, tmp_path: Path) -> None:
    """Also with more different values than a profile keeps points."""
    ref = _table(tmp_path / "r.parquet", x=RNG.normal(size=3000))
    cur = _table(tmp_path / "c.parquet", x=RNG.normal(0.5, 1, size=1500))
    saved = tmp_path / "p.json"

    direct = pyflare("drift", "psi", "--ref", ref, "--cur", cur, "--save-profile", saved).json()
    later = pyflare("drift", "psi", "--ref", saved, "--cur", cur).json()

    assert later == direct


@pytest.mark.parametrize("command", ["psi", "univariate"])
@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("dtype", [None, pl.Float64])
def test_a_column_that_empties_or_fills_has_changed(
    pyflare: Pyflare, tmp_path: Path, command: str, ending: str, dtype: object
) -> None:
    """Whether or not the file without values can tell the type of the column."""
    x = RNG.normal(size=500)
    full = _table(tmp_path / f"full.{ending}", ok=x, y=x)
    empty = _table(tmp_path / f"empty.{ending}", ok=x, y=pl.Series([None] * 500, dtype=dtype))

    emptied = pyflare("drift", command, "--ref", full, "--cur", empty)
    filled = pyflare("drift", command, "--ref", empty, "--cur", full)

    for result in (emptied, filled):
        columns = {c["column"]: c for c in result.json()["columns"]}
        assert (result.code, set(columns)) == (0, {"ok", "y"})
        if command == "psi":
            assert columns["y"]["verdict"] == "drift"
            assert "value: 0 % → 100 %" in columns["y"]["moved"]


def test_a_column_of_another_type_is_named(pyflare: Pyflare, tmp_path: Path) -> None:
    """It is there, and the message does not say that it is not."""
    ref = _table(tmp_path / "r.parquet", x=RNG.normal(size=100))
    cur = _table(tmp_path / "c.parquet", x=["a", "b"] * 50)

    result = pyflare("drift", "psi", "--ref", ref, "--cur", cur)

    assert result.code == 2
    assert "or not their types" in result.err
    assert "is of type string, and the reference holds numbers" in result.err


def test_numbers_beyond_int64_are_numbers(pyflare: Pyflare, tmp_path: Path) -> None:
    """Half of these are 2^63 or more; none is missing."""
    ref = _table(tmp_path / "r.parquet", x=RNG.integers(0, 2**64 - 1, 500, dtype=np.uint64))
    cur = _table(tmp_path / "c.parquet", x=RNG.integers(0, 2**63, 500, dtype=np.uint64))

    (column,) = pyflare("drift", "psi", "--ref", ref, "--cur", cur).json()["columns"]
    tests = pyflare("drift", "univariate", "--ref", ref, "--cur", cur).json()["columns"]

    assert "missing" not in {cell["bin"] for cell in column["bins"]}
    (ks,) = [row for row in tests if row["test"] == "ks"]
    assert (ks["reference_count"], ks["statistic"] > 0.4) == (500, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["psi", "--ref", ""], "--ref or --cur is empty"),
        (["univariate", "--ref", ""], "--ref or --cur is empty"),
        (["mmd", "--ref", ""], "--ref or --cur is empty"),
        (["psi", "--ref", "r.csv", "--bins", "0"], "num_bins is 0"),
        (["psi", "--ref", "r.csv", "--seed", "-1"], "random_seed is -1"),
        (["report", "--ref", "r.csv", "--seed", "-1"], "random_seed is -1"),
        (["univariate", "--ref", "r.csv", "--seed", "-1"], "-1"),
        (["psi", "--ref", "r.csv", "--fail-above", "nan"], "--fail-above nan"),
        (["univariate", "--ref", "r.csv", "--fail-above", "nan"], "--fail-above nan"),
        (["report", "--ref", "r.csv", "--fail-above", "inf"], "--fail-above inf"),
        (["mmd", "--ref", "r.csv", "--fail-above", "nan"], "--fail-above nan"),
        (["univariate", "--ref", "r.csv", "--threshold", "nan"], "threshold is nan"),
        (["psi", "--ref", "zero.csv"], "it is empty"),
        (["psi", "--ref", "p.json"], "damaged"),
        (["univariate", "--ref", "saved.json"], "saved reference"),
        (["psi", "--ref", "semicolon.csv"], "none of the reference's columns"),
    ],
)  # fmt: skip
def test_what_means_nothing_is_refused(
    pyflare: Pyflare,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    message: str,
) -> None:
    """One line, a hint, exit code 2: never an answer about something else."""
    monkeypatch.chdir(tmp_path)
    _table(Path("r.csv"), x=RNG.normal(size=100))
    Path("zero.csv").write_text("")
    Path("p.json").write_text('{"format": "pyflare.drift.profile", "version": 1}')
    Path("saved.json").write_text('{"format": "pyflare.drift.profile", "version": 1}')
    Path("semicolon.csv").write_text("a;b\n" + "1;2\n" * 50)

    result = pyflare("drift", *words, "--cur", "r.csv")

    assert result.code == 2
    assert message in result.err
    assert result.err.count("error: ") == 1
    assert "hint: " in result.err
    assert "Traceback" not in result.err


def test_a_file_that_polars_cannot_read_is_named(pyflare: Pyflare, tmp_path: Path) -> None:
    """A type that is not known is the file's, not the program's."""
    import decimal

    import pyarrow as pa
    import pyarrow.parquet as pq

    wide = pa.array([decimal.Decimal(1)] * 50, pa.decimal256(50, 2))
    pq.write_table(pa.table({"x": wide}), tmp_path / "wide.parquet")

    result = pyflare("drift", "psi", "--ref", tmp_path / "wide.parquet", "--cur",
                     tmp_path / "wide.parquet")  # fmt: skip

    assert result.code == 2
    assert "cannot read" in result.err
    assert "wide.parquet" in result.err


def test_an_answer_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """Stdout may be closed, or a file that has no room: exit code 3, no traceback."""
    ref = _table(tmp_path / "r.parquet", x=RNG.normal(size=100))
    words = [sys.executable, "-m", "pyflare_cli", "drift", "psi", "--ref", str(ref), "--cur",
             str(ref), "--no-store"]  # fmt: skip

    def written(shell: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/sh", "-c", shell, "sh", *words],
            capture_output=True,
            text=True,
            check=False,
            env={name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )

    closed = written('exec "$@" >&-')
    # Not a byte may be written to a file of this process.
    full = written(f'ulimit -f 0; trap "" XFSZ; exec "$@" > {tmp_path / "out"}')

    assert (closed.returncode, full.returncode) == (3, 3)
    assert "stdout is closed" in closed.stderr
    assert "cannot write the answer: File too large" in full.stderr
    assert "Traceback" not in closed.stderr + full.stderr
