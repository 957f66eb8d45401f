"""JSON as storage keeps and sends it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

__all__ = ["compact_json"]


def compact_json(value: object) -> str:
    """Return JSON without spaces; numbers that are not finite are null, as the contract says."""
    return json.dumps(
        _finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str
    )


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
