"""Failure clusters: one group a failure, the same whatever the order, with what is known of it."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from benchmarks.rca_messages import messages
from pyflare_analysis.rca.clusters.clusterer import (
    FailureCluster,
    FailureClusterer,
    FailureClustererConfig,
    FailureRecord,
    cluster_spans,
    cluster_table,
)
from pyflare_analysis.rca.clusters.failure_rows import RecordRows
from pyflare_analysis.rca.clusters.growth import Trend
from pyflare_proto.errors import NotEnoughDataError, SchemaError
from pyflare_storage.filters import Filters
from pyflare_storage.source import open_source
from tests.shared_data import shared_path
from tests.span_rows import START_NS, span, write_spans

SECOND = 1_000_000_000
STACK = 'File "/srv/app/{file}.py", line {line}, in {function}\n'


def record(number: int, text: str, **fields: object) -> FailureRecord:
    """Return a failure called by its number."""
    return FailureRecord(id=str(number), error_message=text, **fields)  # type: ignore[arg-type]  # tests give the right ones


def groups(clusters: Sequence[FailureCluster]) -> dict[str, frozenset[str]]:
    """Return the members of each cluster by its id."""
    return {cluster.id: frozenset(cluster.member_ids) for cluster in clusters}


def test_one_cluster_for_each_failure_with_its_figures() -> None:
    """Two kinds of failure: their sizes, shares, times, traces and words."""
    records = [
        record(
            n,
            f"Rate limit of org-{n}a reached, retry in {n}s",
            error_type="RateLimitError",
            trace_id=f"t{n // 2}",
            time_ns=START_NS + n * SECOND,
        )
        for n in range(8)
    ] + [record(9, "no answer", error_type="ValueError", trace_id="t0", time_ns=START_NS)]

    first, second = FailureClusterer().cluster_failures(records)

    assert (first.error_type, first.size, first.stored_size) == ("RateLimitError", 8, 8)
    assert first.template == "Rate limit of <*> reached, retry in <*>"
    assert first.name == "RateLimitError: Rate limit of <*> reached, retry in <*>"
    assert first.common_keywords == ("rate", "limit", "reached", "retry")
    assert first.representative_error == "Rate limit of org-0a reached, retry in 0s"
    assert first.member_ids[:3] == ("7", "6", "5")
    assert first.affected_traces == ("t3", "t2", "t1", "t0")
    assert (first.affected_trace_count, second.affected_trace_count) == (4, 1)
    assert first.share == pytest.approx(8 / 9)
    assert (first.first_seen_ns, first.last_seen_ns) == (START_NS, START_NS + 7 * SECOND)
    # All four failing traces are affected; nothing grows significantly among nine failures.
    assert (first.severity, second.severity) == (1.0, 0.25)


def test_clusters_and_ids_do_not_depend_on_the_order() -> None:
    """Twenty permutations of messages of many kinds: the same ids with the same members."""
    texts, _ = messages(600, 7)
    records = [
        record(n, text, time_ns=START_NS + n, error_type=("A", "B", "")[n % 3])
        for n, text in enumerate(texts)
    ]
    clusterer = FailureClusterer(FailureClustererConfig(max_members=None))
    expected = groups(clusterer.cluster_failures(records))

    for seed in range(20):
        shuffled = random.Random(seed).sample(records, len(records))
        assert groups(clusterer.cluster_failures(shuffled)) == expected


def test_many_messages_find_their_templates() -> None:
    """Of 20,000 messages of 44 templates at least 90 % are grouped exactly as they were made."""
    texts, truth = messages(20_000, 3)
    config = FailureClustererConfig(max_members=None)

    clusters = FailureClusterer(config).cluster_failures(
        [record(n, text) for n, text in enumerate(texts)]
    )

    found = {member: cluster.id for cluster in clusters for member in cluster.member_ids}
    assert grouping_accuracy(truth, [found[str(n)] for n in range(len(texts))]) >= 0.9


@pytest.mark.parametrize(
    ("system", "least"),
    [("HDFS", 0.99), ("Linux", 0.9), ("OpenSSH", 0.99), ("OpenStack", 0.99), ("Zookeeper", 0.98)],
)
def test_logs_of_real_systems_find_their_templates(system: str, least: float) -> None:
    """2,000 lines each, all with the same settings (Drain3: 1.00, .68, .72, .30, .97)."""
    path = shared_path("data", "failure-logs", f"{system}_2k.log_structured.csv")
    frame = pl.read_csv(path, infer_schema=False)
    config = FailureClustererConfig(max_members=None)

    answer = cluster_table(open_source(path), text="Content", id_column="LineId", config=config)

    found = {member: cluster.id for cluster in answer.clusters for member in cluster.member_ids}
    predicted = [found[line] for line in frame["LineId"]]
    assert grouping_accuracy(frame["EventId"].to_list(), predicted) >= least


def grouping_accuracy(truth: Sequence[object], found: Sequence[object]) -> float:
    """Return the share of messages whose group is exactly their true group."""
    frame = pl.DataFrame({"t": [str(t) for t in truth], "f": [str(f) for f in found]})
    sizes = frame.with_columns(
        pl.len().over("t").alias("true"),
        pl.len().over("f").alias("found"),
        pl.len().over("t", "f").alias("both"),
    )
    exact = (pl.col("true") == pl.col("both")) & (pl.col("found") == pl.col("both"))
    return float(sizes.select(exact.mean()).item())


def test_the_type_and_the_frames_of_the_application_tell_failures_apart() -> None:
    """One wording: two types, and two places of one type; libraries and lines do not matter."""

    def stack(function: str, line: int) -> str:
        library = 'File "/usr/lib/python3.11/site-packages/x.py", line 1, in y\n'
        return STACK.format(file="llm", line=line, function=function) + library

    records = [
        *(record(n, "no answer", error_type="E", stack_trace=stack("ask", n)) for n in range(3)),
        record(3, "no answer", error_type="E", stack_trace=stack("plan", 1)),
        record(4, "no answer", error_type="F", stack_trace=stack("ask", 1)),
        record(5, "no answer", error_type="E"),
    ]

    found = FailureClusterer().cluster_failures(records)

    assert {(c.error_type, c.in_app_frames, c.size) for c in found} == {
        ("E", ("app/llm.py:ask",), 3),
        ("E", ("app/llm.py:plan",), 1),
        ("F", ("app/llm.py:ask",), 1),
        ("E", (), 1),
    }


def test_texts_that_are_all_different_are_one_cluster_at_one_place() -> None:
    """Where no rule reads the messages, the frames say that it is one failure."""
    words = "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()
    records = [
        record(
            n,
            " ".join(random.Random(n).sample(words, 2 + n % 8)),
            error_type="E",
            stack_trace=STACK.format(file="parse", line=n, function="read"),
        )
        for n in range(12)
    ]

    found = FailureClusterer().cluster_failures(records)

    assert max(cluster.size for cluster in found) >= 10


def test_a_failure_without_a_message_is_a_failure() -> None:
    """It has a cluster that says so."""
    (cluster,) = FailureClusterer().cluster_failures([record(1, "", error_type="Timeout")])

    assert cluster.template == "(no message)"
    assert cluster.name == "Timeout: (no message)"


def test_no_failures_are_no_clusters() -> None:
    """An empty list is answered with one."""
    assert FailureClusterer().cluster_failures([]) == []


def test_members_are_capped_and_the_cap_can_be_lifted() -> None:
    """The latest ones stay; the counts are of all."""
    records = [record(n, "boom", trace_id=f"t{n}", time_ns=n) for n in range(50)]

    (capped,) = FailureClusterer(FailureClustererConfig(max_members=3)).cluster_failures(records)
    (whole,) = FailureClusterer(FailureClustererConfig(max_members=None)).cluster_failures(records)

    assert capped.member_ids == ("49", "48", "47")
    assert capped.affected_traces == ("t49", "t48", "t47")
    assert (capped.size, capped.affected_trace_count) == (50, 50)
    assert len(whole.member_ids) == len(whole.affected_traces) == 50


def test_forms_beyond_the_limit_are_matched_to_templates() -> None:
    """With room for 200 of 3,000 forms the large clusters are complete, in any order."""
    texts, _ = messages(3000, 5)
    records = [record(n, text) for n, text in enumerate(texts)]
    narrow = FailureClusterer(FailureClustererConfig(max_forms=200, max_members=None))
    whole = FailureClusterer(FailureClustererConfig(max_members=None))

    answer = narrow.cluster_rows(RecordRows(records))
    shuffled = narrow.cluster_rows(RecordRows(random.Random(1).sample(records, len(records))))

    assert answer.distinct_forms == 200
    assert sum(c.stored_size for c in answer.clusters) + answer.unclustered == len(records)
    assert groups(shuffled.clusters) == groups(answer.clusters)
    complete = set(groups(whole.cluster_failures(records)).values())
    kept = sum(len(m) for m in groups(answer.clusters).values() if m in complete)
    assert kept >= 0.9 * len(records)


def test_representative_error_is_the_medoid_of_the_examples() -> None:
    """Of three forms the one that shares most with the others, by hand.

    Token sets: {a b c d}, {a b c e}, {a x y z}; similarities 3/5 = .6, 1/7, 1/7.
    The first has 1 + .6 + .14, the second the same; the first by text wins.
    """
    clusterer = FailureClusterer()
    (bare,) = clusterer.cluster_failures([record(1, "a")])
    from dataclasses import replace

    from pyflare_analysis.rca.clusters.clusterer import FailureExample

    texts = ("a x y z", "a b c e", "a b c d")
    cluster = replace(bare, examples=tuple(FailureExample(text, 1) for text in texts))

    assert clusterer.find_representative_error(cluster) == "a b c d"


@pytest.mark.parametrize(
    ("first", "second", "similarity"),
    [
        ("user 1 left", "user 2 left", 1.0),
        ("Timeout, again", "timeout again", 1.0),
        ("a b c", "a b d", 0.5),
        ("a b", "c d", 0.0),
        ("", "", 1.0),
        ("", "a", 0.0),
    ],
)
def test_similarity_is_the_jaccard_index_of_masked_tokens(
    first: str, second: str, similarity: float
) -> None:
    """{a b c} and {a b d} share two of four."""
    assert FailureClusterer().calculate_text_similarity(first, second) == similarity


def failed(number: int, **fields: object) -> dict[str, object]:
    """Return a failed call; its error message is of one wording."""
    return (
        span(
            span_id=f"{number:016x}",
            trace_id=f"{number:032x}",
            start_time=START_NS + number * SECOND,
            status_code="error",
            error_type="RateLimitError",
            error_message=f"limit {number} reached",
        )
        | fields
    )


def healthy(number: int, **fields: object) -> dict[str, object]:
    """Return a call that went well."""
    return (
        span(
            span_id=f"{number:016x}",
            trace_id=f"{number:032x}",
            start_time=START_NS + number * SECOND,
        )
        | fields
    )


def test_failed_spans_are_weighted_and_filtered(tmp_path: Path) -> None:
    """A failure kept with probability 1/4 counts four times; only the model that was asked for."""
    rows = [
        *(failed(n, model="m", sampling_probability=0.25) for n in range(3)),
        failed(3, model="other"),
        *(healthy(n, model="m") for n in range(4, 10)),
    ]
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    weighted = cluster_spans(source, Filters(model=("m",)))
    stored = cluster_spans(source, Filters(model=("m",)), weighted=False)

    assert (weighted.failures, weighted.spans, weighted.clusters[0].size) == (12, 18, 12)
    assert (stored.failures, stored.spans, stored.clusters[0].size) == (3, 9, 3)
    assert weighted.clusters[0].stored_size == 3


def test_the_status_message_stands_in_and_the_stack_is_read_from_events(tmp_path: Path) -> None:
    """Without an error message there is the status message; frames come from the event."""
    trace = "Traceback\n  " + STACK.format(file="llm", line=3, function="ask")
    event = {"name": "exception", "attributes": {"exception.stacktrace": trace}}
    rows = [
        failed(1, error_message=None, status_message="gave up", events=json.dumps([event])),
        failed(2, error_message="", status_message="gave up", events=json.dumps([event])),
    ]
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    (cluster,) = cluster_spans(source).clusters

    assert (cluster.size, cluster.template) == (2, "gave up")
    assert cluster.in_app_frames == ("app/llm.py:ask",)


def test_growth_is_per_span_and_not_per_time(tmp_path: Path) -> None:
    """Ten times the traffic with ten times the failures is no growth."""
    quiet = [healthy(n) for n in range(0, 3000, 10)] + [failed(n) for n in range(5, 3000, 100)]
    busy = [healthy(n) for n in range(3000, 4000)] + [failed(n) for n in range(3000, 4000, 10)]
    source = open_source(write_spans(tmp_path / "a.parquet", [*quiet, *busy]))

    (cluster,) = cluster_spans(source).clusters

    assert cluster.growth is not None
    assert cluster.growth.trend is Trend.STEADY
    assert (cluster.growth.before, cluster.growth.recent) == (30.0, 100.0)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no spans"),
        ([healthy(n) for n in range(10)], "none of 10 spans failed"),
    ],
)
def test_thin_data_is_refused(rows: list[dict[str, object]], message: str, tmp_path: Path) -> None:
    """Ten spans without a failure do not say that nothing fails; the hint says what would."""
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    with pytest.raises(NotEnoughDataError, match=message) as caught:
        cluster_spans(source)

    assert caught.value.hint


def test_many_spans_without_a_failure_are_an_answer(tmp_path: Path) -> None:
    """300 bound the failure rate at 1 %: there are no clusters, and that is known."""
    rows = [healthy(n) for n in range(300)]
    source = open_source(write_spans(tmp_path / "a.parquet", rows))

    answer = cluster_spans(source)

    assert (answer.clusters, answer.failures, answer.spans) == ((), 0, 300)


def test_any_table_is_clustered(tmp_path: Path) -> None:
    """A CSV file with times as text, types and traces; rows without an id have their number."""
    path = tmp_path / "app.csv"
    pl.DataFrame(
        {
            "at": ["2026-11-23T03:00:00Z", "2026-11-23T04:00:00Z", "2026-11-23T05:00:00Z"],
            "text": ["user 1 left", "user 2 left", None],
            "kind": ["E", "E", None],
            "trace": ["a", "b", "b"],
        }
    ).write_csv(path)

    answer = cluster_table(
        open_source(path), text="text", error_type="kind", time="at", trace="trace"
    )

    by_template = {cluster.template: cluster for cluster in answer.clusters}
    assert by_template["user <*> left"].member_ids == ("2", "1")
    assert by_template["user <*> left"].first_seen_ns == 1_795_402_800 * SECOND
    assert by_template["(no message)"].affected_traces == ("b",)
    assert answer.spans is None


def test_an_unknown_column_of_a_table_names_the_nearest(tmp_path: Path) -> None:
    """A slip of the pen gets the column that was meant; an empty table is no answer."""
    path = tmp_path / "app.csv"
    path.write_text("message\nhello\n")

    with pytest.raises(SchemaError) as caught:
        cluster_table(open_source(path), text="mesage")

    assert "message" in (caught.value.hint or "")
