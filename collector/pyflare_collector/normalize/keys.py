"""The attribute keys that normalisation reads: the key table to decode with."""

from __future__ import annotations

from collections.abc import Iterator

from pyflare_collector.normalize import emitters
from pyflare_collector.normalize.content import CONTENT_KEYS
from pyflare_collector.normalize.conventions import (
    CATEGORY_FIELDS,
    CONTEXT_FIELDS,
    ERROR_LEVELS,
    ERROR_NUMBERS,
    FLAGS,
    INTEGER_FIELDS,
    MODEL_KEYS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    TYPE_SOURCES,
    USAGE_DOCUMENTS,
)
from pyflare_collector.normalize.conventions.sources import keys_of
from pyflare_proto.otlp.keys import KeyTable

__all__ = ["KEYS"]


def _all_keys() -> Iterator[str]:
    for fields in (CATEGORY_FIELDS, TEXT_FIELDS, NUMBER_FIELDS, CONTEXT_FIELDS):
        for sources in fields.values():
            yield from keys_of(sources)
    for keys in (*INTEGER_FIELDS.values(), *FLAGS.values()):
        yield from keys
    for sign in TYPE_SOURCES:
        yield sign.key
    for document in USAGE_DOCUMENTS:
        yield document.key
    yield from (*MODEL_KEYS, *ERROR_LEVELS, *ERROR_NUMBERS)
    yield from emitters.KEYS
    yield from CONTENT_KEYS


KEYS = KeyTable(sorted(set(_all_keys())))
"""Every key that a convention list, an emitter or the content reader asks for."""
