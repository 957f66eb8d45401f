"""Failure clusters are the same on Parquet and on the embedded ClickHouse engine."""

import json
from pathlib import Path

import pytest

from pyflare_analysis.rca.clusters.clusterer import cluster_spans
from pyflare_storage.filters import Filters
from pyflare_storage.load import load
from pyflare_storage.source import open_source
from tests.span_rows import START_NS, span, write_spans

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")

STACK = 'File "/srv/app/llm.py", line 3, in ask\n'
EVENT = {"name": "exception", "attributes": {"exception.stacktrace": STACK}}


def test_one_answer_on_both(tmp_path: Path) -> None:
    """Weights, times, frames, filters, members and traces, to the last key."""
    rows = [
        span(
            span_id=f"{n:016x}",
            trace_id=f"{n // 3:032x}",
            start_time=START_NS + n * 1_000_000_000,
            model=("m", "other")[n % 5 == 0],
            sampling_probability=(None, 0.25)[n % 2],
            status_code=("error", "ok")[n % 4 == 0],
            error_type=("RateLimitError", None)[n % 3 == 0],
            error_message=(f"limit {n} of user {'abc'[n % 3]}x reached", None)[n % 7 == 0],
            events=(json.dumps([EVENT]), None)[n % 2],
        )
        for n in range(200)
    ]
    parquet = write_spans(tmp_path / "spans.parquet", rows)
    target = f"chdb://{tmp_path / 'engine'}"
    load(str(parquet), target)

    with open_source(str(parquet)) as first, open_source(target) as second:
        answers = [
            cluster_spans(source, Filters(model=("m",))).to_dict() for source in (first, second)
        ]

    # As text: a q-value that could not be computed is NaN, which is equal to nothing.
    assert json.dumps(answers[0]) == json.dumps(answers[1])
    assert len(answers[0]["clusters"]) >= 4  # type: ignore[arg-type]  # a list
