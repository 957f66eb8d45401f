"""Cost summaries: what counts as a call, what is known, what sampled spans stand for."""

from pathlib import Path

import pytest

from pyflare_analysis.cost import summarize
from pyflare_proto.errors import NotEnoughDataError, UsageError
from pyflare_storage.filters import Filters
from pyflare_storage.source import open_source
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, START_NS, span, write_spans


def test_each_call_counts_once_and_failed_calls_count(tmp_path: Path) -> None:
    """Of four spans of one trace two are calls: one priced, one failed without usage."""
    source = open_source(write_spans(tmp_path / "a.parquet", ANSWERED))

    total = summarize(source, by=["model"]).total

    assert (total.calls, total.unpriced_calls) == (2, 1)
    assert (total.input_tokens, total.output_tokens, total.cache_read_tokens) == (100, 50, 64)
    assert (total.cost_nano_usd, total.cost_usd) == (670_000, "0.00067")


def test_sampled_calls_count_by_their_weight(tmp_path: Path) -> None:
    """A call kept with probability 1/4 counts four times, and once unweighted."""
    source = open_source(write_spans(tmp_path / "a.parquet", [*ANSWERED, *SAMPLED]))

    weighted = summarize(source, by=["model"])
    stored = summarize(source, by=["model"], weighted=False)

    assert (weighted.sampled, weighted.weighted, stored.weighted) == (True, True, False)
    assert (weighted.total.calls, stored.total.calls) == (2 + 4, 3)
    assert weighted.total.cost_nano_usd == 670_000 + 4 * 1_000_000_000
    assert stored.total.cost_nano_usd == 670_000 + 1_000_000_000


def test_unsampled_sums_stay_exact_beyond_float64(tmp_path: Path) -> None:
    """Weighting must not round integers over 2^53 where nothing was sampled."""
    huge = 2**53 + 1
    source = open_source(write_spans(tmp_path / "a.parquet", [span(model="m", cost_nano_usd=huge)]))

    assert summarize(source, by=["model"]).total.cost_nano_usd == huge


def test_a_cost_that_is_unknown_is_null_and_no_cost_is_zero(tmp_path: Path) -> None:
    """A group of unpriced calls has cost null; a summary without calls has cost 0."""
    rows = [span(model="mystery", cost_status="unpriced", input_tokens=5)]
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    answer = summarize(source, by=["model"])
    nothing = summarize(source, by=["model"], filters=Filters(model=("other",)))

    assert (answer.rows[0].cost_nano_usd, answer.rows[0].cost_usd) == (None, None)
    assert (nothing.rows, nothing.total.calls, nothing.total.cost_usd) == ((), 0, "0.00")


def test_rows_are_the_dearest_first_and_times_in_order(tmp_path: Path) -> None:
    """By model the cost decides, by day the calendar does."""
    path = write_spans(tmp_path / "a.parquet", [*ANSWERED, *EMBEDDED, *SAMPLED])
    source = open_source(path)

    by_model = [row.dimensions["model"] for row in summarize(source, by=["model"]).rows]
    by_day = [row.dimensions["day"] for row in summarize(source, by=["day"]).rows]

    assert by_model == ["claude-sonnet-4-5", "gpt-4o", "text-embedding-3-small"]
    assert by_day == ["2025-11-24", "2025-11-25"]


def test_any_column_of_text_an_attribute_and_a_time_are_dimensions(tmp_path: Path) -> None:
    """User is user_id, attributes.KEY is one attribute, hour is the start of the hour."""
    source = open_source(write_spans(tmp_path / "a.parquet", ANSWERED[1:2]))

    (row,) = summarize(source, by=["user", "attributes.app.tier", "hour", "service"]).rows

    assert dict(row.dimensions) == {
        "user": "ada",
        "attributes.app.tier": "free",
        "hour": "2025-11-24T16:00:00Z",
        "service": "bot",
    }


def test_days_follow_the_time_zone(tmp_path: Path) -> None:
    """16:00 UTC is the next day in Auckland."""
    source = open_source(write_spans(tmp_path / "a.parquet", ANSWERED[1:2]))

    (row,) = summarize(source, by=["day"], timezone="Pacific/Auckland").rows

    assert row.dimensions["day"] == "2025-11-25"


def test_a_limit_cuts_rows_and_not_the_total(tmp_path: Path) -> None:
    """The total is over all groups."""
    path = write_spans(tmp_path / "a.parquet", [*ANSWERED, *EMBEDDED])

    answer = summarize(open_source(path), by=["model"], limit=1)

    assert (len(answer.rows), answer.total.calls) == (1, 3)


def test_an_unknown_dimension_names_the_nearest(tmp_path: Path) -> None:
    """A slip of the pen gets the column that was meant."""
    source = open_source(write_spans(tmp_path / "a.parquet", ANSWERED))

    with pytest.raises(UsageError) as caught:
        summarize(source, by=["modle"])

    assert "model" in (caught.value.hint or "")


def test_no_spans_at_all_is_not_an_answer(tmp_path: Path) -> None:
    """Zero cost would be a claim; there is just no data."""
    with pytest.raises(NotEnoughDataError):
        summarize(open_source(write_spans(tmp_path / "a.parquet", [])))


def test_times_bound_the_calls(tmp_path: Path) -> None:
    """Since is inclusive, until is not."""
    source = open_source(write_spans(tmp_path / "a.parquet", [*ANSWERED, *EMBEDDED]))
    day = 86_400_000_000_000

    later = summarize(source, filters=Filters(since_ns=START_NS + day)).total.calls
    before = summarize(source, filters=Filters(until_ns=START_NS + day)).total.calls

    assert (later, before) == (1, 2)
