"""Costs of a batch: the price book's, or the emitter's own where no price is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyflare_collector.normalize.attributes import Categories
from pyflare_collector.normalize.conventions import FLAGS
from pyflare_collector.normalize.draft import Draft
from pyflare_proto.record import COST_STATUSES
from pyflare_storage.prices import Coded, PriceBook, PriceInputs

__all__ = ["cost_columns"]

_REPORTED = COST_STATUSES.index("reported")
_UNPRICED = COST_STATUSES.index("unpriced")
_NO_USAGE = COST_STATUSES.index("no_usage")
_MAX_USD = 9e9
"""Larger amounts do not fit int64 nano-dollars, and are no cost of one call."""


def cost_columns(
    draft: Draft, calls: NDArray[np.bool_], prices: PriceBook
) -> dict[str, pa.Array[Any]]:
    """Return `cost_nano_usd`, `cost_status` and `price_source`.

    The emitter's own figure is taken only where the price book knows no rate, or where
    the emitter tells a cost but no tokens; 0, a currency other than US dollars and
    amounts over 9e9 count as absent.

    Args:
        draft: the batch with its tokens settled.
        calls: (n,) spans that are calls of a model.
        prices: the price book.
    """
    usage, categories = draft.usage, draft.categories
    batch_flag = draft.resolver.flags(FLAGS["batch"])
    priced = prices.price_columns(
        PriceInputs(
            provider=_coded(categories["provider"]),
            model_response=_coded(categories["model_response"]),
            model_request=_coded(categories["model_request"]),
            end_time_ns=draft.batch.end_time_ns,
            input_tokens=usage.get("input_tokens"),
            output_tokens=usage.get("output_tokens"),
            cache_read_tokens=usage.counts["cache_read_tokens"],
            cache_write_tokens=usage.counts["cache_write_tokens"],
            cache_write_1h_tokens=usage.counts["cache_write_1h_tokens"],
            reasoning_tokens=usage.counts["reasoning_tokens"],
            audio_input_tokens=usage.counts["audio_input_tokens"],
            audio_output_tokens=usage.counts["audio_output_tokens"],
            service_tier=_optional(categories["service_tier"]),
            batch=None if batch_flag is None else batch_flag[0],
            billable=calls,
        )
    )
    costs, valid, status = priced.cost_nano_usd, priced.valid, priced.status
    source, sources = priced.source, list(priced.sources)
    reported = _reported(draft, calls)
    if reported is not None:
        amounts, where = reported
        where = where & ((status == _UNPRICED) | (status == _NO_USAGE))
        if where.any():
            costs = np.where(where, amounts, costs)
            valid = valid | where
            status = np.where(where, np.uint8(_REPORTED), status)
            source = np.where(where, np.int32(len(sources)), source)
            sources.append("reported")
    return {
        "cost_nano_usd": pa.array(costs, mask=~valid),
        "cost_status": pa.DictionaryArray.from_arrays(
            pa.array(status, pa.int32()), pa.array(COST_STATUSES)
        ),
        "price_source": pa.DictionaryArray.from_arrays(
            pa.array(source, pa.int32(), mask=source < 0), pa.array(sources, pa.string())
        ),
    }


def _reported(
    draft: Draft, calls: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]] | None:
    """Return the emitters' own costs in nano-dollars and where there is one."""
    found = draft.numbers["cost_reported_usd"]
    if found is None:
        return None
    usd, ok = found
    ok = ok & calls & (usd <= _MAX_USD)
    currency = draft.categories["cost_currency"]
    is_usd = np.array([*(value.strip().upper() == "USD" for value in currency.values), True])
    ok &= is_usd[currency.codes]
    return np.rint(np.where(ok, usd, 0.0) * 1e9).astype(np.int64), ok


def _coded(column: Categories) -> Coded:
    return Coded(column.codes, column.values)


def _optional(column: Categories) -> Coded | None:
    return _coded(column) if column.values else None
