"""`pyflare drift mmd` and `centroid`: the document, the gates, what is wrong with the input."""

import csv
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.analysis.drift.mmd_oracle import direct_mmd2, direct_sigma, topics, unit_centers
from tests.cli.conftest import Pyflare
from tests.span_rows import data_directory, span

CONTRACT = ["mmd2", "p_value", "sigma", "threshold", "verdict", "reference", "current", "centroid"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vectors around six topics: a reference, the same again, and with a new topic."""
    folder = tmp_path_factory.mktemp("vectors")
    rng = np.random.default_rng(1)
    centers = unit_centers(rng, 7, 24)
    for name, new in (("ref", 0.0), ("same", 0.0), ("new", 0.4)):
        rows = topics(rng, 150, centers=centers, noise=0.5, new=new)
        frame = pl.DataFrame(
            {
                "name": [f"{name}-{i}" for i in range(150)],
                "embedding": pl.Series(rows.tolist(), dtype=pl.List(pl.Float32)),
            }
        )
        frame.write_parquet(folder / f"{name}.parquet")
    return folder


def _vectors(path: Path) -> np.ndarray:
    return np.array(pl.read_parquet(path)["embedding"].to_list(), np.float64)


def test_calls_of_one_trace_change_sides_together(pyflare: Pyflare, tmp_path: Path) -> None:
    """By default those of `trace_id`, said in a note; another column or none where asked for."""
    rng = np.random.default_rng(2)
    for name in ("a", "b"):
        trace = np.repeat(np.arange(40), 5)
        vectors = rng.normal(size=(40, 8))[trace] + 0.01 * rng.normal(size=(200, 8))
        frame = pl.DataFrame({"trace_id": trace.astype(str), "tags": [["x"]] * 200})
        frame = frame.with_columns(embedding=pl.Series(vectors.tolist(), dtype=pl.List(pl.Float32)))
        frame.write_parquet(tmp_path / f"{name}.parquet")
    words = ["drift", "mmd", "--ref", tmp_path / "a.parquet", "--cur", tmp_path / "b.parquet",
             "--seed", 3, "--format", "json"]  # fmt: skip

    traces, rows = pyflare(*words), pyflare(*words, "--cluster", "none")
    streamed = pyflare(*words, "--method", "rff")

    known, naive = traces.json(), rows.json()
    assert (known["verdict"], naive["verdict"]) == ("stable", "drift")
    assert (known["cluster"], naive["cluster"]) == ("trace_id", None)
    assert known["reference"]["clusters"] == 40
    assert known["mmd2"] == pytest.approx(naive["mmd2"])
    assert "200 and 200 vectors are of 40 and 40 values of trace_id" in traces.err
    assert streamed.json()["cluster"] is None
    assert "rff takes all rows as independent, also those of one trace_id" in streamed.err
    wrong, lists = pyflare(*words, "--cluster", "trace"), pyflare(*words, "--cluster", "tags")
    assert (wrong.code, lists.code) == (2, 2)
    assert "did you mean trace_id?" in wrong.err
    assert "holds lists, not clusters" in lists.err


def test_the_document_has_the_keys_of_the_contract_and_the_numbers_of_a_loop(
    pyflare: Pyflare, files: Path
) -> None:
    """MMD^2 with the median bandwidth to 1e-6, the centroids, both counts, the seed."""
    ref, cur = files / "ref.parquet", files / "new.parquet"

    result = pyflare("drift", "mmd", "--ref", ref, "--cur", cur, "--column", "embedding",
                     "--permutations", 60, "--seed", 5)  # fmt: skip

    body = result.json()
    x, y = _vectors(ref), _vectors(cur)
    assert (result.code, result.err) == (0, "")
    assert body["schema"] == "pyflare.drift.mmd/1"
    assert list(body)[1:9] == CONTRACT
    assert body["sigma"] == pytest.approx(direct_sigma(x, y), rel=1e-5)
    assert body["mmd2"] == pytest.approx(direct_mmd2(x, y, direct_sigma(x, y)), abs=1e-6)
    assert body["p_value"] == pytest.approx(1 / 61)
    assert body["verdict"] == "drift"
    assert (body["reference"]["rows"], body["current"]["rows"], body["seed"]) == (150, 150, 5)
    assert body["permutations"] == 60
    assert body["centroid"]["euclidean"] == pytest.approx(np.linalg.norm(x.mean(0) - y.mean(0)))


def test_a_bandwidth_can_be_given(pyflare: Pyflare, files: Path) -> None:
    """`--sigma` goes before the median."""
    body = pyflare("drift", "mmd", "--ref", files / "ref.parquet", "--cur", files / "new.parquet",
                   "--sigma", 0.4).json()  # fmt: skip

    x, y = _vectors(files / "ref.parquet"), _vectors(files / "new.parquet")
    assert body["sigma"] == 0.4
    assert body["mmd2"] == pytest.approx(direct_mmd2(x, y, 0.4), abs=1e-6)


@pytest.mark.parametrize(
    "method", ["mmd", "fuse", "topics", "spread", "rff", "classifier", "centroid", "auto"]
)
def test_every_method_answers_and_nothing_is_found_in_nothing(
    pyflare: Pyflare, files: Path, method: str
) -> None:
    """The same law twice, one seed; and the same answer again."""
    words = ("drift", "mmd", "--ref", files / "ref.parquet", "--cur", files / "same.parquet",
             "--method", method, "--seed", 11, "--permutations", 40)  # fmt: skip

    first, second = pyflare(*words), pyflare(*words)

    assert first.code == 0
    assert first.out == second.out
    assert first.json()["method"] == method
    assert first.json()["verdict"] == "stable"


def test_auto_names_the_new_topic(pyflare: Pyflare, files: Path) -> None:
    """In the document and as text, with the names of its vectors."""
    words = ("drift", "mmd", "--ref", files / "ref.parquet", "--cur", files / "new.parquet",
             "--method", "auto", "--seed", 2, "--id", "name")  # fmt: skip

    body = pyflare(*words).json()
    text = pyflare(*words, "--format", "table").out

    assert body["verdict"] == "drift"
    assert body["tests"][0]["method"] == "auto"
    topic = body["topics"][0]
    assert (topic["status"], topic["reference_count"]) == ("new", 0)
    assert topic["current_examples"][0]["name"].startswith("new-")
    assert text.startswith("drift  embedding, 150 vectors against 150, 24 dimensions")
    assert "topic new: 0.0% -> " in text
    assert topic["current_examples"][0]["name"] in text


def test_the_gate_fails_on_drift_only(pyflare: Pyflare, files: Path) -> None:
    """Exit code 1 after the answer was written; 0 where nothing changed."""
    ref = files / "ref.parquet"

    drift = pyflare("drift", "mmd", "--ref", ref, "--cur", files / "new.parquet",
                    "--fail-on", "drift")  # fmt: skip
    stable = pyflare("drift", "mmd", "--ref", ref, "--cur", ref, "--fail-on", "drift")
    odd = pyflare("drift", "mmd", "--ref", ref, "--cur", ref, "--fail-on", "rain")

    assert (drift.code, drift.json()["verdict"]) == (1, "drift")
    assert "error: embedding drifted: p = 0.0099" in drift.err
    assert (stable.code, stable.json()["verdict"]) == (0, "stable")
    assert odd.code == 2


@pytest.mark.parametrize("command", ["mmd", "centroid"])
@pytest.mark.parametrize("permutations", [0, 40])
def test_a_size_can_be_the_gate(
    pyflare: Pyflare, files: Path, command: str, permutations: int
) -> None:
    """`--fail-above` fails above the size that the document has, and not at it."""
    words = ("drift", command, "--ref", files / "ref.parquet", "--cur", files / "new.parquet",
             "--seed", 1, "--permutations", permutations)  # fmt: skip
    body = pyflare(*words).json()
    size = body["mmd2"] if command == "mmd" else body["centroid"]["euclidean"]

    above = pyflare(*words, "--fail-above", size * 0.99)
    at = pyflare(*words, "--fail-above", repr(size))

    assert (above.code, at.code) == (1, 0)
    assert above.json() == at.json() == body
    assert f"error: embedding fails --fail-above {size * 0.99:g}: " in above.err
    assert f" {size:.3g}, " in above.err
    assert ("p = 0.0244 by " in above.err) == bool(permutations)
    assert ("without a test" in above.err) == (not permutations)


@pytest.mark.parametrize("command", ["mmd", "centroid"])
def test_the_gate_of_a_size_needs_a_significant_change(
    pyflare: Pyflare, files: Path, tmp_path: Path, command: str
) -> None:
    """Below any size nothing fails without significance; and what cannot be said exits with 4."""
    ref = files / "ref.parquet"
    pl.read_parquet(ref).head(3).write_parquet(tmp_path / "few.parquet")
    gate = ("--seed", 11, "--fail-above", -1)

    same = pyflare("drift", command, "--ref", ref, "--cur", files / "same.parquet", *gate)
    few = pyflare("drift", command, "--ref", ref, "--cur", tmp_path / "few.parquet", *gate)

    assert (same.code, same.json()["verdict"]) == (0, "stable")
    assert (few.code, few.json()["verdict"]) == (4, "insufficient")
    for size in ("nan", "inf", "-inf"):
        refused = pyflare("drift", command, "--ref", ref, "--cur", ref, f"--fail-above={size}")
        assert (refused.code, refused.out) == (2, "")
        assert f"error: --fail-above {size}" in refused.err


@pytest.mark.parametrize("sigma", ["1e-300", "1e300", "1e-160", "1e154", "nan", "inf", "-1"])
def test_a_bandwidth_that_float64_cannot_square_ends_with_exit_code_2(
    pyflare: Pyflare, files: Path, sigma: str
) -> None:
    """With a hint, before anything is read."""
    ref = files / "ref.parquet"

    refused = pyflare("drift", "mmd", "--ref", ref, "--cur", ref, f"--sigma={sigma}")

    assert (refused.code, refused.out) == (2, "")
    assert "hint: " in refused.err
    assert "Traceback" not in refused.err


@pytest.mark.parametrize("sigma", ["1e-150", "1e150"])
def test_a_bandwidth_far_from_all_distances_has_an_mmd2_all_the_same(
    pyflare: Pyflare, files: Path, sigma: str
) -> None:
    """Every kernel is 0, or 1; by random features in float32 neither can be said."""
    words = ("drift", "mmd", "--ref", files / "ref.parquet", "--cur", files / "new.parquet",
             "--sigma", sigma)  # fmt: skip

    found, streamed = pyflare(*words), pyflare(*words, "--method", "rff")

    assert (found.code, found.err) == (0, "")
    assert found.json()["mmd2"] == pytest.approx(0, abs=1e-6)
    assert streamed.code == 2
    assert "beyond the float32 of the method rff" in streamed.err


def test_centroid_has_its_own_document(pyflare: Pyflare, files: Path) -> None:
    """The p-value is that of the Euclidean distance."""
    body = pyflare("drift", "centroid", "--ref", files / "ref.parquet",
                   "--cur", files / "new.parquet", "--seed", 3).json()  # fmt: skip

    assert body["schema"] == "pyflare.drift.centroid/1"
    assert body["p_value"] == body["centroid"]["euclidean_p_value"]
    assert body["verdict"] == "drift"


def test_thin_and_constant_data_end_with_exit_code_4(
    pyflare: Pyflare, files: Path, tmp_path: Path
) -> None:
    """One row, no rows, equal rows: verdict insufficient, undefined numbers null."""
    one = pl.read_parquet(files / "same.parquet").head(1)
    one.write_parquet(tmp_path / "one.parquet")
    one.head(0).write_parquet(tmp_path / "none.parquet")
    pl.concat([one] * 30).write_parquet(tmp_path / "equal.parquet")
    equal = tmp_path / "equal.parquet"

    for ref, cur in (
        (files / "ref.parquet", tmp_path / "one.parquet"),
        (files / "ref.parquet", tmp_path / "none.parquet"),
        (equal, equal),
    ):
        result = pyflare("drift", "mmd", "--ref", ref, "--cur", cur)
        assert result.code == 4
        assert result.json()["verdict"] == "insufficient"
        assert result.json()["mmd2"] is None
        assert "error: not enough data to say: " in result.err
        assert ("--embedder" in result.err) == ("none" in str(cur))


def test_input_that_cannot_be_compared_ends_with_exit_code_2(
    pyflare: Pyflare, files: Path, tmp_path: Path
) -> None:
    """Other dimensions, NaN, no such column, text without an embedder, no such file or method."""
    ref = files / "ref.parquet"
    pl.DataFrame({"embedding": [[1.0, 2.0]] * 20}).write_parquet(tmp_path / "short.parquet")
    pl.DataFrame({"embedding": [[float("nan")] * 24] * 20}).write_parquet(tmp_path / "nan.parquet")
    words = ("drift", "mmd", "--ref", ref, "--cur")

    cases = [
        ((*words, tmp_path / "short.parquet"), "24 dimensions"),
        ((*words, tmp_path / "nan.parquet"), "NaN"),
        ((*words, ref, "--column", "embeding"), "embedding"),
        ((*words, ref, "--column", "name"), "--embedder"),
        ((*words, tmp_path / "absent.parquet"), "absent"),
        ((*words, ref, "--method", "atuo"), "auto"),
        ((*words, ref, "--permutations", -1), "num_permutations"),
        ((*words, ref, "--embedder", "words2vec"), "hash"),
        ((*words, ref, "--base-url", "http://x/v1"), "embedder"),
    ]
    for command, word in cases:
        result = pyflare(*command)
        assert (result.code, result.out) == (2, ""), command
        assert word in result.err
        assert "Traceback" not in result.err


def test_an_embedder_that_is_not_there_ends_with_exit_code_3(
    pyflare: Pyflare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its key is in no message."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-to-be-seen")
    monkeypatch.setattr("pyflare_analysis.embedders.openai._BACKOFF_S", ())
    pl.DataFrame({"q": ["a", "b"] * 10}).write_parquet(tmp_path / "t.parquet")
    path = tmp_path / "t.parquet"

    where = ("--base-url", "http://127.0.0.1:9/v1")
    result = pyflare("drift", "mmd", "--ref", path, "--cur", path, "--column", "q",
                     "--embedder", "openai", "--embedding-model", "m", *where)  # fmt: skip

    assert result.code == 3
    assert "127.0.0.1:9" in result.err
    assert "sk-not-to-be-seen" not in result.err + result.out


def test_text_is_embedded_without_a_model(pyflare: Pyflare, tmp_path: Path) -> None:
    """Questions about an order, then some about an invoice."""
    asked = [f"Where is my order number {i % 50}?" for i in range(100)]
    later = [*asked[:90], *(f"Invoice {i} has the wrong VAT" for i in range(10))]
    for name, texts in (("ref", asked), ("cur", later)):
        with (tmp_path / f"{name}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([["q"], *([text] for text in texts)])

    body = pyflare("drift", "mmd", "--ref", tmp_path / "ref.csv", "--cur", tmp_path / "cur.csv",
                   "--column", "q", "--embedder", "hash", "--method", "auto",
                   "--seed", "1").json()  # fmt: skip

    assert (body["verdict"], body["embedder"]) == ("drift", "hash/1")
    assert "invoice" in body["topics"][0]["words"]


def _two_versions(count: int, *, seed: int, shift: float) -> list[dict[str, object]]:
    """Return spans of two versions of a prompt by turns; one in five has no embedding."""
    rng = np.random.default_rng(seed)
    return [
        span(
            trace_id=f"{rng.integers(1, 2**62):032x}",
            span_id=f"{i + 1:016x}",
            input=f"question {i}",
            prompt_version=f"v{i % 2}",
            embedding=None if i % 5 == 0 else (rng.standard_normal(4) + shift * (i % 2)).tolist(),
        )
        for i in range(count)
    ]


def test_spans_of_the_data_directory_are_compared_and_the_verdict_kept(
    pyflare: Pyflare, tmp_path: Path
) -> None:
    """Two versions of a prompt; null embeddings are left out; an alert is raised."""
    data = data_directory(tmp_path / "data", _two_versions(100, seed=1, shift=3))

    result = pyflare("drift", "mmd", "--data", data, "--ref-where",
                     "prompt_version = 'v0'", "--cur-where", "prompt_version = 'v1'",
                     "--method", "auto")  # fmt: skip

    body = result.json()
    assert (body["reference"]["rows"], body["reference"]["missing"]) == (40, 10)
    assert body["verdict"] == "drift"
    assert "10 rows without a value" in result.err
    (kept,) = (data / "drift").glob("*.parquet")
    row = pl.read_parquet(kept).row(0, named=True)
    assert (row["command"], row["column"], row["verdict"]) == ("mmd", "embedding", "drift")
    assert row["mmd2"] == pytest.approx(body["mmd2"])
    assert json.loads(row["details"])["method"] == "auto"


@pytest.mark.service
@pytest.mark.parametrize("max_samples", [0, 30])
def test_the_embedded_engine_gives_the_same_answer(
    pyflare: Pyflare, tmp_path: Path, max_samples: int
) -> None:
    """Spans in Parquet and in ClickHouse: the same vectors, splits, samples, topics."""
    pytest.importorskip("chdb", reason="the embedded ClickHouse engine comes with the chdb extra")
    rows = _two_versions(200, seed=3, shift=1)
    data, engine = data_directory(tmp_path / "data", rows), f"chdb://{tmp_path / 'engine'}"
    assert pyflare("load", "--source", data, "--to", engine).code == 0
    words = ("drift", "mmd", "--ref-where", "prompt_version = 'v0'", "--cur-where",
             "prompt_version = 'v1'", "--method", "auto", "--seed", 5, "--no-store",
             "--max-samples", max_samples)  # fmt: skip

    parquet = pyflare(*words, "--source", data).json()
    clickhouse = pyflare(*words, "--source", engine).json()

    assert parquet["verdict"] == "drift"
    for body in (parquet, clickhouse):
        for side in ("reference", "current"):
            del body[side]["source"]
    assert parquet == clickhouse


def test_a_sample_is_drawn_and_told(pyflare: Pyflare, files: Path) -> None:
    """`--max-samples` bounds both sides."""
    result = pyflare("drift", "mmd", "--ref", files / "ref.parquet", "--cur",
                     files / "new.parquet", "--max-samples", 60, "--seed", 4)  # fmt: skip

    body = result.json()
    assert (body["reference"]["rows"], body["reference"]["available"]) == (60, 150)
    assert "60 of 150 vectors were drawn" in result.err
