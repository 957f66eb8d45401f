"""Emitters that the convention lists alone cannot describe, one small module each.

An emitter is recognised by its instrumentation scope, or asked about every span when
it names none. It may settle the type of a span before the general signs are asked
(`types`), and correct what was resolved (`values`). Both are given the draft of a
whole batch and the mask of the emitter's own spans, and change the draft in place.

To add one: write a module with an `EMITTER`, and list it below.
"""

from pyflare_collector.normalize.emitters import (
    claude_code,
    langfuse,
    langsmith,
    openlit,
    pydantic_ai,
)
from pyflare_collector.normalize.emitters.base import Emitter, run_types, run_values

__all__ = ["EMITTERS", "KEYS", "Emitter", "run_types", "run_values"]

EMITTERS: tuple[Emitter, ...] = (
    openlit.EMITTER,
    claude_code.EMITTER,
    langsmith.EMITTER,
    langfuse.EMITTER,
    pydantic_ai.EMITTER,
)
"""All emitters, in the order in which they are asked."""

KEYS: tuple[str, ...] = tuple(key for emitter in EMITTERS for key in emitter.keys)
"""Attribute keys that emitters read beyond the convention lists."""
