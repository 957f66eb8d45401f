"""Conditions: the language of --where, its errors, and what it prunes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyflare_proto.errors import ExpressionError, PyFlareError
from pyflare_storage.expressions import (
    And,
    Attribute,
    Column,
    Compare,
    Expr,
    In,
    IsNull,
    Match,
    Not,
    Or,
    Timestamp,
    time_range,
)
from pyflare_storage.where import parse_where

A = Compare("==", Column("model"), "a")
B = Compare(">", Column("input_tokens"), 1)
C = IsNull(Column("user_id"))


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("model = 'a'", A),
        ('"a" == model', A),
        ("`model` == 'a'", A),
        ("1 < input_tokens", B),
        ("model='a' or input_tokens>1 and user_id is null", Or((A, And((B, C))))),
        ("(model='a' OR input_tokens>1) AND user_id IS NULL", And((Or((A, B)), C))),
        ("not model='a' and input_tokens>1", And((Not(A), B))),
        ("not not model = 'a'", A),
        ("user_id is not null", Not(C)),
        ("model in ('a', 'b')", In(Column("model"), ("a", "b"))),
        ("input_tokens not in (1, -2.5)", Not(In(Column("input_tokens"), (1, -2.5)))),
        ("name like 'a\\%'", Match("like", Column("name"), "a\\%")),
        ("name not contains 'it''s'", Not(Match("contains", Column("name"), "it's"))),
        ("name startswith 'it\\'s'", Match("startswith", Column("name"), "it's")),
        ("duration_ms >= 1.5s", Compare(">=", Column("duration_ms"), 1500.0)),
        ("attributes.http.method = 'GET'", Compare("==", Attribute("http.method"), "GET")),
        ("attributes['a b'] = true", Compare("==", Attribute("a b"), True)),
        (
            "resource_attributes['k'] <> 1",
            Compare("!=", Attribute("k", "resource_attributes"), 1),
        ),
        ("attributes contains 'x'", Match("contains", Column("attributes"), "x")),
        (
            "input_tokens < output_tokens",
            Compare("<", Column("input_tokens"), Column("output_tokens")),
        ),
        (
            "start_time < '1970-01-01T00:00:01Z'",
            Compare("<", Column("start_time"), Timestamp(10**9)),
        ),
    ],
)
def test_what_is_written_is_meant(text: str, meant: Expr) -> None:
    """Precedence, words in any case, quotes, durations, attributes, times."""
    assert parse_where(text) == meant


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("modle = 'a'", "unknown column 'modle'", "did you mean model?"),
        ("model = ", "at position 8, at the end", "--where"),
        ("model == 'a' input_tokens", "expected `and`, `or` or the end at position 14", "--where"),
        ("model = 'a", "text without its closing quote at position 9", "--where"),
        ("model = 'a' ; drop", "an unknown character at position 13, at `; drop`", "--where"),
        ("(model = 'a'", "expected `)`", "--where"),
        ("model in ('a' 'b')", "expected `)`", "--where"),
        ("model = null", "is null", "--where"),
        ("1 = 2", "a comparison without a column", "--where"),
        ("model like 5", "expected text in quotes", "--where"),
        ("input_tokens > 'a'", "cannot compare input_tokens (number) with 'a' (text)", "quotes"),
        ("model > 5", "cannot compare model (text) with 5 (number)", "put text in quotes"),
        ("start_time > 'yesterday'", "not a time: 'yesterday'", "ISO 8601"),
        ("input_tokens > 2s", "beside something that is no column in `_ms`", "--where"),
        ("finish_reasons = 'stop'", "cannot compare finish_reasons (other)", None),
        ("input_tokens contains '1'", "contains needs text", None),
        ("attributes.a = attributes.b", "cannot compare attributes['a']", "a number"),
        ("", "at position 1, at the end", "--where"),
        ("(" * 100 + "model = 'a'", "levels of parentheses", "--where"),
    ],
)
def test_errors_say_what_where_and_how(text: str, message: str, hint: str | None) -> None:
    """The message holds the fault and its place, the hint the way out."""
    with pytest.raises(ExpressionError) as caught:
        parse_where(text)

    assert message in caught.value.message
    if hint is not None:
        assert hint in str(caught.value.hint)


@given(st.text(max_size=40))
def test_no_text_breaks_the_parser(text: str) -> None:
    """Whatever is written is either a condition or an error that we raise."""
    try:
        assert isinstance(parse_where(text), Expr)
    except PyFlareError as error:
        assert error.message  # noqa: PT017  # either outcome is right


@pytest.mark.parametrize(
    ("text", "bounds"),
    [
        ("start_time >= '1970-01-01T00:00:05Z'", (5 * 10**9, None)),
        ("start_time > '1970-01-01T00:00:05Z'", (5 * 10**9 + 1, None)),
        ("start_time <= '1970-01-01T00:00:05Z' and model = 'a'", (None, 5 * 10**9 + 1)),
        ("'1970-01-01T00:00:05Z' = start_time", (5 * 10**9, 5 * 10**9 + 1)),
        (
            (
                "start_time > '1970-01-01' and "
                "(start_time >= '1970-01-02' and start_time < '1970-01-03')"
            ),
            (86_400 * 10**9, 2 * 86_400 * 10**9),
        ),
        ("start_time >= '1970-01-02' or model = 'a'", (None, None)),
        ("not start_time >= '1970-01-02'", (None, None)),
        ("end_time >= '1970-01-02'", (None, None)),
    ],
)
def test_time_ranges_hold_every_match(text: str, bounds: tuple[int | None, int | None]) -> None:
    """Files outside the range are not opened: it must never be too narrow."""
    assert time_range(parse_where(text)) == bounds
