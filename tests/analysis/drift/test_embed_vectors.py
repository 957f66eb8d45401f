"""Vectors of a source: every form they come in, samples, what is missing, what is wrong."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from pyflare_analysis.drift import MMDConfig, Verdict
from pyflare_analysis.drift.embeddings import vectors
from pyflare_analysis.drift.embeddings.answer import EmbeddingDrift, embedding_drift
from pyflare_analysis.drift.embeddings.topic_words import distinctive_words
from pyflare_analysis.drift.embeddings.vectors import VectorColumn
from pyflare_analysis.embedders import open_embedder
from pyflare_proto.errors import InvalidDataError, SchemaError, UsageError
from pyflare_storage.expressions import col
from pyflare_storage.source import open_source
from tests.analysis.drift.mmd_oracle import topics, unit_centers
from tests.span_rows import span, write_spans


def _column(path: Path, column: str = "embedding", **more: Any) -> VectorColumn:
    return VectorColumn(open_source(path), column, **more)


def _rows(n: int, d: int = 4, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


@pytest.mark.parametrize(
    "dtype", [pl.List(pl.Float32), pl.List(pl.Float64), pl.Array(pl.Float32, 4)]
)
def test_lists_of_any_kind_are_vectors(tmp_path: Path, dtype: pl.DataType) -> None:
    """Lists of float32 and float64, and lists of fixed size."""
    rows = _rows(30)
    pl.DataFrame({"v": pl.Series(rows.tolist(), dtype=dtype)}).write_parquet(tmp_path / "a.parquet")

    found = _column(tmp_path / "a.parquet", "v").load(0, 1)

    np.testing.assert_allclose(found.values, rows)
    assert (found.available, found.missing, found.sampled) == (30, 0, False)
    assert found.row(7) == {"row": 7}


def test_json_text_of_a_csv_is_vectors(tmp_path: Path) -> None:
    """A column of text such as [0.5, 1]."""
    rows = _rows(12)
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "embedding"])
        writer.writerows([f"r{i}", json.dumps(row.tolist())] for i, row in enumerate(rows))

    found = _column(tmp_path / "a.csv", id_column="id").load(0, 1)

    np.testing.assert_allclose(found.values, rows, rtol=1e-6)
    assert found.row(3) == {"id": "r3"}


def test_rows_without_a_vector_are_left_out_and_counted(tmp_path: Path) -> None:
    """Spans without an embedding are no vectors of zeros; ids stay with their rows."""
    rows = [
        span(span_id=f"{i:016x}", input=f"text {i}", embedding=None if i % 3 else [1.0, float(i)])
        for i in range(30)
    ]
    found = _column(write_spans(tmp_path / "a.parquet", rows)).load(0, 1)

    assert (len(found.values), found.available, found.missing) == (10, 10, 20)
    named = found.row(2)
    assert (named["span_id"], named["text"]) == (f"{6:016x}", "text 6")
    assert found.values[2, 1] == 6


def test_conditions_choose_the_rows(tmp_path: Path) -> None:
    """Such as one version of a prompt."""
    rows = [span(prompt_version=f"v{i % 2}", embedding=[float(i)]) for i in range(10)]
    path = write_spans(tmp_path / "a.parquet", rows)

    found = _column(path, where=col("prompt_version").eq("v1")).load(0, 1)

    assert found.values[:, 0].tolist() == [1, 3, 5, 7, 9]


def test_more_vectors_than_asked_for_are_sampled_with_the_seed(tmp_path: Path) -> None:
    """The same rows for the same seed, others for another; how many there are is told."""
    frame = pl.DataFrame({"name": [str(i) for i in range(500)]})
    frame = frame.with_columns(embedding=pl.Series([[float(i)] for i in range(500)]))
    frame.write_parquet(tmp_path / "a.parquet")
    column = _column(tmp_path / "a.parquet", id_column="name")

    first, again, other = column.load(50, 1), column.load(50, 1), column.load(50, 2)

    assert len(first.values) == 50
    assert (first.available, first.sampled) == (500, True)
    np.testing.assert_array_equal(first.values, again.values)
    assert set(first.values[:, 0]) != set(other.values[:, 0])
    assert all(first.row(i) == {"name": str(int(first.values[i, 0]))} for i in range(50))


def test_long_vectors_are_sampled_to_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By bytes as well as by rows."""
    monkeypatch.setattr(vectors, "_MOST_BYTES", 20 * 4 * 8)
    pl.DataFrame({"embedding": pl.Series(_rows(90, 8).tolist(), dtype=pl.List(pl.Float32))}
                 ).write_parquet(tmp_path / "a.parquet")  # fmt: skip

    assert len(_column(tmp_path / "a.parquet").load(0, 1).values) == 20


