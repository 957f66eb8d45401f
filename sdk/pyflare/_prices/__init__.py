"""The price list of the SDK: a dated snapshot of genai-prices, read on first use.

`catalog.py` finds a model and its rates, `names.py` takes names apart, `rates.py`
multiplies. The suite does the same on whole columns with the library itself
(`pyflare_storage.prices`); tests hold that both say the same.
"""
