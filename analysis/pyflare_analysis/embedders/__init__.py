"""Texts to vectors, by whatever model there is.

Example:
    >>> embedder = open_embedder("static")
    >>> embedder.embed(["where is my order?", "my parcel has not come"]).shape
    (2, 256)
"""

from pyflare_analysis.embedders.choice import EMBEDDERS, Embedder, open_embedder

__all__ = ["EMBEDDERS", "Embedder", "open_embedder"]
