"""What holds for the whole project: the layers, the packages, the error tree, the texts."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pyflare_proto import errors, record

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "pyflare",
    "pyflare_analysis",
    "pyflare_cli",
    "pyflare_collector",
    "pyflare_proto",
    "pyflare_query",
    "pyflare_storage",
}


def _tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / line for line in listing.stdout.splitlines() if (ROOT / line).is_file()]


def test_layers_point_one_way() -> None:
    """cli, query -> collector, analysis -> storage -> proto, and the SDK stands alone."""
    pytest.importorskip("importlinter", reason="import-linter comes with the dev extra")

    result = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 0, result.stdout + result.stderr


def test_every_error_class_has_an_outcome() -> None:
    """Each class of the error tree stands in the one table of outcomes."""
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.PyFlareError)
    }

    assert classes == set(errors.OUTCOMES)


def test_error_tree_in_the_docstring_is_complete() -> None:
    """The hierarchy drawn for the reader names every class."""
    for cls in errors.OUTCOMES:
        assert cls.__name__ in (errors.__doc__ or "")


def test_unknown_exceptions_are_internal_errors() -> None:
    """Whatever is not raised on purpose is a defect: exit code 70."""
    assert errors.outcome_of(ZeroDivisionError()).exit_code is errors.ExitCode.INTERNAL
    assert errors.outcome_of(KeyboardInterrupt()).exit_code is errors.ExitCode.INTERRUPTED


def test_record_has_the_columns_of_the_contract() -> None:
    """The names that users script against are all there."""
    names = """
    trace_id span_id parent_span_id name kind start_time end_time duration_ms status_code
    status_message service_name service_version environment scope_name scope_version span_type
    operation provider model model_request model_response response_id input_tokens output_tokens
    total_tokens cache_read_tokens cache_write_tokens reasoning_tokens usage_basis cost_nano_usd
    cost_status price_source user_id session_id team feature agent_name tool_name prompt_template
    prompt_version finish_reasons time_to_first_token_ms input output error_type error_message
    retrieval_query retrieval_documents embedding sampling_probability attributes
    resource_attributes events links
    """.split()

    assert not set(names) - set(record.COLUMN_NAMES)
    assert record.arrow_schema().names == list(record.COLUMN_NAMES)
    assert list(record.clickhouse_columns()) == list(record.COLUMN_NAMES)


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """The one wheel has our import packages, each typed, and no other top-level name."""
    pytest.importorskip("hatchling", reason="hatchling comes with the dev extra")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")

    names = zipfile.ZipFile(wheel).namelist()

    assert wheel.name.startswith("pyflare_suite-")
    assert {n.split("/")[0] for n in names if ".dist-info" not in n} == PACKAGES
    assert {f"{p}/py.typed" for p in PACKAGES} <= set(names)


def test_no_text_tells_people_to_install_the_name_of_someone_else() -> None:
    """The distribution is pyflare-suite: `pyflare` on the index is another project."""
    wrong = "pip install " + "pyflare"
    for path in _tracked():
        if path.suffix in {".md", ".py", ".toml", ".yml", ".yaml", ".sh"}:
            text = path.read_text(encoding="utf-8")
            for line in text.splitlines():
                if wrong in line.replace("'", "").replace('"', ""):
                    assert wrong + "-suite" in line.replace("'", "").replace('"', ""), path
