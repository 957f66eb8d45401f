"""LangSmith: token details as the text of a Python dictionary.

`gen_ai.usage.input_token_details` holds `{'cache_read': 64}`, which is no JSON. It is
read only where `langsmith.metadata.usage_metadata` did not tell the same as JSON.
"""

from __future__ import annotations

import ast

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters.base import Emitter

__all__ = ["EMITTER", "parse_details"]

_INPUT = "gen_ai.usage.input_token_details"
_OUTPUT = "gen_ai.usage.output_token_details"
_MAX_TEXT = 2000
_FIELDS = (
    (_INPUT, "cache_read", "cache_read_tokens"),
    (_INPUT, "cache_creation", "cache_write_tokens"),
    (_INPUT, "audio", "audio_input_tokens"),
    (_OUTPUT, "reasoning", "reasoning_tokens"),
    (_OUTPUT, "audio", "audio_output_tokens"),
)


def parse_details(text: str) -> dict[str, int]:
    """Return the counts in the text of a Python (or JSON) dictionary, {} where it is none."""
    if len(text) > _MAX_TEXT:
        return {}
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        key: value
        for key, value in found.items()
        if isinstance(key, str) and type(value) is int and 0 <= value < 1 << 62
    }


def _values(draft: Draft, spans: NDArray[np.bool_]) -> None:
    parsed = {}
    for key in (_INPUT, _OUTPUT):
        column = draft.index.categories(key)
        if column is not None:
            parsed[key] = (column.codes, [parse_details(value) for value in column.values])
    for key, member, field in _FIELDS:
        if key not in parsed:
            continue
        codes, details = parsed[key]
        counts = np.array([*(d.get(member, -1) for d in details), -1], dtype=np.int64)[codes]
        if (counts >= 0).any():
            column_of = draft.usage.column(field)
            where = spans & (column_of < 0) & (counts >= 0)
            column_of[where] = counts[where]


EMITTER = Emitter("LangSmith", marks=(_INPUT, _OUTPUT), keys=(_INPUT, _OUTPUT), values=_values)
