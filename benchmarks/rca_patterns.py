"""Patterns in traffic with planted faults: what is found, and what is found that is not there.

    python benchmarks/rca_patterns.py [--seeds 50] [--spans 60000] [-o results/rca_patterns.md]

For each seed a week of traffic without a fault and one with each fault. The traffic comes from
`pyflare_collector.workload`; its arrays are written as a Parquet file with the columns that the
search reads (`--through-import 2` sends the first seeds through OTLP and `pyflare import` as
well, and compares the answers). A planted fault is found when a pattern has its type, its slice
and its time; every other pattern is a false alarm.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pyflare_analysis.rca.patterns.detector import Pattern, PatternDetector
from pyflare_analysis.statistics import wilson_interval
from pyflare_collector.workload import Traffic, TrafficConfig, encode, make_traffic, write_file
from pyflare_collector.workload import catalogue as cat
from pyflare_proto.record import CALL_TYPES, SPAN_TYPES
from pyflare_storage.source import open_source

HOURS = 168.0
TYPES = {
    "error-spike": "error_spike",
    "latency-creep": "latency_degradation",
    "quality-drop": "quality_drop",
    "cost-jump": "cost_anomaly",
    "night-pattern": "temporal_pattern",
    "bad-user-segment": "user_segment_issue",
    "input-drift": "drift_correlation",
    "runaway-agent": "cost_anomaly",
}
"""Faults by name, and the type that they must be found as."""


def span_table(traffic: Traffic) -> pl.DataFrame:
    """Return the columns of the span record that the search reads, as `pyflare import` fills them.

    A call that failed knows only the model that was asked for, and has neither tokens nor cost.
    """
    n = len(traffic)
    kinds = np.array(SPAN_TYPES)[traffic.type]
    call = np.isin(kinds, CALL_TYPES)
    failed = traffic.error >= 0
    model = np.maximum(traffic.model, 0)
    asked = np.array([m.request for m in cat.MODELS])[model]
    answered = np.array([m.response for m in cat.MODELS])[model]
    feature = np.array([f.name for f in cat.FEATURES])[traffic.feature]
    status = np.where(call, np.where(failed, "no_usage", "priced"), "not_billable")
    scored = ~np.isnan(traffic.score)
    events = [
        '[{"time_unix_nano":0,"name":"gen_ai.evaluation.result","attributes":'
        '{"gen_ai.evaluation.name":"answer_quality","gen_ai.evaluation.score.value":'
        f"{score!r}}}}}]"
        for score in traffic.score[scored].tolist()
    ]
    told = np.full(n, None, dtype=object)
    told[scored] = events
    used = call & ~failed
    service = np.array([f.service for f in cat.FEATURES])[traffic.feature]
    team = np.array([f.team for f in cat.FEATURES])[traffic.feature]

    def text(values: np.ndarray, where: np.ndarray | None = None) -> pl.Series:
        series = pl.Series(values, dtype=pl.String)
        return series if where is None else series.set(~pl.Series(where), None)

    def number(values: np.ndarray) -> pl.Series:
        return pl.Series(values.astype(np.int64)).set(~pl.Series(used), None)

    when = pl.Datetime("ns", "UTC")
    return pl.DataFrame(
        {
            "trace_id": pl.Series(traffic.trace).cast(pl.String).str.zfill(32),
            "span_id": pl.int_range(n, eager=True).cast(pl.String).str.zfill(16),
            "start_time": pl.Series(traffic.start_ns).cast(when),
            "end_time": pl.Series(traffic.end_ns).cast(when),
            "duration_ms": (traffic.end_ns - traffic.start_ns) / 1e6,
            "status_code": text(np.where(failed, "error", "unset")),
            "span_type": text(kinds),
            "service_name": text(np.array(cat.SERVICES)[service]),
            "service_version": pl.repeat("2.4.1", n, eager=True),
            "environment": text(np.array(cat.ENVIRONMENTS)[traffic.environment]),
            "provider": text(np.array([m.provider for m in cat.MODELS])[model], call),
            "model": text(np.where(failed, asked, answered), call),
            "model_request": text(asked, call),
            "model_response": text(answered, used),
            "input_tokens": number(traffic.input_tokens),
            "output_tokens": number(traffic.output_tokens),
            "cost_nano_usd": number(traffic.cost_nano_usd()),
            "cost_status": text(status),
            "user_id": text(np.array([f"user-{u:03d}" for u in range(400)])[traffic.user]),
            "team": text(np.array(cat.TEAMS)[team]),
            "feature": text(feature),
            "prompt_template": text(np.char.add(feature, "-prompt"), call),
            "prompt_version": text(
                np.array([f"v{v}" for v in range(4)])[traffic.prompt_version], call
            ),
            "events": pl.Series(told.tolist(), dtype=pl.String),
            "attributes": text(
                np.array(
                    [
                        json.dumps({cat.SEGMENT_KEY: cat.segment_name(s)})
                        for s in range(cat.USER_SEGMENTS)
                    ]
                )[traffic.user % cat.USER_SEGMENTS]
            ),
        }
    )


def found(pattern: Pattern, truth: dict[str, Any]) -> bool:
    """Return whether a pattern tells the planted fault: type, slice and time.

    Times must overlap by half of both together, hours of the day by three quarters of both
    together. What lasts all the time has no time to compare.
    """
    if str(pattern.type) != TYPES[truth["fault"]]:
        return False
    return _same_place(pattern, truth)


def follows(pattern: Pattern, truth: dict[str, Any]) -> bool:
    """Return whether a pattern is what the fault itself made besides: at the same place.

    Inputs of three times the length cost more, and the fault lets their calls fail.
    """
    more = {"input-drift": {"error_spike", "cost_anomaly"}}.get(truth["fault"], set())
    return str(pattern.type) in more and _same_place(pattern, truth)


def _same_place(pattern: Pattern, truth: dict[str, Any]) -> bool:
    where = dict(pattern.affected)
    if truth["fault"] == "night-pattern":
        return set(where) == {"time_of_day"} and _alike(set(where["time_of_day"]), {1, 2, 3, 4})
    if truth["fault"] == "bad-user-segment":
        return where == truth["slice"]
    if where != truth["slice"]:
        return False
    low, high = truth["start_time_unix_nano"], truth["end_time_unix_nano"]
    inside = min(high, pattern.end_ns) - max(low, pattern.start_ns)
    return inside >= 0.5 * (max(high, pattern.end_ns) - min(low, pattern.start_ns))


def _alike(first: set[Any], second: set[Any]) -> bool:
    return len(first & second) >= 0.75 * len(first | second)


def search(path: Path) -> list[Pattern]:
    """Return the patterns of a source."""
    with open_source(path) as source:
        return PatternDetector(source).detect_patterns()


def through_import(traffic: Traffic, folder: Path) -> list[Pattern]:
    """Return the patterns of the same traffic, sent as OTLP through `pyflare import`."""
    file = folder / "traffic.binpb"
    write_file(encode(traffic), file)
    command = [sys.executable, "-m", "pyflare_cli", "import", str(file), "--data"]
    subprocess.run([*command, str(folder / "data")], check=True, capture_output=True)
    return search(folder / "data")


def same(first: list[Pattern], second: list[Pattern]) -> bool:
    """Return whether two answers tell the same patterns."""

    def told(patterns: list[Pattern]) -> list[tuple[object, ...]]:
        return sorted(
            (str(p.type), p.start_ns, p.end_ns, p.metric, json.dumps(dict(p.affected)))
            for p in patterns
        )

    return told(first) == told(second)


class Tally:
    """What was found over all seeds."""

    def __init__(self) -> None:
        self.recall: dict[str, list[bool]] = defaultdict(list)
        self.false: dict[str, list[int]] = defaultdict(list)
        self.same: list[bool] = []
        self.lines: list[str] = []

    def add(self, fault: str, seed: int, patterns: list[Pattern], hits: list[bool]) -> None:
        """Count the patterns of one week."""
        self.recall[fault].append(any(hits))
        # A fault told twice is one hit and one false alarm.
        false = len(patterns) - min(1, sum(hits))
        self.false[fault].append(false)
        if false or (fault != "none" and not any(hits)):
            for pattern, hit in zip(patterns, hits, strict=True):
                self.lines.append(
                    f"seed {seed} {fault}: {'HIT' if hit else 'false'} {pattern.type} "
                    f"{pattern.metric} {json.dumps(dict(pattern.affected))[:80]} "
                    f"{pattern.baseline:.4g} -> {pattern.observed:.4g}"
                )
            if fault != "none" and not any(hits):
                self.lines.append(f"seed {seed} {fault}: MISSED")

    def table(self) -> list[str]:
        """Return the table in Markdown."""
        lines = [
            (
                "| planted | found as | weeks | found | recall | 95 % interval | false alarms a "
                "week | weeks without one |"
            ),
            "|---|---|---|---|---|---|---|---|",
        ]
        for fault, false in self.false.items():
            weeks, hits = len(false), sum(self.recall[fault])
            low, high = (float(x) for x in wilson_interval(hits, weeks))
            rate = f"{hits / weeks:.3f} | {low:.3f}-{high:.3f}" if fault != "none" else "- | -"
            lines.append(
                f"| {fault} | {TYPES.get(fault, '-')} | {weeks} | "
                f"{hits if fault != 'none' else '-'} | {rate} | {np.mean(false):.3f} | "
                f"{np.mean(np.array(false) == 0):.1%} |"
            )
        planted = [hit for fault, hits in self.recall.items() if fault != "none" for hit in hits]
        if planted:
            low, high = (float(x) for x in wilson_interval(sum(planted), len(planted)))
            every = [n for counts in self.false.values() for n in counts]
            lines.append(
                f"| all faults | | {len(planted)} | {sum(planted)} | {np.mean(planted):.3f} | "
                f"{low:.3f}-{high:.3f} | {np.mean(every):.3f} | "
                f"{np.mean(np.array(every) == 0):.1%} |"
            )
        return lines


def main() -> None:
    """Run the simulation and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--spans", type=int, default=60_000, help="spans a week")
    parser.add_argument("--fault", action="append", help="only these; none is the quiet week")
    parser.add_argument("--through-import", type=int, default=0, metavar="N")
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="seeds at once")
    given = parser.parse_args()
    tally = Tally()
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for seed, weeks in zip(seeds, pool.map(partial(_weeks, given), seeds), strict=True):
            print(f"seed {seed}", file=sys.stderr, flush=True)
            for fault, patterns, hits, alike in weeks:
                tally.add(fault, seed, patterns, hits)
                tally.same += alike
            # After each seed, so that a run that is cut off leaves what it measured.
            _write(tally, given)
    _write(tally, given)  # the CPU time of the processes is known when they have ended
    print("\n".join(tally.lines), file=sys.stderr)
    print("\n".join(_report(tally, given)))


