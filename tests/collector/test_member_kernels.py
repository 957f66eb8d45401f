"""Counts of small documents in one pass, against the standard library's parser."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyflare_collector.normalize.member_kernels import build_tree, read_counts
from pyflare_proto.otlp.batch import Slices

PATHS = (("a",), ("b",), ("d", "a"), ("d", "e", "a"), ("d", "e", "long key"), ("ü",))
TREE = build_tree(PATHS)


def counts_of(texts: list[bytes]) -> list[list[int]]:
    """Return the counts of each text, by path."""
    buffer = np.frombuffer(b"".join(texts) + b'}}}}"1', np.uint8)
    ends = np.cumsum([0, *map(len, texts)])
    slices = Slices(ends[:-1].astype(np.int64), np.diff(ends).astype(np.int32))
    counts, seen = read_counts(buffer, slices, TREE)
    assert seen.tolist() == (counts >= 0).any(axis=1).tolist()
    rows: list[list[int]] = counts.T.tolist()
    return rows


def expected(document: Any) -> list[int]:
    """Return what the paths hold in a parsed document."""
    found = []
    for path in PATHS:
        value = document
        for step in path:
            value = value.get(step) if isinstance(value, dict) else None
        is_count = type(value) in {int, float} and 0 <= value <= 2**53 and value == int(value)
        found.append(int(value) if is_count else -1)
    return found


KEYS = st.sampled_from(["a", "b", "d", "e", "long key", "ü", "", "aa", '"', "\\"])
NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18), st.integers(0, 999), st.sampled_from([0.5, 2.0])
)
SCALARS = st.one_of(
    NUMBERS, st.sampled_from([None, True, "", "a", '{"a": 1}', "\\", [], [{"a": 1}]])
)
INNER = st.dictionaries(KEYS, SCALARS, max_size=4)
DOCUMENTS = st.dictionaries(
    KEYS,
    st.one_of(SCALARS, st.dictionaries(KEYS, st.one_of(SCALARS, INNER), max_size=4)),
    max_size=6,
)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(DOCUMENTS, min_size=1, max_size=4),
    st.sampled_from([{}, {"ensure_ascii": False}, {"indent": 2}]),
)
def test_counts_are_those_of_a_full_parse(
    documents: list[dict[str, Any]], style: dict[str, Any]
) -> None:
    """Every path has the whole number that the parsed document has there, or none."""
    texts = [json.dumps(document, **style).encode() for document in documents]
    assert counts_of(texts) == [expected(document) for document in documents]


@settings(max_examples=100, deadline=None)
@given(DOCUMENTS, st.data())
def test_cut_documents_give_only_true_counts(document: dict[str, Any], data: st.DataObject) -> None:
    """A document that is cut anywhere never raises, and tells nothing it does not hold."""
    text = json.dumps(document).encode()
    cut = data.draw(st.integers(0, len(text)))
    for count, whole in zip(counts_of([text[:cut]])[0], expected(document), strict=True):
        # A number at the cut may have lost digits; every other one is complete.
        assert count in {-1, whole} or text[cut - 1 : cut].isdigit()


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_are_read_without_an_error(noise: bytes) -> None:
    """Bytes that are no JSON leave the documents beside them alone."""
    good = b'{"a": 1, "d": {"e": {"a": 3}, "a": 2}, "b": 4}'
    assert counts_of([good, noise, good])[::2] == [[1, 4, 2, 3, -1, -1]] * 2


@pytest.mark.parametrize(
    "paths",
    [
        [("a",), ("a",)],
        [("a",), ("a", "b")],
        [("a", "b"), ("a",)],
        [("a", 0)],
        [()],
        [("a", "b", "c", "d", "e")],
    ],
)
def test_a_tree_refuses_paths_that_it_cannot_hold(paths: list[tuple[str | int, ...]]) -> None:
    """Paths that clash, step into arrays or are too deep are refused when the tree is built."""
    with pytest.raises(ValueError, match="path"):
        build_tree(paths)
