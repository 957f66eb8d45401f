"""PyFlare's SDK: traces, token usage and cost of LLM calls, on OpenTelemetry."""

from pyflare._version import __version__

__all__ = ["__version__"]