Week = tuple[str, list[Pattern], list[bool], list[bool]]
"""A fault, what was found that does not follow from it, which of it tells it, and whether the
same was found through `pyflare import`, where that was asked."""


def _weeks(given: argparse.Namespace, seed: int) -> list[Week]:
    """Return the weeks of one seed, one for each fault."""
    weeks: list[Week] = []
    with tempfile.TemporaryDirectory() as text:
        path = Path(text) / "spans.parquet"
        for fault in given.fault or ["none", *TYPES]:
            planted = () if fault == "none" else (fault,)
            traffic = make_traffic(
                TrafficConfig(given.spans, seed=seed, hours=HOURS, faults=planted)
            )
            span_table(traffic).write_parquet(path)
            everything = search(path)
            patterns = [
                pattern
                for pattern in everything
                if not any(follows(pattern, truth) for truth in traffic.planted)
            ]
            hits = [any(found(pattern, truth) for truth in traffic.planted) for pattern in patterns]
            alike = []
            if seed < given.first_seed + given.through_import:
                with tempfile.TemporaryDirectory() as other:
                    alike.append(same(everything, through_import(traffic, Path(other))))
            weeks.append((fault, patterns, hits, alike))
    return weeks


def _write(tally: Tally, given: argparse.Namespace) -> None:
    if given.output:
        given.output.write_text("\n".join(_report(tally, given)) + "\n")


