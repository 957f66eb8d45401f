"""The same question gives the same answer on Parquet and on the embedded ClickHouse engine."""

from collections.abc import Iterator

import pytest

from pyflare_analysis.cost import summarize
from pyflare_analysis.traces import TraceOrder, list_traces, show_trace
from pyflare_storage.filters import Filters
from pyflare_storage.source import Source, open_source
from pyflare_storage.where import parse_where
from tests.span_rows import ANSWERED, EMBEDDED, SAMPLED, START_NS, TRACE_A, write_spans

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")

FILTERS = {
    "all": Filters(),
    "since": Filters(since_ns=START_NS + 1),
    "model": Filters(model=("gpt-4o", "claude-sonnet-4-5")),
    "where": Filters(where=parse_where("status_code = 'error' or attributes['app.tier'] = 'free'")),
    "nothing": Filters(user=("nobody",)),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Source, Source]]:
    """The same spans twice: a Parquet file, and what `load` makes of it."""
    from pyflare_storage.load import load

    folder = tmp_path_factory.mktemp("parity")
    parquet = write_spans(folder / "spans.parquet", [*ANSWERED, *EMBEDDED, *SAMPLED])
    target = f"chdb://{folder / 'engine'}"
    load(str(parquet), target)
    with open_source(str(parquet)) as first, open_source(target) as second:
        yield first, second


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize(
    "by",
    [["model"], ["model", "day"], ["user", "service"], ["hour"], ["attributes.app.tier"]],
    ids=str,
)
@pytest.mark.parametrize("weighted", [True, False])
def test_cost_summaries(
    sources: tuple[Source, Source], by: list[str], filters: str, *, weighted: bool
) -> None:
    """Rows, order, nulls and totals are equal."""
    first, second = (
        summarize(source, by=by, filters=FILTERS[filters], weighted=weighted).to_dict()
        for source in sources
    )

    assert first == second


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("order", ["start", "duration", "cost", "tokens", "errors", "spans"])
def test_lists_of_traces(sources: tuple[Source, Source], order: TraceOrder, filters: str) -> None:
    """Traces, order and figures are equal, with a limit and without."""
    for limit in (None, 2):
        first, second = (
            list_traces(source, filters=FILTERS[filters], order=order, limit=limit)
            for source in sources
        )
        assert first == second


def test_single_traces(sources: tuple[Source, Source]) -> None:
    """Every field of every span is equal, types included."""
    first, second = (show_trace(source, TRACE_A).to_dict() for source in sources)

    assert repr(first) == repr(second)


def test_the_two_are_different_engines(sources: tuple[Source, Source]) -> None:
    """The comparison is between a file and an engine, not of one with itself."""
    assert sources[0].url.endswith(".parquet")
    assert sources[1].url.startswith("chdb://")
