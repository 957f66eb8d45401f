"""The report is the same over Parquet and over the embedded ClickHouse engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pyflare_analysis.drift.report.report import drift_report
from pyflare_analysis.drift.report.windows import Windows
from pyflare_storage.expressions import Timestamp, col
from pyflare_storage.source import Source, open_source
from tests.storage.span_tables import START_NS, span_table

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")

CUT = Timestamp(START_NS + 3 * 86_400_000_000_000)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Source, Source]]:
    """The same awkward spans twice: a Parquet file, and what `load` makes of it."""
    from pyflare_storage.load import load

    folder = tmp_path_factory.mktemp("parity")
    parquet = folder / "spans.parquet"
    pq.write_table(span_table(8000), parquet)
    target = f"chdb://{folder / 'engine'}"
    load(str(parquet), target)
    with open_source(parquet) as first, open_source(target) as second:
        yield first, second


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"by": ["model", "attributes.http.method"], "weighted": False},
        {"with_reference": True, "by": ["user"]},
        {"with_reference": True, "by": ["user"], "same_hour_of_week": True, "hours": True},
    ],
    ids=str,
)
def test_reports(sources: tuple[Source, Source], options: dict[str, Any]) -> None:
    """Windows, segments, numbers and words are equal."""
    options = dict(options)
    with_reference = options.pop("with_reference", False)
    lacking = options.pop("hours", False)  # five days have no hour of the week twice
    documents = []
    for source in sources:
        sides: dict[str, Any] = {}
        if with_reference:
            sides = {
                "reference": source,
                "where": col("start_time") >= CUT,
                "reference_where": col("start_time") < CUT,
            }
        document = drift_report(source, windows=Windows("1d"), **sides, **options).to_dict()
        # The worst window of a column is a choice among cells that may tie.
        documents.append(document | dict.fromkeys(["source", "reference", "columns"]))

    assert lacking or documents[0]["judged_cells"] > 50
    _assert_close(*documents)


def _assert_close(first: object, second: object, within: float = 1e-9) -> None:
    """Equal, numbers up to the order of sums, which may move a simulated p-value by a draw."""
    if isinstance(first, dict) and isinstance(second, dict):
        assert list(first) == list(second)
        for name, value in first.items():
            _assert_close(value, second[name], 0.02 if name in {"p_value", "q_value"} else 1e-9)
    elif isinstance(first, list) and isinstance(second, list):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            _assert_close(one, other)
    elif isinstance(first, float) and isinstance(second, float):
        assert first == pytest.approx(second, abs=within)
    else:
        assert first == second


def test_paths_of_results_differ_only_by_the_source(sources: tuple[Source, Source]) -> None:
    """The comparison is between a file and an engine, not of one with itself."""
    assert Path(sources[0].url).suffix == ".parquet"
    assert sources[1].url.startswith("chdb://")
