"""Failure clusters beside Drain3, in one process: who finds the true groups, at what cost.

    python benchmarks/rca_clusters.py --logs DIR            # the tables, into results/
    python benchmarks/rca_clusters.py --logs DIR --rows 5000000   # memory over many failures

`DIR` holds loghub's `*_structured.csv` (Zhu et al., ISSRE 2023): columns `Content`, `EventId`.
Drain3 pins old versions of its dependencies, so it gets an environment of its own
(`--peer-venv`, made when absent), and this script starts again inside it with PyFlare on
PYTHONPATH. Both are given the same messages; the masks are the same for all systems, and
nothing is tuned to any of them.

GA (grouping accuracy) is the share of messages whose group is exactly their true group, FGA
the F1 score over groups (Jiang et al., ISSTA 2024).
"""

import argparse
import os
import platform
import random
import resource
import subprocess
import sys
import tempfile
import time
import venv
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "rca_clusters.md"
PEER = ("drain3==0.9.11", "polars", "pyarrow", "numpy", "scipy", "numba")
MESSAGES = 100_000
ORDERS = 20

Groups = Sequence[object]


def accuracy(truth: Groups, found: Groups) -> tuple[float, float]:
    """Return GA and FGA."""
    true_sizes, found_sizes = Counter(truth), Counter(found)
    pairs = Counter(zip(truth, found, strict=True))
    exact = [n for (t, f), n in pairs.items() if true_sizes[t] == n and found_sizes[f] == n]
    precision, recall = len(exact) / len(found_sizes), len(exact) / len(true_sizes)
    fga = 2 * precision * recall / (precision + recall) if exact else 0.0
    return sum(exact) / len(truth), fga


def drain3(messages: Sequence[str]) -> Groups:
    """Return Drain3's groups at its default settings."""
    from drain3.drain import Drain

    miner = Drain()
    return [miner.add_log_message(message)[0].cluster_id for message in messages]


def masked(messages: Sequence[str]) -> list[str]:
    """Return the messages with PyFlare's masks."""
    import polars as pl

    from pyflare_analysis.rca.clusters.masks import mask

    return mask(pl.Series(messages)).to_list()


def templates(messages: Sequence[str]) -> Groups:
    """Return PyFlare's templates: masks, distinct forms, templates."""
    import polars as pl

    from pyflare_analysis.rca.clusters.masks import mask
    from pyflare_analysis.rca.clusters.templates import find_templates

    forms = mask(pl.Series("form", messages))
    counted = forms.value_counts(name="count")
    distinct = counted["form"].to_list()
    found = find_templates(distinct, counted["count"].to_list())
    return forms.replace_strict(distinct, found).to_list()


