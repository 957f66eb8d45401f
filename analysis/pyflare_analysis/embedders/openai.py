"""Vectors by any endpoint that speaks OpenAI's `/embeddings`.

Batches, a few at a time, tried again where the service says "not now". The key goes into
one header and nowhere else; redirects are not followed, which would repeat it elsewhere.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from pyflare_proto.errors import InvalidDataError, SourceUnavailableError, UsageError

__all__ = ["OpenAIEmbedder"]

_BATCH = 128
_AT_ONCE = 4
_TIMEOUT_S = 60.0
_BACKOFF_S = (0.5, 2.0, 8.0)
_LONGEST_PAUSE_S = 60.0
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_MOST_CHARACTERS = 20_000
"""Longer texts are cut: about 5,000 tokens of the 8,191 that the common models take."""


class OpenAIEmbedder:
    """A model behind an OpenAI-compatible endpoint.

    Args:
        model: name of the model.
        base_url: address up to and with `/v1`.
        key: sent as a bearer token; None: none is sent.
        sleep: waits between tries.

    Raises:
        UsageError: an address that is not http or https, or that holds a password.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        key: str | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise UsageError(
                f"--base-url {base_url}: not an http address",
                hint="such as http://127.0.0.1:8000/v1",
            )
        if parts.username or parts.password:
            raise UsageError(
                "--base-url holds a password",
                hint="put the key into PYFLARE_EMBEDDING_API_KEY instead",
            )
        self._model = model
        self._url = f"{base_url.rstrip('/')}/embeddings"
        self._key = key
        self._sleep = sleep

    @property
    def name(self) -> str:
        """Embedder and model."""
        return f"openai/{self._model}"

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return (len(texts), d) vectors; see `Embedder.embed`."""
        cut = [text[:_MOST_CHARACTERS] for text in texts]
        distinct = list(dict.fromkeys(cut))
        batches = [distinct[i : i + _BATCH] for i in range(0, len(distinct), _BATCH)]
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            parts = list(pool.map(self._batch, batches))
        if len({part.shape[1] for part in parts}) > 1:
            raise InvalidDataError(f"{self._url} answered with vectors of different lengths")
        row = {text: i for i, text in enumerate(distinct)}
        return np.concatenate(parts)[[row[text] for text in cut]]

    def _batch(self, texts: list[str]) -> NDArray[np.float32]:
        body = json.dumps({"model": self._model, "input": texts, "encoding_format": "float"})
        problem = ""
        for pause in (*_BACKOFF_S, None):
            status, answer, wait = self._request(body.encode())
            if status == 200:
                return self._vectors(answer, len(texts))
            problem = answer if status is None else f"HTTP status {status}{_said(answer)}"
            if status is not None and status not in _TRY_AGAIN:
                break
            if pause is not None:
                self._sleep(min(wait if wait is not None else pause, _LONGEST_PAUSE_S))
        self._fail(status, problem)
        raise AssertionError

    def _fail(self, status: int | None, problem: str) -> None:
        if status in {401, 403}:
            raise SourceUnavailableError(
                f"{self._url} refuses the key: {problem}",
                hint="export PYFLARE_EMBEDDING_API_KEY=...",
            )
        if status is not None and 400 <= status < 500 and status not in _TRY_AGAIN:
            raise UsageError(
                f"{self._url} refuses the request: {problem}",
                hint="check --base-url and --embedding-model",
            )
        raise SourceUnavailableError(
            f"{self._url} does not answer: {problem}",
            hint="check --base-url, or try again later",
        )

    def _request(self, body: bytes) -> tuple[int | None, str, float | None]:
        """Make one request; return its status, the answer or what went wrong, and Retry-After."""
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request, build_opener

        headers = {"content-type": "application/json", "user-agent": "pyflare"}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        request = Request(self._url, data=body, headers=headers, method="POST")  # noqa: S310 - http and https only, see __init__
        try:
            with build_opener(_no_redirects()).open(request, timeout=_TIMEOUT_S) as answer:
                return answer.status, answer.read().decode("utf-8", "replace"), None
        except HTTPError as error:
            with error:
                text = error.read(10_000).decode("utf-8", "replace")
                return error.code, text, _seconds(error.headers.get("retry-after"))
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            return None, f"{type(reason).__name__}: {reason}"[:200], None

    def _vectors(self, answer: str, count: int) -> NDArray[np.float32]:
        """Return the vectors of an answer, in the order of the texts."""
        try:
            data = sorted(json.loads(answer)["data"], key=lambda item: int(item["index"]))
            vectors = np.array([item["embedding"] for item in data], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidDataError(
                f"{self._url} did not answer with embeddings: {error}",
                hint="check --base-url: it ends before /embeddings",
            ) from error
        if vectors.ndim != 2 or len(vectors) != count:
            raise InvalidDataError(f"{self._url} answered {len(data)} vectors for {count} texts")
        return vectors


def _said(answer: str) -> str:
    """Return the service's own message, shortened."""
    try:
        message: Any = json.loads(answer)["error"]["message"]
    except (KeyError, TypeError, ValueError):
        return ""
    return f": {str(message)[:200]}"


def _seconds(text: str | None) -> float | None:
    try:
        return max(0.0, float(text)) if text else None
    except ValueError:
        return None


def _no_redirects() -> type:
    from urllib.request import HTTPRedirectHandler

    class NoRedirects(HTTPRedirectHandler):
        def redirect_request(self, *_: object, **__: object) -> None:
            return None

    return NoRedirects
