"""Claude Code: types by span name, token counts as Anthropic's API reports them.

Its spans are named `claude_code.llm_request`, `claude_code.tool`, ... and carry bare
keys (`model`, `input_tokens`, `cache_read_tokens`). Cache tokens stand beside
`input_tokens`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters.base import Emitter
from pyflare_proto.otlp.columns import distinct_strings
from pyflare_proto.record import SPAN_TYPES

__all__ = ["EMITTER"]

_PREFIX = "claude_code."
_TYPES = {
    "claude_code.llm_request": "llm",
    "claude_code.tool": "tool",
    "claude_code.interaction": "agent",
}
_CODES = {name: SPAN_TYPES.index(kind) for name, kind in _TYPES.items()}


def _names(draft: Draft) -> tuple[NDArray[np.int32], list[str]]:
    return distinct_strings(draft.batch.buffer, draft.batch.name)


def _types(draft: Draft, spans: NDArray[np.bool_]) -> None:
    codes, names = _names(draft)
    types = np.array([*(_CODES.get(name, -1) for name in names), -1], dtype=np.int8)[codes]
    where = spans & (draft.span_type < 0) & (types >= 0)
    draft.span_type[where] = types[where]


def _values(draft: Draft, spans: NDArray[np.bool_]) -> None:
    codes, names = _names(draft)
    own = np.array([*(name.startswith(_PREFIX) for name in names), False])[codes]
    draft.usage.exclusive |= spans & own


# The bare keys, so that batches without them pay nothing.
EMITTER = Emitter("Claude Code", marks=("input_tokens", "span.type"), types=_types, values=_values)
