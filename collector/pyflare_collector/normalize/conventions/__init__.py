"""The conventions in the wild, as data: each field of the record and where it may come from.

A field has an ordered list of sources; on each span the first that is present and
not empty wins. To teach PyFlare a new emitter, add its keys here, at the place in
the order where they should be asked. Nothing else has to change: the key table of
the decoder (`pyflare_collector.normalize.keys`) and the resolvers read these lists.

    identity.py   who and what: operation, models, response, user, session, team, ...
    usage.py      how much: tokens, documents of raw usage, reported cost, times
    types.py      what a span is: its type, and whether it failed
    sources.py    the few words that the lists are written in

An emitter that these lists cannot describe has a function in `normalize/emitters`.
"""

from pyflare_collector.normalize.conventions.identity import CATEGORY_FIELDS, TEXT_FIELDS
from pyflare_collector.normalize.conventions.sources import Source, json, key, resource
from pyflare_collector.normalize.conventions.types import (
    ERROR_LEVELS,
    ERROR_NUMBERS,
    MODEL_KEYS,
    TYPE_SOURCES,
    TypeSource,
)
from pyflare_collector.normalize.conventions.usage import (
    CONTEXT_FIELDS,
    FLAGS,
    INTEGER_FIELDS,
    NUMBER_FIELDS,
    USAGE_DOCUMENTS,
    UsageDocument,
)

__all__ = [
    "CATEGORY_FIELDS",
    "CONTEXT_FIELDS",
    "ERROR_LEVELS",
    "ERROR_NUMBERS",
    "FLAGS",
    "INTEGER_FIELDS",
    "MODEL_KEYS",
    "NUMBER_FIELDS",
    "TEXT_FIELDS",
    "TYPE_SOURCES",
    "USAGE_DOCUMENTS",
    "Source",
    "TypeSource",
    "UsageDocument",
    "json",
    "key",
    "resource",
]