def _report(tally: Tally, given: argparse.Namespace) -> list[str]:
    own, pool = resource.getrusage(resource.RUSAGE_SELF), resource.RUSAGE_CHILDREN
    cpu = sum(own[:2]) + sum(resource.getrusage(pool)[:2])
    weeks = sum(len(counts) for counts in tally.false.values())
    lines = [
        "# Patterns in traffic with planted faults",
        "",
        (
            f"Written by `python benchmarks/rca_patterns.py --seeds {given.seeds} --spans "
            f"{given.spans} --through-import {given.through_import}` on "
            f"{time.strftime('%Y-%m-%d')}, {os.cpu_count()} cores, {cpu:.0f} CPU seconds for "
            f"{weeks} weeks of {len(next(iter(tally.false.values())))} seeds, making the traffic "
            "included."
        ),
        "",
        (
            f"Each week has {given.spans:,} spans. Found: a pattern of the type, the exact slice "
            "and the time (overlap at least half of both together; hours three quarters). "
            "Everything else that is reported is a false alarm, also a second telling of the fault."
        ),
        "",
        *tally.table(),
    ]
    if tally.same:
        lines += [
            "",
            (
                f"The same traffic as OTLP through `pyflare import`: the same patterns in "
                f"{sum(tally.same)} of {len(tally.same)} weeks."
            ),
        ]
    return lines


if __name__ == "__main__":
    main()