def clusters(messages: Sequence[str]) -> Groups:
    """Return PyFlare's clusters: the whole answer, with times, growth and members."""
    from pyflare_analysis.rca.clusters.clusterer import FailureClusterer, FailureClustererConfig
    from pyflare_analysis.rca.clusters.failure_rows import FailureRecord

    records = [
        FailureRecord(id=str(i), error_message=text, trace_id=str(i // 2), time_ns=i)
        for i, text in enumerate(messages)
    ]
    config = FailureClustererConfig(max_members=None)
    answer = FailureClusterer(config).cluster_failures(records)
    of = {member: cluster.id for cluster in answer for member in cluster.member_ids}
    return [of[str(i)] for i in range(len(messages))]


def answer(messages: Sequence[str]) -> Groups:
    """Make the whole answer as `pyflare rca clusters` does, from messages in memory."""
    import polars as pl

    from pyflare_analysis.rca.clusters.clusterer import FailureClusterer, FailureClustererConfig
    from pyflare_analysis.rca.clusters.failure_rows import SCHEMA, RecordRows

    number = pl.int_range(len(messages), eager=True)
    rows = RecordRows(())
    rows._frame = pl.DataFrame(  # noqa: SLF001 - as a batch of spans comes: in columns
        {
            "id": number.cast(pl.String),
            "trace_id": (number // 2).cast(pl.String),
            "time_ns": number,
            "weight": pl.repeat(1.0, len(messages), eager=True),
            "error_type": pl.repeat("", len(messages), eager=True),
            "text": messages,
            "frames": pl.repeat("", len(messages), eager=True),
        },
        schema=SCHEMA,
    )
    config = FailureClustererConfig(max_members=1_000)
    return [cluster.id for cluster in FailureClusterer(config).cluster_rows(rows).clusters]


def cpu(
    function: Callable[[Sequence[str]], Groups], messages: Sequence[str]
) -> tuple[float, Groups]:
    """Return the least CPU seconds of three runs, all threads, and the groups."""
    best, groups = float("inf"), []
    for _ in range(3):
        started = time.process_time()
        groups = function(messages)
        best = min(best, time.process_time() - started)
    return best, groups


def logs_table(folder: Path) -> list[str]:
    """Return the table of the systems of loghub."""
    import polars as pl

    ways: dict[str, Callable[[Sequence[str]], Groups]] = {
        "Drain3, raw": drain3,
        "Drain3, masked": lambda messages: drain3(masked(messages)),
        "masks only": masked,
        "PyFlare": clusters,
    }
    sums = dict.fromkeys(ways, (0.0, 0.0))
    lines = [
        f"| system | templates | {' | '.join(ways)} |",
        "|---|---:|" + "---:|" * len(ways),
    ]
    files = sorted(folder.glob("*_structured.csv"))
    for file in files:
        frame = pl.read_csv(file, infer_schema=False).with_columns(pl.col("Content").fill_null(""))
        messages, truth = frame["Content"].to_list(), frame["EventId"].to_list()
        cells = []
        for name, way in ways.items():
            ga, fga = accuracy(truth, way(messages))
            sums[name] = (sums[name][0] + ga, sums[name][1] + fga)
            cells.append(f"{ga:.3f} / {fga:.3f}")
        system = file.name.partition("_")[0]
        lines.append(f"| {system} | {len(set(truth))} | {' | '.join(cells)} |")
    means = [f"**{ga / len(files):.3f}** / {fga / len(files):.3f}" for ga, fga in sums.values()]
    return [*lines, f"| mean | | {' | '.join(means)} |"]


def messages_table(seeds: Sequence[int]) -> list[str]:
    """Return the table of the messages of LLM applications."""
    from rca_messages import TEMPLATES, messages

    texts, truth = messages(MESSAGES, seeds[0])
    ways: dict[str, Callable[[Sequence[str]], Groups]] = {
        "Drain3, raw": drain3,
        "Drain3, masked": lambda given: drain3(masked(given)),
        "PyFlare, templates": templates,
        "PyFlare, the whole answer": clusters,
    }
    clusters(texts[:1000])  # imports are no part of the work
    head = (
        f"{len(TEMPLATES)} templates, {MESSAGES:,} messages, {len(set(texts)):,} distinct, "
        f"{len(set(masked(texts))):,} after the masks; seed {seeds[0]}."
    )
    lines = [
        head,
        "",
        "| | CPU s | of Drain3 | clusters | GA | FGA |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    base = 0.0
    for name, way in ways.items():
        seconds, found = cpu(answer if way is clusters else way, texts)
        base = base or seconds
        found = clusters(texts) if way is clusters else found
        ga, fga = accuracy(truth, found)
        lines.append(
            f"| {name} | {seconds:.2f} | {seconds / base:.2f} | {len(set(found))} "
            f"| {ga:.3f} | {fga:.3f} |"
        )
    lines += ["", "| messages | seed | Drain3, raw: GA | PyFlare: GA | clusters |"]
    lines += ["|---:|---:|---:|---:|---:|"]
    for count in (300, 1000, 10_000):
        for seed in seeds:
            texts, truth = messages(count, seed)
            found = clusters(texts)
            peer = accuracy(truth, drain3(texts))[0]
            lines.append(
                f"| {count:,} | {seed} | {peer:.3f} | {accuracy(truth, found)[0]:.3f} "
                f"| {len(set(found))} of {len(set(truth))} |"
            )
    return lines


def orders_line(folder: Path) -> str:
    """Return what shuffling the lines of every system changes."""
    import polars as pl

    changed = 0
    drained = 0
    for file in sorted(folder.glob("*_structured.csv")):
        messages = pl.read_csv(file, infer_schema=False)["Content"].fill_null("").to_list()
        reference = dict(zip(messages, clusters(messages), strict=True))
        groups = _partition(messages, drain3(messages))
        for seed in range(ORDERS):
            shuffled = random.Random(seed).sample(messages, len(messages))
            changed += dict(zip(shuffled, clusters(shuffled), strict=True)) != reference
            drained += _partition(shuffled, drain3(shuffled)) != groups
    total = ORDERS * len(list(folder.glob("*_structured.csv")))
    return (
        f"Order: of {total} shuffles of the lines {changed} change any message's cluster id; "
        f"{drained} change Drain3's groups."
    )


def _partition(messages: Sequence[str], groups: Groups) -> set[frozenset[str]]:
    members: dict[object, set[str]] = {}
    for message, group in zip(messages, groups, strict=True):
        members.setdefault(group, set()).add(message)
    return {frozenset(found) for found in members.values()}


def memory_line(rows: int) -> str:
    """Cluster `rows` failed spans of Parquet files; return CPU time and the growth of memory."""
    import polars as pl
    from rca_messages import messages

    from pyflare_analysis.rca.clusters.clusterer import FailureClustererConfig, cluster_spans
    from pyflare_storage.source import open_source

    part = 250_000
    with tempfile.TemporaryDirectory() as folder:
        for number in range(-(-rows // part)):
            texts, _ = messages(part, number)
            index = pl.int_range(number * part, number * part + part, eager=True)
            pl.DataFrame(
                {
                    "trace_id": (index // 2).cast(pl.String).str.zfill(32),
                    "span_id": index.cast(pl.String).str.zfill(16),
                    "start_time": (index * 1_000_000).cast(pl.Datetime("ns", "UTC")),
                    "status_code": pl.repeat("error", part, eager=True),
                    "error_message": texts,
                }
            ).write_parquet(Path(folder) / f"{number:05d}.parquet", row_group_size=32_768)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        with open_source(folder) as source:
            answer = cluster_spans(source, config=FailureClustererConfig(max_members=1_000))
        seconds = time.process_time() - started
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return (
        f"{rows:,} failed spans: {len(answer.clusters)} clusters of {answer.distinct_forms:,} "
        f"distinct forms, {seconds:.0f} CPU s ({rows / seconds:,.0f} a CPU second), "
        f"peak {peak / 1024:,.0f} MB, of which {(peak - before) / 1024:,.0f} MB for the answer."
    )


def inside_peer_environment(path: Path) -> None:
    """Start again in an environment that has Drain3, unless this one has it."""
    try:
        import drain3  # noqa: F401 - only whether it is there
    except ImportError:
        python = path / "bin" / "python"
        if not python.exists():
            venv.create(path, with_pip=True)
            subprocess.run([python, "-m", "pip", "install", "-q", *PEER], check=True)
        parts = [ROOT / name for name in ("analysis", "storage", "proto")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, parts))}
        os.execve(python, [str(python), *sys.argv], environment)  # noqa: S606 - this very script


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logs", type=Path, required=True, metavar="DIR")
    parser.add_argument("--rows", type=int, metavar="N", help="only the memory of N failures")
    parser.add_argument(
        "--peer-venv", type=Path, default=Path(tempfile.gettempdir()) / "pyflare-drain3"
    )
    parser.add_argument(
        "--memory-rows", type=int, nargs="*", default=[1_000_000, 5_000_000], metavar="N"
    )
    options = parser.parse_args()
    if options.rows:
        print(memory_line(options.rows))
        return
    inside_peer_environment(options.peer_venv)
    memory = []
    for rows in options.memory_rows:
        command = [sys.executable, *sys.argv, "--rows", str(rows)]
        line = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        memory.append(f"- {line.strip()}")
    head = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {platform.machine()}, Python "
        f"{platform.python_version()}; `python benchmarks/rca_clusters.py --logs DIR`. Read "
        "the ratios: the machine is shared."
    )
    text = "\n".join(
        [
            "# Failure clusters",
            "",
            head,
            "",
            "Grouping accuracy / F1 of groups on 2,000 lines of each system:",
            "",
            *logs_table(options.logs),
            "",
            *messages_table((11, 1, 2)),
            "",
            orders_line(options.logs),
            "",
            "Memory, a process each (5 million failures are 5 % of 100 million spans):",
            "",
            *memory,
            "",
        ]
    )
    RESULTS.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
