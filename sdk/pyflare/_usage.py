"""Token counts out of what providers answer, brought to one meaning: totals and their parts."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["usage_counts"]


def usage_counts(usage: object) -> dict[str, int]:
    """Return the fields of `TokenUsage` that a provider's usage object or mapping tells.

    Read are OpenAI's chat, responses and embeddings, and Anthropic's messages. OpenAI
    counts cached tokens within the input; Anthropic counts them beside it, so they are
    added there.
    """
    prompt = _count(usage, "prompt_tokens")
    if prompt is not None:
        return _openai(usage, prompt, "prompt_tokens_details", "completion")
    if _part(usage, "input_tokens_details") is not None:
        return _openai(usage, _count(usage, "input_tokens") or 0, "input_tokens_details", "output")
    return _anthropic(usage)


def _openai(usage: object, prompt: int, details: str, output: str) -> dict[str, int]:
    into, out = _part(usage, details), _part(usage, f"{output}_tokens_details")
    return {
        "input_tokens": prompt,
        "output_tokens": _count(usage, f"{output}_tokens") or 0,
        "cache_read_tokens": _count(into, "cached_tokens") or 0,
        "cache_write_tokens": _count(into, "cache_write_tokens") or 0,
        "reasoning_tokens": _count(out, "reasoning_tokens") or 0,
        "audio_input_tokens": _count(into, "audio_tokens") or 0,
        "audio_output_tokens": _count(out, "audio_tokens") or 0,
    }


def _anthropic(usage: object) -> dict[str, int]:
    read = _count(usage, "cache_read_input_tokens") or 0
    write = _count(usage, "cache_creation_input_tokens") or 0
    hour = _count(_part(usage, "cache_creation"), "ephemeral_1h_input_tokens") or 0
    return {
        "input_tokens": (_count(usage, "input_tokens") or 0) + read + write,
        "output_tokens": _count(usage, "output_tokens") or 0,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "cache_write_1h_tokens": hour,
        "reasoning_tokens": _count(_part(usage, "output_tokens_details"), "thinking_tokens") or 0,
    }


def _part(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)


def _count(value: object, name: str) -> int | None:
    count = _part(value, name)
    return count if isinstance(count, int) else None
