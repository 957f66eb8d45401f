"""Vectors without a model: which words, word pairs and letter triples a text is made of.

Deterministic, on every machine and in every version. Two texts are near when they share
wording; a paraphrase in other words is as far as anything else, and so is a translation.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

__all__ = ["HashEmbedder"]

_DIMENSIONS = 384
_WORD = re.compile(r"\w+|[^\w\s]")
_TRIPLE_WEIGHT = 0.3
_KNOWN = 1 << 18


class HashEmbedder:
    """Signed feature hashing into 384 dimensions, unit length.

    Each distinct feature counts 1 + ln(occurrences).

    Source: Weinberger et al. 2009, ICML 1113-1120.
    """

    @property
    def name(self) -> str:
        """Embedder and version of its features."""
        return "hash/1"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), 384) vectors of unit length; a text without words is zero."""
        vectors = np.zeros((len(texts), _DIMENSIONS), np.float32)
        for row, text in enumerate(texts):  # a text costs a thousand times its turn of the loop
            places, values = _features(text)
            np.add.at(vectors[row], places, values)
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        np.divide(vectors, lengths, out=vectors, where=lengths > 0)
        return vectors


def _features(text: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return dimension and signed weight of each distinct feature of a text."""
    words = _WORD.findall(text.casefold())
    counts: Counter[str] = Counter(words)
    counts.update(f"{a} {b}" for a, b in pairwise(words))
    triples = Counter(
        f"#{padded[i : i + 3]}"
        for word, count in Counter(words).items()
        for padded in (f"<{word}>",)
        for i in range(len(padded) - 2)
        for _ in range(min(count, 3))
    )
    weighted = [(feature, 1.0, count) for feature, count in counts.items()]
    weighted += [(feature, _TRIPLE_WEIGHT, count) for feature, count in triples.items()]
    hashes = np.array([_hash(feature) for feature, _, _ in weighted], np.uint64)
    weights = np.array([weight * (1 + np.log(count)) for _, weight, count in weighted])
    signs = 1.0 - 2.0 * (hashes >> np.uint64(63)).astype(np.float64)
    places = (hashes % np.uint64(_DIMENSIONS)).astype(np.intp)
    return places, (weights * signs).astype(np.float32)


@lru_cache(maxsize=_KNOWN)
def _hash(feature: str) -> int:
    digest = blake2b(feature.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
