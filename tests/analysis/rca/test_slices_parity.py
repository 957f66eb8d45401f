"""Slices and attribution of spans are the same on Parquet and on the embedded engine."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pyflare_analysis.rca.attribution.sources import attribute_spans
from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer, SliceAnalyzerConfig
from pyflare_collector.importer import import_files
from pyflare_collector.workload import TrafficConfig, encode, make_traffic, write_file
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from pyflare_storage.source import Source, open_source

pytestmark = pytest.mark.service
pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Source, Source]]:
    """The same traffic with a slice that fails: a data directory, and what `load` makes of it."""
    from pyflare_storage.load import load

    folder: Path = tmp_path_factory.mktemp("parity")
    traffic = make_traffic(TrafficConfig(6000, 3, faults=("slice-error-2", "night-pattern")))
    write_file(encode(traffic), folder / "spans.binpb")
    data = DataDirectory(folder / "data")
    import_files([str(folder / "spans.binpb")], data, PriceBook.load())
    target = f"chdb://{folder / 'engine'}"
    load(str(data.path), target)
    with open_source(data.path) as first, open_source(target) as second:
        yield first, second


def rounded(value: object) -> object:
    """Return an answer with numbers to nine digits: rows are added up in another order."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return float(f"{value:.9g}") if isinstance(value, float) else value


@pytest.mark.parametrize("metric", ["error_rate", "latency_p95", "cost", "answer_quality"])
def test_slices(sources: tuple[Source, Source], metric: str) -> None:
    """Every slice, figure and count is equal, to nine digits."""
    first, second = (
        SliceAnalyzer(source, SliceAnalyzerConfig(depth=2)).analyze(metric).to_dict()
        for source in sources
    )

    assert rounded(first) == rounded(second)
    assert first["sample_count"]


def test_attribution(sources: tuple[Source, Source]) -> None:
    """The change and its causes are equal."""
    from pyflare_storage.aggregates import Max, Min

    ends = sources[0].aggregate({"a": Min("start_time"), "b": Max("start_time")}).row(0)
    begin, end = (int(x.timestamp() * 1e9) for x in ends)
    middle = (begin + end) // 2
    first, second = (
        attribute_spans(source, "error_rate", before=(begin, middle), after=(middle, end)).to_dict()
        for source in sources
    )

    assert rounded(first) == rounded(second)
