"""Vectors by a small static model that ships inside its package: no network, no accelerator.

The mean of a text's token vectors (WordLlama, 256 dimensions, 16 MB). It knows which words
are alike and nothing of their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import UsageError

__all__ = ["StaticEmbedder"]


class StaticEmbedder:
    """WordLlama's model of 256 dimensions, unit length.

    Raises:
        UsageError: the package is not installed.
    """

    def __init__(self) -> None:
        try:
            import wordllama
        except ModuleNotFoundError as error:
            raise UsageError(
                "the embedder static needs the package wordllama",
                hint="pip install 'pyflare-suite[embed]'; --embedder hash needs none",
            ) from error
        # The weights lie in the package; as its cache, it is found there without a download.
        folder = Path(str(wordllama.__file__)).parent
        self._model: Any = wordllama.WordLlama.load(cache_dir=folder, disable_download=True)

    @property
    def name(self) -> str:
        """Embedder and model."""
        return "static/wordllama-l2-supercat-256"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), 256) vectors of unit length."""
        vectors = np.asarray(self._model.embed(list(texts)), np.float32)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        scaled = np.zeros_like(vectors)
        np.divide(vectors, lengths, out=scaled, where=lengths > 0)
        return scaled
