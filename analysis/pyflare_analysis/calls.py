"""What counts as a call of a model."""

from __future__ import annotations

from pyflare_proto.record import CALL_TYPES
from pyflare_storage.expressions import Expr, col

__all__ = ["CALL", "FAILED", "SAMPLED", "UNPRICED_CALL"]

CALL: Expr = col("span_type").is_in(CALL_TYPES) & col("cost_status").ne("duplicate")
"""Each call of a model once: failed ones too, not what another span tells as well."""

UNPRICED_CALL: Expr = CALL & col("cost_nano_usd").is_null()
"""Calls whose cost is unknown: no rate is known (`unpriced`), or no usage (`no_usage`)."""

FAILED: Expr = col("status_code").eq("error")
"""Spans that ended in an error."""

SAMPLED: Expr = col("sampling_probability") < 1.0
"""Spans that stand for more than themselves."""
