"""Planted faults over many seeds: are exactly the planted slices listed, and none on noise?

    python benchmarks/rca_planted.py [--seeds 50] [--spans 20000] [-o results/rca_planted.md]

Slices: `rca slices --depth 3` on traffic with a fault that fails 25 to 40 % of the calls of a
slice (1.5 % elsewhere) must list the planted slice or slices and no other; on traffic without a
fault, none. Attribution: `rca attribution` of the time from the beginning of a fault on, against
the time before, must name the planted slice first; on traffic without a fault, name none.

The arrays of the workload are written as Parquet with the columns of the record; the first
seeds (`--through-import 2`) go through OTLP and `pyflare import` too, and must give the same.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from rca_patterns import span_table

from pyflare_analysis.rca.attribution.sources import attribute_spans
from pyflare_analysis.rca.slices.analyzer import SliceAnalyzer, SliceAnalyzerConfig
from pyflare_analysis.statistics import wilson_interval
from pyflare_collector.importer import import_files
from pyflare_collector.workload import Traffic, TrafficConfig, encode, make_traffic, write_file
from pyflare_proto.errors import NotEnoughDataError
from pyflare_storage.dataset import DataDirectory
from pyflare_storage.prices import PriceBook
from pyflare_storage.source import Source, open_source

SLICE_FAULTS: dict[str, tuple[str, ...]] = {
    "no fault": (),
    "one dimension, 30 %": ("slice-error",),
    "two dimensions, 30 %": ("slice-error-2",),
    "three dimensions, 30 %": ("slice-error-3",),
    "these three at once": ("slice-error", "slice-error-2", "slice-error-3"),
    "night-pattern, 25 %": ("night-pattern",),
    "bad-user-segment, 40 %": ("bad-user-segment",),
}
CHANGE_FAULTS: dict[str, tuple[tuple[str, ...], str]] = {
    "no fault, error_rate": ((), "error_rate"),
    "no fault, cost": ((), "cost"),
    "no fault, latency_p95": ((), "latency_p95"),
    "no fault, duration_ms": ((), "duration_ms"),
    "no fault, answer_quality": ((), "answer_quality"),
    "error-spike, 50 %": (("error-spike",), "error_rate"),
    "latency-creep, up to 2.5 times": (("latency-creep",), "duration_ms"),
    "quality-drop, by 0.3": (("quality-drop",), "answer_quality"),
    "cost-jump, 3 times the answer": (("cost-jump",), "cost"),
}

SCRATCH = tempfile.TemporaryDirectory(prefix="rca-planted-")
Slices = frozenset[tuple[tuple[str, object], ...]]


def main() -> None:
    """Run both parts and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=1000)
    parser.add_argument("--spans", type=int, default=20_000)
    parser.add_argument("--through-import", type=int, default=2, metavar="SEEDS")
    parser.add_argument("--part", choices=["slices", "attribution"], help="one of the tables only")
    parser.add_argument("--only", default="", metavar="TEXT", help="rows whose name holds this")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    runs = f"{options.spans:,} spans a run, {options.seeds} seeds from {options.first_seed} on"
    lines = [f"{runs}; {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores.", ""]
    begun = time.process_time()
    if options.part != "attribution":
        lines += _table(
            "Slices: exactly the planted ones (`rca slices --depth 3`)",
            (
                (name, _slices_run(faults, options))
                for name, faults in SLICE_FAULTS.items()
                if options.only in name
            ),
        )
    if options.part != "slices":
        lines += _table(
            "Attribution: the planted slice first (`rca attribution`)",
            (
                (name, _change_run(*fault, options))
                for name, fault in CHANGE_FAULTS.items()
                if options.only in name
            ),
        )
    lines.append(f"{time.process_time() - begun:,.0f} CPU seconds.")
    print("\n".join(lines))
    if options.output is not None:
        options.output.write_text("# Planted slices\n\n" + "\n".join(lines) + "\n")


def _table(title: str, rows: Iterable[tuple[str, list[str]]]) -> list[str]:
    lines = [f"## {title}", "", "| planted | right | of | 95 % interval | what went wrong |"]
    lines.append("|---|--:|--:|---|---|")
    for name, wrong in rows:
        n, bad = len(wrong), [text for text in wrong if text]
        low, high = (float(x) for x in wilson_interval(n - len(bad), n))
        shown = "; ".join(bad[:3])
        interval = f"{100 * low:.0f}-{100 * high:.0f} %"
        lines.append(f"| {name} | {n - len(bad)} | {n} | {interval} | {shown} |")
        print(lines[-1], flush=True)
    return [*lines, ""]


def _slices_run(faults: Sequence[str], options: argparse.Namespace) -> list[str]:
    """Return for each seed what went wrong, empty where nothing did."""
    wrong = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        traffic = make_traffic(TrafficConfig(options.spans, seed, faults=faults))
        planted = frozenset(_key(fault["slice"]) for fault in traffic.planted)
        also = seed < options.first_seed + options.through_import
        for source in _sources(traffic, through_import=also):
            listed = _listed(source)
            text = "" if listed == planted else f"{seed}: listed {_text(listed)}"
            if text:
                break
        wrong.append(text)
    return wrong


def _listed(source: Source) -> Slices:
    analyzer = SliceAnalyzer(source, SliceAnalyzerConfig(depth=3))
    try:
        results = analyzer.analyze_slices()
    except NotEnoughDataError:
        return frozenset()
    return frozenset(_key(result.definition) for result in results)


def _change_run(faults: Sequence[str], metric: str, options: argparse.Namespace) -> list[str]:
    wrong = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        traffic = make_traffic(TrafficConfig(options.spans, seed, faults=faults))
        begin, end = int(traffic.start_ns.min()), int(traffic.start_ns.max()) + 1
        truth = traffic.planted[0] if traffic.planted else {}
        at = truth.get("start_time_unix_nano") or (begin + end) // 2
        until = truth.get("end_time_unix_nano") or end
        expected = _key(truth["slice"]) if truth else None
        also = seed < options.first_seed + options.through_import
        for source in _sources(traffic, through_import=also):
            answer = attribute_spans(source, metric, before=(begin, at), after=(at, until))
            first = _key(answer.causes[0].definition) if answer.causes else None
            text = "" if first == expected else f"{seed}: {first}"
            if text:
                break
        wrong.append(text)
    return wrong


def _sources(traffic: Traffic, *, through_import: bool) -> list[Source]:
    """Return the spans as a table, and as they are imported."""
    folder = Path(tempfile.mkdtemp(dir=SCRATCH.name))
    span_table(traffic).write_parquet(folder / "spans.parquet")
    sources = [open_source(folder / "spans.parquet")]
    if through_import:
        write_file(encode(traffic), folder / "spans.binpb")
        data = DataDirectory(folder / "data")
        import_files([str(folder / "spans.binpb")], data, PriceBook.load())
        sources.append(open_source(data.path))
    return sources


def _key(definition: Mapping[str, object]) -> tuple[tuple[str, object], ...]:
    return tuple(sorted(definition.items()))


def _text(slices: Slices) -> str:
    texts = (" ".join(f"{name}={value}" for name, value in key) for key in sorted(slices))
    return ", ".join(texts) or "none"


if __name__ == "__main__":
    main()
