"""The generated traffic: exact sizes, reproducible bytes, truth that holds in the arrays."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from pyflare_collector.workload import (
    FAULTS,
    TrafficConfig,
    encode,
    make_traffic,
    traffic_like,
    write_file,
)
from pyflare_collector.workload import catalogue as cat
from pyflare_proto.errors import InvalidDataError, NotFoundError, SchemaError, UsageError
from pyflare_proto.record import SPAN_TYPES


@pytest.mark.parametrize("spans", [1, 2, 513, 4000])
def test_number_of_spans_is_exact(spans: int) -> None:
    """As many spans as were asked for, on the arrays and on the wire."""
    traffic = make_traffic(TrafficConfig(spans))

    sent = sum(
        len(s.spans) for r in encode(traffic) for rs in r.resource_spans for s in rs.scope_spans
    )

    assert spans == len(traffic) == sent


def test_one_seed_gives_the_same_bytes() -> None:
    """The seed decides everything; another seed gives other traffic."""
    first, again, other = (
        [r.SerializeToString(deterministic=True) for r in encode(make_traffic(c))]
        for c in (TrafficConfig(800, 5), TrafficConfig(800, 5), TrafficConfig(800, 6))
    )

    assert first == again
    assert first != other


def test_children_lie_within_their_parents() -> None:
    """Every child starts and ends within its parent, and shares its trace."""
    traffic = make_traffic(TrafficConfig(5000, 1))
    child = traffic.parent >= 0
    parent = traffic.parent[child]

    assert (traffic.trace[parent] == traffic.trace[child]).all()
    assert (traffic.start_ns[parent] <= traffic.start_ns[child]).all()
    assert (traffic.end_ns[parent] >= traffic.end_ns[child]).all()


def test_truth_counts_what_is_on_the_wire() -> None:
    """Calls and token sums of the truth are those of the encoded attributes."""
    traffic = make_traffic(TrafficConfig(3000, 2))
    sums: Counter[str] = Counter()
    for request in encode(traffic):
        for resource in request.resource_spans:
            for span in resource.scope_spans[0].spans:
                values = {a.key: a.value for a in span.attributes}
                operation = values["gen_ai.operation.name"].string_value
                sums["calls"] += operation in ("chat", "embeddings")
                for name in ("input_tokens", "output_tokens"):
                    if f"gen_ai.usage.{name}" in values:
                        sums[name] += values[f"gen_ai.usage.{name}"].int_value

    truth = traffic.truth()

    assert sums == {k: truth[k] for k in ("calls", "input_tokens", "output_tokens")}


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_slice_errors_raise_the_rate_of_their_slice_only(depth: int) -> None:
    """Within the planted slice about 30 % fail, outside about 1.5 %."""
    name = "slice-error" if depth == 1 else f"slice-error-{depth}"
    traffic = make_traffic(TrafficConfig(60_000, 11, faults=(name,)))
    (fault,) = traffic.truth()["faults"]
    where = fault["slice"]
    inside = traffic.is_call.copy()
    names = {
        "model": np.array([m.response for m in cat.MODELS])[traffic.model],
        "feature": np.array([f.name for f in cat.FEATURES])[traffic.feature],
        "prompt_version": np.char.add("v", traffic.prompt_version.astype(str)),
    }
    for dimension, value in where.items():
        inside &= names[dimension] == value

    failed = traffic.error >= 0

    assert len(where) == depth
    assert failed[inside].mean() == pytest.approx(fault["error_rate"], abs=0.06)
    assert failed[traffic.is_call & ~inside].mean() == pytest.approx(0.015, abs=0.004)


def test_faults_of_one_run_take_different_models() -> None:
    """A slice within another that fails at the same rate would have no effect of its own."""
    names = ("slice-error", "slice-error-2", "slice-error-3")
    for seed in range(5):
        faults = make_traffic(TrafficConfig(600, seed, faults=names)).truth()["faults"]

        assert len({fault["slice"]["model"] for fault in faults}) == 3


def test_a_bad_user_segment_is_an_attribute_of_its_users_spans() -> None:
    """The spans of exactly the stated users carry the segment, and two in five calls fail."""
    traffic = make_traffic(TrafficConfig(20_000, 6, faults=("bad-user-segment",)))
    (fault,) = traffic.truth()["faults"]
    ((key, segment),) = fault["slice"].items()
    users, failed = set(), []
    for request in encode(traffic):
        for span in (s for r in request.resource_spans for s in r.scope_spans[0].spans):
            values = {a.key: a.value.string_value for a in span.attributes}
            if values[key.removeprefix("attributes.")] == segment:
                users.add(values["user.id"])
                if values["gen_ai.operation.name"] in ("chat", "embeddings"):
                    failed.append(span.status.code == 2)

    assert users == set(fault["user_ids"])
    assert np.mean(failed) == pytest.approx(0.4, abs=0.06)


def test_error_spike_stands_within_its_window() -> None:
    """Half of the calls of the stated window fail, and few outside."""
    traffic = make_traffic(TrafficConfig(60_000, 4, faults=("error-spike",)))
    (fault,) = traffic.truth()["faults"]
    begun = traffic.start_ns[np.searchsorted(traffic.trace, traffic.trace)]
    inside = (begun >= fault["start_time_unix_nano"]) & (begun < fault["end_time_unix_nano"])
    failed = traffic.error >= 0

    assert failed[inside & traffic.is_call].mean() == pytest.approx(0.5, abs=0.1)
    assert failed[~inside & traffic.is_call].mean() == pytest.approx(0.015, abs=0.005)


def test_cost_jump_triples_the_answers_of_its_feature() -> None:
    """Token counts outside the window are those of the same seed without the fault."""
    clean = make_traffic(TrafficConfig(20_000, 8))
    traffic = make_traffic(TrafficConfig(20_000, 8, faults=("cost-jump",)))

    assert traffic.cost_nano_usd().sum() > clean.cost_nano_usd().sum()
    assert set(np.unique(traffic.output_tokens[traffic.type != SPAN_TYPES.index("llm")])) == {0}


@pytest.mark.parametrize("name", list(FAULTS))
def test_every_fault_states_what_it_planted(name: str) -> None:
    """The truth names the fault and its metric and is plain JSON."""
    traffic = make_traffic(TrafficConfig(2000, 3, faults=(name,)))

    (fault,) = json.loads(json.dumps(traffic.truth()))["faults"]

    assert fault["fault"] == name
    assert fault["metric"]


def test_unknown_fault_names_the_nearest() -> None:
    """A mistyped fault is refused with the name that was meant."""
    with pytest.raises(UsageError) as caught:
        make_traffic(TrafficConfig(10, faults=("eror-spike",)))

    assert "error-spike" in (caught.value.hint or "")


def test_files_hold_the_same_requests(tmp_path: Path) -> None:
    """The protobuf file and the compressed JSON lines tell the same spans."""
    traffic = make_traffic(TrafficConfig(600, 9))
    write_file(encode(traffic), tmp_path / "w.binpb")
    write_file(encode(traffic), tmp_path / "w.jsonl.gz")

    whole = ExportTraceServiceRequest.FromString((tmp_path / "w.binpb").read_bytes())
    lines = [
        json.loads(x) for x in gzip.decompress((tmp_path / "w.jsonl.gz").read_bytes()).splitlines()
    ]
    binary = [s.span_id.hex() for r in whole.resource_spans for s in r.scope_spans[0].spans]
    text = [
        s["spanId"]
        for line in lines
        for r in line["resourceSpans"]
        for s in r["scopeSpans"][0]["spans"]
    ]

    assert binary == text
    assert len(set(text)) == 600


def test_like_takes_times_and_tokens_from_the_file(tmp_path: Path) -> None:
    """Timestamps keep their nanoseconds, tokens are those of the rows."""
    path = tmp_path / "t.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:15:46.6805900,374,44\n"
        "2023-11-16 18:15:50.9951690,396,109\n"
    )

    traffic = traffic_like(path)

    assert traffic.start_ns.tolist() == [1_700_158_546_680_590_000, 1_700_158_550_995_169_000]
    assert traffic.truth()["input_tokens"] == 374 + 396
    # 770 input tokens at 2,500 n$ and 153 output tokens at 10,000 n$.
    assert traffic.truth()["cost_nano_usd"] == 770 * 2500 + 153 * 10000


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("A,B\n1,2\n", SchemaError),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", InvalidDataError),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n", InvalidDataError),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,x,2\n", InvalidDataError),
    ],
)
def test_like_refuses_files_of_another_form(
    tmp_path: Path, text: str, error: type[Exception]
) -> None:
    """A missing column, no rows and bad values are said, not guessed."""
    path = tmp_path / "t.csv"
    path.write_text(text)

    with pytest.raises(error):
        traffic_like(path)


def test_like_names_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is a not-found error."""
    with pytest.raises(NotFoundError):
        traffic_like(tmp_path / "none.csv")
