"""Masks: values go, wording stays."""

import polars as pl
import pytest

from pyflare_analysis.rca.clusters.masks import MASKS, MAX_CHARACTERS, WILDCARD, Mask, mask


def masked(text: str) -> str:
    """Return one masked message."""
    found = mask(pl.Series([text])).item()
    assert isinstance(found, str)
    return found


@pytest.mark.parametrize("item", MASKS, ids=lambda item: item.name)
def test_each_mask_takes_its_example_as_a_whole(item: Mask) -> None:
    """The example stands within a sentence and nothing of it is left."""
    assert masked(f"failed for {item.example} today") == f"failed for {WILDCARD} today"


@pytest.mark.parametrize(
    "value",
    [
        *("17", "-1", "3.2s", "1m30s", "0x1f", "v1.2.3", "10.0.0.1", "$12.50", "95%"),
        *("blk_-6952295868487656571", "d41d8cd98f00b204e9800998ecf8427e", "gpt-4o-2024-08-06"),
        *("8c0a5a3e-4d3b-4a66-9c55-0f8b6a3b8c11", "req-38101a0b-2096-447d-96ea-a692162415ae"),
        *("2026-11-23", "2026-11-23T03:04:05Z", "2026-11-23 03:04:05,123", "17:41:44"),
        *("Nov 23, 2026", "23 Nov 2026", "Mon, 23 Nov 2026 03:04:05 GMT", "aa:bb:cc:dd:ee:ff"),
        *("2001:db8::8a2e:370:7334", "s3://bucket/key.parquet", "C:\\Users\\ada\\app.py"),
        *("/latest/meta-data/", "`documents`", "'search_web'", '"city"', "org-AbCdEfGhIjKlMnOpQr"),
        *("1,234,567", "a.b@example.com", "https://x.example/a?b=c&d=e"),
    ],
)
def test_values_of_all_kinds_go(value: str) -> None:
    """One value is one wildcard."""
    assert masked(f"failed for {value} today") == f"failed for {WILDCARD} today"


@pytest.mark.parametrize(
    "text",
    [
        "Could not parse LLM output",
        "read/write lock was not released",
        "std::bad_alloc in the tokenizer: and/or",
        "com.acme.TimeoutException: gave up",
        "the server's answer can't be read",
        "May the request be retried? Sat down",
    ],
)
def test_wording_stays(text: str) -> None:
    """Slashes, colons, dots, apostrophes and words like months are no values."""
    assert masked(text) == text


def test_keys_of_json_stay_and_values_go() -> None:
    """The body of a provider's error keeps its shape; a phrase in quotes keeps its words."""
    body = "Error code: 429 - {'error': {'message': 'Slow down please', 'code': 'rate_limit'}}"

    assert masked(body) == ("Error code: <*> - {error: {message: 'Slow down please', code: <*>}}")


def test_a_quoted_text_after_an_equals_sign_goes() -> None:
    """As Sentry does: `tag="View Lock"` is a value whatever it says."""
    assert masked('acquire tag="View Lock", mode=fast') == "acquire tag=<*>, mode=fast"


def test_values_in_a_row_are_one() -> None:
    """A list of three ids looks like a list of two."""
    assert masked("delete a1, b2, c3 now") == masked("delete a1 b2 now") == "delete <*> now"


def test_null_is_empty_and_long_texts_are_cut() -> None:
    """A column keeps its length; ten megabytes in a message cost no more than its beginning."""
    found = mask(pl.Series([None, "x" * 10 * MAX_CHARACTERS], dtype=pl.String)).to_list()

    assert found == ["", "x" * MAX_CHARACTERS]