@pytest.mark.parametrize(
    ("values", "error", "word"),
    [
        ([[1.0, 2.0], [1.0]], SchemaError, "1 and of 2"),
        ([["a"], ["b"]], SchemaError, "not vectors"),
        ([1.0, 2.0], SchemaError, "not vectors"),
        (["[1, 2]", "no list"], SchemaError, "text"),
        ([[1.0, float("nan")], [1.0, 2.0]], InvalidDataError, "row 0"),
        ([[1.0, None], [1.0, 2.0]], InvalidDataError, "NaN"),
        ([[1.0, float("inf")], [1.0, 2.0]], InvalidDataError, "infinity"),
    ],
)
def test_what_is_no_vector_is_an_error(
    tmp_path: Path, values: list[Any], error: type[Exception], word: str
) -> None:
    """With the column, and what is wrong with it."""
    pl.DataFrame({"embedding": values}).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(error, match=word):
        _column(tmp_path / "a.parquet").load(0, 1)


def test_a_column_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    """A slip of the pen; and a column of vectors needs no embedder."""
    pl.DataFrame({"embedding": [[1.0]]}).write_parquet(tmp_path / "a.parquet")

    with pytest.raises(SchemaError) as caught:
        _column(tmp_path / "a.parquet", "embeding").load(0, 1)
    with pytest.raises(SchemaError, match="not text"):
        _column(tmp_path / "a.parquet", embedder=open_embedder("hash")).load(0, 1)

    assert "embedding" in (caught.value.hint or "")


def test_nothing_at_all_is_insufficient(tmp_path: Path) -> None:
    """Spans, none of which has an embedding."""
    none = write_spans(tmp_path / "none.parquet", [span(span_id=f"{i:016x}") for i in range(5)])
    some = write_spans(
        tmp_path / "some.parquet",
        [span(span_id=f"{i:016x}", embedding=[float(i), 1.0]) for i in range(50)],
    )
    for method in ("mmd", "auto", "rff"):
        answer = embedding_drift(_column(some), _column(none), MMDConfig(), method)
        assert answer.verdict is Verdict.INSUFFICIENT
        assert "50 and 0" in answer.to_dict()["reason"]


_ASKED = [
    "Where is my order number {}?",
    "How do I reset the password of account {}?",
    "Please refund item {} to my card",
    "What are your opening hours on day {}?",
]
_NEW = "Invoice {} has the wrong VAT for Germany"


def _questions(seed: int, n: int, share: float) -> list[str]:
    rng = np.random.default_rng(seed)
    texts = [_ASKED[i] for i in rng.integers(len(_ASKED), size=n)]
    return [(_NEW if rng.random() < share else text).format(rng.integers(1000)) for text in texts]


def _text_drift(tmp_path: Path, embedder: str) -> EmbeddingDrift:
    sides = []
    for name, share in (("ref", 0.0), ("cur", 0.06)):
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame({"q": _questions(len(name) + int(share * 100), 300, share)}).write_parquet(
            path
        )
        sides.append(_column(path, "q", embedder=open_embedder(embedder)))
    return embedding_drift(sides[0], sides[1], MMDConfig(random_seed=3), "auto")


@pytest.mark.parametrize("embedder", ["hash", "static"])
def test_the_new_topic_of_texts_comes_with_rows_and_words(tmp_path: Path, embedder: str) -> None:
    """From text to vectors to the question that nobody asked before."""
    if embedder == "static":
        pytest.importorskip("wordllama", reason="the extra embed")

    document = _text_drift(tmp_path, embedder).to_dict()

    assert document["verdict"] == "drift"
    assert document["embedder"].startswith(embedder)
    topic = document["topics"][0]
    assert topic["status"] == "new"
    assert {"invoice", "vat", "germany"} <= set(topic["words"])
    assert all("Invoice" in example["text"] for example in topic["current_examples"])
    assert all(isinstance(example["row"], int) for example in topic["current_examples"])


def test_all_rows_are_streamed_through_random_features(tmp_path: Path) -> None:
    """The method rff draws no sample; and does not embed everything unasked."""
    rng = np.random.default_rng(1)
    centers = unit_centers(rng, 6, 16)
    columns = []
    for name, new in (("a", 0.0), ("b", 0.3)):
        rows = topics(rng, 3000, centers=centers, noise=0.5, new=new)
        path = tmp_path / f"{name}.parquet"
        pl.DataFrame({"embedding": pl.Series(rows.tolist(), dtype=pl.List(pl.Float32))}
                     ).write_parquet(path)  # fmt: skip
        columns.append(_column(path))

    document = embedding_drift(columns[0], columns[1], MMDConfig(random_seed=1), "rff").to_dict()

    assert document["reference"]["rows"] == document["current"]["rows"] == 3000
    assert document["tests"][0]["rows_a_group"] == 3
    assert document["verdict"] == "drift"
    pl.DataFrame({"q": ["a"] * 30}).write_parquet(tmp_path / "t.parquet")
    text = _column(tmp_path / "t.parquet", "q", embedder=open_embedder("hash"))
    with pytest.raises(UsageError, match="every"):
        embedding_drift(text, text, MMDConfig(), "rff")


def test_words_tell_a_topic() -> None:
    """Those that are frequent there and rare elsewhere, in two texts at least."""
    texts = ["the cat sat", "the cat ran", "the dog sat", "the dog ran", "the dog ate"] * 6 + [None]

    words = distinctive_words(texts, [i for i in range(30) if i % 5 < 2])

    assert words == ["cat"]
    assert distinctive_words(texts, []) == []
