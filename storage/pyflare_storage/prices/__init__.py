"""Prices of model calls: the user's table first, then genai-prices, else `unpriced`.

`PriceBook.load(path)` opens both; `PriceBook.price_columns` prices a batch of
spans and `PriceBook.quote` one call. An unknown model has no cost, never 0.
"""

from __future__ import annotations

from pyflare_storage.prices.columns import Coded, PricedColumns, PriceInputs

__all__ = ["Coded", "PriceInputs", "PricedColumns"]
