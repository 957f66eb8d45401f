"""`pyflare drift psi` and `univariate`: sources, periods, profiles, gates, bad input."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.cli.conftest import Pyflare
from tests.shared_data import shared_path
from tests.span_rows import START_NS, data_directory, span

DAY_NS = 86_400_000_000_000


def _table(path: Path, seed: int, shift: float = 0.0, rows: int = 1000) -> Path:
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "latency_ms": rng.lognormal(6 + shift, 0.5, rows),
            "model": rng.choice(["a", "b"], rows, p=[0.7 - shift, 0.3 + shift]),
            "id": [f"{seed}-{i}" for i in range(rows)],
        }
    )
    if path.suffix == ".csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path)
    return path


def _two_days(path: Path, per_day: int = 300) -> Path:
    """Calls of two days: on the second most go to another model, and answers are longer."""
    rng = np.random.default_rng(0)
    rows = [
        span(
            span_id=f"{day:08x}{i:08x}",
            model=str(rng.choice(["gpt-4o", "gpt-4o-mini"], p=[0.9 - 0.6 * day, 0.1 + 0.6 * day])),
            input_tokens=int(rng.lognormal(6, 1)),
            output_tokens=int(rng.lognormal(4 + day, 1)),
            output="x" * int(rng.integers(10, 100) * (1 + day)),
            finish_reasons=["stop"],
            start_time=START_NS + day * DAY_NS + i * 1_000_000_000,
            attributes=f'{{"tier":"{rng.choice(["free", "pro"])}"}}',
        )
        for day in range(2)
        for i in range(per_day)
    ]
    workflow = [
        span(span_id=f"ff{i:014x}", span_type="workflow", cost_status="not_billable")
        for i in range(50)
    ]
    return data_directory(path, [*rows, *workflow])


def test_the_answer_has_the_keys_of_the_contract(pyflare: Pyflare, tmp_path: Path) -> None:
    """columns, severity, p and q, bins with counts and contributions, verdict."""
    ref, cur = _table(tmp_path / "r.parquet", 1), _table(tmp_path / "c.csv", 2, 0.5)

    result = pyflare("drift", "psi", "--ref", ref, "--cur", cur)

    answer = result.json()
    assert (result.code, answer["schema"], answer["verdict"]) == (0, "pyflare.drift.psi/1", "drift")
    by_name = {column["column"]: column for column in answer["columns"]}
    assert set(by_name) == {"latency_ms", "model"}
    latency, model = by_name["latency_ms"], by_name["model"]
    for column in (latency, model):
        assert {"kind", "psi", "severity", "p_value", "q_value", "bins"} <= set(column)
        assert column["severity"] == "significant"
        assert sum(part["reference_count"] for part in column["bins"]) == 1000
        assert sum(part["contribution"] for part in column["bins"]) == pytest.approx(column["psi"])
    assert {"low", "high"} <= set(latency["bins"][0])
    assert {part["category"] for part in model["bins"]} == {"a", "b"}
    assert "passed over id: looks like an id" in result.err


def test_unchanged_tables_are_stable_and_pass_the_gate(pyflare: Pyflare, tmp_path: Path) -> None:
    """Exit 0 with every gate."""
    ref, cur = _table(tmp_path / "r.parquet", 1), _table(tmp_path / "c.parquet", 2)

    gates = ["--fail-on", "drift", "--fail-above", "0.1"]
    result = pyflare("drift", "psi", "--ref", ref, "--cur", cur, *gates)

    assert (result.code, result.json()["verdict"]) == (0, "stable")


@pytest.mark.parametrize(
    "gate", [["--fail-on", "drift"], ["--fail-on", "moderate"], ["--fail-above", "0.3"]]
)
def test_a_gate_says_no_after_the_answer(gate: list[str], pyflare: Pyflare, tmp_path: Path) -> None:
    """Exit 1, the document is there, the error names the column and the gate."""
    ref, cur = _table(tmp_path / "r.parquet", 1), _table(tmp_path / "c.parquet", 2, 0.5)

    result = pyflare("drift", "psi", "--ref", ref, "--cur", cur, *gate)

    assert result.code == 1
    assert result.json()["verdict"] == "drift"
    assert f"fail {' '.join(gate)}" in result.err
    assert "the largest: model" in result.err


def test_two_periods_of_one_source(pyflare: Pyflare, tmp_path: Path) -> None:
    """The day before --since is the reference; calls only; nothing else needs an option."""
    data = _two_days(tmp_path / "d")

    result = pyflare(
        "drift", "psi", "--data", data, "--since", "2025-11-25T12:00:00Z", "--ref-window", "1d"
    )

    answer = result.json()
    assert answer["reference"]["rows"] == answer["current"]["rows"] == 300
    drifting = {c["column"] for c in answer["columns"] if c["verdict"] == "drift"}
    assert drifting == {"model", "output_tokens", "output_length_chars"}
    first = answer["columns"][0]
    assert first["column"] == "model"
    assert first["moved"].startswith("gpt-4o-mini")


@pytest.mark.parametrize(
    ("options", "reference", "current"),
    [
        (["--ref-until", "2025-11-25T12:00:00Z"], 300, 300),
        (["--ref-where", "model = 'gpt-4o'", "--cur-where", "model = 'gpt-4o-mini'"], 600, 600),
        (["--ref-since", "2025-11-24", "--ref-until", "2025-11-25T12:00:00Z", "--all-spans"],
         350, 300),
        (["--ref-until", "2025-11-25T12:00:00Z", "--model", "gpt-4o"], None, None),
    ],
)  # fmt: skip
def test_sides_are_chosen_by_time_and_condition(
    options: list[str],
    reference: int | None,
    current: int | None,
    pyflare: Pyflare,
    tmp_path: Path,
) -> None:
    """Filters hold on both sides; --all-spans takes the workflow too."""
    data = _two_days(tmp_path / "d")

    answer = pyflare("drift", "psi", "--data", data, "--column", "input_tokens", *options).json()

    rows = answer["reference"]["rows"], answer["current"]["rows"]
    if "--ref-where" in options:
        assert sum(rows) == 600
    elif reference is not None:
        assert rows == (reference, current)
    else:
        assert rows[0] > 240
        assert rows[1] < 120


def test_features_by_name(pyflare: Pyflare, tmp_path: Path) -> None:
    """Lengths of texts and attributes are columns too."""
    data = _two_days(tmp_path / "d")
    names = ["--column", "output_length_chars", "--column", "attributes.tier"]

    answer = pyflare(
        "drift", "psi", "--data", data, "--ref-until", "2025-11-25T12:00:00Z", *names
    ).json()

    assert {c["column"]: c["verdict"] for c in answer["columns"]} == {
        "output_length_chars": "drift",
        "attributes.tier": "stable",
    }


def test_a_saved_profile_answers_like_the_data(pyflare: Pyflare, tmp_path: Path) -> None:
    """Fit once, score later: the same columns, to the last digit; shards merge."""
    ref, cur = _table(tmp_path / "r.parquet", 1), _table(tmp_path / "c.parquet", 2, 0.2)
    other = _table(tmp_path / "o.parquet", 3)
    profile, second = tmp_path / "p.json", tmp_path / "q.json"

    direct = pyflare("drift", "psi", "--ref", ref, "--cur", cur, "--save-profile", profile)
    saved = pyflare("drift", "psi", "--ref", other, "--save-profile", second)
    later = pyflare("drift", "psi", "--ref", profile, "--cur", cur)
    both = pyflare("drift", "psi", "--ref", profile, "--ref", second, "--cur", cur)

    assert later.json()["columns"] == direct.json()["columns"]
    assert (saved.code, saved.json()["schema"]) == (0, "pyflare.drift.profile/1")
    assert both.json()["reference"]["rows"] == 2000
    assert profile.stat().st_size < 60_000


def test_results_are_kept_and_raise_alerts(pyflare: Pyflare, tmp_path: Path) -> None:
    """Under drift/ of the data directory, unless --no-store."""
    data = _two_days(tmp_path / "d")
    words = ["drift", "psi", "--data", data, "--ref-until", "2025-11-25T12:00:00Z"]

    unkept = pyflare(*words, "--no-store")
    assert not (data / "drift").exists()
    kept = pyflare(*words)

    assert unkept.json()["columns"] == kept.json()["columns"]
    assert list((data / "drift").glob("*.parquet"))
    alerts = pyflare("alerts", "list", "--data", data).json()
    assert "model" in str(alerts)


def test_sampled_spans_are_weighted_unless_told(pyflare: Pyflare, tmp_path: Path) -> None:
    """Model b is kept with probability 1/10: weighted it is half of the calls, stored 1 in 11."""
    rows = [
        span(span_id=f"{i:016x}", model="a" if i % 11 else "b", start_time=START_NS + i,
             sampling_probability=1.0 if i % 11 else 0.1)
        for i in range(1100)
    ]  # fmt: skip
    later = [{**row, "span_id": f"a{i:015x}", "start_time": START_NS + DAY_NS + i}
             for i, row in enumerate(rows)]  # fmt: skip
    data = data_directory(tmp_path / "d", [*rows, *later])
    words = ["drift", "psi", "--data", data, "--ref-until", "2025-11-25T00:00:00Z"]

    weighted = pyflare(*words, "--column", "model")
    stored = pyflare(*words, "--column", "model", "--unweighted")

    assert "weighted by 1/sampling_probability" in weighted.err
    counts = [
        {part["category"]: part["reference_count"] for part in r.json()["columns"][0]["bins"]}
        for r in (weighted, stored)
    ]
    assert counts == [{"a": 1000, "b": 1000}, {"a": 1000, "b": 100}]
    reference = weighted.json()["reference"]
    # (1000 + 1000)^2 / (1000 + 100 * 100)
    assert reference["effective_rows"] == pytest.approx(4_000_000 / 11_000)


def test_calls_of_one_trace_count_as_one_unless_told(pyflare: Pyflare, tmp_path: Path) -> None:
    """165 of 300 traces, then 150: p 0.22 (z 1.23), and 0.006 where each of five calls counts."""
    rows = [
        span(trace_id=f"{side}{i:031x}", span_id=f"{side}{i:014x}{k}",
             model="a" if i < 165 - 15 * side else "b", start_time=START_NS + side * DAY_NS + i)
        for side in (0, 1)
        for i in range(300)
        for k in range(5)
    ]  # fmt: skip
    data = data_directory(tmp_path / "d", rows)
    words = ["drift", "psi", "--data", data, "--ref-until", "2025-11-25T00:00:00Z"]

    traces = pyflare(*words, "--column", "model").json()
    calls = pyflare(*words, "--column", "model", "--cluster", "none").json()
    wrong = pyflare(*words, "--column", "model", "--cluster", "user")

    assert (traces["cluster"], calls["cluster"]) == ("trace_id", None)
    one, many = traces["columns"][0], calls["columns"][0]
    assert (one["psi"], many["design_effect"]) == (many["psi"], 1.0)
    assert one["design_effect"] == pytest.approx(5)
    assert one["p_value"] == pytest.approx(0.22, abs=0.05)  # of 64 to 256 draws
    assert many["p_value"] == pytest.approx(0.006, abs=0.003)
    assert wrong.code == 2
    assert "unknown column 'user' for --cluster" in wrong.err


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda p: ["--ref", p / "none.parquet", "--cur", p / "good.parquet"], 2, "no such file"),
        (lambda p: ["--cur", p / "good.parquet"], 2, "what is the reference?"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "good.parquet", "--column", "modle"],
         2, "unknown column 'modle'"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "text.csv"], 2,
         "none of the reference's columns"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "text.csv", "--column", "latency_ms"],
         2, "no column 'latency_ms'"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "words.csv", "--column",
                    "latency_ms"], 2, "is of type string, and the reference holds numbers"),
        (lambda p: ["--ref", p / "truncated.parquet", "--cur", p / "good.parquet"], 2,
         "cannot read"),
        (lambda p: ["--ref", p / "empty.parquet", "--cur", p / "good.parquet"], 4, "no rows"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "empty.parquet"], 4, "no rows"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "one.parquet"], 4,
         "1 current rows, fewer than 10"),
        (lambda p: ["--ref", p / "one.parquet", "--cur", p / "good.parquet"], 4,
         "the reference has 1 rows"),
        (lambda p: ["--ref", p / "missing.parquet", "--cur", p / "missing.parquet"], 4,
         "no values on either side"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "good.parquet", "--bins", "1"], 2,
         "num_bins is 1"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "good.parquet", "--ref-until", "24h"],
         2, "no column holds times"),
        (lambda p: ["--ref", p / "good.parquet", "--cur", p / "good.parquet", "--where", "x ="],
         2, "--where"),
        (lambda p: ["--ref", p / "bad.json", "--cur", p / "good.parquet"], 2, "cannot read"),
        (lambda p: ["--ref", p / "p.json", "--cur", p / "good.parquet", "--bins", "7"], 2,
         "the profile has 10"),
        (lambda p: ["--ref", p / "p.json", "--cur", p / "good.parquet", "--ref-until", "24h"], 2,
         "cannot choose rows of a saved profile"),
    ],
)  # fmt: skip
def test_bad_input_is_an_error_with_its_code(
    make: object, code: int, message: str, pyflare: Pyflare, tmp_path: Path
) -> None:
    """What, with the value, and a hint; never a number that means nothing."""
    good = _table(tmp_path / "good.parquet", 1)
    frame = pl.read_parquet(good)
    frame.head(0).write_parquet(tmp_path / "empty.parquet")
    frame.head(1).write_parquet(tmp_path / "one.parquet")
    nothing = pl.DataFrame({"latency_ms": pl.Series([None] * 50, dtype=pl.Float64)})
    nothing.write_parquet(tmp_path / "missing.parquet")
    (tmp_path / "truncated.parquet").write_bytes(good.read_bytes()[:2000])
    (tmp_path / "text.csv").write_text("word\n" + "a\nb\n" * 50)
    (tmp_path / "words.csv").write_text("latency_ms\n" + "fast\nslow\n" * 50)
    (tmp_path / "bad.json").write_text("{")
    pyflare("drift", "psi", "--ref", good, "--save-profile", tmp_path / "p.json")

    result = pyflare("drift", "psi", *make(tmp_path))

    assert result.code == code, result.err
    assert message in result.err
    assert "hint: " in result.err
    assert "Traceback" not in result.err


def test_univariate_answers_and_gates(pyflare: Pyflare, tmp_path: Path) -> None:
    """A line a column and test, with effect, interval, p and q; the gate names the first."""
    ref, cur = _table(tmp_path / "r.parquet", 1), _table(tmp_path / "c.parquet", 2, 0.3)

    result = pyflare("drift", "univariate", "--ref", ref, "--cur", cur, "--fail-on", "drift")

    answer = result.json()
    assert (result.code, answer["verdict"]) == (1, "drift")
    tests = {(row["column"], row["test"]): row for row in answer["columns"]}
    assert set(tests) == {
        ("latency_ms", "ks"), ("latency_ms", "wasserstein"), ("latency_ms", "js"),
        ("model", "js"), ("model", "chi2"),
    }  # fmt: skip
    for row in tests.values():
        assert row["ci_low"] <= row["effect_size"] <= row["ci_high"]
        assert 0 < row["p_value"] <= row["q_value"] <= 1
    assert "--fail-on drift" in result.err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--test", "ks", "--column", "model"], 2, "no column that ks can test"),
        (["--test", "anderson"], 2, "unknown test 'anderson'"),
        (["--cur", "one.parquet"], 4, "no column could be judged"),
    ],
)
def test_univariate_refuses_what_it_cannot_answer(
    options: list[str], code: int, message: str, pyflare: Pyflare, tmp_path: Path
) -> None:
    """Wrong tests are usage, thin data are not enough."""
    good = _table(tmp_path / "good.parquet", 1)
    pl.read_parquet(good).head(1).write_parquet("one.parquet")
    cur = [] if "--cur" in options else ["--cur", good]

    result = pyflare("drift", "univariate", "--ref", good, *cur, *options)

    assert result.code == code, result.err
    assert message in result.err


def test_the_conversations_first_and_second_half(pyflare: Pyflare) -> None:
    """Real traffic: contexts and answers moved, significantly and moderately; it says where."""
    path = shared_path("data", "llm-traffic", "azure-llm-2023-conversation.csv")

    answer = pyflare("drift", "psi", "--cur", path, "--ref-until", "2023-11-16T18:45:00Z").json()

    context, generated = answer["columns"]
    assert (context["column"], context["severity"]) == ("ContextTokens", "moderate")
    assert context["q_value"] < 1e-100
    assert context["moved"] == "from 4,075: 10 % → 5.1 %"
    assert generated["psi"] == pytest.approx(0.0865, abs=0.0001)


def test_random_halves_of_real_traffic_raise_no_alarm() -> None:
    """200 random splits: no more drift than alpha, and p-values as rare as they say."""
    from pyflare_analysis.drift import PSIConfig, PSIDriftDetector

    path = shared_path("data", "llm-traffic", "azure-llm-2023-conversation.csv")
    frame = pl.read_csv(path).select("ContextTokens", "GeneratedTokens")
    rng = np.random.default_rng(0)
    alarms = significant = 0
    for seed in range(200):
        order = rng.permutation(frame.height)
        first, second = order[: frame.height // 2], order[frame.height // 2 :]
        detector = PSIDriftDetector(PSIConfig(random_seed=seed))
        detector.set_reference(frame[first])
        result = detector.compute(frame[second])
        alarms += result.is_drift
        significant += result.p_value <= 0.05

    assert alarms == 0
    assert significant <= 19  # binomial(200, 0.05): P(more) = 0.003
