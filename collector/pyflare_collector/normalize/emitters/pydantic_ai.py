"""Pydantic AI before version 2: agent runs without an operation, with the usage of their calls.

Such a run carries `agent_name`, `model_name` and `gen_ai.usage.*`, the sum over its
calls. As an agent it keeps none of it. From version 2 on the run names its operation
and writes the sum to `gen_ai.aggregated_usage.*`, which nothing reads.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters.base import Emitter
from pyflare_proto.record import SPAN_TYPES

__all__ = ["EMITTER"]

_AGENT = SPAN_TYPES.index("agent")


def _types(draft: Draft, spans: NDArray[np.bool_]) -> None:
    agent = draft.index.rows("agent_name")
    if agent is None:
        return
    runs = spans & (agent >= 0) & (draft.span_type < 0)
    for key in ("gen_ai.operation.name", "gen_ai.tool.name"):
        other = draft.index.rows(key)
        if other is not None:
            runs &= other < 0
    draft.span_type[runs] = _AGENT


EMITTER = Emitter("Pydantic AI", scopes=("pydantic-ai",), marks=("agent_name",), types=_types)
