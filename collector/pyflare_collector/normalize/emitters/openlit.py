"""OpenLIT: input without cache for Anthropic, a time to the first token for every call.

Under the modern keys its Anthropic and Bedrock instrumentations report
`input_tokens` as the API does, beside the cache tokens. It also writes
`gen_ai.server.time_to_first_token` for calls that were not streamed, where it is the
time to the whole answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyflare_collector.normalize.conventions.usage import FLAGS
from pyflare_collector.normalize.draft import Draft
from pyflare_collector.normalize.emitters.base import Emitter

__all__ = ["EMITTER"]

_EXCLUSIVE_PROVIDERS = ("anthropic", "aws.bedrock")


def _values(draft: Draft, spans: NDArray[np.bool_]) -> None:
    provider = draft.categories["provider"]
    known = np.array([*(value in _EXCLUSIVE_PROVIDERS for value in provider.values), False])
    draft.usage.exclusive |= spans & known[provider.codes]
    first_token = draft.numbers.get("time_to_first_token_ms")
    streamed = draft.resolver.flags(FLAGS["stream"])
    if first_token is not None and streamed is not None:
        is_stream, told = streamed
        first_token[1][spans & told & ~is_stream] = False


EMITTER = Emitter("OpenLIT", scopes=("openlit.instrumentation.",), values=_values)
