"""The convention lists themselves: complete, and written in the words that exist."""

from __future__ import annotations

import pytest

from pyflare_collector.normalize import KEYS, providers, record_table, table_schema, warm_up
from pyflare_collector.normalize.changes import FACTORS, TEXT_CHANGES
from pyflare_collector.normalize.conventions import (
    CATEGORY_FIELDS,
    CONTEXT_FIELDS,
    INTEGER_FIELDS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    TYPE_SOURCES,
    USAGE_DOCUMENTS,
)
from pyflare_collector.normalize.emitters.langfuse import parse_time, parse_times
from pyflare_collector.normalize.emitters.langsmith import parse_details
from pyflare_proto.record import COLUMN_NAMES, SPAN_TYPES, arrow_schema

ALL_FIELDS = {**CATEGORY_FIELDS, **TEXT_FIELDS, **NUMBER_FIELDS, **CONTEXT_FIELDS}


@pytest.mark.parametrize("field", sorted(ALL_FIELDS))
def test_sources_of_a_field(field: str) -> None:
    """Each source is listed once, names known changes and types, and is in the key table."""
    sources = ALL_FIELDS[field]
    assert len(set(sources)) == len(sources)
    for source in sources:
        assert source.key in KEYS
        assert set(source.when) <= set(SPAN_TYPES)
        known = FACTORS if field in NUMBER_FIELDS else TEXT_CHANGES
        assert not source.change or source.change in known


@pytest.mark.parametrize("field", sorted(INTEGER_FIELDS))
def test_token_keys(field: str) -> None:
    """Each token key is listed once for its field and for no other field."""
    keys = INTEGER_FIELDS[field]
    others = {k for name, ks in INTEGER_FIELDS.items() if name != field for k in ks}
    assert len(set(keys)) == len(keys)
    assert not others & set(keys)


def test_usage_documents_fill_known_fields() -> None:
    """A document's members are token fields, and its exclusive places are among its places."""
    for document in USAGE_DOCUMENTS:
        assert set(document.fields) <= set(INTEGER_FIELDS)
        places = {path for paths in document.fields.values() for path in paths}
        if document.exclusive:
            assert document.exclusive <= places


def test_types_are_span_types() -> None:
    """Every value of a sign stands for a type of the record."""
    for sign in TYPE_SOURCES:
        meanings = {
            *sign.values.values(),
            *sign.starts.values(),
            *sign.ends.values(),
            *sign.contains.values(),
        } | ({sign.present} if sign.present else set())
        assert meanings
        assert meanings <= set(SPAN_TYPES)
        assert all(value == value.lower() for value in sign.values)


def test_fields_are_columns() -> None:
    """Every category and text field is a column of the record."""
    assert {*CATEGORY_FIELDS, *TEXT_FIELDS} <= set(COLUMN_NAMES)


def test_table_schema_differs_by_dictionaries_only() -> None:
    """The table's schema casts to the record's schema, column by column."""
    assert table_schema().names == arrow_schema().names
    assert record_table(table_schema().empty_table()).schema == arrow_schema()


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("OpenAI", "openai"),
        ("az.ai.openai", "azure.ai.openai"),
        ("azure", "azure.ai.openai"),
        ("AWS", "aws.bedrock"),
        ("amazon-bedrock", "aws.bedrock"),
        ("vertexai", "gcp.vertex_ai"),
        ("google", "gcp.gemini"),
        ("gcp.gen_ai", "gcp.gen_ai"),
        ("mistralai", "mistral_ai"),
        ("x-ai", "x_ai"),
        ("watsonx", "ibm.watsonx.ai"),
        ("huggingface", "hugging_face"),
        ("openai.chat", "openai"),
        ("anthropic.messages", "anthropic"),
        ("Some Host", "some host"),
        ("langchain", None),
        ("_OTHER", None),
        ("litellm", None),
        (" ", None),
    ],
)
def test_provider_names_fold(written: str, name: str | None) -> None:
    """Spellings fold to one name; values that name nobody are absent."""
    assert providers.fold(written) == name


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "openai"),
        ("o3-mini", "openai"),
        ("claude-sonnet-4-5", "anthropic"),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", "aws.bedrock"),
        ("amazon.nova-lite-v1:0", "aws.bedrock"),
        ("openai/gpt-4o", "openai"),
        ("some-host/claude-3-opus", "anthropic"),
        ("gemini-2.5-pro", "gcp.gemini"),
        ("our-own-model", None),
    ],
)
def test_provider_guessed_from_the_model(model: str, name: str | None) -> None:
    """A model's name points to its provider, or to none."""
    assert providers.guess(model) == name


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("{'cache_read': 64, 'note': 'x'}", {"cache_read": 64}),
        ('{"cache_read": 64}', {"cache_read": 64}),
        ("{'cache_read': -1}", {}),
        ("{'cache_read': True}", {}),
        ("__import__('os')", {}),
        ("[" * 500, {}),
        ("{'a': " * 3000, {}),
        ("", {}),
    ],
)
def test_python_text_of_token_details(text: str, counts: dict[str, int]) -> None:
    """Only whole counts of a literal dictionary are read; nothing else is run or raises."""
    assert parse_details(text) == counts


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ('"1970-01-01T00:00:01.5Z"', 1_500_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:01", 1_000_000_000),
        ("2025-10-09T08:53:20.250000Z", 1_760_000_000_250_000_000),
        ("soon", -1),
        ("", -1),
    ],
)
def test_iso_times(text: str, nanoseconds: int) -> None:
    """Times are read with and without quotes and zone, alone and among others."""
    assert parse_time(text) == nanoseconds
    assert parse_times([text]).tolist() == [nanoseconds]
    assert parse_times([text, "soon"]).tolist() == [nanoseconds, -1]
    assert parse_times([text, "1970-01-01T00:00:00Z"]).tolist() == [nanoseconds, 0]


def test_warm_up_needs_no_input() -> None:
    """Warming up runs every kernel of normalisation once, as often as it is asked."""
    warm_up()
    warm_up()
