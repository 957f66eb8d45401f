"""Prices of model calls: the user's table first, then genai-prices, else `unpriced`.

`PriceBook.load(path)` opens both; `PriceBook.price_columns` prices a batch of
spans and `PriceBook.quote` one call. An unknown model has no cost, never 0.
"""

from __future__ import annotations

from pyflare_storage.prices.book import PriceBook
from pyflare_storage.prices.columns import Coded, PricedColumns, PriceInputs
from pyflare_storage.prices.quote import Quote, usd_text

__all__ = ["Coded", "PriceBook", "PriceInputs", "PricedColumns", "Quote", "usd_text"]
