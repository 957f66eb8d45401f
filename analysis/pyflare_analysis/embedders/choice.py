"""The embedders by name."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import UsageError, nearest

__all__ = ["EMBEDDERS", "KEY_VARIABLES", "Embedder", "open_embedder"]

EMBEDDERS = {
    "hash": "words, word pairs and letter triples, hashed: no model, sees shared wording only",
    "static": "a small model of word vectors that ships with its package (the extra `embed`)",
    "openai": "any OpenAI-compatible endpoint, by --base-url and --embedding-model",
}
"""Embedders by name, and what each is."""
KEY_VARIABLES = ("PYFLARE_EMBEDDING_API_KEY", "OPENAI_API_KEY")
"""Environment variables of the endpoint's key, the first that is set."""


class Embedder(Protocol):
    """Turns texts into vectors."""

    @property
    def name(self) -> str:
        """Embedder and model, as an answer tells it."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), d) vectors; equal texts get equal vectors.

        Args:
            texts: none empty.

        Raises:
            SourceUnavailableError: the service does not answer or refuses.
            InvalidDataError: the service answers with something else.
        """


def open_embedder(
    name: str,
    *,
    model: str | None = None,
    base_url: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Embedder:
    """Return an embedder.

    Args:
        name: one of `EMBEDDERS`.
        model: of `openai`: the model.
        base_url: of `openai`: address of the API, up to and with `/v1`.
        environment: where the key is looked up; the process's own when None.

    Raises:
        UsageError: no such embedder, an option that it needs or does not have, or a package
            that is not installed.
    """
    if name not in EMBEDDERS:
        near = nearest(name, EMBEDDERS)
        raise UsageError(
            f"no embedder {name!r}",
            hint=f"did you mean {near}?" if near else f"one of {', '.join(EMBEDDERS)}",
        )
    if name != "openai" and (model or base_url):
        raise UsageError(
            f"--embedding-model and --base-url are not for the embedder {name}",
            hint="--embedder openai",
        )
    if name == "hash":
        from pyflare_analysis.embedders.hashed import HashEmbedder

        return HashEmbedder()
    if name == "static":
        from pyflare_analysis.embedders.static import StaticEmbedder

        return StaticEmbedder()
    from pyflare_analysis.embedders.openai import OpenAIEmbedder

    if not model:
        raise UsageError(
            "the embedder openai needs a model",
            hint="--embedding-model text-embedding-3-small, or what the endpoint serves",
        )
    known = os.environ if environment is None else environment
    key = next((known[variable] for variable in KEY_VARIABLES if known.get(variable)), None)
    return OpenAIEmbedder(model, base_url or "https://api.openai.com/v1", key)
