"""Slices of a buffer to Arrow columns."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyflare_proto.errors import InvalidDataError
from pyflare_proto.otlp.batch import Slices
from pyflare_proto.otlp.columns import (
    dictionary,
    distinct_strings,
    hex_ids,
    string_array,
    strings,
)

# Bytes at the borders of the UTF-8 table (Unicode Standard, table 3-7).
BORDERS = bytes.fromhex("00227f8081908fa09fbfc0c1c2c3dfe0e1ecedeeeff0f1f3f4f5ff")
ODD = st.lists(st.sampled_from([BORDERS[i : i + 1] for i in range(len(BORDERS))]), max_size=12)
REPEATED = (b"", b"a", b"b", b"aaaaaaaa", b"aaaaaaab", b"\xff")
TEXTS = st.lists(
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary(max_size=20)
    | ODD.map(b"".join),
    max_size=12,
)


def laid_out(texts: Sequence[bytes], seed: int = 0) -> tuple[np.ndarray, Slices]:
    """Return a buffer that holds the texts in another order with gaps, and their slices."""
    rng = random.Random(seed)
    buffer = bytearray()
    places = [(0, 0)] * len(texts)
    for row in rng.sample(range(len(texts)), len(texts)):
        buffer += rng.randbytes(rng.randrange(5))
        places[row] = len(buffer), len(texts[row])
        buffer += texts[row]
    table = np.array(places, np.int64).reshape(-1, 2)
    slices = Slices(np.ascontiguousarray(table[:, 0]), table[:, 1].astype(np.int32))
    return np.frombuffer(bytes(buffer), np.uint8), slices


@settings(deadline=None)  # the first example compiles or loads the kernels
@given(texts=TEXTS, empty_is_null=st.booleans())
@example(texts=[b"\xff\xff\xff"], empty_is_null=True)
@example(texts=[b"\xf0\x9f\x98", "\U0001f600".encode()], empty_is_null=True)
@example(texts=[b"\xe2\x82", b"\xac"], empty_is_null=False)
@example(texts=[], empty_is_null=True)
def test_strings_equal_pythons_repair(*, texts: list[bytes], empty_is_null: bool) -> None:
    """Every text is `bytes.decode(errors="replace")`, valid for Arrow; empty ones null if asked."""
    column = strings(*laid_out(texts), empty_is_null=empty_is_null)
    column.validate(full=True)
    expected = [
        None if empty_is_null and not text else text.decode(errors="replace") for text in texts
    ]
    assert column.to_pylist() == expected


def test_every_sequence_of_up_to_three_bytes_at_the_borders_is_repaired_alike() -> None:
    """All sequences of one to three border bytes, and a tail of each, are as Python has them."""
    singles = [BORDERS[i : i + 1] for i in range(len(BORDERS))]
    texts = singles + [a + b for a in singles for b in singles]
    texts += [a + b + c for a in singles for b in singles for c in singles]
    texts += [a + b + b"\x80\x80z" for a in singles for b in singles]
    column = strings(*laid_out(texts))
    column.validate(full=True)
    assert column.to_pylist() == [text.decode(errors="replace") for text in texts]


def test_repair_that_keeps_the_length_is_not_taken_for_valid_text() -> None:
    """A cut sequence of three bytes has as many bytes as its U+FFFD, and is still replaced."""
    cut = "\U0001f600".encode()[:3]
    assert len(cut) == len("\ufffd".encode())
    assert strings(*laid_out([cut])).to_pylist() == ["\ufffd"]


def test_a_slice_that_cuts_a_character_does_not_take_the_rest_from_its_neighbour() -> None:
    """Two halves of one character are two bad texts, though the bytes between them are valid."""
    buffer = np.frombuffer("é".encode(), np.uint8)
    slices = Slices(np.array([0, 1]), np.array([1, 1], np.int32))
    assert strings(buffer, slices).to_pylist() == ["\ufffd", "\ufffd"]


def test_slices_may_overlap_and_repeat() -> None:
    """A row may point anywhere, so that a selection need not copy the buffer."""
    buffer = np.frombuffer(b"abcdefghijklmnop", np.uint8)
    slices = Slices(np.array([0, 2, 0, 15, 0]), np.array([16, 3, 16, 1, 0], np.int32))
    assert strings(buffer, slices, empty_is_null=False).to_pylist() == [
        "abcdefghijklmnop",
        "cde",
        "abcdefghijklmnop",
        "p",
        "",
    ]


@pytest.mark.parametrize("size", [8, 16])
def test_ids_are_lower_case_hexadecimal(size: int) -> None:
    """Ids read as `bytes.hex` writes them, in any memory order; zeros are null on demand."""
    rng = random.Random(size)
    ids = [rng.randbytes(size) for _ in range(300)] + [bytes(size), b"\xff" * size]
    table = np.frombuffer(b"".join(ids), np.uint8).reshape(-1, size)
    expected = [value.hex() for value in ids]
    assert hex_ids(table, zero_is_null=False).to_pylist() == expected
    assert hex_ids(np.asfortranarray(table), zero_is_null=False).to_pylist() == expected
    assert hex_ids(table[::3], zero_is_null=False).to_pylist() == expected[::3]
    nulls = [None if not any(value) else value.hex() for value in ids]
    assert hex_ids(table, zero_is_null=True).to_pylist() == nulls
    assert hex_ids(table[:0], zero_is_null=True).to_pylist() == []


@settings(deadline=None)
@given(st.lists(st.sampled_from(REPEATED) | ODD.map(b"".join)))
def test_distinct_texts_are_numbered_in_the_order_they_come(texts: list[bytes]) -> None:
    """Codes lead back to the texts; values are as many as distinct non-empty byte strings."""
    codes, values = distinct_strings(*laid_out(texts))
    order = list(dict.fromkeys(text for text in texts if text))
    assert values == [text.decode(errors="replace") for text in order]
    assert codes.dtype == np.int32
    assert codes.tolist() == [order.index(text) if text else -1 for text in texts]


def test_many_distinct_texts() -> None:
    """Nothing is lost or merged when every row is another text, of many lengths."""
    rng = random.Random(5)
    texts = [
        rng.randbytes(1 + i % 40).hex().encode()[: 4 + i % 40] + b"%d" % i for i in range(9000)
    ]
    codes, values = distinct_strings(*laid_out(texts))
    assert codes.tolist() == list(range(len(texts)))
    assert values == [text.decode() for text in texts]


def test_texts_that_differ_in_one_byte_are_distinct() -> None:
    """Lengths 1 to 33 with one byte changed at each place: comparison covers all of the text."""
    texts = []
    for size in range(1, 34):
        base = b"x" * size
        texts.append(base)
        texts.extend(base[:i] + b"y" + base[i + 1 :] for i in range(size))
    codes, values = distinct_strings(*laid_out(texts))
    assert len(values) == len(texts)
    assert codes.tolist() == list(range(len(texts)))


def test_dictionary_column_holds_each_text_once() -> None:
    """The dictionary has the distinct texts, the rows read as the texts, empty ones as null."""
    texts = [b"gpt-4o", b"", b"claude", b"gpt-4o", b""]
    column = dictionary(*laid_out(texts))
    assert column.dictionary.to_pylist() == ["gpt-4o", "claude"]
    assert column.to_pylist() == ["gpt-4o", None, "claude", "gpt-4o", None]
    assert dictionary(*laid_out([b"", b""])).to_pylist() == [None, None]
    assert dictionary(*laid_out([])).to_pylist() == []


def test_a_column_over_two_gib_is_refused() -> None:
    """Offsets of 32 bits must not wrap around: the size is checked, and the message names it."""
    starts = np.array([0, 2**31], np.int64)
    with pytest.raises(InvalidDataError, match="2147483648 bytes"):
        string_array(starts, np.empty(0, np.uint8), None)
